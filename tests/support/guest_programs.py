"""Programs that run in a guest: in C, each folder of tests/guest/programs and of the examples being one, and
this host's own with their libraries."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from ringminus.errors import HostError

PROGRAMS = Path(__file__).parents[1] / "guest" / "programs"
EXAMPLES = Path(__file__).parents[2] / "examples"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-static")
COMPILE_TIMEOUT = 120


def compile_program(*sources: Path) -> bytes:
    """A static program for the guest."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "program"
        command = ["gcc", *FLAGS, "-o", str(program), *map(str, sources)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT, check=False)
        assert made.returncode == 0, made.stderr
        return program.read_bytes()


def guest_programs() -> dict[str, bytes]:
    """All of them, by their paths in the guest."""
    folders = [path for path in (*PROGRAMS.iterdir(), *EXAMPLES.iterdir()) if list(path.glob("*.c"))]
    return {f"bin/{folder.name}": compile_program(*sorted(folder.glob("*.c"))) for folder in sorted(folders)}


def host_program(name: str, package: str) -> dict[str, bytes]:
    """A program of this host and the libraries that it needs, by their paths in the guest, where it is found
    by its name. Raises `HostError` that names its Debian package where it is missing."""
    program = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if program is None:
        raise HostError(f"{name} is needed: apt-get install {package}")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return {path.lstrip("/"): Path(path).read_bytes() for path in {program, *libraries}}

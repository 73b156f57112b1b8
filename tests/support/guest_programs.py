"""Programs in C that run in a guest: each folder of tests/guest/programs is one, and the examples'."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

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

"""Programs of ours that run in a guest: each folder of tests/guest/programs is one, in C."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "guest" / "programs"
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
    folders = sorted(path for path in PROGRAMS.iterdir() if path.is_dir())
    return {f"bin/{folder.name}": compile_program(*sorted(folder.glob("*.c"))) for folder in folders}

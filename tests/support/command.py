"""The command `ringminus run` as a process of its own, and the smallest kernels that it can run."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ringminus.machine.loader.wire import ElfHeader, ProgramHeader
from support.bare_metal import assemble

KERNEL_BASE = 0x100000
QUICK = "cryptomgr.notests"
"""The kernel tests its ciphers at each boot, which takes an eighth of it."""
POWER_OFF = "mov dx, 0x600; mov al, 0x34; out dx, al; 9: jmp 9b"
RESET = "mov dx, 0x602; mov al, 1; out dx, al; 9: jmp 9b"


@dataclass(frozen=True)
class Run:
    """How a run of the command ended: its exit status and what it wrote."""

    status: int
    output: str
    errors: str


class RunGuest(Protocol):
    """Boots the demo guest with the given options; `script` runs in it, `words` are for its kernel, and
    `commands` are the input of the command."""

    def __call__(
        self,
        *options: str,
        script: str | None = None,
        words: str = "",
        timeout: float = 120,
        commands: str | None = None,
    ) -> Run: ...


def command(*arguments: str | Path) -> list[str]:
    """The command line of `ringminus`, by this interpreter."""
    return [sys.executable, "-m", "ringminus", *map(str, arguments)]


def run_command(*arguments: str | Path, timeout: float = 60, commands: str | None = None) -> Run:
    """Run `ringminus` to its end; a hang fails the test after `timeout` seconds. `commands` are its input."""
    given = (commands or "").encode()
    ended = subprocess.run(
        command(*arguments), input=given, capture_output=True, timeout=timeout, check=False
    )
    return Run(ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace"))


def bare_kernel(source: str) -> bytes:
    """A 64-bit ELF whose one segment is the assembled `source`, at 1 MiB, entered at its beginning."""
    code = assemble(source, KERNEL_BASE)
    first = ElfHeader.SIZE + ProgramHeader.SIZE
    header = ElfHeader(entry=KERNEL_BASE, program_header_offset=ElfHeader.SIZE, program_header_count=1)
    segment = ProgramHeader(
        flags=7,
        offset=first,
        virtual_address=KERNEL_BASE,
        physical_address=KERNEL_BASE,
        file_size=len(code),
        memory_size=len(code),
    )
    return header.pack() + segment.pack() + code


def write_kernel(directory: Path, source: str) -> Path:
    """The file of a `bare_kernel`."""
    path = directory / "kernel.elf"
    path.write_bytes(bare_kernel(source))
    return path


def say(text: str) -> str:
    """Assembly that sends `text` to COM1."""
    return "\n".join(["mov dx, 0x3f8", *(f"mov al, {byte}; out dx, al" for byte in text.encode())])


def write_msr(msr: int, value: int) -> str:
    """Assembly for WRMSR."""
    return f"mov ecx, {msr:#x}; mov eax, {value & 0xFFFFFFFF:#x}; mov edx, {value >> 32:#x}; wrmsr"


def kernel_words(script: str | None, words: str) -> str:
    """A kernel command line that makes the demo guest run `script`, after a somewhat shorter boot."""
    if script is None:
        return words
    return f"{words} {QUICK} ringminus.script={base64.b64encode(script.encode()).decode()}".strip()

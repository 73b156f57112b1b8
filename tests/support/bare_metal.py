"""A bare-metal guest for tests: assembly source in, an engine with its tables set up and running out."""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ringminus.cpu.engine import ExitHandler, Processor, Registers, Segment
from ringminus.cpu.software.engine import TRANSLATION_BUFFER, SoftwareEngine
from ringminus.memory import HIGH_RAM_BASE, MIB, GuestMemory
from ringminus.tap import Tap

CODE = 0x10000
IDT, GDT, TSS = 0x3000, 0x500, 0x40000
STACK, FAULT_STACK = 0x8000, 0x9000
PML4 = 0x100000
KERNEL_CODE, KERNEL_DATA, TASK = 0x10, 0x18, 0x20
USER_DATA, USER_CODE = 0x30 | 3, 0x38 | 3


@functools.cache
def assemble(source: str, origin: int = CODE) -> bytes:
    """Machine code of 64-bit Intel-syntax source placed at `origin`."""
    with tempfile.TemporaryDirectory() as directory:
        unit, linked, flat = (str(Path(directory) / name) for name in ("a.o", "a.elf", "a.bin"))
        text = f".intel_syntax noprefix\n.code64\n{source}\n"
        subprocess.run(["as", "--64", "-o", unit, "-"], input=text.encode(), check=True, capture_output=True)
        command = ["ld", "-Ttext", hex(origin), "--build-id=none", "-e", str(origin), "-o", linked, unit]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", linked, flat], check=True)
        return Path(flat).read_bytes()


@dataclass
class Recorder:
    """An exit handler that keeps what it is asked, and answers from dictionaries."""

    asked: list[tuple[object, ...]] = field(default_factory=list)
    msrs: dict[int, int] = field(default_factory=dict)

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        self.asked.append(("cpuid", leaf, subleaf))
        return leaf, 0x11, 0x22, 0x33

    def read_msr(self, msr: int) -> int:
        self.asked.append(("rdmsr", msr))
        return self.msrs.get(msr, 0)

    def write_msr(self, msr: int, value: int) -> None:
        self.asked.append(("wrmsr", msr, value))
        self.msrs[msr] = value

    def hypercall(self, control: int, input: int, output: int) -> int:
        self.asked.append(("hypercall", control, input, output))
        return 0x77

    def port_in(self, port: int, size: int) -> int:
        self.asked.append(("in", port, size))
        return 0x1234_5678

    def port_out(self, port: int, size: int, value: int) -> None:
        self.asked.append(("out", port, size, value))

    def mmio_read(self, gpa: int, size: int) -> int:
        self.asked.append(("mmio-read", gpa, size))
        return (1 << 64) - 1

    def mmio_write(self, gpa: int, size: int, value: int) -> None:
        self.asked.append(("mmio-write", gpa, size, value))

    def read_cr8(self) -> int:
        self.asked.append(("cr8-read",))
        return 5

    def write_cr8(self, value: int) -> None:
        self.asked.append(("cr8-write", value))


def page_tables(memory: GuestMemory, base: int = PML4, gigabytes: int = 6) -> None:
    """Map the first gigabytes one to one in 2 MiB pages, for kernel and user mode."""
    memory.write_u64(base, base + 0x1000 | 7)
    for gigabyte in range(gigabytes):
        directory = base + 0x2000 + 0x1000 * gigabyte
        memory.write_u64(base + 0x1000 + 8 * gigabyte, directory | 7)
        entries = (((gigabyte * 512 + i) << 21) | 0x87 for i in range(512))
        memory.write(directory, struct.pack("<512Q", *entries))


def interrupt_gate(memory: GuestMemory, vector: int, handler: int, ist: int = 0) -> None:
    """A present 64-bit interrupt gate."""
    low = handler & 0xFFFF | KERNEL_CODE << 16 | ist << 32 | 0x8E00 << 32 | (handler >> 16 & 0xFFFF) << 48
    memory.write(IDT + 16 * vector, struct.pack("<QQ", low, handler >> 32))


def long_mode_registers(entry: int) -> Registers:
    """Ring 0, 64-bit, interrupts off, with the tables of this module."""
    data = Segment(KERNEL_DATA, 0, 0xFFFFFFFF, 0xCF9300)
    registers = Registers(rip=entry, cr0=0x80050033, cr3=PML4, cr4=0x620, efer=0xD01)
    registers.es = registers.ss = registers.ds = registers.fs = registers.gs = data
    registers.cs = Segment(KERNEL_CODE, 0, 0xFFFFFFFF, 0xAF9B00)
    registers.tr = Segment(TASK, TSS, 0x2067, 0x8B00)
    registers.gdtr = Segment(0, GDT, 0x47, 0)
    registers.idtr = Segment(0, IDT, 0xFFF, 0)
    registers.general[4] = STACK
    return registers


class BareGuest:
    """64-bit code at `CODE` on an engine; `labels` are not needed: handlers are assembled at an address."""

    def __init__(
        self,
        source: str,
        handler: ExitHandler | None = None,
        size: int = 64 * MIB,
        translation_buffer: int = TRANSLATION_BUFFER,
    ) -> None:
        self.memory = GuestMemory(size)
        self.tap = Tap()
        self.engine = SoftwareEngine(self.memory, self.tap, translation_buffer)
        self.recorder = Recorder()
        self.processor: Processor = self.engine.create_processor(0, handler or self.recorder)
        prepare(self.memory)
        self.load(source)
        self.processor.set_registers(long_mode_registers(CODE))

    def load(self, source: str, at: int = CODE) -> None:
        self.memory.write(at, assemble(source, at))

    def handle(self, vector: int, source: str, ist: int = 0) -> None:
        """Install an exception or interrupt handler."""
        address = 0x20000 + 0x100 * vector
        self.load(source, address)
        interrupt_gate(self.memory, vector, address, ist)

    def register(self, name: str) -> int:
        numbers = {
            n: i
            for i, n in enumerate(
                ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12"]
            )
        }
        return self.processor.general_register(numbers[name])

    def close(self) -> None:
        self.engine.close()


def prepare(memory: GuestMemory) -> None:
    """Page tables, GDT (kernel, task, user), and a TSS whose IST1 is `FAULT_STACK`."""
    page_tables(memory, gigabytes=6 if memory.is_ram(HIGH_RAM_BASE) else 5)
    task = 0x2067 | (TSS & 0xFFFFFF) << 16 | 0x8B << 40
    gdt = (0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, task, 0, 0x00CFF3000000FFFF, 0x00AFFB000000FFFF, 0)
    memory.write(GDT, struct.pack("<9Q", *gdt))
    memory.write(TSS + 4, struct.pack("<Q", STACK))
    memory.write(TSS + 36, struct.pack("<Q", FAULT_STACK))
    memory.write(TSS + 0x66, struct.pack("<H", 0x68))
    memory.write(TSS + 0x68, b"\xff" * 0x2000)  # no port is allowed

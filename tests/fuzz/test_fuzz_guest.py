"""A hostile guest on the real processor and the real hypervisor.

Each example is a program of arbitrary operations at the boundary, or arbitrary bytes as code. Whatever it
does, `run` must end in time, with one of its typed results, and the host's memory beside the guest's must
stay as it was.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringminus.cpu.engine import EngineFailure, Halted, Stopped, TripleFault
from ringminus.cpu.software.engine import SoftwareEngine
from ringminus.hypervisor.calls import CALLS
from ringminus.hypervisor.cpuid import SOFTWARE
from ringminus.hypervisor.partition import Partition
from ringminus.machine.chipset.power import AcpiPower, LegacyPorts
from ringminus.machine.chipset.rtc import Rtc
from ringminus.machine.chipset.serial import Serial
from ringminus.memory import LOW_RAM_END, MIB, PAGE_SIZE, GuestMemory
from ringminus.tap import EVENTS, Tap
from support.bare_metal import CODE, assemble, interrupt_gate, long_mode_registers, prepare
from support.effort import examples

SIZE = 8 * MIB
DEADLINE_SECONDS = 1.0
TRANSLATION_BUFFER = 16 * MIB
PROGRAM = CODE + 0x1000
RECOVER = 0x20000
STACK = 0x8000
TABLES = 0x200000
CANARY = bytes(range(256)) * (PAGE_SIZE // 256)
TYPED = (Halted, TripleFault, Stopped, EngineFailure)
ERROR_CODES = {8, 10, 11, 12, 13, 14, 17, 21, 29, 30}
U64 = (1 << 64) - 1

# r15 holds where the next operation begins; any exception or interrupt goes there with a fresh stack
HANDLER = f"mov rsp, {STACK}; cli; jmp r15"

EDGES = (0, 1, 0xFFF, PAGE_SIZE, PAGE_SIZE | 1, SIZE - 1, SIZE | 1, 0xFEE00900, 1 << 32, 1 << 40, U64)
values = st.one_of(
    st.sampled_from(EDGES),
    st.integers(0, U64),
    st.builds(lambda bit: 1 << bit, st.integers(0, 63)),
    st.builds(
        lambda page, low: page * PAGE_SIZE | low, st.integers(0, SIZE // PAGE_SIZE), st.integers(0, 15)
    ),
)
msrs = st.one_of(
    st.integers(0x40000000, 0x40000200),
    st.integers(0x40000070, 0x400000BF),
    st.integers(0x800, 0x8FF),
    st.sampled_from(
        (0x10, 0x1B, 0x277, 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084, 0xC0000100, 0xC0000103)
    ),
    st.integers(0, 0xFFFFFFFF),
)
controls = st.one_of(
    st.builds(
        lambda code, fast, header, count, start: code | fast << 16 | header << 17 | count << 32 | start << 48,
        st.sampled_from(sorted(CALLS)),
        st.integers(0, 1),
        st.sampled_from((0, 0, 1, 1023)),
        st.sampled_from((0, 0, 1, 2, 500, 4095)),
        st.sampled_from((0, 0, 1, 4095)),
    ),
    st.integers(0, U64),
)
leaves = st.one_of(
    st.integers(0x40000000, 0x400000FF), st.integers(0, 0x40), st.integers(0x80000000, 0x80000020),
    st.integers(0, 0xFFFFFFFF),
)  # fmt: skip
ports = st.one_of(
    st.integers(0x3F8, 0x3FF), st.integers(0x5FE, 0x604), st.integers(0x60, 0x92), st.integers(0, 0xFFFF)
)
# RAM beside MMIO, the APICs' pages, and all that a processor of 40 bits can name
devices = st.one_of(
    st.integers(0xFEC00000, 0xFEC00040),
    st.builds(lambda register: 0xFEE00000 | register << 4, st.integers(0, 255)),
    st.integers(0xFEBFFFF8, 0xFEC01008),
    st.integers(SIZE - 16, SIZE + 16),
    st.integers(LOW_RAM_END - 16, LOW_RAM_END + 16),
    st.integers(SIZE, (1 << 40) - 1),
)

MOV = {"rax": b"\x48\xb8", "rcx": b"\x48\xb9", "rdx": b"\x48\xba", "rdi": b"\x48\xbf", "r8": b"\x49\xb8"}


def load(**registers: int) -> bytes:
    """MOV of 64-bit constants."""
    return b"".join(MOV[name] + value.to_bytes(8, "little") for name, value in registers.items())


def split(msr: int, value: int) -> bytes:
    return load(rcx=msr, rax=value & 0xFFFFFFFF, rdx=value >> 32)


VMMCALL, VMCALL = b"\x0f\x01\xd9", b"\x0f\x01\xc1"
IN, OUT = (b"\xec", b"\x66\xed", b"\xed"), (b"\xee", b"\x66\xef", b"\xef")
LOADS = (b"\x8a\x07", b"\x66\x8b\x07", b"\x8b\x07", b"\x48\x8b\x07", b"\x0f\x10\x07")
STORES = (
    b"\x88\x07",
    b"\x66\x89\x07",
    b"\x89\x07",
    b"\x48\x89\x07",
    b"\x0f\x11\x07",
    b"\xf0\x48\x0f\xc1\x07",
)

operations = st.one_of(
    st.builds(lambda msr, value: split(msr, value) + b"\x0f\x30", msrs, values),
    st.builds(lambda msr: load(rcx=msr) + b"\x0f\x32", msrs),
    st.builds(
        lambda control, rdx, r8, how: load(rcx=control, rdx=rdx, r8=r8) + how,
        *(controls, values, values, st.sampled_from((VMMCALL, VMCALL))),
    ),
    st.builds(lambda leaf, sub: load(rax=leaf, rcx=sub) + b"\x0f\xa2", leaves, st.integers(0, 40)),
    st.builds(
        lambda port, value, how: load(rdx=port, rax=value) + how, ports, values, st.sampled_from(IN + OUT)
    ),
    st.builds(
        lambda gpa, value, how: load(rdi=gpa, rax=value) + how,
        *(st.one_of(devices, values), values, st.sampled_from(LOADS + STORES)),
    ),
    st.builds(lambda value: load(rax=value) + b"\x44\x0f\x22\xc0", values),  # mov cr8, rax
    st.sampled_from((b"\xfb\x90", b"\xfa", b"\xf4", b"\xfb\xf4", b"\xcc", b"\x0f\x0b", b"\xf3\x90")),
)


def program(parts: list[bytes]) -> bytes:
    """The operations one after another, each telling first where it will end, and then a loop for ever."""
    code = b""
    for part in parts:
        length = len(part)
        code += b"\x4c\x8d\x3d" + length.to_bytes(4, "little") + part  # lea r15, [rip + length]
    return code + b"\x4c\x8d\x3d\xf9\xff\xff\xff\xf3\x90\xeb\xfc"  # lea r15, [rip - 7]; pause; jmp


class FencedMemory(GuestMemory):
    """Guest memory with a page before and a page after it that nobody may touch."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.fence = mmap.mmap(-1, size + 2 * PAGE_SIZE)
        self.fence[:PAGE_SIZE] = self.fence[-PAGE_SIZE:] = CANARY
        self._bytes = memoryview(self.fence)[PAGE_SIZE : PAGE_SIZE + size]
        self._mapping = self._bytes  # type: ignore[assignment]
        self.host_address = ctypes.addressof(ctypes.c_char.from_buffer(self._bytes))

    def read(self, gpa: int, length: int) -> bytes:
        return bytes(self.view(gpa, length))

    def whole(self) -> bool:
        return self.fence[:PAGE_SIZE] == CANARY and self.fence[-PAGE_SIZE:] == CANARY


def map_everything(memory: GuestMemory) -> None:
    """Map all of the physical addresses one to one, in pages of 1 GiB."""
    for table in range(2):
        pointers = TABLES + PAGE_SIZE * (1 + table)
        memory.write_u64(TABLES + 8 * table, pointers | 7)
        pages = ((table * 512 + i) << 30 | 0x87 for i in range(512))
        memory.write(pointers, b"".join(page.to_bytes(8, "little") for page in pages))


class Guest:
    """An engine, a partition and a chipset on fenced memory, used for one example."""

    def __init__(self, memory: FencedMemory, observed: bool) -> None:
        self.memory = memory
        memory._bytes[:] = bytes(SIZE)
        prepare(memory)
        map_everything(memory)
        self.engine = SoftwareEngine(memory, tap := Tap(), TRANSLATION_BUFFER)
        self.seen: list[str] = []
        for event in EVENTS if observed else ():
            tap.listen(event, lambda happened: self.seen.append(repr(happened)[:40]))
        self.partition = Partition(self.engine, SOFTWARE, tap, flush_tlb=self.engine.flush_tlb)
        self.processor = self.partition.vps[0].processor
        stop = self.processor.stop
        self.partition.on_reset = stop
        serial = Serial(0x3F8, lambda level: self.partition.ioapic.set_irq(4, level), lambda data: None)
        for device in (serial, Rtc(lambda: 0.0), AcpiPower(lambda s: stop(), lambda how: stop()),
                       LegacyPorts(lambda how: stop())):  # fmt: skip
            for first, count in device.ranges:
                self.partition.ports.register(first, count, device)

    def start(self, code: bytes) -> None:
        for vector in range(256):
            interrupt_gate(self.memory, vector, RECOVER, ist=1 if vector in ERROR_CODES else 0)
        self.memory.write(RECOVER, assemble(HANDLER, RECOVER))
        self.memory.write(PROGRAM, code)
        registers = long_mode_registers(PROGRAM)
        registers.cr3 = TABLES
        registers.general[15] = PROGRAM + len(code)
        self.processor.set_registers(registers)

    def run(self, slices: int, patience: float) -> list[object]:
        """Run as the worker does, in slices, each stopped by another thread; gives how each ended."""
        ends: list[object] = []
        for _ in range(slices):
            self.partition.timers.fire(self.partition.clock.reference_time())
            finished = threading.Event()
            stopper = threading.Thread(target=self._stop, args=(finished, patience), daemon=True)
            stopper.start()
            try:
                ends.append(self.processor.run())
            finally:
                finished.set()
                stopper.join(DEADLINE_SECONDS)
            if isinstance(ends[-1], (TripleFault, EngineFailure)):
                break
        return ends

    def _stop(self, finished: threading.Event, patience: float) -> None:
        while not finished.wait(patience):
            self.processor.stop()


@pytest.fixture(scope="module")
def memory() -> FencedMemory:
    return FencedMemory(SIZE)


@contextmanager
def guest(memory: FencedMemory, code: bytes, observed: bool = False) -> Iterator[Guest]:
    made = Guest(memory, observed)
    try:
        made.start(code)
        yield made
    finally:
        made.engine.close()


# in bounds: a GiB or more of Hypothesis's own work would take longer than the guests
BOUNDS = settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_the_programs_do_what_they_should(memory: FencedMemory) -> None:
    """The harness itself: each operation is executed, and a fault goes on with the next one."""
    parts = [
        split(0x40000100, 0x1122) + b"\x0f\x30",
        b"\x0f\x0b",
        split(0x123456, 1) + b"\x0f\x30",
        load(rdi=(1 << 40) - 8, rax=1) + b"\x48\x89\x07",
        load(rcx=1 << 63) + VMMCALL,
        split(0x40000101, 0x3344) + b"\x0f\x30",
    ]
    with guest(memory, program(parts), observed=True) as made:
        assert made.run(1, 0.05) == [Stopped()]
        assert made.partition.vps[0].crash.parameters[:2] == [0x1122, 0x3344]
        for kind in ("VmExit", "MsrAccess", "MmioAccess"):
            assert any(line.startswith(kind) for line in made.seen)


@BOUNDS
@given(st.lists(operations, min_size=1, max_size=24), st.booleans())
def test_any_program_at_the_boundary_ends_typed_and_in_bounds(
    memory: FencedMemory, parts: list[bytes], observed: bool
) -> None:
    with guest(memory, program(parts), observed) as made:
        ends = made.run(3, 0.01)
        assert all(isinstance(end, TYPED) for end in ends)
        assert not any(isinstance(end, EngineFailure) for end in ends), ends
        assert memory.whole()


@BOUNDS
@given(st.binary(min_size=1, max_size=64))
def test_any_bytes_as_code_end_typed_and_in_bounds(memory: FencedMemory, code: bytes) -> None:
    with guest(memory, code + b"\xeb\xfe") as made:
        assert all(isinstance(end, TYPED) for end in made.run(2, 0.01))
        assert memory.whole()

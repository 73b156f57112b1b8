"""What the tests of a processor's debugging share."""

from __future__ import annotations

from ringminus.cpu.engine import Debug, DebugReason
from support.bare_metal import CODE, PML4, BareGuest, assemble, long_mode_registers

DATA = 0x50000
ALIAS = 0x4000_0000  # a linear address that tests map elsewhere
STEP, BREAKPOINT = Debug(DebugReason.STEP), Debug(DebugReason.BREAKPOINT)


def start(bare: BareGuest, source: str, at: int = CODE) -> None:
    bare.load(source, at)
    bare.processor.set_registers(long_mode_registers(at))


def after(source: str) -> int:
    """Address of what follows `source` at the beginning of the code."""
    return CODE + len(assemble(source))


def steps(bare: BareGuest, count: int) -> list[int]:
    """RIP after each of some steps."""
    addresses = []
    for _ in range(count):
        assert bare.processor.debug().step() == STEP
        addresses.append(bare.processor.rip)
    return addresses


def map_page(bare: BareGuest, linear: int, physical: int) -> None:
    """Map one 4 KiB page of a region that the identity map covers with large pages, from our side."""
    table = 0x200000
    bare.memory.write_u64(PML4 + 0x2000 + 0x1000 * (linear >> 30) + 8 * (linear >> 21 & 511), table | 7)
    bare.memory.write_u64(table + 8 * (linear >> 12 & 511), physical | 7)

"""Where the guest's processor is, and by which calls it may have come there.

Kernels are built without frame pointers, so nothing on a stack says which of its words are return addresses.
Shown are the words that point right behind a call instruction in code: some may be left from calls that have
long returned, as in the kernel's own traces, which mark them with a question mark.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ringminus.changes import ChangeError
from ringminus.lens.breakpoints.symbols import Symbols
from ringminus.lens.reach import Reach

WORDS = 512
LONGEST_CALL = 7
KERNEL = 0xFFFF_8000_0000_0000


class Frame(NamedTuple):
    """An address in code; `place` is where it lies on the stack, 0 for RIP itself."""

    address: int
    name: str
    place: int


def frames(reach: Reach, symbols: Symbols, vp: int = 0, most: int = 24) -> Iterator[Frame]:
    """RIP, then what look like return addresses, innermost first."""
    registers = reach.registers(vp)
    yield Frame(registers["rip"], symbols.name(registers["rip"]), 0)
    pointer, found = registers["rsp"], 0
    try:
        data = reach.read(pointer & ~7, 8 * WORDS, vp=vp)
    except ChangeError:
        return
    for place, (word,) in enumerate(struct.iter_unpack("<Q", data[: len(data) & ~7])):
        if found < most and _is_return(reach, word, vp):
            found += 1
            yield Frame(word, symbols.name(word), (pointer & ~7) + 8 * place)


def _is_return(reach: Reach, address: int, vp: int) -> bool:
    """Whether the instruction before an address of the kernel is a call."""
    if address < KERNEL:
        return False
    try:
        before = reach.read(address - LONGEST_CALL, LONGEST_CALL, vp=vp)
    except ChangeError:
        return False
    if len(before) < LONGEST_CALL:
        return False
    if before[-5] == 0xE8:  # CALL rel32
        return True
    # CALL r/m64 is FF /2, with what its ModRM byte asks for behind it
    return any(before[-size] == 0xFF and before[1 - size] >> 3 & 7 == 2 for size in (2, 3, 4, 6, 7))

"""Guest RAM: where it is, and that nothing else can be reached through it."""

from __future__ import annotations

import pytest

from ringminus.errors import HostError
from ringminus.memory import GIB, HIGH_RAM_BASE, LOW_RAM_END, MIB, BadGuestAddress, GuestMemory


def test_ram_up_to_three_gib_is_one_region() -> None:
    memory = GuestMemory(64 * MIB)
    assert [(r.gpa, r.size, r.offset) for r in memory.regions] == [(0, 64 * MIB, 0)]


def test_more_ram_continues_at_four_gib() -> None:
    memory = GuestMemory(4 * GIB)
    assert [(r.gpa, r.size, r.offset) for r in memory.regions] == [
        (0, LOW_RAM_END, 0),
        (HIGH_RAM_BASE, GIB, LOW_RAM_END),
    ]
    memory.write_u64(HIGH_RAM_BASE + GIB - 8, 5)
    assert memory.read_u64(HIGH_RAM_BASE + GIB - 8) == 5
    for gpa in (LOW_RAM_END, HIGH_RAM_BASE - 1, HIGH_RAM_BASE + GIB):
        assert not memory.is_ram(gpa)


@pytest.mark.parametrize(
    ("gpa", "length"),
    [(64 * MIB, 1), (64 * MIB - 4, 8), (-1, 1), (1 << 64, 1), (0, -1), (LOW_RAM_END - 4, 8)],
)
def test_a_range_that_is_not_all_ram_is_the_guests_error(gpa: int, length: int) -> None:
    memory = GuestMemory(64 * MIB)
    for access in (lambda: memory.read(gpa, length), lambda: memory.view(gpa, length)):
        with pytest.raises(BadGuestAddress):
            access()


def test_a_view_is_the_ram_itself() -> None:
    memory = GuestMemory(64 * MIB)
    memory.view(0x1000, 4)[:] = b"abcd"
    assert memory.read(0xFFE, 8) == b"\0\0abcd\0\0"


def test_writes_to_pages_with_translated_code_are_told_and_no_others() -> None:
    memory = GuestMemory(64 * MIB)
    told: list[tuple[int, int]] = []
    memory.code_pages = bytearray(memory.size >> 12)
    memory.code_pages[3] = 1
    memory.invalidate = lambda gpa, length: told.append((gpa, length))
    memory.write(0x2000, b"x" * 0x1000)
    assert told == []
    memory.write(0x2FFF, b"xy")
    memory.written(0x3FFF, 1)
    assert told == [(0x2FFF, 2), (0x3FFF, 1)]


def test_more_than_the_host_has_is_refused_in_words() -> None:
    with pytest.raises(HostError, match="this host has"):
        GuestMemory(1 << 50)

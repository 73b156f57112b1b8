"""Reference counter, reference TSC page and frequencies (TLFS, timers.md, "Reference Counter")."""

from __future__ import annotations

import pytest

from ringminus.hypervisor.wire import ReferenceTscPage
from ringminus.memory import PAGE_SIZE
from support.hypervisor import MEMORY_SIZE, Guest

TIME_REF_COUNT, REFERENCE_TSC, TSC_FREQUENCY, APIC_FREQUENCY, TSC = (
    *(0x40000020, 0x40000021, 0x40000022, 0x40000023),
    0x10,
)
PAGE = 0x30000


def page(guest: Guest) -> ReferenceTscPage:
    return ReferenceTscPage.unpack(guest.memory.view(PAGE, PAGE_SIZE))


def test_the_counter_begins_at_zero_and_counts_100_ns() -> None:
    guest = Guest()
    assert guest.read(TIME_REF_COUNT) == 0
    guest.clock.advance(12345)
    assert guest.read(TIME_REF_COUNT) == 12345


@pytest.mark.parametrize("moment", [0, 1, 999_999, 36_000_000_000])
def test_the_pages_formula_gives_the_counter(moment: int) -> None:
    guest = Guest()
    guest.write(REFERENCE_TSC, PAGE | 1)
    guest.clock.advance(moment)
    shown = page(guest)
    assert shown.sequence == 1
    computed = (guest.read(TSC) * shown.scale >> 64) + shown.offset
    assert abs(computed - guest.read(TIME_REF_COUNT)) <= 1  # the mock clock's TSC is rounded


def test_disabling_the_page_gives_the_ram_back() -> None:
    guest = Guest()
    guest.memory.write(PAGE, b"mine")
    guest.write(REFERENCE_TSC, PAGE | 1)
    guest.write(REFERENCE_TSC, PAGE)
    assert guest.memory.read(PAGE, 4) == b"mine"
    assert guest.read(REFERENCE_TSC) == PAGE


@pytest.mark.parametrize("gpa", [MEMORY_SIZE, 0xFFFF_FFFF_FFFF_F000])
def test_a_page_beyond_memory_is_not_seen_by_anyone(gpa: int) -> None:
    guest = Guest()
    guest.write(REFERENCE_TSC, gpa | 1)
    assert guest.read(REFERENCE_TSC) == gpa | 1


def test_the_frequencies_are_in_hertz() -> None:
    guest = Guest()
    assert guest.read(TSC_FREQUENCY) == guest.clock.tsc_hz
    assert guest.read(APIC_FREQUENCY) == 200_000_000

"""The crash enlightenment and the reset register (TLFS, partition-properties.md)."""

from __future__ import annotations

import pytest

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor.crash import CrashReport
from ringminus.hypervisor.partition import CRASH_REPORTS_KEPT
from support.hypervisor import LINUX_ID, MEMORY_SIZE, Guest

P0, P3, P4, CTL, RESET = 0x40000100, 0x40000103, 0x40000104, 0x40000105, 0x40000003
NOTIFY, MESSAGE = 1 << 63, 1 << 62
LOG = 0x40000


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    made.name_itself()
    return made


def test_reading_the_control_tells_what_is_supported(guest: Guest) -> None:
    assert guest.read(CTL) == NOTIFY | MESSAGE


def test_parameters_are_kept(guest: Guest) -> None:
    for index in range(5):
        guest.write(P0 + index, 100 + index)
    assert [guest.read(P0 + index) for index in range(5)] == [100, 101, 102, 103, 104]


def test_notify_reports_the_parameters(guest: Guest) -> None:
    told: list[CrashReport] = []
    guest.partition.on_crash = told.append
    guest.clock.advance(77)
    for index in range(5):
        guest.write(P0 + index, index + 1)
    guest.write(CTL, NOTIFY)
    assert told == [CrashReport(77, 0, LINUX_ID, (1, 2, 3, 4, 5))]
    assert list(guest.partition.crash_reports) == told


def test_a_message_is_read_from_guest_memory(guest: Guest) -> None:
    guest.memory.write(LOG, b"Kernel panic - not syncing")
    guest.write(P3, LOG)
    guest.write(P4, 26)
    guest.write(CTL, NOTIFY | MESSAGE)
    assert guest.partition.crash_reports[0].message == b"Kernel panic - not syncing"


@pytest.mark.parametrize(
    ("gpa", "length"), [(MEMORY_SIZE, 16), (MEMORY_SIZE - 8, 16), ((1 << 64) - 1, 4096), (LOG, 4097)]
)
def test_a_message_that_cannot_be_read_is_told_as_such(guest: Guest, gpa: int, length: int) -> None:
    guest.write(P3, gpa)
    guest.write(P4, length)
    guest.write(CTL, NOTIFY | MESSAGE)
    report = guest.partition.crash_reports[0]
    assert report.message is None
    assert report.message_error


def test_a_message_without_notify_reports_nothing(guest: Guest) -> None:
    guest.write(CTL, MESSAGE)
    assert not guest.partition.crash_reports


def test_only_the_latest_reports_are_kept(guest: Guest) -> None:
    for index in range(20):
        guest.write(P0, index)
        guest.write(CTL, NOTIFY)
    kept = [report.parameters[0] for report in guest.partition.crash_reports]
    assert kept == list(range(20 - CRASH_REPORTS_KEPT, 20))


def test_reset_is_asked_for_with_bit_0(guest: Guest) -> None:
    asked: list[int] = []
    guest.partition.on_reset = lambda: asked.append(1)
    guest.write(RESET, 0)
    assert not asked
    guest.write(RESET, 1)
    assert asked == [1]
    assert guest.read(RESET) == 0
    with pytest.raises(GuestException):
        guest.write(RESET, 2)

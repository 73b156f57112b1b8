"""The CMOS clock: formats, setting it, and that nobody has to wait for it."""

from __future__ import annotations

import calendar

import pytest

from ringminus.machine.chipset.rtc import Rtc

NOW = calendar.timegm((2024, 2, 29, 15, 4, 59))
SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY = 0, 2, 4, 6, 7, 8, 9, 0x32
A, B, C, D = 0x0A, 0x0B, 0x0C, 0x0D
HOURS_24, BINARY, SET = 2, 4, 0x80


class Clock:
    def __init__(self) -> None:
        self.now = NOW + 0.9
        self.rtc = Rtc(lambda: self.now)

    def read(self, index: int) -> int:
        self.rtc.port_out(0x70, 1, index)
        return self.rtc.port_in(0x71, 1)

    def write(self, index: int, value: int) -> None:
        self.rtc.port_out(0x70, 1, index)
        self.rtc.port_out(0x71, 1, value)

    def date(self) -> tuple[int, ...]:
        return tuple(self.read(i) for i in (CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_begins_as_a_bcd_24_hour_clock_that_runs(clock: Clock) -> None:
    assert [clock.read(i) for i in (A, B, D)] == [0x26, HOURS_24, 0x80]
    assert clock.date() == (0x20, 0x24, 0x02, 0x29, 0x15, 0x04, 0x59)
    assert clock.read(WEEKDAY) == 5  # a Thursday; Sunday is 1
    clock.now += 0.1
    assert clock.date() == (0x20, 0x24, 0x02, 0x29, 0x15, 0x05, 0x00)


def test_binary(clock: Clock) -> None:
    clock.write(B, HOURS_24 | BINARY)
    assert clock.date() == (20, 24, 2, 29, 15, 4, 59)


@pytest.mark.parametrize(("hour", "shown"), [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (23, 0x91)])
def test_twelve_hours(clock: Clock, hour: int, shown: int) -> None:
    clock.now = calendar.timegm((2024, 2, 29, hour, 0, 0))
    clock.write(B, 0)
    assert clock.read(HOURS) == shown
    clock.now = NOW
    clock.write(HOURS, shown)
    clock.write(B, HOURS_24 | BINARY)
    assert clock.read(HOURS) == hour


def test_an_update_is_never_in_progress(clock: Clock) -> None:
    clock.write(A, 0xFF)
    assert clock.read(A) == 0x7F


def test_register_c_tells_once_that_the_second_changed(clock: Clock) -> None:
    assert clock.read(C) == 0
    clock.now += 1
    assert clock.read(C) == 0x10
    assert clock.read(C) == 0


def test_setting_it_moves_the_guests_time_and_it_runs_on(clock: Clock) -> None:
    clock.write(B, SET | HOURS_24)
    for index, value in ((CENTURY, 0x19), (YEAR, 0x99), (MONTH, 0x12), (DAY, 0x31)):
        clock.write(index, value)
    for index, value in ((HOURS, 0x23), (MINUTES, 0x59), (SECONDS, 0x58)):
        clock.write(index, value)
    clock.now += 5  # it stands still meanwhile
    assert clock.date() == (0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58)
    clock.write(B, HOURS_24)
    clock.now += 2
    assert clock.date() == (0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00)


def test_a_single_field_can_be_set_while_it_runs(clock: Clock) -> None:
    clock.write(MINUTES, 0x30)
    assert clock.date() == (0x20, 0x24, 0x02, 0x29, 0x15, 0x30, 0x59)


def test_a_day_that_the_month_does_not_have_carries(clock: Clock) -> None:
    clock.write(DAY, 0x31)
    assert clock.date()[:4] == (0x20, 0x24, 0x03, 0x02)


@pytest.mark.parametrize("value", [0x00, 0xFF])
def test_nonsense_does_not_break_it(clock: Clock, value: int) -> None:
    for index in (CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS, WEEKDAY):
        clock.write(index, value)
    assert all(byte & 0xF <= 9 and byte >> 4 <= 9 for byte in clock.date())


def test_ram_and_alarms_keep_their_bytes(clock: Clock) -> None:
    kept = [1, 3, 5, *range(0x0E, 0x32), *range(0x33, 0x80)]
    for index in kept:
        clock.write(index, index ^ 0x5A)
    assert [clock.read(index) for index in kept] == [index ^ 0x5A for index in kept]
    assert clock.read(0x80 | 0x40) == 0x40 ^ 0x5A  # bit 7 of the index is the NMI mask


def test_the_index_cannot_be_read(clock: Clock) -> None:
    assert clock.rtc.port_in(0x70, 1) == 0xFF


def test_registers_c_and_d_cannot_be_written(clock: Clock) -> None:
    clock.write(C, 0xFF)
    clock.write(D, 0)
    assert (clock.read(C), clock.read(D)) == (0, 0x80)


def test_state_comes_back(clock: Clock) -> None:
    clock.write(0x40, 0x77)
    clock.write(YEAR, 0x30)
    clock.write(B, SET | HOURS_24)
    clock.write(MONTH, 0x01)
    other = Clock()
    other.rtc.restore(clock.rtc.save())
    assert other.rtc.save() == clock.rtc.save()
    other.write(B, HOURS_24)
    assert other.date()[:3] == (0x20, 0x30, 0x01) and other.read(0x40) == 0x77

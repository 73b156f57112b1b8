"""The CMOS real-time clock: an MC146818 with a century byte and battery-backed RAM.

The time is the host's plus an offset that the guest changes by setting the clock. It never says that an
update is in progress, so that nobody waits for one to end. No interrupts: no IRQ is wired to it.
Source: Motorola MC146818A datasheet; the century byte is where the FADT says.
"""

from __future__ import annotations

import calendar
import math
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ringminus.machine.chipset.byte_ports import NO_DEVICE, BytePorts

INDEX_PORT = 0x70
DATA_PORT = 0x71
RAM_SIZE = 128


class Register(IntEnum):
    """Indices; 0x0e and up are RAM, but for the century."""

    SECONDS = 0x00
    MINUTES = 0x02
    HOURS = 0x04
    WEEKDAY = 0x06
    DAY = 0x07
    MONTH = 0x08
    YEAR = 0x09
    A = 0x0A
    B = 0x0B
    C = 0x0C
    D = 0x0D
    CENTURY = 0x32


TIME_REGISTERS = frozenset(Register) - {Register.A, Register.B, Register.C, Register.D}


class RegisterB(IntEnum):
    """Formats, and SET: the guest is setting the clock."""

    HOURS_24 = 0x02
    BINARY = 0x04
    SET = 0x80


A_RESET = 0x26
A_UPDATE_IN_PROGRESS = 0x80
B_WRITABLE = 0xFF
C_UPDATED = 0x10
D_POWER_GOOD = 0x80
PM = 0x80

# what the guest may set, so that carrying and waiting stay within four digits
FIRST_YEAR = 1
LAST_YEAR = 9998


class Rtc(BytePorts):
    """`wall_clock()` gives the host's time in seconds since 1970, UTC."""

    ranges = ((INDEX_PORT, 2),)

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._index = 0
        self._ram = bytearray(RAM_SIZE)
        self._ram[Register.A] = A_RESET
        self._ram[Register.B] = RegisterB.HOURS_24
        self._offset = 0
        self._held: dict[str, int] | None = None
        self._last_update = self._now()

    def read(self, port: int) -> int:
        if port != DATA_PORT:
            return NO_DEVICE
        index = self._index
        if index in TIME_REGISTERS:
            return self._read_time(index)
        if index == Register.C:
            return self._read_c()
        if index == Register.D:
            return D_POWER_GOOD
        return self._ram[index]

    def write(self, port: int, value: int) -> None:
        if port == INDEX_PORT:
            self._index = value & 0x7F
        elif port == DATA_PORT:
            self._write_register(self._index, value)

    def _write_register(self, index: int, value: int) -> None:
        if index in TIME_REGISTERS:
            self._write_time(index, value)
        elif index == Register.A:
            self._ram[index] = value & ~A_UPDATE_IN_PROGRESS
        elif index == Register.B:
            self._write_b(value)
        elif index not in (Register.C, Register.D):
            self._ram[index] = value

    def _write_b(self, value: int) -> None:
        setting = bool(value & RegisterB.SET)
        if setting and self._held is None:
            self._held = self._fields()
        elif not setting and self._held is not None:
            fields, self._held = self._held, None
            self._set(fields)
        self._ram[Register.B] = value & B_WRITABLE

    def _read_c(self) -> int:
        """Whether the seconds have changed since the last read; reading clears it."""
        before, self._last_update = self._last_update, self._now()
        return C_UPDATED if before != self._last_update else 0

    # Time.

    def _now(self) -> int:
        return math.floor(self._wall_clock()) + self._offset

    def _fields(self) -> dict[str, int]:
        """The time now, or what the guest has set so far."""
        if self._held is not None:
            return self._held
        now = time.gmtime(self._now())
        return {
            "seconds": now.tm_sec,
            "minutes": now.tm_min,
            "hours": now.tm_hour,
            "day": now.tm_mday,
            "month": now.tm_mon,
            "year": now.tm_year % 100,
            "century": now.tm_year // 100,
        }

    def _set(self, fields: dict[str, int]) -> None:
        """Move the clock. Like the real one it takes a day that the month does not have, and carries it."""
        year = min(max(FIRST_YEAR, fields["century"] * 100 + fields["year"]), LAST_YEAR)
        month = min(max(1, fields["month"]), 12)
        day = max(1, fields["day"])
        moment = (year, month, day, fields["hours"], fields["minutes"], fields["seconds"])
        self._offset += calendar.timegm(moment) - self._now()

    def _read_time(self, index: int) -> int:
        fields = self._fields()
        if index == Register.WEEKDAY:
            return (time.gmtime(self._now()).tm_wday + 1) % 7 + 1
        if index == Register.HOURS:
            return self._encode_hours(fields["hours"])
        return self._encode(fields[Register(index).name.lower()])

    def _write_time(self, index: int, value: int) -> None:
        if index == Register.WEEKDAY:
            return  # it follows from the date
        name = Register(index).name.lower()
        decoded = self._decode_hours(value) if index == Register.HOURS else self._decode(value)
        fields = self._fields() | {name: min(decoded, 99)}
        if self._held is not None:
            self._held = fields
        else:
            self._set(fields)

    def _encode(self, value: int) -> int:
        if self._ram[Register.B] & RegisterB.BINARY:
            return value
        return value // 10 % 10 << 4 | value % 10

    def _decode(self, value: int) -> int:
        if self._ram[Register.B] & RegisterB.BINARY:
            return value
        return (value >> 4) * 10 + (value & 0xF)

    def _encode_hours(self, hours: int) -> int:
        if self._ram[Register.B] & RegisterB.HOURS_24:
            return self._encode(hours)
        return self._encode((hours + 11) % 12 + 1) | (PM if hours >= 12 else 0)

    def _decode_hours(self, value: int) -> int:
        if self._ram[Register.B] & RegisterB.HOURS_24:
            return self._decode(value)
        return self._decode(value & ~PM) % 12 + (12 if value & PM else 0)

    # State.

    def save(self) -> dict[str, Any]:
        """The whole state, as plain data; the time is kept as a distance from the host's."""
        return {
            "index": self._index,
            "ram": bytes(self._ram),
            "offset": self._offset,
            "held": dict(self._held) if self._held is not None else None,
            "last_update": self._last_update,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self._index = state["index"]
        self._ram = bytearray(state["ram"])
        self._offset = state["offset"]
        self._held = dict(state["held"]) if state["held"] is not None else None
        self._last_update = state["last_update"]

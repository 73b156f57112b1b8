"""Commands that ask how a unit is: TEST UNIT READY, REQUEST SENSE, LOG SENSE (SPC-4)."""

from __future__ import annotations

from collections.abc import Callable

from ringminus.devices.storage.cdb_wire import Cdb6, LogSense, RequestSense
from ringminus.devices.storage.request import Answer, Request
from ringminus.devices.storage.scsi_wire import (
    DeviceType,
    InformationalExceptionsLog,
    LogPageHeader,
    LogParameter,
)
from ringminus.devices.storage.sense import INVALID_FIELD_IN_CDB, NO_SENSE, CheckCondition
from ringminus.devices.storage.unit import Unit

PAGE_MASK, CUMULATIVE = 0x3F, 1
TOTAL_BYTES, UNCORRECTED_ERRORS = 0x0005, 0x0006


def test_unit_ready(unit: Unit, request: Request, cdb: Cdb6) -> Answer:
    unit.medium()
    return 0


def request_sense(unit: Unit, request: Request, cdb: RequestSense) -> Answer:
    """The next unit attention, or the sense of the last command that failed without autosense."""
    if cdb.flags & RequestSense.DESC:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    sense = unit.take_attention() or unit.last_sense
    unit.last_sense = NO_SENSE
    return sense.pack()[: cdb.allocation_length]


def log_sense(unit: Unit, request: Request, cdb: LogSense) -> Answer:
    """Cumulative values only; they begin with the machine."""
    pages, code = LOG_PAGES[unit.type], cdb.page & PAGE_MASK
    if cdb.flags or cdb.subpage or code not in pages or cdb.page >> 6 != CUMULATIVE:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    body = pages[code](unit)
    return (LogPageHeader(page=code, length=len(body)).pack() + body)[: cdb.allocation_length]


def _supported(unit: Unit) -> bytes:
    return bytes(sorted(LOG_PAGES[unit.type]))


def _errors(total: int, uncorrected: int) -> bytes:
    return b"".join(
        LogParameter(code=code, value=value).pack()
        for code, value in ((TOTAL_BYTES, total), (UNCORRECTED_ERRORS, uncorrected))
    )


def _write_errors(unit: Unit) -> bytes:
    return _errors(unit.counters.written_bytes, unit.counters.write_errors)


def _read_errors(unit: Unit) -> bytes:
    return _errors(unit.counters.read_bytes, unit.counters.read_errors)


def _exceptions(unit: Unit) -> bytes:
    return InformationalExceptionsLog().pack()


LogPage = Callable[[Unit], bytes]
LOG_PAGES: dict[DeviceType, dict[int, LogPage]] = {
    DeviceType.DISK: {0x00: _supported, 0x02: _write_errors, 0x03: _read_errors, 0x2F: _exceptions},
    DeviceType.DVD: {0x00: _supported, 0x03: _read_errors, 0x2F: _exceptions},
}

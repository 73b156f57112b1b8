"""MODE SENSE and MODE SELECT (SPC-4): the write cache can be switched, all else only be read."""

from __future__ import annotations

from collections.abc import Callable

from ringminus.devices.storage.block import flush
from ringminus.devices.storage.cdb_wire import ModeSelect6, ModeSelect10, ModeSense6, ModeSense10
from ringminus.devices.storage.dvd import DvdUnit
from ringminus.devices.storage.mmc_wire import CapabilitiesPage
from ringminus.devices.storage.request import Answer, Later, Request
from ringminus.devices.storage.scsi_wire import (
    CachingPage,
    ControlPage,
    DeviceType,
    InformationalExceptionsPage,
    ModeBlockDescriptor,
    ModeHeader6,
    ModeHeader10,
)
from ringminus.devices.storage.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETERS,
    PARAMETER_LIST_LENGTH,
    SAVING_NOT_SUPPORTED,
    CheckCondition,
)
from ringminus.devices.storage.unit import Unit
from ringminus.wire import Struct

CURRENT, CHANGEABLE, DEFAULT, SAVED = range(4)
ALL_PAGES, ALL_SUBPAGES = 0x3F, 0xFF
PAGE_SAVABLE, SUBPAGE_FORMAT = 0x80, 0x40


def _caching(unit: Unit, control: int) -> Struct:
    on = {CURRENT: unit.write_cache, CHANGEABLE: True, DEFAULT: True}[control]
    return CachingPage(flags=CachingPage.WCE if on else 0)


def _capabilities(unit: Unit, control: int) -> Struct:
    page = CapabilitiesPage()
    if control == CHANGEABLE:
        return _nothing_of(page)
    if control == CURRENT and isinstance(unit, DvdUnit) and unit.locked:
        page.mechanism |= CapabilitiesPage.LOCKED
    return page


def _nothing_of(page: Struct) -> Struct:
    """The page's mask of changeable bits where there are none: all zeros after code and length."""
    return type(page).unpack(page.pack()[:2].ljust(page.SIZE, b"\0"))


def _fixed(page: Struct) -> Callable[[Unit, int], Struct]:
    """A page that is always the same."""
    mask = _nothing_of(page)
    return lambda unit, control: mask if control == CHANGEABLE else page


Page = Callable[[Unit, int], Struct]
PAGES: dict[DeviceType, dict[int, Page]] = {
    DeviceType.DISK: {
        0x08: _caching,
        0x0A: _fixed(ControlPage()),
        0x1C: _fixed(InformationalExceptionsPage()),
    },
    DeviceType.DVD: {0x1C: _fixed(InformationalExceptionsPage()), 0x2A: _capabilities},
}


def _pages(unit: Unit, cdb: ModeSense6 | ModeSense10) -> bytes:
    control, code = cdb.page >> 6, cdb.page & ALL_PAGES
    if control == SAVED:
        raise CheckCondition(SAVING_NOT_SUPPORTED)
    known = PAGES[unit.type]
    if cdb.subpage not in (0, ALL_SUBPAGES) or (code != ALL_PAGES and code not in known):
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    wanted = sorted(known) if code == ALL_PAGES else [code]
    return b"".join(known[page](unit, control).pack() for page in wanted)


def _device_specific(unit: Unit) -> int:
    if unit.type != DeviceType.DISK:
        return 0
    protected = ModeHeader6.WRITE_PROTECT if unit.medium().read_only else 0
    return ModeHeader6.DPOFUA | protected


def mode_sense6(unit: Unit, request: Request, cdb: ModeSense6) -> Answer:
    pages = _pages(unit, cdb)
    length = ModeHeader6.SIZE - 1 + len(pages)
    header = ModeHeader6(mode_data_length=length, device_specific=_device_specific(unit))
    return (header.pack() + pages)[: cdb.allocation_length]


def mode_sense10(unit: Unit, request: Request, cdb: ModeSense10) -> Answer:
    pages = _pages(unit, cdb)
    length = ModeHeader10.SIZE - 2 + len(pages)
    header = ModeHeader10(mode_data_length=length, device_specific=_device_specific(unit))
    return (header.pack() + pages)[: cdb.allocation_length]


def mode_select(unit: Unit, request: Request, cdb: ModeSelect6 | ModeSelect10) -> Answer:
    """Take pages in the form in which MODE SENSE gives them. A cache that is switched off is flushed."""
    if cdb.flags & ModeSelect6.SP or not cdb.flags & ModeSelect6.PF:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    data = request.take(cdb.parameter_list_length)
    if not data:
        return 0
    header: type[ModeHeader6] | type[ModeHeader10]
    header = ModeHeader6 if isinstance(cdb, ModeSelect6) else ModeHeader10
    if len(data) < header.SIZE:
        raise CheckCondition(PARAMETER_LIST_LENGTH)
    described = header.unpack(data).block_descriptor_length
    start = header.SIZE + described
    if described not in (0, ModeBlockDescriptor.SIZE) or start > len(data):
        raise CheckCondition(PARAMETER_LIST_LENGTH)
    if described:
        descriptor = ModeBlockDescriptor.unpack(data, header.SIZE)
        if descriptor.block_length & 0xFF_FFFF != 1 << unit.shift:
            raise CheckCondition(INVALID_FIELD_IN_PARAMETERS)
    cache = _check_pages(unit, data[start:])
    return _switch_cache(unit, len(data), unit.write_cache if cache is None else cache)


def _check_pages(unit: Unit, data: bytes) -> bool | None:
    """Check that the pages change nothing but WCE; what that shall be, if it is mentioned."""
    known, cache = PAGES[unit.type], None
    while data:
        code = data[0] & ~PAGE_SAVABLE
        if code not in known:
            raise CheckCondition(INVALID_FIELD_IN_PARAMETERS)
        now, mask = known[code](unit, CURRENT).pack(), known[code](unit, CHANGEABLE).pack()
        given = data[: len(now)]
        if len(given) < len(now):
            raise CheckCondition(PARAMETER_LIST_LENGTH)
        if given[1] != now[1] or any(
            (a ^ b) & ~m for a, b, m in zip(given[2:], now[2:], mask[2:], strict=True)
        ):
            raise CheckCondition(INVALID_FIELD_IN_PARAMETERS)
        if code == CachingPage(flags=0).page_code:
            cache = bool(CachingPage.unpack(given).flags & CachingPage.WCE)
        data = data[len(now) :]
    return cache


def _switch_cache(unit: Unit, length: int, on: bool) -> Answer:
    if unit.write_cache == on:
        return length
    unit.write_cache = on
    unit.settle()
    flushing = 0 if on else flush(unit)
    if not isinstance(flushing, Later):
        return length

    def finish(result: object) -> int:
        flushing.then(result)
        return length

    return Later(flushing.work, finish, writing=True)

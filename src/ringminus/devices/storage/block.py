"""Commands that move blocks or ask about them: READ, WRITE, VERIFY, SYNCHRONIZE CACHE, … (SBC-3)."""

from __future__ import annotations

from functools import partial

from ringminus.devices.storage.cdb_wire import (
    FUA,
    PROTECT,
    ReadCapacity10,
    ReadCapacity16,
    ReadWrite6,
    ReadWrite10,
    ReadWrite12,
    ReadWrite16,
    StartStopUnit,
    SynchronizeCache10,
    SynchronizeCache16,
    Verify10,
    Verify12,
    Verify16,
)
from ringminus.devices.storage.request import Answer, Later, Overrun, Request
from ringminus.devices.storage.scsi_wire import Capacity10, Capacity16
from ringminus.devices.storage.sense import (
    INVALID_FIELD_IN_CDB,
    MISCOMPARE,
    WRITE_PROTECTED,
    CheckCondition,
)
from ringminus.devices.storage.unit import Unit
from ringminus.devices.storage.wire import MAX_TRANSFER, Direction
from ringminus.disks.disk import Buffers, Disk

WHOLE = 1 << 32
CHUNK = 1 << 20
LONGEST_VERIFY = 256 << 20  # bytes; one that is compared takes a buffer as large, and is a transfer


def read6(unit: Unit, request: Request, cdb: ReadWrite6) -> Answer:
    lba = (cdb.lba_high & 0x1F) << 16 | cdb.lba_low
    return read(unit, request, lba, cdb.transfer_length or 256)


def write6(unit: Unit, request: Request, cdb: ReadWrite6) -> Answer:
    lba = (cdb.lba_high & 0x1F) << 16 | cdb.lba_low
    return write(unit, request, lba, cdb.transfer_length or 256, False)


def read_blocks(unit: Unit, request: Request, cdb: ReadWrite10 | ReadWrite12 | ReadWrite16) -> Answer:
    if cdb.flags & PROTECT:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    return read(unit, request, cdb.lba, cdb.transfer_length)


def write_blocks(unit: Unit, request: Request, cdb: ReadWrite10 | ReadWrite12 | ReadWrite16) -> Answer:
    if cdb.flags & PROTECT:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    return write(unit, request, cdb.lba, cdb.transfer_length, bool(cdb.flags & FUA))


def read(unit: Unit, request: Request, lba: int, blocks: int) -> Answer:
    """Read, at once if the host can. A buffer that is too small gets the whole blocks that it takes."""
    disk = unit.medium()
    unit.check_range(lba, blocks)
    wanted = blocks << unit.shift
    _check_buffer(request, wanted, Direction.IN)
    fits = min(wanted, request.length) >> unit.shift << unit.shift
    views = request.views(fits)
    offset = lba << unit.shift

    def finish(_: object) -> int:
        request.written()
        unit.counters.reads += 1
        unit.counters.read_bytes += fits
        if fits < wanted:
            raise Overrun(fits)
        return fits

    if not views or disk.try_read(offset, views):
        return finish(None)
    return Later(partial(disk.read, offset, views), finish, lba=lba)


def write(unit: Unit, request: Request, lba: int, blocks: int, through: bool) -> Answer:
    """Write, to stable storage if `through` or if the cache is off; nothing unless all of it is there."""
    disk = unit.medium()
    if disk.read_only:
        raise CheckCondition(WRITE_PROTECTED)
    unit.check_range(lba, blocks)
    wanted = blocks << unit.shift
    _check_buffer(request, wanted, Direction.OUT)
    if request.length < wanted:
        raise Overrun(0)
    views = request.views(wanted)
    offset = lba << unit.shift
    through = through or not unit.write_cache

    def finish(_: object) -> int:
        unit.changes += 1
        unit.counters.writes += 1
        unit.counters.written_bytes += wanted
        return wanted

    if not views:
        return finish(None)
    if through:
        return Later(partial(_write_through, disk, offset, views), finish, True, lba)
    if disk.try_write(offset, views):
        return finish(None)
    return Later(partial(disk.write, offset, views), finish, True, lba)


def _write_through(disk: Disk, offset: int, views: Buffers) -> None:
    disk.write(offset, views)
    disk.flush()


def _check_buffer(request: Request, wanted: int, direction: Direction) -> None:
    if wanted > MAX_TRANSFER or (wanted and request.direction != direction):
        raise CheckCondition(INVALID_FIELD_IN_CDB)


def verify(unit: Unit, request: Request, cdb: Verify10 | Verify12 | Verify16) -> Answer:
    """Read, and compare with the guest's blocks if BYTCHK says so."""
    if cdb.flags & PROTECT:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    disk = unit.medium()
    unit.check_range(cdb.lba, cdb.transfer_length)
    length = cdb.transfer_length << unit.shift
    check = cdb.flags >> 1 & 3
    if check == 2 or length > (MAX_TRANSFER if check == 1 else LONGEST_VERIFY):
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    given = {0: 0, 1: length, 3: min(length, 1 << unit.shift)}[check]
    views = request.given(given)

    def finish(same: bool) -> int:
        if not same:
            raise CheckCondition(MISCOMPARE)
        return given

    work = partial(_compare, disk, cdb.lba << unit.shift, length, views)
    return Later(work, finish, lba=cdb.lba)


def _compare(disk: Disk, offset: int, length: int, views: Buffers) -> bool:
    """Whether the disk holds what the guest gave, again and again if that is shorter; if it gave nothing,
    whether the disk can be read (if not, that raises)."""
    expected = b"".join(views)
    buffer = bytearray(min(length, CHUNK))
    done = 0
    while done < length:
        size = min(CHUNK, length - done)
        view = memoryview(buffer)[:size]
        disk.read(offset + done, [view])
        if len(expected) == length:
            if view != expected[done : done + size]:
                return False
        elif expected and view != expected * (size // len(expected)):
            return False
        done += size
    return True


def synchronize_cache(unit: Unit, request: Request, cdb: SynchronizeCache10 | SynchronizeCache16) -> Answer:
    """Flush all, whatever the range; all that was written and answered before is covered."""
    unit.medium()
    unit.check_range(cdb.lba, cdb.number_of_blocks)
    return flush(unit)


def flush(unit: Unit) -> Answer:
    """Flush, unless nothing was changed since the last one."""
    covered = unit.changes
    unit.counters.flushes += 1
    if covered == unit.flushed:
        return 0

    def finish(_: object) -> int:
        unit.flushed = max(unit.flushed, covered)
        return 0

    return Later(unit.medium().flush, finish, writing=True)


def start_stop(unit: Unit, request: Request, cdb: StartStopUnit) -> Answer:
    """A disk has no motor: STOP flushes, and it stays ready."""
    if cdb.flags & StartStopUnit.LOEJ:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    if cdb.flags & (StartStopUnit.START | StartStopUnit.POWER_CONDITION):
        return 0
    return flush(unit)


def read_capacity10(unit: Unit, request: Request, cdb: ReadCapacity10) -> Answer:
    unit.medium()
    last = min(max(unit.blocks - 1, 0), WHOLE - 1)
    return Capacity10(last_lba=last, block_length=1 << unit.shift).pack()


def read_capacity16(unit: Unit, request: Request, cdb: ReadCapacity16) -> Answer:
    disk = unit.medium()
    data = Capacity16(
        last_lba=max(unit.blocks - 1, 0),
        block_length=1 << unit.shift,
        exponents=max(0, disk.physical_sector_size.bit_length() - 1 - unit.shift),
        provisioning=Capacity16.LBPME | Capacity16.LBPRZ if disk.can_unmap else 0,
    )
    return data.pack()[: cdb.allocation_length]

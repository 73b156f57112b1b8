"""Commands that allocate and free: UNMAP, WRITE SAME, GET LBA STATUS (SBC-3)."""

from __future__ import annotations

from functools import partial

from ringminus.devices.storage.cdb_wire import GetLbaStatus, Unmap, WriteSame10, WriteSame16
from ringminus.devices.storage.request import Answer, Later, Request
from ringminus.devices.storage.scsi_wire import (
    LbaStatusDescriptor,
    LbaStatusHeader,
    UnmapDescriptor,
    UnmapHeader,
)
from ringminus.devices.storage.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETERS,
    INVALID_OPCODE,
    PARAMETER_LIST_LENGTH,
    WRITE_PROTECTED,
    CheckCondition,
)
from ringminus.devices.storage.unit import Unit
from ringminus.disks.disk import Disk

MAX_UNMAP_DESCRIPTORS = 256
MAX_WRITE_SAME = 256 << 20  # bytes
PATTERN = 1 << 20  # bytes that WRITE SAME writes at a time
BLOCKS_LIMIT = 0xFFFF_FFFF


def _writable(unit: Unit) -> Disk:
    disk = unit.medium()
    if disk.read_only:
        raise CheckCondition(WRITE_PROTECTED)
    return disk


def unmap(unit: Unit, request: Request, cdb: Unmap) -> Answer:
    disk = unit.medium()
    if not disk.can_unmap:
        raise CheckCondition(WRITE_PROTECTED if disk.read_only else INVALID_OPCODE)
    _writable(unit)
    if cdb.flags & Unmap.ANCHOR:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    if cdb.parameter_list_length == 0:
        return 0
    ranges = _unmap_ranges(unit, request.take(cdb.parameter_list_length))

    def finish(_: object) -> int:
        unit.changes += 1
        unit.counters.unmaps += 1
        return cdb.parameter_list_length

    if not ranges:
        return finish(None)
    return Later(partial(_unmap, disk, ranges), finish, True, ranges[0][0] >> unit.shift)


def _unmap_ranges(unit: Unit, parameters: bytes) -> list[tuple[int, int]]:
    """(offset, length) in bytes of an UNMAP's parameter list."""
    if len(parameters) < UnmapHeader.SIZE:
        raise CheckCondition(PARAMETER_LIST_LENGTH)
    told = UnmapHeader.unpack(parameters).block_descriptor_data_length
    count = min(told, len(parameters) - UnmapHeader.SIZE) // UnmapDescriptor.SIZE
    if count > MAX_UNMAP_DESCRIPTORS:
        raise CheckCondition(INVALID_FIELD_IN_PARAMETERS)
    ranges = []
    for index in range(count):
        descriptor = UnmapDescriptor.unpack(parameters, UnmapHeader.SIZE + index * UnmapDescriptor.SIZE)
        unit.check_range(descriptor.lba, descriptor.blocks)
        if descriptor.blocks:
            ranges.append((descriptor.lba << unit.shift, descriptor.blocks << unit.shift))
    return ranges


def _unmap(disk: Disk, ranges: list[tuple[int, int]]) -> None:
    for offset, length in ranges:
        disk.unmap(offset, length)


def write_same(unit: Unit, request: Request, cdb: WriteSame10 | WriteSame16) -> Answer:
    """Write one block of the guest's, or zeros, over a range. With UNMAP, zeros are also given back."""
    flags = cdb.flags
    no_data = isinstance(cdb, WriteSame16) and bool(flags & WriteSame16.NDOB)
    known = WriteSame10.UNMAP | (WriteSame16.NDOB if no_data else 0)
    disk = _writable(unit)
    if flags & ~known or (flags & WriteSame10.UNMAP and not disk.can_unmap):
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    unit.check_range(cdb.lba, cdb.number_of_blocks)
    length = cdb.number_of_blocks << unit.shift
    if not 0 < length <= MAX_WRITE_SAME:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    block = b"" if no_data else request.take(1 << unit.shift)

    def finish(_: object) -> int:
        unit.changes += 1
        unit.counters.writes += 1
        unit.counters.written_bytes += length
        return len(block)

    offset = cdb.lba << unit.shift
    if any(block):
        return Later(partial(_fill, disk, offset, length, block), finish, True, cdb.lba)
    free = bool(flags & WriteSame10.UNMAP)
    return Later(partial(_zero, disk, offset, length, free), finish, True, cdb.lba)


def _zero(disk: Disk, offset: int, length: int, free: bool) -> None:
    disk.write_zeros(offset, length)
    if free:
        disk.unmap(offset, length)


def _fill(disk: Disk, offset: int, length: int, block: bytes) -> None:
    pattern = memoryview(block * (min(PATTERN, length) // len(block)))
    for done in range(0, length, PATTERN):
        disk.write(offset + done, [pattern[: length - done]])


def get_lba_status(unit: Unit, request: Request, cdb: GetLbaStatus) -> Answer:
    """Whether the blocks from an LBA on are stored, and how many have the same answer."""
    disk = unit.medium()
    unit.check_range(cdb.lba, 1)
    if cdb.allocation_length < LbaStatusHeader.SIZE + LbaStatusDescriptor.SIZE:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    blocks = min(unit.blocks - cdb.lba, BLOCKS_LIMIT)

    def finish(found: tuple[bool, int]) -> bytes:
        stored, length = found
        descriptor = LbaStatusDescriptor(
            lba=cdb.lba,
            blocks=max(1, length >> unit.shift),
            status=LbaStatusDescriptor.MAPPED if stored else LbaStatusDescriptor.DEALLOCATED,
        )
        # the length counts from after itself
        told = LbaStatusHeader.SIZE - 4 + LbaStatusDescriptor.SIZE
        return LbaStatusHeader(parameter_data_length=told).pack() + descriptor.pack()

    work = partial(disk.allocated, cdb.lba << unit.shift, blocks << unit.shift)
    return Later(work, finish, lba=cdb.lba)

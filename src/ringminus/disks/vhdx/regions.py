"""The region table: where in the file the BAT and the metadata are ([MS-VHDX] 2.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.vhdx.checksums import is_sound, seal
from ringminus.disks.vhdx.replay import Source
from ringminus.disks.vhdx.wire import (
    BAT_REGION,
    HEADER_SECTION_SIZE,
    METADATA_REGION,
    MIB,
    MOST_TABLE_ENTRIES,
    REGION_SIGNATURE,
    REGION_TABLE_OFFSETS,
    REGION_TABLE_SIZE,
    RegionTableEntry,
    RegionTableHeader,
)

_NAMES = {BAT_REGION: "BAT", METADATA_REGION: "metadata"}


@dataclass(frozen=True, slots=True)
class Region:
    """A range of the file, in bytes."""

    guid: UUID
    offset: int
    length: int
    required: bool = True

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def name(self) -> str:
        return _NAMES.get(self.guid, str(self.guid))


@dataclass(frozen=True, slots=True)
class Regions:
    """All regions of a file, those of which we know nothing among them."""

    all: tuple[Region, ...]

    def _named(self, guid: UUID) -> Region:
        return next(region for region in self.all if region.guid == guid)

    @property
    def bat(self) -> Region:
        return self._named(BAT_REGION)

    @property
    def metadata(self) -> Region:
        return self._named(METADATA_REGION)

    def with_bat(self, moved: Region) -> Regions:
        """The same with the BAT elsewhere."""
        return Regions(tuple(moved if region.guid == BAT_REGION else region for region in self.all))

    def pack(self) -> bytes:
        """The table's bytes, the same for both copies."""
        table = bytearray(REGION_TABLE_SIZE)
        RegionTableHeader(entry_count=len(self.all)).pack_into(table)
        for number, region in enumerate(self.all):
            entry = RegionTableEntry(
                guid=region.guid.bytes_le,
                file_offset=region.offset,
                length=region.length,
                required=int(region.required),
            )
            entry.pack_into(table, RegionTableHeader.SIZE + number * RegionTableEntry.SIZE)
        seal(table)
        return bytes(table)


def read_table(source: Source, offset: int) -> bytes | None:
    """The table at `offset`, or None if it is not valid."""
    data = source.read_at(offset, REGION_TABLE_SIZE)
    header = RegionTableHeader.unpack(data)
    sound = header.signature == REGION_SIGNATURE and is_sound(data)
    return data if sound and header.entry_count <= MOST_TABLE_ENTRIES else None


def load_regions(source: Source) -> Regions:
    """Read the first valid copy; raises `CorruptDisk` if there is none or if it makes no sense."""
    for offset in REGION_TABLE_OFFSETS:
        if (table := read_table(source, offset)) is not None:
            return _parse(source, table)
    raise CorruptDisk(f"{source.path}: neither region table is valid", offset=REGION_TABLE_OFFSETS[0])


def _parse(source: Source, table: bytes) -> Regions:
    count = RegionTableHeader.unpack(table).entry_count
    found: dict[UUID, Region] = {}
    for number in range(count):
        entry = RegionTableEntry.unpack(table, RegionTableHeader.SIZE + number * RegionTableEntry.SIZE)
        guid = UUID(bytes_le=entry.guid)
        region = Region(guid, entry.file_offset, entry.length, bool(entry.required & 1))
        if guid in found:
            raise CorruptDisk(f"{source.path}: its region table has two {region.name} regions")
        if region.required and guid not in _NAMES:
            raise CorruptDisk(f"{source.path} needs the region {guid}, which is not known here")
        _check(source, region)
        found[guid] = region
    for guid, name in _NAMES.items():
        if guid not in found:
            raise CorruptDisk(f"{source.path}: its region table has no {name} region")
    return Regions(tuple(found.values()))


def _check(source: Source, region: Region) -> None:
    where = f"{source.path}: the {region.name} region at {region.offset}, {region.length} bytes"
    if region.offset % MIB or region.length % MIB or not region.length:
        raise CorruptDisk(f"{where}, is not whole MiB", offset=region.offset)
    if region.offset < HEADER_SECTION_SIZE or region.end > source.size:
        raise CorruptDisk(f"{where}, is not in the file", offset=region.offset)

"""The metadata region: what kind of disk it is ([MS-VHDX] 2.6)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.vhdx.locator import ParentLocator
from ringminus.disks.vhdx.regions import Region
from ringminus.disks.vhdx.replay import Source
from ringminus.disks.vhdx.wire import (
    FILE_PARAMETERS,
    LARGEST_BLOCK,
    LARGEST_DISK,
    LARGEST_ITEM,
    LOGICAL_SECTOR_SIZE,
    METADATA_SIGNATURE,
    METADATA_TABLE_SIZE,
    MOST_TABLE_ENTRIES,
    PARENT_LOCATOR,
    PHYSICAL_SECTOR_SIZE,
    SECTOR_SIZES,
    SMALLEST_BLOCK,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    FileFlag,
    FileParameters,
    MetadataFlag,
    MetadataTableEntry,
    MetadataTableHeader,
    SectorSize,
    VirtualDiskId,
    VirtualDiskSize,
)

_REQUIRED_ITEMS = {
    FILE_PARAMETERS: ("file parameters", FileParameters.SIZE),
    VIRTUAL_DISK_SIZE: ("virtual disk size", VirtualDiskSize.SIZE),
    VIRTUAL_DISK_ID: ("virtual disk id", VirtualDiskId.SIZE),
    LOGICAL_SECTOR_SIZE: ("logical sector size", SectorSize.SIZE),
    PHYSICAL_SECTOR_SIZE: ("physical sector size", SectorSize.SIZE),
}
_KNOWN = {**{guid: name for guid, (name, _) in _REQUIRED_ITEMS.items()}, PARENT_LOCATOR: "parent locator"}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the items say. Sizes in bytes; `size_offset` is where in the file the disk's size stands."""

    block_size: int
    fixed: bool
    size: int
    disk_id: UUID
    sector_size: int
    physical_sector_size: int
    parent: ParentLocator | None = None
    size_offset: int = 0

    def pack(self, length: int) -> bytes:
        """A metadata region of `length` bytes."""
        flags = FileFlag.LEAVE_BLOCKS_ALLOCATED if self.fixed else FileFlag(0)
        if self.parent is not None:
            flags |= FileFlag.HAS_PARENT
        disk = MetadataFlag.VIRTUAL_DISK | MetadataFlag.REQUIRED
        items = [
            (FILE_PARAMETERS, MetadataFlag.REQUIRED, FileParameters(block_size=self.block_size, flags=flags)),
            (VIRTUAL_DISK_SIZE, disk, VirtualDiskSize(size=self.size)),
            (VIRTUAL_DISK_ID, disk, VirtualDiskId(guid=self.disk_id.bytes_le)),
            (LOGICAL_SECTOR_SIZE, disk, SectorSize(size=self.sector_size)),
            (PHYSICAL_SECTOR_SIZE, disk, SectorSize(size=self.physical_sector_size)),
        ]
        packed = [(guid, flag, item.pack()) for guid, flag, item in items]
        if self.parent is not None:
            packed.append((PARENT_LOCATOR, MetadataFlag.REQUIRED, self.parent.pack()))
        region = bytearray(length)
        MetadataTableHeader(entry_count=len(packed)).pack_into(region)
        at = METADATA_TABLE_SIZE
        for number, (guid, flag, data) in enumerate(packed):
            entry = MetadataTableEntry(item_id=guid.bytes_le, offset=at, length=len(data), flags=flag)
            entry.pack_into(region, MetadataTableHeader.SIZE + number * MetadataTableEntry.SIZE)
            region[at : at + len(data)] = data
            at += len(data)
        return bytes(region)


def _read_table(source: Source, region: Region) -> dict[UUID, MetadataTableEntry]:
    table = source.read_at(region.offset, METADATA_TABLE_SIZE)
    header = MetadataTableHeader.unpack(table)
    if header.signature != METADATA_SIGNATURE or header.entry_count > MOST_TABLE_ENTRIES:
        raise CorruptDisk(f"{source.path}: no metadata table at {region.offset}", offset=region.offset)
    found: dict[UUID, MetadataTableEntry] = {}
    for number in range(header.entry_count):
        entry = MetadataTableEntry.unpack(table, MetadataTableHeader.SIZE + number * MetadataTableEntry.SIZE)
        guid = UUID(bytes_le=entry.item_id)
        if entry.flags & MetadataFlag.USER:
            continue  # a user's own: not ours to understand
        name = _KNOWN.get(guid, str(guid))
        if guid in found:
            raise CorruptDisk(f"{source.path}: the metadata item {name} is there twice")
        if guid not in _KNOWN and entry.flags & MetadataFlag.REQUIRED:
            raise CorruptDisk(f"{source.path} needs the metadata item {guid}, which is not known here")
        in_region = METADATA_TABLE_SIZE <= entry.offset <= region.length - entry.length
        if entry.length > LARGEST_ITEM or (entry.length and not in_region):
            where = f"at {entry.offset}, {entry.length} bytes"
            raise CorruptDisk(f"{source.path}: the metadata item {name} {where}, is not in its region")
        found[guid] = entry
    return found


def load_metadata(source: Source, region: Region) -> Metadata:
    """Read and check all items; raises `CorruptDisk`."""
    table = _read_table(source, region)
    items: dict[UUID, bytes] = {}
    for guid, (name, size) in _REQUIRED_ITEMS.items():
        if guid not in table:
            raise CorruptDisk(f"{source.path}: the metadata item {name} is missing")
        if table[guid].length < size:
            raise CorruptDisk(f"{source.path}: the metadata item {name} is too short")
        items[guid] = source.read_at(region.offset + table[guid].offset, size)
    parameters = FileParameters.unpack(items[FILE_PARAMETERS])
    parent = None
    if parameters.flags & FileFlag.HAS_PARENT:
        if PARENT_LOCATOR not in table:
            raise CorruptDisk(f"{source.path} is differencing, but does not say what its parent is")
        entry = table[PARENT_LOCATOR]
        parent = ParentLocator.unpack(source.path, source.read_at(region.offset + entry.offset, entry.length))
    metadata = Metadata(
        block_size=parameters.block_size,
        fixed=bool(parameters.flags & FileFlag.LEAVE_BLOCKS_ALLOCATED) and parent is None,
        size=VirtualDiskSize.unpack(items[VIRTUAL_DISK_SIZE]).size,
        disk_id=UUID(bytes_le=VirtualDiskId.unpack(items[VIRTUAL_DISK_ID]).guid),
        sector_size=SectorSize.unpack(items[LOGICAL_SECTOR_SIZE]).size,
        physical_sector_size=SectorSize.unpack(items[PHYSICAL_SECTOR_SIZE]).size,
        parent=parent,
        size_offset=region.offset + table[VIRTUAL_DISK_SIZE].offset,
    )
    _check(source, metadata)
    return metadata


def _check(source: Source, metadata: Metadata) -> None:
    block, size = metadata.block_size, metadata.size
    if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK or block & (block - 1):
        raise CorruptDisk(f"{source.path}: a block size of {block} bytes is none that a VHDX may have")
    if metadata.sector_size not in SECTOR_SIZES:
        raise CorruptDisk(f"{source.path}: a logical sector of {metadata.sector_size} bytes")
    if metadata.physical_sector_size not in SECTOR_SIZES:
        raise CorruptDisk(f"{source.path}: a physical sector of {metadata.physical_sector_size} bytes")
    if not 0 < size <= LARGEST_DISK or size % metadata.sector_size:
        raise CorruptDisk(f"{source.path}: a disk of {size} bytes is none that a VHDX may have")
    if metadata.size_offset // 4096 != (metadata.size_offset + VirtualDiskSize.SIZE - 1) // 4096:
        # only then can resizing change it in one page
        raise CorruptDisk(f"{source.path}: the disk's size lies across two pages, at {metadata.size_offset}")

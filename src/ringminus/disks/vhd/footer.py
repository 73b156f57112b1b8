"""Footers and headers: checksums, geometry, times, and finding a good footer in a damaged file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.files import HostFile
from ringminus.disks.vhd.wire import (
    EPOCH,
    FOOTER_COOKIE,
    HEADER_COOKIE,
    LARGEST_CYLINDERS,
    LARGEST_HEADS,
    LARGEST_SECTORS,
    OLD_FOOTER_SIZE,
    SECTOR,
    DiskType,
    DynamicHeader,
    Footer,
)

Checked = TypeVar("Checked", Footer, DynamicHeader)


def checksum(structure: Footer | DynamicHeader) -> int:
    """The checksum that the structure should have."""
    kept, structure.checksum = structure.checksum, 0
    value = ~sum(structure.pack()) & 0xFFFFFFFF
    structure.checksum = kept
    return value


def sealed(structure: Checked) -> Checked:
    """The structure with the right checksum."""
    structure.checksum = checksum(structure)
    return structure


def geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track that Virtual PC gives to a disk of `size` bytes.

    Source: the specification's appendix "CHS Calculation".
    """
    sectors = min(size // SECTOR, LARGEST_CYLINDERS * LARGEST_HEADS * LARGEST_SECTORS)
    if sectors >= LARGEST_CYLINDERS * LARGEST_HEADS * 63:
        return sectors // LARGEST_SECTORS // LARGEST_HEADS, LARGEST_HEADS, LARGEST_SECTORS
    tracks = sectors // 17
    heads = max(4, -(-tracks // 1024))
    if heads <= 16 and tracks < heads * 1024:
        return tracks // heads, heads, 17
    for per_track in (31, 63):
        tracks = sectors // per_track
        if tracks < 16 * 1024:
            break
    return tracks // 16, 16, per_track


def set_size(footer: Footer, size: int) -> None:
    """Make it a footer of a disk of `size` bytes, with geometry and checksum."""
    footer.current_size = size
    footer.cylinders, footer.heads, footer.sectors_per_track = geometry(size)
    sealed(footer)


def new_footer(size: int, disk_type: DiskType, data_offset: int) -> Footer:
    """The footer of a new disk.

    The creator is Hyper-V's: QEMU takes a disk's size from the geometry, which is too small by up to a
    cylinder, unless it is one of the few creators that it knows to write exact sizes.
    """
    footer = Footer(
        data_offset=data_offset,
        timestamp=stamp(time.time()),
        original_size=size,
        current_size=size,
        cylinders=0,
        heads=0,
        sectors_per_track=0,
        disk_type=disk_type,
        unique_id=uuid4().bytes_le,
    )
    set_size(footer, size)
    return footer


def stamp(unix_time: float) -> int:
    """A Unix time as the format's seconds since 2000."""
    return max(0, int(unix_time) - EPOCH) & 0xFFFFFFFF


def _footer_at(file: HostFile, offset: int, length: int = SECTOR) -> Footer | None:
    """The footer there, if it is one."""
    if offset < 0 or offset + length > file.size:
        return None
    footer = Footer.unpack(file.read_at(offset, length).ljust(SECTOR, b"\0"))
    if footer.cookie != FOOTER_COOKIE or footer.checksum != checksum(footer):
        return None
    return footer


@dataclass(slots=True)
class FoundFooter:
    """`at_end`: the file's last footer is good; otherwise the copy at its beginning was taken."""

    footer: Footer
    at_end: bool


def find_footer(file: HostFile) -> FoundFooter:
    """The file's footer, or the copy of it if a crash or a cut destroyed it; raises `CorruptDisk`."""
    size = file.size
    found = _footer_at(file, size - SECTOR) or _footer_at(file, size - OLD_FOOTER_SIZE, OLD_FOOTER_SIZE)
    copy = None if found else _footer_at(file, 0)
    footer = found or copy
    if footer is None:
        raise CorruptDisk(f"{file.path} is no VHD, or its footer is damaged and it has no good copy of it")
    if copy is not None and footer.disk_type == DiskType.FIXED:
        raise CorruptDisk(f"{file.path} begins with the footer of a fixed VHD, and has none at its end")
    if footer.disk_type not in (DiskType.FIXED, DiskType.DYNAMIC, DiskType.DIFFERENCING):
        raise CorruptDisk(f"{file.path} is a VHD of unknown type {footer.disk_type}")
    if not footer.current_size or footer.current_size % SECTOR:
        raise CorruptDisk(f"{file.path}: a disk size of {footer.current_size} bytes is not whole sectors")
    return FoundFooter(footer, found is not None)


def read_header(file: HostFile, footer: Footer) -> DynamicHeader:
    """The dynamic header that the footer leads to, its values checked; raises `CorruptDisk`."""
    where = footer.data_offset
    if where % SECTOR or where + DynamicHeader.SIZE > file.size:
        raise CorruptDisk(f"{file.path}: the dynamic header cannot be at {where}", offset=where)
    header = DynamicHeader.unpack(file.read_at(where, DynamicHeader.SIZE))
    if header.cookie != HEADER_COOKIE or header.checksum != checksum(header):
        raise CorruptDisk(f"{file.path}: the dynamic header at {where} is damaged", offset=where)
    block = header.block_size
    if block < SECTOR or block & (block - 1):
        raise CorruptDisk(f"{file.path}: a block of {block} bytes is not a power of two of sectors")
    if header.max_table_entries * block < footer.current_size:
        raise CorruptDisk(f"{file.path}: the block table is too short for {footer.current_size} bytes")
    return header

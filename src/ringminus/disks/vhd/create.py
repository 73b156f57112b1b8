"""Making VHD files."""

from __future__ import annotations

from pathlib import Path

from ringminus.disks.files import HostFile, new_file
from ringminus.disks.vhd.footer import new_footer, sealed, stamp
from ringminus.disks.vhd.opening import open_vhd
from ringminus.disks.vhd.parents import name_parent
from ringminus.disks.vhd.table import empty_table
from ringminus.disks.vhd.wire import (
    DEFAULT_BLOCK_SIZE,
    LARGEST_DISK,
    NO_OFFSET,
    SECTOR,
    DiskType,
    DynamicHeader,
    Footer,
)
from ringminus.errors import ConfigError

SMALLEST_BLOCK, LARGEST_BLOCK = 64 << 10, 256 << 20


def create_vhd(
    path: Path,
    size: int | None = None,
    *,
    fixed: bool = False,
    parent: Path | None = None,
    block_size: int = DEFAULT_BLOCK_SIZE,
) -> None:
    """Make a VHD of `size` bytes: dynamic, or `fixed`, or one that holds what differs from `parent`, a VHD.

    Raises `ConfigError` for sizes that the format does not have and for a file that is there, `DiskError`.
    """
    if block_size & (block_size - 1) or not SMALLEST_BLOCK <= block_size <= LARGEST_BLOCK:
        raise ConfigError(f"a block of {block_size} bytes: a VHD's is a power of two from 64K to 256M")
    if parent is not None:
        if fixed:
            raise ConfigError("a disk that holds what differs from its parent cannot be fixed")
        size = _size_from_parent(parent, size)
    if size is None or size <= 0 or size % SECTOR or size > LARGEST_DISK:
        raise ConfigError(f"a size of {size or 0} bytes: a VHD has whole sectors of 512 bytes, at most 2040G")
    with new_file(path) as file:
        if fixed:
            file.allocate(0, size)
            file.write_at(size, new_footer(size, DiskType.FIXED, NO_OFFSET).pack())
        else:
            _write_tables(file, path, size, block_size, parent)
        file.flush()


def _size_from_parent(parent: Path, size: int | None) -> int:
    with open_vhd(parent, read_only=True) as disk:
        if size not in (None, disk.size):
            raise ConfigError(
                f"a differencing disk has the size of its parent, {disk.size} bytes: leave it out"
            )
        return disk.size


def _write_tables(file: HostFile, path: Path, size: int, block_size: int, parent: Path | None) -> None:
    kind = DiskType.DYNAMIC if parent is None else DiskType.DIFFERENCING
    footer = new_footer(size, kind, Footer.SIZE)
    header = DynamicHeader(
        table_offset=0,
        max_table_entries=-(-size // block_size),
        block_size=block_size,
    )
    names = b""
    if parent is not None:
        names = name_parent(header, path, parent, Footer.SIZE + DynamicHeader.SIZE)
        with open_vhd(parent, read_only=True) as disk:
            header.parent_unique_id = disk.identity.bytes_le
            header.parent_timestamp = stamp(parent.stat().st_mtime)
    header.table_offset = Footer.SIZE + DynamicHeader.SIZE + len(names)
    table = empty_table(header.max_table_entries)
    parts = (footer.pack(), sealed(header).pack(), names, table, footer.pack())
    file.write(0, parts)

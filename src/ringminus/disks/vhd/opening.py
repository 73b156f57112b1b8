"""Opening VHD files, with their parents."""

from __future__ import annotations

from pathlib import Path

from ringminus.disks.disk import CorruptDisk, Disk
from ringminus.disks.files import HostFile
from ringminus.disks.vhd import parents
from ringminus.disks.vhd.dynamic import DynamicVhd
from ringminus.disks.vhd.fixed import FixedVhd
from ringminus.disks.vhd.footer import find_footer, read_header
from ringminus.disks.vhd.wire import DiskType, DynamicHeader

LONGEST_CHAIN = 256


def open_vhd(path: Path, read_only: bool = False) -> FixedVhd | DynamicVhd:
    """Open a VHD of any type; its parents are opened read-only. Raises `CorruptDisk` and `DiskError`."""
    return _open(path, read_only, LONGEST_CHAIN)


def _open(path: Path, read_only: bool, depth: int) -> FixedVhd | DynamicVhd:
    if not depth:
        raise CorruptDisk(f"{path}: a chain of more than {LONGEST_CHAIN} parents, or one that ends in itself")
    file = HostFile(path, read_only)
    parent: Disk | None = None
    try:
        found = find_footer(file)
        if found.footer.disk_type == DiskType.FIXED:
            return FixedVhd(file, found)
        header = read_header(file, found.footer)
        if found.footer.disk_type == DiskType.DIFFERENCING:
            parent = _open_parent(file, header, found.footer.current_size, depth)
        return DynamicVhd(file, found, header, parent)
    except BaseException:
        file.close()
        if parent is not None:
            parent.close()
        raise


def _open_parent(file: HostFile, header: DynamicHeader, size: int, depth: int) -> Disk:
    path = parents.find(file, header)
    parent = _open(path, True, depth - 1)
    try:
        parents.verify(file, header, path, parent.identity.bytes_le)
        if parent.size != size:
            raise CorruptDisk(f"{file.path} has {size} bytes, but its parent {path} has {parent.size}")
        return parent
    except BaseException:
        parent.close()
        raise

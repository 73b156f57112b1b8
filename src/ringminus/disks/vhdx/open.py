"""Opening a VHDX, with all its parents."""

from __future__ import annotations

import os
from pathlib import Path

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.files import HostFile, first_parent
from ringminus.disks.vhdx.disk import Vhdx
from ringminus.disks.vhdx.image import Image, load_sound
from ringminus.disks.vhdx.locator import ParentLocator

LONGEST_CHAIN = 100  # a read goes down the whole chain

_Identity = tuple[int, int]  # device and inode


def open_vhdx(path: Path | str, read_only: bool = False) -> Vhdx:
    """Open a VHDX of any kind; its parents are opened for reading only.

    A log that was left is replayed: in the file, or in memory if it is read only. Raises `CorruptDisk` that
    says where the file is damaged, and `DiskError`, also for parents that are missing or were changed.
    """
    return _open(Path(path), read_only, ())


def _open(path: Path, read_only: bool, children: tuple[_Identity, ...]) -> Vhdx:
    if len(children) >= LONGEST_CHAIN:
        raise CorruptDisk(f"{path}: a chain of more than {LONGEST_CHAIN} disks")
    return open_file(HostFile(path, read_only), children)


def open_file(file: HostFile, children: tuple[_Identity, ...] = ()) -> Vhdx:
    """`open_vhdx` of a file that is open already, and is closed with the disk or if this fails; `children`
    are the files of the chain that leads to it."""
    path, parent = file.path, None
    try:
        image = load_sound(file)
        if image.metadata.parent is not None:
            status = os.fstat(file.fd)
            chain = (*children, (status.st_dev, status.st_ino))
            parent = _open_parent(path, image, image.metadata.parent, chain)
        return Vhdx(file, image, parent)
    except BaseException:
        file.close()
        if parent is not None:
            parent.close()
        raise


def _open_parent(child: Path, image: Image, locator: ParentLocator, chain: tuple[_Identity, ...]) -> Vhdx:
    path = first_parent(child, locator.candidates(child))
    status = path.stat()
    if (status.st_dev, status.st_ino) in chain:
        raise CorruptDisk(f"{child}: its parent {path} is at the same time its child")
    parent = _open(path, True, chain)
    try:
        if parent.data_write_guid not in locator.linkages:
            raise DiskError(
                f"{path} is not what {child} was made from: it is another disk, or has been written since"
            )
        if parent.sector_size != image.geometry.sector_size:
            raise CorruptDisk(f"{child}: sectors of {image.geometry.sector_size} bytes, its parent's differ")
        return parent
    except BaseException:
        parent.close()
        raise

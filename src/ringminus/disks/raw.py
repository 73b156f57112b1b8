"""Raw disks: files and block devices whose bytes are the disk's; ISO images have 2048-byte sectors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from ringminus.disks.disk import Buffers, Disk, DiskError
from ringminus.disks.files import (
    IOV_MAX,
    LARGEST_INLINE_WRITE,
    HostFile,
    after,
    fill_zeros,
    first,
    new_file,
    total,
)
from ringminus.errors import ConfigError

SECTOR_SIZES = (512, 2048, 4096)
CD_SECTOR = 2048
_RWF_NOWAIT = os.RWF_NOWAIT


def identity_of(path: Path) -> UUID:
    """For files that hold no UUID: one that stays with the file's place."""
    return uuid5(NAMESPACE_URL, path.resolve().as_uri())


class Raw(Disk):
    """See the module's text. A file that ends inside a sector reads as if zeros followed."""

    format = "raw"

    def __init__(self, file: HostFile, sector_size: int | None = None) -> None:
        """`sector_size` in bytes, by default 512, or a block device's own. Raises `ConfigError`."""
        logical, physical = file.sector_sizes()
        self.sector_size = sector_size or logical
        if self.sector_size not in SECTOR_SIZES:
            raise ConfigError(f"a sector of {self.sector_size} bytes: a raw disk has 512, 2048 or 4096")
        if self.sector_size == CD_SECTOR:
            self.format = "iso"
        self.physical_sector_size = max(self.sector_size, physical)
        self.read_only = file.read_only
        self.identity = identity_of(file.path)
        self._file = file
        self._fd = file.fd
        self._take_size(file.size)

    def _take_size(self, stored: int) -> None:
        self._stored = stored  # bytes that are in the file
        self.size = -(-stored // self.sector_size) * self.sector_size

    def read(self, offset: int, buffers: Buffers) -> None:
        end = self._check(offset, total(buffers))
        if end > self._stored:
            # only an odd end of the file comes here
            there = max(0, self._stored - offset)
            fill_zeros(after(buffers, there))
            buffers = first(buffers, there)
            if not buffers:
                return
        self._file.read(offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> None:
        end = self._check(offset, total(buffers))
        self._must_write()
        self._file.write(offset, buffers)
        if end > self._stored:
            self._stored = end

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        # the guest's whole thread waits for this: no call that can be spared
        length = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        if offset < 0 or offset + length > self.size:
            raise self._outside(offset, length)
        try:
            return os.preadv(self._fd, buffers, offset, _RWF_NOWAIT) == length
        except BlockingIOError:
            return False
        except OSError:
            # among them a host that knows no NOWAIT; `read` finds the words for a real failure
            return False

    def try_write(self, offset: int, buffers: Buffers) -> bool:
        length = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        if length > LARGEST_INLINE_WRITE or len(buffers) > IOV_MAX:
            return False
        self.write(offset, buffers)
        return True

    def flush(self) -> None:
        if not self.read_only:
            self._file.flush()

    @property
    def can_unmap(self) -> bool:
        return not self.read_only

    def unmap(self, offset: int, length: int) -> None:
        self._check(offset, length)
        self._must_write()
        self._file.punch(offset, min(length, self._stored - offset))

    def write_zeros(self, offset: int, length: int) -> None:
        self._check(offset, length)
        self._must_write()
        self._file.zero(offset, min(length, max(0, self._stored - offset)))

    def resize(self, size: int) -> None:
        self._must_write()
        if self._file.is_block_device:
            raise ConfigError(f"{self._file.path} is a block device: its size is not ours to change")
        if size <= 0 or size % self.sector_size:
            raise ConfigError(
                f"a size of {size} bytes is not a whole number of {self.sector_size}-byte sectors"
            )
        self._file.truncate(size)
        self._take_size(size)

    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        self._check(offset, length)
        if offset >= self._stored:
            return False, length
        return self._file.extent(offset, length)

    def info(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "path": str(self._file.path),
            "kind": "block device" if self._file.is_block_device else "file",
            "size": self.size,
            "used": self._file.used,
            "sector_size": self.sector_size,
            "physical_sector_size": self.physical_sector_size,
        }

    def close(self) -> None:
        if self._file.fd < 0:
            return
        try:
            self.flush()
        finally:
            self._fd = -1
            self._file.close()

    def _check(self, offset: int, length: int) -> int:
        end = offset + length
        if offset < 0 or length < 0 or end > self.size:
            raise self._outside(offset, length)
        return end

    def _outside(self, offset: int, length: int) -> ValueError:
        return ValueError(f"{offset}+{length} is not in a disk of {self.size} bytes")

    def _must_write(self) -> None:
        if self.read_only:
            raise DiskError(f"{self._file.path} was opened read-only")


def create_raw(path: Path, size: int, fixed: bool = False) -> None:
    """Make a raw disk of `size` bytes, sparse unless `fixed`. Raises `ConfigError`, `DiskError`."""
    if size <= 0 or size % 512:
        raise ConfigError(f"a size of {size} bytes: a disk is a whole number of 512-byte sectors")
    with new_file(path) as file:
        if fixed:
            file.allocate(0, size)
        file.truncate(size)
        file.flush()

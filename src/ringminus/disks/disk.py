"""What every virtual disk can do, whatever its format.

A disk is an array of `size` bytes, read and written in whole logical sectors. Calls block and may be made
from several threads at once; calls on ranges that overlap in time and place give either's bytes, as on real
disks. `try_read` and `try_write` are for the thread that must not wait: they do the work only if it can be
done at once, typically from and to the host's page cache.

What was written is on stable storage after the next `flush`, together with the metadata that leads to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self
from uuid import UUID

from ringminus.errors import HostError

Buffers = Sequence[memoryview]
"""Scatter-gather: contiguous byte views, filled or emptied in order; their lengths add up to the request."""


class DiskError(HostError):
    """The host failed on a disk: `errno` is the host's number where it has one, and `offset` the place.

    It reaches a guest as SCSI sense and a person as one line.
    """

    def __init__(self, message: str, errno: int | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.offset = offset


class CorruptDisk(DiskError):
    """The file is no disk of its format, or is damaged; the message says where."""


class Disk(ABC):
    """An open virtual disk. Offsets and lengths are in bytes and multiples of `sector_size`.

    `format` is its name on the command line, `size` in bytes, `sector_size` the logical and
    `physical_sector_size` the physical sector, `block_size` the unit of allocation (0 when everything is
    allocated), `identity` a UUID that stays with the disk's contents, `read_only` that writes are refused,
    `parent` the disk beneath, of which this one holds what differs.
    A range outside the disk is a `ValueError`: who takes it from a guest checks first.
    """

    format: str = ""
    size: int
    sector_size: int = 512
    physical_sector_size: int = 512
    block_size: int = 0
    identity: UUID
    read_only: bool = False
    parent: Disk | None = None

    @abstractmethod
    def read(self, offset: int, buffers: Buffers) -> None:
        """Fill `buffers` from `offset` on; raises `DiskError`."""

    @abstractmethod
    def write(self, offset: int, buffers: Buffers) -> None:
        """Write `buffers` at `offset`; raises `DiskError`."""

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        """`read` if that need not wait for a device; False when it was not done. Raises `DiskError`."""
        return False

    def try_write(self, offset: int, buffers: Buffers) -> bool:
        """`write` if that need not wait for a device; False when it was not done. Raises `DiskError`."""
        return False

    @abstractmethod
    def flush(self) -> None:
        """Make all writes that have returned durable; raises `DiskError`."""

    @abstractmethod
    def unmap(self, offset: int, length: int) -> None:
        """The contents of the range are not needed; afterwards it reads as zeros, or as before where the
        format cannot forget part of a block. Frees host space where it can."""

    @abstractmethod
    def write_zeros(self, offset: int, length: int) -> None:
        """Make the range read as zeros, cheaply where the format can."""

    @property
    def can_unmap(self) -> bool:
        """Whether `unmap` frees space."""
        return False

    @property
    def unmap_granularity(self) -> int:
        """The least number of bytes, so aligned, whose `unmap` can free space: what the host's files free,
        and not the format's block, for parts of blocks become holes."""
        return max(4096, self.physical_sector_size)

    @abstractmethod
    def resize(self, size: int) -> None:
        """Grow or shrink to `size` bytes; raises `ConfigError` where the format or the contents forbid it."""

    @abstractmethod
    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        """Whether data is stored at `offset` (False: it reads as zeros, or from the parent), and for how
        many bytes (at most `length`) the answer is the same."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """Facts for `ringminus disk info`: plain data, keys in the order to be shown."""

    @abstractmethod
    def close(self) -> None:
        """Flush and let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

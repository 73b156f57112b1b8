"""Disks for replays: what is written stays in memory, and what is not known fails."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from ringminus.disks.disk import Buffers, Disk, DiskError


class Overlay(Disk):
    """A disk whose file nobody writes to: what is written is kept in memory, by sector."""

    format = "replay"

    def __init__(self, base: Disk, *, read_only: bool = False, unmaps: bool = True) -> None:
        """`base` may be read-only itself; it is closed with this one."""
        self.size, self.sector_size = base.size, base.sector_size
        self.physical_sector_size, self.block_size = base.physical_sector_size, base.block_size
        self.identity, self.read_only = base.identity, read_only
        self._base: Disk | None = base
        self._unmaps, self._granularity = unmaps, base.unmap_granularity
        self.sectors: dict[int, bytes] = {}
        self.written: set[int] = set()
        """The sectors that were written."""

    def _numbers(self, offset: int, length: int) -> range:
        if offset < 0 or length < 0 or offset + length > self.size or (offset | length) % self.sector_size:
            raise ValueError(f"{offset}+{length} is not in a disk of {self.size} bytes")
        return range(offset // self.sector_size, (offset + length) // self.sector_size)

    def _sector(self, number: int) -> bytes:
        """One that was not written."""
        assert self._base is not None
        data = bytearray(self.sector_size)
        self._base.read(number * self.sector_size, [memoryview(data)])
        return bytes(data)

    def read(self, offset: int, buffers: Buffers) -> None:
        numbers = self._numbers(offset, sum(map(len, buffers)))
        known = self.sectors
        if self._base is not None and not any(number in known for number in numbers):
            return self._base.read(offset, buffers)
        _fill(buffers, (known[number] if number in known else self._sector(number) for number in numbers))

    def write(self, offset: int, buffers: Buffers) -> None:
        data = b"".join(buffers)
        size = self.sector_size
        for index, number in enumerate(self._numbers(offset, len(data))):
            self.sectors[number] = data[index * size : (index + 1) * size]
            self.written.add(number)

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        self.read(offset, buffers)
        return True

    def try_write(self, offset: int, buffers: Buffers) -> bool:
        self.write(offset, buffers)
        return True

    def flush(self) -> None:
        """There is nothing that lasts."""

    def unmap(self, offset: int, length: int) -> None:
        self.write_zeros(offset, length)

    def write_zeros(self, offset: int, length: int) -> None:
        zeros = bytes(self.sector_size)
        for number in self._numbers(offset, length):
            self.sectors[number] = zeros
            self.written.add(number)

    @property
    def can_unmap(self) -> bool:
        return self._unmaps and not self.read_only

    @property
    def unmap_granularity(self) -> int:
        return self._granularity

    def resize(self, size: int) -> None:
        self.size = size

    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        return True, length

    def info(self) -> dict[str, Any]:
        return {"format": self.format, "size": self.size}

    def close(self) -> None:
        if self._base is not None:
            self._base.close()


class RecordedDisk(Overlay):
    """A disk of which is known what a recording has read or written; the rest cannot be read."""

    def __init__(self, size: int, sector_size: int, identity: UUID) -> None:
        self.size, self.sector_size, self.identity = size, sector_size, identity
        self.physical_sector_size = sector_size
        self.read_only = False
        self._base = None
        self._unmaps, self._granularity = False, 4096
        self.sectors = {}
        self.written = set()

    def provision(self, granularity: int) -> None:
        """It can unmap, in that unit."""
        self._unmaps, self._granularity = True, granularity

    def _sector(self, number: int) -> bytes:
        raise DiskError(
            f"the recording does not tell what sector {number} held",
            errno.ENODATA,
            number * self.sector_size,
        )


def _fill(buffers: Buffers, sectors: Iterator[bytes]) -> None:
    """Put sectors into buffers, whose borders need not be theirs."""
    waiting = b""
    for buffer in buffers:
        position = 0
        while position < len(buffer):
            if not waiting:
                waiting = next(sectors)
            part = waiting[: len(buffer) - position]
            buffer[position : position + len(part)] = part
            position, waiting = position + len(part), waiting[len(part) :]

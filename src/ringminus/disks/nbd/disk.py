"""A disk that an NBD server serves, over a few connections so that several requests are under way at once."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from ringminus.disks.disk import Buffers, Disk, DiskError
from ringminus.disks.files import after, first, total
from ringminus.disks.nbd.connection import Connection
from ringminus.disks.nbd.wire import Command, CommandFlag, ExtentFlag, TransmissionFlag
from ringminus.errors import ConfigError

CONNECTIONS = 4
_LARGEST_RANGE = 1 << 30  # bytes of a trim, of zeros or of a status in one request


class NbdDisk(Disk):
    """See the module's text. `closing` is called after the connections have been closed."""

    def __init__(
        self,
        connections: list[Connection],
        where: str,
        format: str,
        identity: UUID,
        read_only: bool,
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        """Raises `ConfigError` if the export has blocks that no disk has, `DiskError` if it is read-only."""
        export = connections[0].export
        self.where = where
        self.format = format
        self.identity = identity
        self.sector_size = 512 if export.smallest <= 512 else export.smallest
        if self.sector_size not in (512, 1024, 2048, 4096):
            raise ConfigError(f"{where} is read in blocks of {export.smallest} bytes, which no disk has")
        if export.largest < self.sector_size:
            raise ConfigError(f"{where} takes {export.largest} bytes at once: less than a sector")
        self.physical_sector_size = max(4096, self.sector_size)
        self.size = export.size // self.sector_size * self.sector_size
        self.read_only = read_only
        if export.flags & TransmissionFlag.READ_ONLY and not read_only:
            raise DiskError(f"{where} is served read-only: open it read-only")
        self._flags = export.flags
        self._tells_allocation = export.tells_allocation
        self._largest = export.largest // self.sector_size * self.sector_size
        self._connections = connections
        self._free: queue.LifoQueue[Connection] = queue.LifoQueue()
        for connection in connections:
            self._free.put(connection)
        self._closing = closing
        self._closed = False

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        connection = self._free.get()
        try:
            yield connection
        finally:
            self._free.put(connection)

    def read(self, offset: int, buffers: Buffers) -> None:
        for at, part in self._parts(offset, buffers):
            with self._connection() as server:
                server.run(Command.READ, at, total(part), receive=part)

    def write(self, offset: int, buffers: Buffers) -> None:
        self._must_write()
        for at, part in self._parts(offset, buffers):
            with self._connection() as server:
                server.run(Command.WRITE, at, total(part), send=part)

    def flush(self) -> None:
        if not self.read_only and self._flags & TransmissionFlag.SEND_FLUSH:
            with self._connection() as server:
                server.run(Command.FLUSH)

    @property
    def can_unmap(self) -> bool:
        return not self.read_only and bool(self._flags & TransmissionFlag.SEND_TRIM)

    def unmap(self, offset: int, length: int) -> None:
        self._check(offset, length)
        self._must_write()
        if self.can_unmap:
            self._over(Command.TRIM, offset, length)

    def write_zeros(self, offset: int, length: int) -> None:
        self._check(offset, length)
        self._must_write()
        if self._flags & TransmissionFlag.SEND_WRITE_ZEROES:
            self._over(Command.WRITE_ZEROES, offset, length)
            return
        zeros = memoryview(bytes(min(length, 1 << 20)))
        for at in range(offset, offset + length, len(zeros) or 1):
            self.write(at, [zeros[: offset + length - at]])

    def _over(self, command: Command, offset: int, length: int) -> None:
        for at in range(offset, offset + length, _LARGEST_RANGE):
            with self._connection() as server:
                server.run(command, at, min(_LARGEST_RANGE, offset + length - at))

    def resize(self, size: int) -> None:
        raise ConfigError(f"{self.where}: an NBD server decides on the size of its disk")

    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        self._check(offset, length)
        if not self._tells_allocation or not length:
            return True, length
        length = min(length, _LARGEST_RANGE)
        with self._connection() as server:
            extents = server.run(Command.BLOCK_STATUS, offset, length, flags=CommandFlag.ONE_EXTENT)
        if not extents or not extents[0].length:
            return True, length
        known = min(length, extents[0].length)
        # an end inside a sector would be no offset for the next question
        known = known // self.sector_size * self.sector_size or min(length, self.sector_size)
        return not extents[0].flags & ExtentFlag.ZERO, known

    def info(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "path": self.where,
            "kind": "network block device",
            "size": self.size,
            "sector_size": self.sector_size,
            "physical_sector_size": self.physical_sector_size,
        }

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
        finally:
            for connection in self._connections:
                connection.disconnect()
            self._closing()

    def _parts(self, offset: int, buffers: Buffers) -> Iterator[tuple[int, Buffers]]:
        """A request as requests that the server takes."""
        left = total(buffers)
        self._check(offset, left)
        while left > self._largest:
            yield offset, first(buffers, self._largest)
            buffers, offset, left = (
                after(buffers, self._largest),
                offset + self._largest,
                left - self._largest,
            )
        yield offset, buffers

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{offset}+{length} is not in a disk of {self.size} bytes")

    def _must_write(self) -> None:
        if self.read_only:
            raise DiskError(f"{self.where} was opened read-only")

"""Where a capture goes: a file, a pipe with a reader that may be slow, an open Python file.

All take whole records at a time."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from ringminus.errors import ConfigError, HostError
from ringminus.switch.reactor import WRITABLE, Reactor

QUEUE_BYTES = 8 << 20
"""Bytes that wait for a pipe's reader."""

_STDOUT = 1
_MOMENT = 0.2  # seconds
_STEP = select.PIPE_BUF  # a pipe or a socket that is ready takes so much without waiting

Failed = Callable[[OSError, int], None]
"""Told of an error after which nothing more is written, and of how many records that were taken are lost."""


class Output(Protocol):
    """What a capture writes to."""

    def write(self, data: bytes, records: int) -> bool:
        """Take records; False if they are lost. Raises `OSError` if they are, and all later ones would be."""

    def finish(self, done: Callable[[], None]) -> None:
        """Close when all has been written, and say so."""

    def close(self) -> int:
        """Close now; gives how many records that were taken are lost."""


class RegularFile:
    """A file of a disk. What cannot be written whole is taken back, so that it ends with a whole record."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes, records: int) -> bool:
        rest, written = memoryview(data), 0
        try:
            while rest:
                count = os.write(self._fd, rest)
                written += count
                rest = rest[count:]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, os.lseek(self._fd, -written, os.SEEK_CUR))
            raise
        return True

    def finish(self, done: Callable[[], None]) -> None:
        self.close()
        done()

    def close(self) -> int:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return 0


class Stream:
    """An open file, written in order; it waits for whoever reads."""

    def __init__(self, file: BinaryIO, *, ours: bool) -> None:
        self._file = file
        self._ours = ours

    def write(self, data: bytes, records: int) -> bool:
        self._file.write(data)
        self._file.flush()
        return True

    def finish(self, done: Callable[[], None]) -> None:
        self.close()
        done()

    def close(self) -> int:
        if self._ours:
            with suppress(OSError):  # what could not be written is not written now either
                self._file.close()
        return 0


class Pipe:
    """A pipe or a socket that is written when it has room. Its file may be shared with other processes, so
    it is not made non-blocking, but asked before each small step. `failed` is told of an error."""

    def __init__(self, fd: int, reactor: Reactor, failed: Failed) -> None:
        self._fd = fd
        self._reactor = reactor
        self._queue: deque[tuple[memoryview, int]] = deque()  # data, and the records that end in it
        self._queued = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._failed = failed
        self._done: Callable[[], None] | None = None
        reactor.watch(fd, 0, self._ready)  # tells that the reader went

    def write(self, data: bytes, records: int) -> bool:
        if self._queued + len(data) > QUEUE_BYTES or self._fd < 0:
            return False
        self._queue.append((memoryview(data), records))
        self._queued += len(data)
        if len(self._queue) == 1:
            self._drain()
            if self._queue:  # and so it was not closed
                self._reactor.watch(self._fd, WRITABLE, self._ready)
        return True

    def finish(self, done: Callable[[], None]) -> None:
        if self._queue:
            self._done = done
        else:
            self._shut()
            done()

    def close(self) -> int:
        """A reader that is there but slow has a moment to take what waits."""
        until = time.monotonic() + _MOMENT
        while self._queue and (left := until - time.monotonic()) > 0 and self._poll.poll(left * 1000):
            self._drain()
        return self._shut()

    def _shut(self) -> int:
        lost = sum(records for _, records in self._queue)
        if self._fd >= 0:
            self._queue.clear()
            self._queued = 0
            self._reactor.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
        return lost

    def _ready(self, events: int) -> None:
        if events & (select.EPOLLERR | select.EPOLLHUP):
            self._fail(OSError(errno.EPIPE, os.strerror(errno.EPIPE)))
            return
        self._drain()
        if self._fd >= 0 and not self._queue:
            if self._done is None:
                self._reactor.watch(self._fd, 0, self._ready)
            else:
                self._shut()
                self._done()

    def _drain(self) -> None:
        while self._queue and self._poll.poll(0):
            first, records = self._queue[0]
            try:
                count = os.write(self._fd, first[:_STEP])
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(error)
                return
            self._queued -= count
            if count == len(first):
                self._queue.popleft()
            else:
                self._queue[0] = (first[count:], records)

    def _fail(self, error: OSError) -> None:
        self._failed(error, self._shut())
        if self._done is not None:
            self._done()


def open_output(
    where: Path | str | BinaryIO, reactor: Reactor | None, failed: Failed, go_on: bool = False
) -> tuple[Output, str]:
    """What `CaptureFile` was told to write to, at its end if it is to `go_on`, and how that is called; raises
    `ConfigError` and `HostError`."""
    if not isinstance(where, Path | str):
        return Stream(where, ours=False), str(getattr(where, "name", "capture"))
    if str(where) == "-":
        name, fd = "standard output", os.dup(_STDOUT)
    else:
        name, fd = str(where), _open(Path(where), os.O_APPEND if go_on else os.O_TRUNC)
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind):
        return RegularFile(fd), name
    if os.isatty(fd):
        os.close(fd)
        raise ConfigError(f"{name} is a terminal, and a capture is binary: name a file or a pipe")
    if reactor is not None and (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return Pipe(fd, reactor, failed), name
    if str(where) != "-":
        os.set_blocking(fd, True)
    return Stream(os.fdopen(fd, "wb"), ours=True), name


def _open(path: Path, flag: int) -> int:
    try:
        # a named pipe without a reader is an error instead of a wait for one
        return os.open(path, os.O_WRONLY | os.O_CREAT | flag | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(path.stat().st_mode):
            raise HostError(f"nobody reads {path}: start the reader first (wireshark -k -i {path})") from None
        raise HostError(f"cannot write the capture {path}: {error.strerror}") from None

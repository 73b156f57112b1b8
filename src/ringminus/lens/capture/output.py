"""Where a capture goes: a file, a ring of files, a pipe whose reader may be slow. All take whole blocks."""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ringminus.errors import ConfigError, HostError
from ringminus.lens.capture.pcapng_wire import BlockHeader, BlockType
from ringminus.lens.capture.section import APPLICATION

UNBOUNDED = sys.maxsize
QUEUE_BYTES = 32 << 20
"""Bytes that wait for a pipe's reader."""
STANDARD = "-"
_PIPE_BYTES = 1 << 20
_MOMENT = 0.5  # seconds
_NUMBERED = re.compile(r"_(\d{5,})$")


class Output(Protocol):
    """What a capture writes to. `name` is for people; `room` the bytes that a section may have in all."""

    name: str
    room: int

    def write(self, data: bytes, events: int) -> int:
        """Take blocks; gives how many events are lost. Raises `OSError` when nothing more can be written."""

    def next(self, last: bytes, events: int) -> bool:
        """Write the last blocks of a section that is full; whether there is room for another from then on."""

    def close(self) -> int:
        """Close; gives how many events that were taken are lost."""


class RegularFile:
    """A file of at most `size` bytes. What cannot be written whole is taken back, so that it ends with a
    whole block."""

    def __init__(self, fd: int, name: str, size: int) -> None:
        self.name, self.room = name, size
        self._fd = fd

    def write(self, data: bytes, events: int) -> int:
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
        return 0

    def next(self, last: bytes, events: int) -> bool:
        self.write(last, events)
        return False

    def close(self) -> int:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return 0


class FileRing:
    """Files of at most `size` bytes each, of which the latest `files` are kept: of demo.pcapng they are
    demo_00001.pcapng, demo_00002.pcapng and so on. Those of an earlier capture of the name are deleted."""

    def __init__(self, path: Path, size: int, files: int) -> None:
        self.name, self.room = str(path), size
        self._path, self._files = path, files
        for old in members(path).values():
            if _is_ours(old):
                _delete(old)
        self._kept: deque[Path] = deque()
        self._number = 0
        self._file = self._begin()

    def _begin(self) -> RegularFile:
        self._number += 1
        path = self._path.with_stem(f"{self._path.stem}_{self._number:05}")
        file = RegularFile(_create(path), str(path), self.room)
        self._kept.append(path)
        return file

    def write(self, data: bytes, events: int) -> int:
        return self._file.write(data, events)

    def next(self, last: bytes, events: int) -> bool:
        # the next one is there before the end of this one, so that who follows finds it
        full, self._file = self._file, self._begin()
        try:
            full.write(last, events)
        finally:
            full.close()
        while len(self._kept) > self._files:
            _delete(self._kept.popleft())
        return True

    def close(self) -> int:
        return self._file.close()


class Pipe:
    """A pipe that is written when it has room. `fd` is nobody else's, and does not block."""

    def __init__(self, fd: int, name: str) -> None:
        self.name, self.room = name, UNBOUNDED
        self._fd = fd
        self._queue: deque[tuple[memoryview, int]] = deque()  # data, and the events that end in it
        self._queued = 0
        self._begun = False

    def write(self, data: bytes, events: int) -> int:
        lost = 0
        if self._queued + len(data) > QUEUE_BYTES and self._begun:
            lost = events
        elif data:
            self._begun = True
            self._queue.append((memoryview(data), events))
            self._queued += len(data)
        self._drain()
        return lost

    def _drain(self) -> None:
        while self._queue:
            first, events = self._queue[0]
            try:
                count = os.write(self._fd, first)
            except BlockingIOError:
                return
            self._queued -= count
            if count == len(first):
                self._queue.popleft()
            else:
                self._queue[0] = (first[count:], events)

    def next(self, last: bytes, events: int) -> bool:
        return False

    def close(self) -> int:
        """A reader that is there but slow has a moment to take what waits."""
        if self._fd < 0:
            return 0
        poll, until = select.poll(), time.monotonic() + _MOMENT
        poll.register(self._fd, select.POLLOUT)
        with suppress(OSError):
            self._drain()
            while self._queue and (left := until - time.monotonic()) > 0 and poll.poll(left * 1000):
                self._drain()
        lost = sum(events for _, events in self._queue)
        self._queue.clear()
        os.close(self._fd)
        self._fd = -1
        return lost


def open_output(path: str, size: int = UNBOUNDED, files: int = 1) -> Output:
    """What a path, or "-" for standard output, is; raises `ConfigError`, `HostError`."""
    if path == STANDARD:
        return _standard_output(size, files)
    where = Path(path)
    if files > 1:
        if where.exists() and not where.is_file():
            raise ConfigError(f"{path} is no file, and files= is for files: leave it out")
        return FileRing(where, size, files)
    return _opened(_create(where), path, size)


def _standard_output(size: int, files: int) -> Output:
    if files > 1:
        raise ConfigError("standard output is one: leave out files=")
    name, kind = "standard output", os.fstat(1).st_mode
    if os.isatty(1):
        raise ConfigError(
            f"{name} is a terminal, and a capture is binary: name a file, or say | wireshark -k -i -"
        )
    if not stat.S_ISFIFO(kind):
        return _opened(os.dup(1), name, size)
    try:  # anew, as a pipe that does not block would not block for others who have it, too
        return _opened(os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), name, size)
    except OSError as error:
        raise HostError(f"cannot write the capture to {name}: {error.strerror}") from None


def _opened(fd: int, name: str, size: int) -> Output:
    kind = os.fstat(fd).st_mode
    if not stat.S_ISFIFO(kind):
        os.set_blocking(fd, True)
        return RegularFile(fd, name, size)
    if size != UNBOUNDED:
        os.close(fd)
        raise ConfigError(f"{name} is a pipe, and has no size: leave out size=")
    with suppress(OSError):  # as large as this user may
        _set_pipe_size(fd)
    return Pipe(fd, name)


def _set_pipe_size(fd: int) -> None:
    import fcntl

    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _create(path: Path) -> int:
    try:
        # a named pipe without a reader is an error instead of a wait for one
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(path.stat().st_mode):
            raise HostError(f"nobody reads {path}: start the reader first (wireshark -k -i {path})") from None
        raise HostError(f"cannot write the capture {path}: {error.strerror}") from None


def members(path: Path) -> dict[int, Path]:
    """The files of the ring of that name that are there, by their numbers and in their order."""
    found = []
    for one in path.parent.glob(f"{_escaped(path.stem)}_*{_escaped(path.suffix)}"):
        number = _NUMBERED.search(one.stem)
        if number is not None and one.stem[: number.start()] == path.stem and one.suffix == path.suffix:
            found.append((int(number[1]), one))
    return dict(sorted(found))


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _is_ours(path: Path) -> bool:
    """Whether a file is a capture of ours, that may be deleted."""
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
    except OSError:
        return False
    word = APPLICATION.partition(" ")[0].encode()
    kind = begin[: BlockHeader.offset_of("length")]
    return kind == BlockType.SECTION_HEADER.to_bytes(4, "little") and word in begin


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)

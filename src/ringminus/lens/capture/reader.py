"""Reading capture files: as they were written, or as Wireshark and its tools have left them.

A file is read from its beginning to its end, so that it may be a pipe, or grow. What is not whole at its end
is not read: there the writer was stopped.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ringminus.errors import HostError
from ringminus.lens.capture.output import STANDARD, members
from ringminus.lens.capture.pcapng_wire import (
    ALIGNMENT,
    BLOCK_HEADER,
    BYTE_ORDER_MAGIC,
    MOST_IN_BLOCK,
    SWAPPED_MAGIC,
    BlockHeader,
    BlockType,
)
from ringminus.lens.capture.section_reader import SectionReader
from ringminus.tap import Event
from ringminus.wire import ShortBuffer

READ_SIZE = 1 << 20
POLL = 0.1
"""Seconds between looks at a file that is followed."""
_SECTION = int(BlockType.SECTION_HEADER)
_PACKET = int(BlockType.PACKET)
TRAILER = 4
LEAST, MOST = BlockHeader.SIZE + TRAILER, MOST_IN_BLOCK
"""Bytes of a block."""


def open_capture(path: Path | str, *, follow: bool = False) -> Capture:
    """The events of a file, or of a ring of files by the name that it was given, or of standard input ("-").
    With `follow` those that are written later come, too, until the capture ends. Raises `HostError`."""
    return Capture(path, follow=follow)


class Capture:
    """A `Source`. `lost` counts events that are known to be missing; what was written when the writer was
    killed is whole but for the last second."""

    def __init__(self, path: Path | str, *, follow: bool = False) -> None:
        self._path, self._follow = Path(path), follow
        self._standard = str(path) == STANDARD
        self._closed = threading.Event()
        self._section: SectionReader | None = None
        self._states: set[int] = set()
        self._lost = 0
        self._partition = ""
        self._file = self._open_first()
        self._found = self._all()
        self._first = next(self._found, None)  # by then the guest's name is known

    @property
    def partition(self) -> str:
        return self._partition

    @property
    def lost(self) -> int:
        return self._lost + (self._section.lost if self._section is not None else 0)

    @property
    def progress(self) -> float | None:
        """The part of the file that has been read; None where its end is not known."""
        if self._standard or self._follow or self._ring:
            return None
        try:
            status = os.fstat(self._file.fileno())
            return self._file.tell() / max(status.st_size, 1) if stat.S_ISREG(status.st_mode) else None
        except ValueError:  # it has been closed: that is at its end
            return 1.0

    def __iter__(self) -> Iterator[Event]:
        first, self._first = self._first, None
        if first is not None:
            yield first
        for event in self._found:
            if event is not None:
                yield event

    def close(self) -> None:
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ files

    def _open_first(self) -> BinaryIO:
        self._number, self._ring = 0, False
        if self._standard:
            return sys.stdin.buffer
        if not self._path.exists():
            for number, path in members(self._path).items():
                with suppress(FileNotFoundError):  # its writer has deleted it meanwhile
                    self._number, self._ring = number, True
                    return path.open("rb", buffering=0)
        try:
            return self._path.open("rb", buffering=0)
        except OSError as error:
            raise HostError(f"cannot read the capture {self._path}: {error.strerror}") from None

    def _next_file(self) -> bool:
        """The ring's next file, if there is one."""
        later = members(self._path) if self._ring else {}
        for number, path in later.items():
            if number > self._number:
                with suppress(FileNotFoundError):
                    file = path.open("rb", buffering=0)
                    self._lost += (
                        number > self._number + 1
                    )  # we were too slow; how many there were is not known
                    self._file.close()
                    self._file, self._number = file, number
                    return True
        return False

    # ------------------------------------------------------------ blocks

    def _all(self) -> Iterator[Event | None]:
        """Events, and None once all is known that comes before them."""
        try:
            while True:
                yield from self._events_of_file()
                if self._closed.is_set() or not self._next_file():
                    return
        finally:
            if not self._standard:
                self._file.close()

    def _events_of_file(self) -> Iterator[Event | None]:
        told = False
        for kind, body in self._blocks():
            if kind == _SECTION:
                self._begin_section()
                continue
            assert self._section is not None
            try:
                event = self._section.take(kind, body)
            except ShortBuffer:
                self._lost += 1
                continue
            if event is not None or (not told and kind == _PACKET):
                if not told:
                    told = True
                    self._check()
                    self._partition = self._section.partition
                yield event
        self._check()

    def _begin_section(self) -> None:
        if self._section is not None:
            self._lost += self._section.lost
        self._section = SectionReader(self._states)

    def _check(self) -> None:
        if self._section is None:
            raise HostError(f"{self._path} is no capture: it is empty")
        if not self._section.ours:
            raise HostError(
                f"{self._path} is a capture without events, of something else than ringminus: "
                "look at it with wireshark"
            )

    def _blocks(self) -> Iterator[tuple[int, memoryview]]:
        """The whole blocks of a file: types and bodies. What follows a damaged one cannot be read."""
        view, position = memoryview(b""), 0
        while True:
            kind, length = self._header(view, position)
            if length is None:
                self._lost += 1
                return
            end = position + length
            if length and len(view) >= end:
                if view[end - TRAILER : end] != view[position + TRAILER : position + BlockHeader.SIZE]:
                    self._lost += 1
                    return
                yield kind, view[position + BlockHeader.SIZE : end - TRAILER]
                position = end
                continue
            more = self._read(max(READ_SIZE, end - len(view)))
            if not more:
                return
            view, position = memoryview(bytes(view[position:]) + more), 0

    def _header(self, view: memoryview, position: int) -> tuple[int, int | None]:
        """The type and length of the block that begins there; the length is 0 if it is not known yet, and
        None if it cannot be."""
        if len(view) - position < LEAST:
            return 0, 0
        kind, length = BLOCK_HEADER.unpack_from(view, position)
        if kind == _SECTION:
            magic = int.from_bytes(view[position + BlockHeader.SIZE :][:TRAILER], "little")
            if magic == SWAPPED_MAGIC:
                raise HostError(f"{self._path} is of a big-endian machine: ringminus writes none such")
            if magic != BYTE_ORDER_MAGIC:
                return kind, None
        elif self._section is None:
            raise HostError(f"{self._path} is no capture: it is not pcapng")
        return kind, None if length % ALIGNMENT or not LEAST <= length <= MOST else length

    def _read(self, size: int) -> bytes:
        """What comes next; nothing at the end."""
        while not self._closed.is_set():
            data = self._file.read(size)
            if data or not self._waits():
                return data or b""
            self._closed.wait(POLL)
        return b""

    def _waits(self) -> bool:
        """Whether more may come at the end of a file."""
        if not self._follow or self._standard or not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            return False
        ended = self._section is not None and self._section.ended
        return not ended and not (self._ring and any(number > self._number for number in members(self._path)))

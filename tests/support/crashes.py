"""What a file may be after a crash, from a record of what was done to it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringminus.disks.files import HostFile

PAGE = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """Bytes written at `offset`, a new size, or (neither) a flush; `mark` is what the test was doing."""

    mark: object
    offset: int | None = None
    data: bytes = b""
    size: int | None = None

    def apply(self, image: bytearray) -> None:
        """Do it to the file's bytes."""
        if self.size is not None:
            del image[self.size :]
            image.extend(bytes(self.size - len(image)))
        elif self.offset is not None:
            image.extend(bytes(max(0, self.offset + len(self.data) - len(image))))
            image[self.offset : self.offset + len(self.data)] = self.data

    @property
    def is_flush(self) -> bool:
        return self.offset is None and self.size is None


class RecordedFile(HostFile):
    """A file that notes every change in `changes`; `before` are its bytes when it was opened, and `mark` is
    noted with each change."""

    __slots__ = ("before", "changes", "mark")

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.before = Path(path).read_bytes()
        self.changes: list[Change] = []
        self.mark: object = None

    def write(self, offset: int, buffers: Sequence[memoryview | bytes | bytearray]) -> None:
        data = b"".join(buffers)
        super().write(offset, [data])
        self.changes.append(Change(self.mark, offset, data))

    def punch(self, offset: int, length: int) -> bool:
        done = super().punch(offset, length)
        length = min(length, self.size - offset)
        if done and length > 0:
            self.changes.append(Change(self.mark, offset, bytes(length)))
        return done

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self.changes.append(Change(self.mark, size=size))

    def flush(self) -> None:
        super().flush()
        self.changes.append(Change(self.mark))

    def crashes(
        self, source: random.Random, most: int, candidates: Sequence[int] | None = None
    ) -> Iterator[tuple[object, bytes]]:
        """The file after crashes between two changes, with the mark of what was being done; at most so many,
        in order. A killed process leaves all that it did; a host without power loses any pages that were
        written since the last flush. `candidates` are the changes after which a crash would be telling."""
        candidates = range(len(self.changes)) if candidates is None else candidates
        wanted = set(source.sample(candidates, min(most, len(candidates))))
        now, durable, waiting = bytearray(self.before), bytearray(self.before), list[Change]()
        for number, change in enumerate(self.changes):
            change.apply(now)
            if change.is_flush:
                durable[:] = now
                waiting.clear()
            else:
                waiting += _pages(change)
            if number in wanted:
                yield change.mark, bytes(now)
                chance = source.choice([0.1, 0.5, 0.9])
                image = bytearray(durable)
                for done in waiting:
                    if source.random() < chance:
                        done.apply(image)
                yield change.mark, bytes(image)


def _pages(change: Change) -> Iterator[Change]:
    """A write page by page, as a host makes it durable."""
    if change.offset is None:
        yield change
        return
    at = 0
    while at < len(change.data):
        length = PAGE - (change.offset + at) % PAGE
        yield Change(change.mark, change.offset + at, change.data[at : at + length])
        at += length

"""How changes reach the file, so that it is a good disk at every instant.

Changes of metadata (pages of the BAT and of sector bitmaps) are made in memory, where every thread sees them,
and wait here. `commit` makes them and the data they lead to durable:

1. Take the waiting pages as they are now. What they name reads as it must at any moment: a block new to the
   file is zeros before it is in the BAT, and a sector's bit is set after its data are written.
2. Sync. Now those zeros and data are durable, the file's new length too, and what earlier commits wrote in
   place.
3. Write the pages to the log, and sync. This is the moment: a crash before it leaves the old metadata, whose
   blocks nobody has touched; a crash after it is repaired by replaying the log.
4. Write the pages in place. That need not be durable before the log forgets them, which is after a later 2.
5. Only now is the space reused that the pages have given up, and only when no write is under way that may
   have looked up its place before; so until then no block's data can appear in another.

A killed process loses nothing that it has written; a host that loses power may lose any part of what was
written since the last sync, which is all that 1 to 5 rely on. One page is atomic, several are not if they do
not fit one entry; therefore bitmaps go first and then the BAT from its end, as the entry of a chunk's bitmap
comes after those of the chunk's blocks, which must not be partially present without it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from ringminus.disks.disk import DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx.log import LogWriter, Page
from ringminus.disks.vhdx.space import Space

MOST_WAITING_PAGES = 64
MOST_WAITING_SPACE = 4 << 30  # bytes


@dataclass(slots=True)
class Freed:
    """A range of the file that no durable metadata name any more; `writers` may still write there."""

    offset: int
    length: int
    writers: set[object]


class Journal:
    """The waiting changes of one file. `lock` is the disk's lock of its metadata in memory: `change` and
    `free` are called under it, `commit` without it."""

    def __init__(self, file: HostFile, log: LogWriter, space: Space, lock: threading.Lock) -> None:
        self._file = file
        self._log = log
        self._space = space
        self._lock = lock
        self._committing = threading.Lock()
        self._bitmaps: dict[int, memoryview] = {}
        self._tables: dict[int, memoryview] = {}
        self._in_commit: set[int] = set()
        self._leaving: list[tuple[int, int]] = []
        self._freed: list[Freed] = []
        self._waiting_space = 0
        self.writers: set[object] = set()
        self.generation = 0  # counts the times at which space became reusable
        self.ready = False  # whether the header says that contents change, and nothing has failed
        self.failure: DiskError | None = None

    @property
    def is_due(self) -> bool:
        """Whether so much waits that one should commit before there is a need to."""
        pages = len(self._bitmaps) + len(self._tables)
        return pages >= MOST_WAITING_PAGES or self._waiting_space >= MOST_WAITING_SPACE

    def waiting_bitmaps(self, offset: int) -> bool:
        """Whether the bitmap page at `offset` is newer in memory than in the file."""
        return offset in self._bitmaps or offset in self._in_commit

    def change_bitmap(self, offset: int, page: memoryview) -> None:
        """A page of a bitmap has changed; it is taken as it is when it is committed."""
        self._bitmaps[offset] = page

    def change_table(self, offset: int, page: memoryview) -> None:
        """A page of the BAT, or another that must follow the bitmaps, has changed."""
        self._tables[offset] = page

    def free(self, offset: int, length: int) -> None:
        """The changes that wait give up this range."""
        self._leaving.append((offset, length))
        self._waiting_space += length

    def commit(self, forget: bool = False) -> None:
        """Make durable what was written and changed before; with `forget`, also leave the log empty before
        any space is reused. Raises `DiskError`, now and ever after."""
        with self._committing:
            self.check()
            with self._lock:
                bitmaps, self._bitmaps = self._bitmaps, {}
                tables, self._tables = self._tables, {}
                leaving, self._leaving = self._leaving, []
                self._in_commit = set(bitmaps)
                end = self._space.end
                ordered = [*bitmaps.items(), *sorted(tables.items(), reverse=True)]
                pages = [(offset, bytes(view)) for offset, view in ordered]
            self._make_durable(pages, end)
            if forget:
                self._forget()
            with self._lock:
                self._in_commit = set()
                self._freed += [Freed(*one, set(self.writers)) for one in leaving]
                self._waiting_space = sum(length for _, length in self._leaving)
                self.reuse()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """With the lock and nothing waiting, for a change of more than blocks; inside, `log_at_once`."""
        while True:
            self.commit(forget=True)
            with self._committing, self._lock:
                if not self._bitmaps and not self._tables and not self._leaving:
                    yield
                    return

    def check(self) -> None:
        """Raise the error that has ended all writing."""
        if self.failure is not None:
            raise self.failure

    def _make_durable(self, pages: list[Page], end: int) -> None:
        """Steps 2 to 4. After an error we end: the host drops what it could not write, and a later sync would
        say nothing about it."""
        try:
            self._file.flush()
            most = self._log.most_pages
            for first in range(0, len(pages), most):
                if first:
                    self._file.flush()
                some = pages[first : first + most]
                self._log.append(some, end)
                for offset, page in some:
                    self._file.write_at(offset, page)
        except DiskError as error:
            self.failure, self.ready = error, False
            raise

    def _forget(self) -> None:
        """Leave the log empty. A page that it holds would overwrite what comes to the page's place, if that
        place is not a page's any more."""
        try:
            self._file.flush()
            self._log.clear()
        except DiskError as error:
            self.failure, self.ready = error, False
            raise

    def log_at_once(self, pages: list[Page]) -> None:
        """Change pages, durably, and leave the log empty; called in `alone`. So many that they do not fit one
        entry are not one change."""
        self._make_durable(pages, self._space.end)
        self._forget()

    def free_now(self, offset: int, length: int) -> None:
        """Free a range that no durable metadata name any more, nor the log; called under the lock."""
        self._freed.append(Freed(offset, length, set(self.writers)))

    def reuse(self) -> None:
        """Make freed space usable that nobody can be writing to; called under the lock."""
        waiting, self._freed = self._freed, []
        for freed in waiting:
            freed.writers &= self.writers
            if freed.writers:
                self._freed.append(freed)
                continue
            # who reads there now has looked up its place before; this tells it to look again
            self.generation += 1
            self._file.punch(freed.offset, freed.length)
            self._space.give(freed.offset, freed.length)

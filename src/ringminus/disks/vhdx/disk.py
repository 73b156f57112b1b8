"""An open VHDX.

Reading and writing a block that is wholly in the file needs no lock. Its place is looked up in `Bat.places`,
and the host's call goes straight between the file and the caller's memory. What could go wrong is that the
block is given up meanwhile and another gets its place (see `journal`):

- A read looks at `Journal.generation` before it looks up the place and after it has read. If it has not
  changed, no place has become reusable in between, so the bytes are the block's, or the zeros of its end.
- A write is in `Journal.writers` while it has a place in hand, and no place is reused before all that were
  there when it was freed have gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from ringminus.disks.disk import Buffers, Disk
from ringminus.disks.files import LARGEST_INLINE_WRITE, HostFile, after, fill_zeros, first, total
from ringminus.disks.vhdx import resize, trim
from ringminus.disks.vhdx.image import Image
from ringminus.disks.vhdx.store import Store
from ringminus.disks.vhdx.wire import BlockState

_RWF_NOWAIT = os.RWF_NOWAIT
_FULLY, _PARTIALLY = int(BlockState.FULLY_PRESENT), int(BlockState.PARTIALLY_PRESENT)
_NOT_PRESENT = int(BlockState.NOT_PRESENT)


class Vhdx(Disk):
    """See the module's text. `parent` is the next disk of a differencing chain, or None."""

    format = "vhdx"
    parent: Vhdx | None

    def __init__(self, file: HostFile, image: Image, parent: Vhdx | None) -> None:
        """Takes over `file` and `parent`; `image` is loaded and sound."""
        metadata = image.metadata
        self.size = metadata.size
        self.sector_size = metadata.sector_size
        self.physical_sector_size = metadata.physical_sector_size
        self.block_size = metadata.block_size
        self.identity = metadata.disk_id
        self.read_only = file.read_only
        self.parent = parent
        self.store = Store(file, image)
        self._file = file
        self._fd = file.fd
        self._journal = self.store.journal
        self._writers = self._journal.writers
        self._places = image.bat.places
        self._mask = metadata.block_size - 1
        self._shift = self._mask.bit_length()

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        # the guest's whole thread waits for this: no call that can be spared
        length = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        within = offset & self._mask
        if within + length <= self.block_size and 0 <= offset <= self.size - length:
            generation = self._journal.generation
            place = self._places[offset >> self._shift]
            if place:
                try:
                    got = os.preadv(self._fd, buffers, place + within, _RWF_NOWAIT)
                except OSError:
                    # not in memory, or a host that knows no NOWAIT; `read` finds the words for a failure
                    return False
                return got == length and generation == self._journal.generation
        self._check(offset, length)
        return self._read(offset, buffers, length, wait=False)

    def read(self, offset: int, buffers: Buffers) -> None:
        length = total(buffers)
        self._check(offset, length)
        within = offset & self._mask
        if within + length <= self.block_size:
            generation = self._journal.generation
            place = self._places[offset >> self._shift]
            if place:
                self._file.read(place + within, buffers)
                if generation == self._journal.generation:
                    return
        self._read(offset, buffers, length, wait=True)

    def try_write(self, offset: int, buffers: Buffers) -> bool:
        length = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        within = offset & self._mask
        if length > LARGEST_INLINE_WRITE or within + length > self.block_size or not self._journal.ready:
            return False
        if not 0 <= offset <= self.size - length:
            self._check(offset, length)
        writer = object()
        self._writers.add(writer)
        try:
            place = self._places[offset >> self._shift]
            if place:
                return os.pwritev(self._fd, buffers, place + within) == length
        except OSError:
            return False
        finally:
            self._writers.discard(writer)
        return length > 0 and self._try_write_partial(offset >> self._shift, within, buffers, length)

    def write(self, offset: int, buffers: Buffers) -> None:
        length = total(buffers)
        self._check(offset, length)
        within = offset & self._mask
        if within + length <= self.block_size and self._journal.ready:
            writer = object()
            self._writers.add(writer)
            try:
                place = self._places[offset >> self._shift]
                if place:
                    self._file.write(place + within, buffers)
                    return
            finally:
                self._writers.discard(writer)
        self.store.begin()
        for block, start, views, count in self._pieces(offset, buffers, length):
            self._write_piece(block, start, views, count)
            if self._journal.is_due:
                self._journal.commit()

    def _pieces(self, offset: int, buffers: Buffers, length: int) -> Iterator[tuple[int, int, Buffers, int]]:
        """The request block by block: block, offset in the block, buffers and length."""
        views = buffers
        while length:
            block, within = offset >> self._shift, offset & self._mask
            count = min(length, self.block_size - within)
            if count == length:
                yield block, within, views, count
            else:
                yield block, within, first(views, count), count
                views = after(views, count)
            offset += count
            length -= count

    def _read(self, offset: int, buffers: Buffers, length: int, wait: bool) -> bool:
        while True:
            generation = self._journal.generation
            for block, within, views, count in self._pieces(offset, buffers, length):
                if not self._read_piece(block, within, views, count, wait):
                    return False
            if generation == self._journal.generation:
                return True

    def _read_piece(self, block: int, within: int, views: Buffers, count: int, wait: bool) -> bool:
        while True:
            place = self._places[block]
            if place:
                return self._read_file(place + within, views, wait)
            state, _ = self.store.look_up(block)
            if state == _PARTIALLY:
                found = self._runs(block, within, count, wait)
                if found is None:
                    if not wait:
                        return False
                    continue
                return self._read_runs(block, within, views, *found, wait)
            if state == _FULLY:
                continue  # it has just become so
            if state == _NOT_PRESENT and self.parent is not None:
                return self._read_parent((block << self._shift) + within, views, count, wait)
            fill_zeros(views)
            return True

    def _read_file(self, offset: int, views: Buffers, wait: bool) -> bool:
        if wait:
            self._file.read(offset, views)
            return True
        return self._file.try_read(offset, views)

    def read_parent(self, offset: int, buffers: Buffers) -> None:
        """What the range would be if nothing of it were in this file; only with a parent."""
        self._read_parent(offset, buffers, total(buffers), wait=True)

    def _read_parent(self, offset: int, views: Buffers, count: int, wait: bool) -> bool:
        assert self.parent is not None
        there = min(count, max(0, self.parent.size - offset))
        if there < count:
            fill_zeros(after(views, there))
            views = first(views, there)
        if not there:
            return True
        if wait:
            self.parent.read(offset, views)
            return True
        return self.parent.try_read(offset, views)

    def _runs(
        self, block: int, within: int, count: int, wait: bool
    ) -> tuple[int, list[tuple[bool, int]]] | None:
        """The place of a partially present block, and which sectors are there; None if it is not (any more)
        one, or if one had to wait to find out."""
        if not self.store.lock.acquire(blocking=wait):
            return None
        try:
            state, place = self.store.look_up(block)
            if state != _PARTIALLY:
                return None
            sector = ((block << self._shift) + within) // self.sector_size
            sectors = count // self.sector_size
            if not wait and not self.store.bitmaps.is_cached(sector, sectors):
                return None
            return place, list(self.store.bitmaps.runs(sector, sectors))
        finally:
            self.store.lock.release()

    def _read_runs(
        self, block: int, within: int, views: Buffers, place: int, runs: list[tuple[bool, int]], wait: bool
    ) -> bool:
        for present, sectors in runs:
            count = sectors * self.sector_size
            some = first(views, count) if len(runs) > 1 else views
            if present:
                done = self._read_file(place + within, some, wait)
            else:
                done = self._read_parent((block << self._shift) + within, some, count, wait)
            if not done:
                return False
            if len(runs) > 1:
                views = after(views, count)
            within += count
        return True

    def _write_piece(self, block: int, within: int, views: Buffers, count: int) -> None:
        store, writer = self.store, object()
        self._writers.add(writer)
        try:
            with store.lock:
                self._journal.check()
                state, place = store.look_up(block)
                if state not in (_FULLY, _PARTIALLY):
                    store.allocate(block)
                    state, place = store.look_up(block)
            self._file.write(place + within, views)
            if state == _PARTIALLY:
                with store.lock:
                    store.written(block, place, within, count)
        finally:
            self._writers.discard(writer)

    def _try_write_partial(self, block: int, within: int, views: Buffers, count: int) -> bool:
        """Write to a partially present block if its bitmap is in memory and nobody has the lock."""
        store, writer = self.store, object()
        if self._journal.is_due or not store.lock.acquire(blocking=False):
            return False
        self._writers.add(writer)
        try:
            state, place = store.look_up(block)
            sectors = self.block_size // self.sector_size
            if state != _PARTIALLY or not store.bitmaps.is_cached(block * sectors, sectors):
                return False
            if os.pwritev(self._fd, views, place + within) != count:
                return False
            store.written(block, place, within, count)
            return True
        except OSError:
            return False
        finally:
            self._writers.discard(writer)
            store.lock.release()

    def flush(self) -> None:
        if self.store.begun:
            self._journal.commit()

    @property
    def can_unmap(self) -> bool:
        return not self.read_only and not self.store.fixed

    def unmap(self, offset: int, length: int) -> None:
        self._check(offset, length)
        trim.unmap(self.store, offset, length)

    def write_zeros(self, offset: int, length: int) -> None:
        self._check(offset, length)
        trim.write_zeros(self.store, offset, length)

    def resize(self, size: int) -> None:
        resize.resize(self, size)

    def take_places(self) -> None:
        """The table has come elsewhere in memory."""
        self._places = self.store.bat.places

    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        self._check(offset, length)
        return trim.allocated(self.store, offset, length)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def data_write_guid(self) -> UUID:
        """Changes whenever the disk's contents may have."""
        return UUID(bytes_le=self.store.image.headers.current.data_write_guid)

    def info(self) -> dict[str, Any]:
        image = self.store.image
        kind = "differencing" if self.parent is not None else "fixed" if self.store.fixed else "dynamic"
        facts: dict[str, Any] = {
            "format": self.format,
            "path": str(self._file.path),
            "kind": kind,
            "size": self.size,
            "used": self._file.used,
            "file_size": self._file.size,
            "free_in_file": self.store.space.free,
            "block_size": self.block_size,
            "sector_size": self.sector_size,
            "physical_sector_size": self.physical_sector_size,
            "identity": str(self.identity),
            "data_write_guid": str(self.data_write_guid),
            "creator": image.creator,
            "log_entries_replayed": image.replayed,
        }
        if self.parent is not None:
            facts["parent"] = self.parent.info()
        return facts

    def close(self) -> None:
        if self._file.fd < 0:
            return
        try:
            if self.store.begun:
                self._journal.commit(forget=True)
                self.store.cut()
        finally:
            self._journal.ready = False
            self._fd = -1
            self._file.close()
            if self.parent is not None:
                self.parent.close()

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{offset}+{length} is not in a disk of {self.size} bytes")

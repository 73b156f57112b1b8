"""The blocks of a dynamic or differencing VHD: where they are, and which of their sectors are there.

The file must open after a crash at any moment, and have every write that was flushed. Three rules do it:

1. What leads to data is written after the data. New places of blocks and new bits of bitmaps stay in memory
   until `flush`, which makes the data durable, then writes bitmaps and table, then makes those durable. So
   nothing in the file ever leads to what is not there yet; a block whose entry is not written is as it was.
2. The file ends with a footer at every moment of a process's life. A block is added by writing the footer at
   the new end first; only then the old one is overwritten. If the host's power fails in between, the copy of
   the footer at the beginning of the file remains.
3. A place that a block gave up is used again only when the table without it is durable, and when no call is
   under way that could have seen it.

A block of a dynamic disk is added with all its bits set, over a hole that reads as zeros. A block of a
differencing disk is added with none, and each write sets those of its sectors. New data is aligned to 4096
bytes, so that a guest's page is one page of the host.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator, Sequence

from ringminus.disks.disk import DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.vhd import bitmaps
from ringminus.disks.vhd.table import BlockTable
from ringminus.disks.vhd.wire import SECTOR, UNUSED_ENTRY, Footer

_ALIGNMENT = 4096
_COPIED_AT_ONCE = 1 << 20
_CACHED_BITMAPS = 4096  # 2 MiB of them, for blocks of the usual size


def aligned(offset: int) -> int:
    """The first good place for a block's data from `offset` on."""
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class Blocks:
    """Places and bitmaps of all blocks.

    `data[n]` is the place of block n's data in bytes, 0 for none; `whole[n]` is 1 when all its sectors are
    known to be in the file. Both are read without a lock. `active` has an element for each call that is under
    way and may hold a place.
    """

    def __init__(self, file: HostFile, footer: Footer, table: BlockTable, differencing: bool) -> None:
        self._file = file
        self._footer = footer
        self._table = table
        self._differencing = differencing
        self.data = table.data_offsets()
        self.whole = bytearray(len(self.data))
        self.active: list[None] = []
        self._bitmaps: dict[int, bytearray] = {}
        self._lock = threading.Lock()
        self._flush_lock = threading.RLock()
        self._new_entries: set[int] = set()
        self._new_bits: set[int] = set()
        self._end = table.end_of_blocks()
        self._file_size = file.size
        # places by their data offset: given up; no longer in the durable table; ready for use
        self._given_up: list[int] = []
        self._unreferenced: list[int] = []
        self._ready: list[int] = []

    def sectors_of(self, number: int) -> int:
        """Sectors of the disk that are in this block."""
        size = self._table.block_size
        return min(size, self._footer.current_size - number * size) // SECTOR

    def restore_footer(self) -> None:
        """Write the footer that the file has lost, behind all that is there."""
        end = -(-max(self._end, self._file_size) // SECTOR) * SECTOR
        self._write_footer(end)
        self._end = end

    def write_footers(self) -> None:
        """Write the changed footer to both its places: the copy first, the one that counts last."""
        with self._lock:
            self._file.write_at(0, self._footer.pack())
            self._file.write_at(max(0, self._file_size - SECTOR), self._footer.pack())

    def append(self, data: bytes) -> int:
        """Put data of whole sectors, such as a longer table, behind all blocks; returns where it is."""
        with self._lock:
            start = -(-max(self._end, self._file_size) // SECTOR) * SECTOR
            self._write_footer(start + len(data))
            self._file.write_at(start, data)
            self._end = start + len(data)
            return start

    def _write_footer(self, end: int) -> None:
        self._file.write_at(end, self._footer.pack())
        self._file_size = max(self._file_size, end + SECTOR)

    def add(self, number: int) -> int:
        """Give the block a place, which reads as it did before; returns where its data is."""
        with self._lock:
            place = self.data[number]
            if place:
                return place
            place = self._take_place()
            bitmap = bytes(self._table.bitmap_size)
            if self._differencing:
                self._bitmaps[number] = bytearray(bitmap)
            else:
                bitmap = b"\xff" * len(bitmap)
            self._file.write_at(place - len(bitmap), bitmap)
            self.whole[number] = not self._differencing
            self._new_entries.add(number)
            self.data[number] = place
            return place

    def _take_place(self) -> int:
        size = self._table.block_size
        if self._ready:
            place = self._ready.pop()
            self._file.zero(place, size)
            return place
        place = aligned(self._end + self._table.bitmap_size)
        end = place + size
        if end // SECTOR >= UNUSED_ENTRY:
            raise DiskError(f"{self._file.path} is full: a VHD file ends at 2 TiB", errno.ENOSPC)
        old_size = self._file_size
        if end + SECTOR > old_size:
            self._write_footer(end)
        if place < old_size:
            self._file.zero(place, min(end, old_size) - place)
        self._end = end
        return place

    def give_up(self, number: int) -> None:
        """Take the block's place away; it reads as zeros, or from the parent."""
        with self._lock:
            place = self.data[number]
            if not place:
                return
            self.data[number] = 0
            self.whole[number] = 0
            self._bitmaps.pop(number, None)
            self._new_bits.discard(number)
            self._new_entries.add(number)
            self._given_up.append(place)
        self._file.punch(place, self._table.block_size)

    def known_bitmap(self, number: int) -> bytearray | None:
        """The block's bitmap if it is in memory."""
        return self._bitmaps.get(number)

    def bitmap(self, number: int) -> bytearray | None:
        """The block's bitmap; None if the block has no place, or has all its sectors."""
        with self._lock:
            return self._load(number)

    def _load(self, number: int) -> bytearray | None:
        if not self.data[number] or self.whole[number]:
            return None
        known = self._bitmaps.get(number)
        if known is not None:
            return known
        size = self._table.bitmap_size
        bitmap = bytearray(self._file.read_at(self.data[number] - size, size))
        if bitmaps.is_whole(bitmap, self.sectors_of(number)):
            self.whole[number] = 1
            return None
        if len(self._bitmaps) >= _CACHED_BITMAPS:
            self._bitmaps = {n: kept for n, kept in self._bitmaps.items() if n in self._new_bits}
        self._bitmaps[number] = bitmap
        return bitmap

    def mark(self, number: int, place: int, first: int, count: int) -> None:
        """Note that sectors of the block at `place` have been written."""
        with self._lock:
            if self.data[number] != place:
                return  # given up meanwhile
            bitmap = self._load(number)
            if bitmap is None:
                return
            bitmaps.mark(bitmap, first, count)
            self._new_bits.add(number)
            if bitmaps.is_whole(bitmap, self.sectors_of(number)):
                self.whole[number] = 1

    def flush(self) -> None:
        """Make all data that was written durable, and all that leads to it; raises `DiskError`."""
        with self._flush_lock:
            with self._lock:
                entries = {number: self.data[number] for number in self._new_entries}
                bits = {n: (self.data[n], bytes(self._bitmaps[n])) for n in self._new_bits}
                given_up, self._given_up = self._given_up, []
                self._new_entries, self._new_bits = set(), set()
            try:
                self._file.flush()
                if entries or bits:
                    self._write_tables(entries, bits)
                    self._file.flush()
            except BaseException:
                with self._lock:
                    self._new_entries |= entries.keys()
                    self._new_bits |= {number for number in bits if number in self._bitmaps}
                    self._given_up += given_up
                raise
            with self._lock:
                self._unreferenced += given_up
                if not self.active:
                    self._ready += self._unreferenced
                    self._unreferenced = []
                for number in bits.keys() - self._new_bits:
                    if self.whole[number]:
                        self._bitmaps.pop(number, None)

    @contextlib.contextmanager
    def steady(self) -> Iterator[None]:
        """Everything is flushed, and the tables in the file do not change until the block ends."""
        with self._flush_lock:
            self.flush()
            yield

    def _write_tables(self, entries: dict[int, int], bits: dict[int, tuple[int, bytes]]) -> None:
        for place, bitmap in bits.values():
            self._file.write_at(place - len(bitmap), bitmap)
        for number, place in entries.items():
            self._table.set(number, place)
        self._table.write(entries)

    def moves(self) -> list[tuple[int, int]]:
        """What would make the file shorter: blocks from its end, and gaps where their data can go."""
        size, bitmap = self._table.block_size, self._table.bitmap_size
        gaps, position = [], 0
        for begin, end in self._table.occupied():
            place = aligned(position + bitmap)
            while place + size <= begin:
                gaps.append(place)
                place = aligned(place + size + bitmap)
            position = max(position, end)
        last = sorted(((place, number) for number, place in enumerate(self.data) if place), reverse=True)
        pairs = zip(last, gaps, strict=False)
        return [(number, gap) for (place, number), gap in pairs if gap < place]

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """Move blocks; one that is killed leaves each at its old or its new place. Nobody else may write."""
        for number, gap in moves:
            self._copy(self.data[number] - self._table.bitmap_size, gap - self._table.bitmap_size)
        self._file.flush()
        for number, gap in moves:
            self._table.set(number, gap)
            self.data[number] = gap
        self._table.write(number for number, _ in moves)
        self._file.flush()

    def _copy(self, source: int, target: int) -> None:
        rest = self._table.bitmap_size + self._table.block_size
        self._file.zero(target, rest)
        while rest:
            held, length = self._file.extent(source, min(rest, _COPIED_AT_ONCE))
            if held:
                self._file.write_at(target, self._file.read_at(source, length))
            source, target, rest = source + length, target + length, rest - length

    def cut(self) -> None:
        """End the file behind its last block. Everything must have been flushed."""
        with self._lock:
            self._end = self._table.end_of_blocks()
            if self._end + SECTOR < self._file_size:
                self._write_footer(self._end)
                self._file.flush()
                self._file.truncate(self._end + SECTOR)
                self._file_size = self._end + SECTOR
                self._ready, self._unreferenced = [], []
            self._file.flush()

    def grow_to(self, table: BlockTable) -> None:
        """Take the longer table; the block that was the last may now have sectors that nobody has seen."""
        with self._flush_lock, self._lock:
            last, more = len(self.data) - 1, len(table.entries) - len(self.data)
            self.whole[last] = 0
            self._bitmaps.pop(last, None)
            self.whole.extend(bytes(more))
            self.data.extend([0] * more)
            self._table = table

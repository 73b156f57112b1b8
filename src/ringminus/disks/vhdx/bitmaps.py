"""Sector bitmaps of a differencing disk: which sectors of partially present blocks are in this file
([MS-VHDX] 2.4).

A page of 4 KiB has one bit for each of 32768 sectors, lowest bit first. Pages are read when they are
needed; those that were changed stay until they have been written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ringminus.disks.vhdx.bat import PAGE, Bat
from ringminus.disks.vhdx.replay import Source
from ringminus.disks.vhdx.wire import BITMAP_BLOCK_SIZE, PLACE_MASK

SECTORS_PER_PAGE = PAGE * 8
_PAGES_PER_CHUNK = BITMAP_BLOCK_SIZE // PAGE
_MOST_PAGES = 4096  # kept in memory: 16 MiB


def _runs(bits: int, count: int) -> Iterator[tuple[bool, int]]:
    """Equal bits in a row, lowest first: their value, and how many."""
    while count > 0:
        present = bits & 1
        # the lowest bit that differs
        other = ~bits if present else bits
        length = min(count, (other & -other).bit_length() - 1) if other else count
        yield bool(present), length
        bits >>= length
        count -= length


class Bitmaps:
    """All bitmaps of a disk. Its caller locks, and asks only for chunks that have a bitmap block."""

    def __init__(self, source: Source, bat: Bat, waiting: Callable[[int], bool]) -> None:
        """`waiting` tells whether the page at an offset of the file has yet to be written."""
        self._source = source
        self.bat = bat
        self._waiting = waiting
        self._pages: dict[int, bytearray] = {}

    def offset_of(self, number: int) -> int:
        """Where in the file a page is."""
        chunk, page = divmod(number, _PAGES_PER_CHUNK)
        place = self.bat.entries[self.bat.geometry.bitmap_index_of(chunk)] & PLACE_MASK
        return place + page * PAGE

    def is_cached(self, sector: int, count: int) -> bool:
        """Whether the bits of these sectors are in memory."""
        pages = range(sector // SECTORS_PER_PAGE, (sector + count - 1) // SECTORS_PER_PAGE + 1)
        return all(number in self._pages for number in pages)

    def _page(self, number: int) -> bytearray:
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) >= _MOST_PAGES:
                self._drop()
            page = self._pages[number] = bytearray(self._source.read_at(self.offset_of(number), PAGE))
        return page

    def _drop(self) -> None:
        kept = {number: page for number, page in self._pages.items() if self._waiting(self.offset_of(number))}
        self._pages = kept

    def forget(self) -> None:
        """Drop all pages; none may wait to be written."""
        self._pages = {}

    def new_chunk(self, chunk: int) -> None:
        """A chunk has got a bitmap block: of zeros."""
        for number in range(chunk * _PAGES_PER_CHUNK, (chunk + 1) * _PAGES_PER_CHUNK):
            self._pages.pop(number, None)

    def _pieces(self, sector: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Page numbers, first bit and number of bits."""
        while count > 0:
            number, first = divmod(sector, SECTORS_PER_PAGE)
            length = min(count, SECTORS_PER_PAGE - first)
            yield number, first, length
            sector += length
            count -= length

    def runs(self, sector: int, count: int) -> Iterator[tuple[bool, int]]:
        """Whether sectors are present, and for how many that is the same; pieces may be equal in a row."""
        for number, first, length in self._pieces(sector, count):
            low, high = first // 8, -(-(first + length) // 8)
            bits = int.from_bytes(self._page(number)[low:high], "little") >> (first - low * 8)
            yield from _runs(bits, length)

    def are_present(self, sector: int, count: int) -> bool:
        """Whether all these sectors are present."""
        for number, first, length in self._pieces(sector, count):
            page = self._page(number)
            low, high = first // 8, -(-(first + length) // 8)
            wanted = ((1 << length) - 1) << (first - low * 8)
            if int.from_bytes(page[low:high], "little") & wanted != wanted:
                return False
        return True

    def set(self, sector: int, count: int) -> list[tuple[int, memoryview]]:
        """Make sectors present; returns the pages that changed, with their places in the file."""
        changed = []
        for number, first, length in self._pieces(sector, count):
            page = self._page(number)
            low, high = first // 8, -(-(first + length) // 8)
            wanted = ((1 << length) - 1) << (first - low * 8)
            old = int.from_bytes(page[low:high], "little")
            if old & wanted != wanted:
                page[low:high] = (old | wanted).to_bytes(high - low, "little")
                changed.append((self.offset_of(number), memoryview(page)))
        return changed

    def clear(self, sector: int, count: int) -> list[tuple[int, memoryview]]:
        """Make sectors not present; returns the pages that changed, with their places in the file."""
        changed = []
        for number, first, length in self._pieces(sector, count):
            page = self._page(number)
            low, high = first // 8, -(-(first + length) // 8)
            unwanted = ((1 << length) - 1) << (first - low * 8)
            old = int.from_bytes(page[low:high], "little")
            if old & unwanted:
                page[low:high] = (old & ~unwanted).to_bytes(high - low, "little")
                changed.append((self.offset_of(number), memoryview(page)))
        return changed

"""The block allocation table, held in memory ([MS-VHDX] 2.5).

`entries` are the region's 64-bit values; `places` say for every payload block that is wholly in this file
where it is, and 0 for all others: reading and writing them needs nothing else. Both are anonymous memory that
the host provides where it is used, so a huge and empty table costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.vhdx.geometry import Geometry
from ringminus.disks.vhdx.regions import Region
from ringminus.disks.vhdx.replay import Source
from ringminus.disks.vhdx.wire import (
    BAT_ENTRY_SIZE,
    BITMAP_BLOCK_SIZE,
    HEADER_SECTION_SIZE,
    MIB,
    PLACE_MASK,
    STATE_MASK,
    BitmapState,
    BlockState,
)

PAGE = 4096
_ENTRIES_PER_PAGE = PAGE // BAT_ENTRY_SIZE
_ZERO_PAGE = bytes(PAGE)
_STATES = frozenset(BlockState)
_IN_FILE = (BlockState.FULLY_PRESENT, BlockState.PARTIALLY_PRESENT)

Used = tuple[int, int, str]
"""A range of the file, begin and end in bytes, and what is there."""


def anonymous(entries: int) -> memoryview:
    """At least that many 64-bit zeros, in whole pages; raises `DiskError`."""
    length = -(-entries * BAT_ENTRY_SIZE // PAGE) * PAGE
    try:
        return memoryview(mmap(-1, length, flags=MAP_PRIVATE | MAP_ANONYMOUS)).cast("Q")
    except OSError as error:
        reason = f"no memory for a table of {length} bytes: {error.strerror}"
        raise DiskError(reason, error.errno) from None


class Bat:
    """The table of an open file. Changing it is the caller's to lock and to log."""

    def __init__(self, source: Source, region: Region, geometry: Geometry) -> None:
        """Load; raises `CorruptDisk` if the region is too small for the disk."""
        if geometry.entries * BAT_ENTRY_SIZE > region.length:
            raise CorruptDisk(
                f"{source.path}: the BAT has room for {region.length // BAT_ENTRY_SIZE} entries, "
                f"and the disk needs {geometry.entries}",
                offset=region.offset,
            )
        self.region = region
        self.geometry = geometry
        self.entries = anonymous(geometry.entries)
        self.places = anonymous(geometry.blocks)
        self._path = source.path
        self._load(source)

    def _load(self, source: Source) -> None:
        table = self.entries.cast("B")
        end = self.geometry.entries * BAT_ENTRY_SIZE
        position = 0
        while position < end:
            stored, length = source.extent(self.region.offset + position, end - position)
            length = min(length, MIB) if stored else length
            if stored:
                data = source.read_at(self.region.offset + position, length)
                if data.count(0) != length:
                    table[position : position + length] = data
            position += length

    def make_room(self, geometry: Geometry) -> None:
        """Have memory for the entries of a larger disk; the region has room already."""
        entries, places = anonymous(geometry.entries), anonymous(geometry.blocks)
        entries[: len(self.entries)] = self.entries
        places[: len(self.places)] = self.places
        self.entries, self.places = entries, places

    def page(self, index: int) -> tuple[int, memoryview]:
        """The page that an entry is in: its place in the file, and its bytes."""
        start = index * BAT_ENTRY_SIZE // PAGE * PAGE
        return self.region.offset + start, self.entries.cast("B")[start : start + PAGE]

    def set(self, block: int, state: BlockState, place: int = 0) -> int:
        """Change a payload block's entry; returns the entry's index."""
        index = self.geometry.index_of(block)
        if state == BlockState.FULLY_PRESENT:
            self.entries[index] = place | state
            self.places[block] = place
        else:
            self.places[block] = 0
            self.entries[index] = place | state
        return index

    def used_entries(self) -> Iterator[tuple[int, int]]:
        """Index and value of every entry of the disk that is not 0."""
        end = self.geometry.entries
        table = self.entries.cast("B")
        for first in range(0, end, _ENTRIES_PER_PAGE):
            if table[first * BAT_ENTRY_SIZE :][:PAGE] != _ZERO_PAGE:
                values = self.entries[first : min(first + _ENTRIES_PER_PAGE, end)].tolist()
                for index, value in enumerate(values, first):
                    if value:
                        yield index, value

    def block_of(self, index: int) -> int | None:
        """The payload block that has this entry; None for a sector bitmap block's."""
        chunk, number = divmod(index, self.geometry.chunk_ratio + 1)
        return None if number == self.geometry.chunk_ratio else chunk * self.geometry.chunk_ratio + number

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Number and entry of every payload block whose entry is not 0."""
        for index, value in self.used_entries():
            block = self.block_of(index)
            if block is not None:
                yield block, value

    def survey(self, file_size: int) -> tuple[list[Used], list[str]]:
        """Go through the table: what it uses of the file, sorted, and what is wrong with it. Fills `places`.

        A place that is remembered for an unmapped block is used as long as nothing else is there.
        """
        geometry = self.geometry
        used: list[Used] = []
        remembered: list[tuple[int, int]] = []
        problems: list[str] = []
        needs_bitmap: set[int] = set()
        for index, value in self.used_entries():
            block = self.block_of(index)
            state, place = value & STATE_MASK, value & PLACE_MASK
            if block is None:
                if state == BitmapState.PRESENT and geometry.differencing:
                    name = f"sector bitmap block {index // (geometry.chunk_ratio + 1)}"
                    one = BITMAP_BLOCK_SIZE
                    self._use(used, problems, name, place, one, one, file_size)
                elif state != BitmapState.NOT_PRESENT and geometry.differencing:
                    problems.append(f"BAT entry {index} has the unknown state {state}")
            elif state in _IN_FILE:
                whole = geometry.block_size
                needed = min(whole, geometry.size - block * whole)
                sound = self._use(used, problems, f"block {block}", place, whole, needed, file_size)
                if state == BlockState.PARTIALLY_PRESENT:
                    needs_bitmap.add(block // geometry.chunk_ratio)
                    if not geometry.differencing:
                        problems.append(f"block {block} is partially present, but the disk has no parent")
                elif sound:
                    self.places[block] = place
            elif state not in _STATES:
                problems.append(f"block {block} has the unknown state {state}")
            elif place:
                remembered.append((index, place))
        if geometry.differencing:
            problems += [
                f"blocks of chunk {chunk} are partially present, but its bitmap is missing"
                for chunk in sorted(needs_bitmap)
                if self.entries[geometry.bitmap_index_of(chunk)] & STATE_MASK != BitmapState.PRESENT
            ]
        used.sort()
        return self._remember(used, remembered, file_size), problems

    @staticmethod
    def _use(
        used: list[Used], problems: list[str], name: str, place: int, whole: int, needed: int, file_size: int
    ) -> bool:
        if place < HEADER_SECTION_SIZE or place + needed > file_size:
            problems.append(f"{name} is said to be at {place}, which is not in the file ({file_size} bytes)")
            return False
        used.append((place, place + whole, name))
        return True

    def _remember(self, used: list[Used], remembered: list[tuple[int, int]], file_size: int) -> list[Used]:
        """Keep remembered places that are free, and forget the others."""
        kept: list[Used] = []
        ranges = iter([*used, (file_size, file_size, "")])
        start, stop, _ = next(ranges)
        free_from = HEADER_SECTION_SIZE
        for index, place in sorted(remembered, key=lambda found: found[1]):
            while stop <= place and stop < file_size:
                free_from = stop
                start, stop, _ = next(ranges)
            end = place + self.geometry.block_size
            if place >= free_from and end <= start and end <= file_size:
                kept.append((place, end, f"block {self.block_of(index)}, unmapped"))
                free_from = end
            else:
                self.entries[index] &= STATE_MASK
        return sorted([*used, *kept]) if kept else used


def overlaps(used: list[Used]) -> Iterator[str]:
    """Sentences about ranges (sorted by where they begin) that overlap."""
    last: Used = (0, 0, "")
    for item in used:
        if item[0] < last[1]:
            yield f"{last[2]} and {item[2]} overlap at {item[0]}"
        last = max(last, item, key=lambda one: one[1])

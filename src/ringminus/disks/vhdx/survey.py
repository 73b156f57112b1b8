"""Going through a whole BAT when a file is opened: what it uses of the file, and what is wrong with it.

Tables may have millions of entries, so a chunk whose entries are all absent or wholly present, as almost all
are, is handled in a few operations on its bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import sub

from ringminus.disks.vhdx.bat import Bat
from ringminus.disks.vhdx.space import Space
from ringminus.disks.vhdx.wire import (
    BAT_ENTRY_SIZE,
    BITMAP_BLOCK_SIZE,
    HEADER_SECTION_SIZE,
    PLACE_MASK,
    STATE_MASK,
    BitmapState,
    BlockState,
)

Used = tuple[int, int, str]
"""A range of the file, begin and end in bytes, and what is there."""

MOST_PROBLEMS = 1000
_STATES = frozenset(BlockState)
_FULLY, _PARTIALLY = int(BlockState.FULLY_PRESENT), int(BlockState.PARTIALLY_PRESENT)
_LOW_NIBBLE_ZERO = bytes(range(0, 256, 16))


def overlaps(used: Iterable[Used]) -> Iterator[str]:
    """Sentences about ranges that overlap."""
    last: Used = (0, 0, "")
    for item in sorted(used):
        if item[0] < last[1]:
            yield f"{last[2]} and {item[2]} overlap at {item[0]}"
        last = max(last, item, key=lambda one: one[1])


class Survey:
    """What is where in a file. `named` are ranges with a name, sorted; `places` where the payload blocks
    begin, sorted; `problems` are sentences. It fills `Bat.places`.

    A place that is remembered for an unmapped block is used as long as nothing else is there.
    """

    def __init__(self, bat: Bat, fixed: Iterable[Used], file_size: int) -> None:
        """`fixed` are the ranges of everything but blocks; none of them overlap."""
        self._bat = bat
        self._file_size = file_size
        self._block_size = bat.geometry.block_size
        self._remembered: list[tuple[int, int]] = []
        self.problems: list[str] = []
        self.named: list[Used] = list(fixed)
        self.places: list[int] = []
        for chunk in range(bat.geometry.chunks):
            if len(self.problems) > MOST_PROBLEMS:
                break
            self._chunk(chunk)
        self.places.sort()
        self.named.sort()
        self._check_places()
        self._remember()

    def _chunk(self, chunk: int) -> None:
        """One chunk's payload blocks, and its bitmap block."""
        geometry, ratio = self._bat.geometry, self._bat.geometry.chunk_ratio
        first = chunk * (ratio + 1)
        count = min(ratio, geometry.blocks - chunk * ratio)
        raw = bytes(self._bat.entries[first : first + count].cast("B"))
        has_bitmap = geometry.differencing and self._bitmap(chunk)
        if raw.count(0) == len(raw) or self._fill_plain(chunk * ratio, raw, count):
            return
        needs_bitmap = False
        for block, value in enumerate(memoryview(raw).cast("Q").tolist(), chunk * ratio):
            if value:
                needs_bitmap |= value & STATE_MASK == _PARTIALLY
                self._block(block, value & STATE_MASK, value & PLACE_MASK)
        if needs_bitmap and geometry.differencing and not has_bitmap:
            self.problems.append(f"blocks of chunk {chunk} are partially present, but its bitmap is missing")

    def _fill_plain(self, first: int, raw: bytes, count: int) -> bool:
        """Take all blocks of a chunk at once, if they are just absent or wholly present."""
        states = raw[::BAT_ENTRY_SIZE]
        present = states.count(_FULLY)
        reserved = raw[2::BAT_ENTRY_SIZE].translate(None, _LOW_NIBBLE_ZERO)
        if present + states.count(0) != count or raw[1::BAT_ENTRY_SIZE].count(0) != count or reserved:
            return False
        table = bytearray(raw)
        table[::BAT_ENTRY_SIZE] = bytes(count)
        places = list(filter(None, memoryview(table).cast("Q").tolist()))
        if len(places) != present:
            return False
        self._bat.places.cast("B")[first * BAT_ENTRY_SIZE :][: len(table)] = table
        self.places += places
        return True

    def _block(self, block: int, state: int, place: int) -> None:
        if state in (_FULLY, _PARTIALLY):
            if state == _FULLY:
                self._bat.places[block] = place
            elif not self._bat.geometry.differencing:
                self.problems.append(f"block {block} is partially present, but the disk has no parent")
            self.places.append(place)
        elif state not in _STATES:
            self.problems.append(f"block {block} has the unknown state {state}")
        elif place:
            self._remembered.append((place, block))

    def _bitmap(self, chunk: int) -> bool:
        """Look at a chunk's bitmap block; returns whether it is there."""
        index = self._bat.geometry.bitmap_index_of(chunk)
        value = self._bat.entries[index]
        state, place = value & STATE_MASK, value & PLACE_MASK
        if state == BitmapState.PRESENT:
            name = f"sector bitmap block {chunk}"
            if HEADER_SECTION_SIZE <= place <= self._file_size - BITMAP_BLOCK_SIZE:
                self.named.append((place, place + BITMAP_BLOCK_SIZE, name))
            else:
                self._outside(name, place)
        elif state != BitmapState.NOT_PRESENT:
            self.problems.append(f"BAT entry {index}, a sector bitmap's, has the unknown state {state}")
        return state == BitmapState.PRESENT

    def _outside(self, name: str, place: int) -> None:
        size = self._file_size
        self.problems.append(f"{name} is said to be at {place}, which is not in the file ({size} bytes)")

    def _check_places(self) -> None:
        """That blocks are in the file, and nothing overlaps."""
        places, size = self.places, self._block_size
        if not places:
            self.problems += overlaps(self.named)
            return
        outside = places[0] < HEADER_SECTION_SIZE or places[-1] + size > self._file_size
        overlapping = len(places) > 1 and min(map(sub, places[1:], places)) < size
        for start, stop, _ in self.named:
            near = places[bisect_right(places, start - size) :][:1]
            overlapping |= bool(near) and near[0] < stop
        if outside or overlapping:
            self._explain()
        else:
            self.problems += overlaps(self.named)

    def _explain(self) -> None:
        """Find the blocks that are outside or overlap, with their numbers."""
        geometry, size = self._bat.geometry, self._block_size
        used = list(self.named)
        for block, value in self._bat.blocks():
            if value & STATE_MASK in (_FULLY, _PARTIALLY):
                place, name = value & PLACE_MASK, f"block {block}"
                # the last one may be cut where the disk ends
                needed = min(size, geometry.size - block * size)
                if place < HEADER_SECTION_SIZE or place + needed > self._file_size:
                    self._outside(name, place)
                else:
                    used.append((place, place + size, name))
            if len(self.problems) > MOST_PROBLEMS:
                return
        self.problems += overlaps(used)

    def _remember(self) -> None:
        """Keep remembered places that are free, and forget the others."""
        kept: list[Used] = []
        free_from = 0
        for place, block in sorted(self._remembered):
            end = place + self._block_size
            if place >= free_from and end <= self._file_size and self._is_free(place, end):
                kept.append((place, end, f"unmapped block {block}"))
                free_from = end
            else:
                index = self._bat.geometry.index_of(block)
                self._bat.entries[index] &= STATE_MASK
        self.named = sorted([*self.named, *kept])

    def _is_free(self, start: int, stop: int) -> bool:
        near = self.places[bisect_right(self.places, start - self._block_size) :][:1]
        number = bisect_right(self.named, stop - 1, key=lambda one: one[0])
        before = self.named[number - 1][1] if number else 0
        return before <= start and not (near and near[0] < stop)

    def _extents(self) -> Iterator[tuple[int, int]]:
        """Blocks that follow each other in the file, as ranges."""
        places, size = self.places, self._block_size
        if places:
            steps = map(sub, places[1:], places)
            breaks = [number for number, step in enumerate(steps, 1) if step != size]
            for first, last in pairwise([0, *breaks, len(places)]):
                yield places[first], places[last - 1] + size

    def space(self) -> Space:
        """What is free in a file without problems."""
        used = sorted([*self._extents(), *((start, stop) for start, stop, _ in self.named)])
        return Space(used, self._file_size)

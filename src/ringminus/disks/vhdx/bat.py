"""The block allocation table, held in memory ([MS-VHDX] 2.5).

`entries` are the region's 64-bit values; `places` (filled by the `survey` of the table) say for every payload
block that is wholly in this file where it is, and 0 for all others: reading and writing them needs nothing
else. Both are anonymous memory that the host provides where it is used, so a huge and empty table costs
nothing.
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
    MIB,
    BlockState,
)

PAGE = 4096
_ZEROS = bytes(MIB)


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
        self.places = anonymous(geometry.blocks + 1)  # also for a request of no bytes at the disk's end
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
        # what stands there means nothing
        unused = self.geometry.unused_entries()
        table[unused.start * BAT_ENTRY_SIZE : unused.stop * BAT_ENTRY_SIZE] = bytes(
            len(unused) * BAT_ENTRY_SIZE
        )

    def make_room(self, geometry: Geometry) -> None:
        """Have memory for the entries of a larger disk; the region has room already."""
        entries, places = anonymous(geometry.entries), anonymous(geometry.blocks + 1)
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
        for stride in range(0, end * BAT_ENTRY_SIZE, MIB):
            if table[stride : stride + MIB] == _ZEROS[: min(MIB, len(table) - stride)]:
                continue
            for at in range(stride, min(stride + MIB, end * BAT_ENTRY_SIZE), PAGE):
                if table[at : at + PAGE] != _ZEROS[:PAGE]:
                    first = at // BAT_ENTRY_SIZE
                    values = self.entries[first : min(first + PAGE // BAT_ENTRY_SIZE, end)].tolist()
                    yield from ((index, value) for index, value in enumerate(values, first) if value)

    def absent(self, block: int) -> int:
        """How many blocks from `block` on surely have no entry; at least 0, and not always all."""
        ratio = self.geometry.chunk_ratio
        first = self.geometry.index_of(block)
        count = min(ratio - block % ratio, self.geometry.blocks - block, PAGE // BAT_ENTRY_SIZE)
        table = self.entries.cast("B")[first * BAT_ENTRY_SIZE :][: count * BAT_ENTRY_SIZE]
        return count if table == _ZEROS[: len(table)] else 0

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

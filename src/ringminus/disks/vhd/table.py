"""The block allocation table: where each block is in the file, checked against everything else there."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.files import HostFile
from ringminus.disks.vhd.wire import BAT_ENTRY_SIZE, SECTOR, UNUSED_ENTRY, DynamicHeader, Footer


def _swapped(entries: array[int]) -> array[int]:
    """Big-endian numbers as the host's, or back."""
    if sys.byteorder == "little":
        entries.byteswap()
    return entries


class BlockTable:
    """The BAT as it is in the file: `entries` in sectors, `UNUSED_ENTRY` for blocks that have no place.

    `offset` is the table's place in bytes, `bitmap_size` and `block_size` the two parts of a block in bytes.
    """

    def __init__(self, file: HostFile, footer: Footer, header: DynamicHeader) -> None:
        """Read the table; raises `CorruptDisk` if the file is too short for it."""
        self._file = file
        self.offset = header.table_offset
        self.capacity = header.max_table_entries
        self.block_size = header.block_size
        self.bitmap_size = bitmap_size(header.block_size)
        self.reserved = [(0, SECTOR), (footer.data_offset, footer.data_offset + DynamicHeader.SIZE)]
        self.reserved.append((self.offset, self.offset + self.capacity * BAT_ENTRY_SIZE))
        size = file.size
        if self.offset % SECTOR or self.reserved[-1][1] > size:
            raise CorruptDisk(f"{file.path}: the block table cannot be at {self.offset}", offset=self.offset)
        used = -(-footer.current_size // self.block_size)
        self.entries = _swapped(array("I", file.read_at(self.offset, used * BAT_ENTRY_SIZE)))

    def problems(self, file_size: int) -> dict[int, str]:
        """What is wrong with single entries: the number of the block, and why it cannot be there."""
        span = self.bitmap_size + self.block_size
        used = sorted((entry * SECTOR, n) for n, entry in enumerate(self.entries) if entry != UNUSED_ENTRY)
        starts = [start for start, _ in used]
        wrong: dict[int, str] = {}
        for (start, number), (following, other) in pairwise(used):
            if following < start + span:
                wrong[other] = f"overlaps block {number}"
        for begin, end in self.reserved:
            for start, number in used[bisect_right(starts, begin - span) : bisect_right(starts, end - 1)]:
                wrong[number] = f"overlaps the file's own tables at {start}"
        for start, number in used[bisect_right(starts, file_size - span) :]:
            wrong[number] = f"ends at {start + span}, behind the end of the file at {file_size}"
        return wrong

    def end_of_blocks(self) -> int:
        """The first byte behind all blocks and tables."""
        last = max((entry for entry in self.entries if entry != UNUSED_ENTRY), default=0)
        blocks = last * SECTOR + self.bitmap_size + self.block_size if last else 0
        return max(blocks, *(end for _, end in self.reserved))

    def occupied(self) -> list[tuple[int, int]]:
        """Where blocks and tables are in the file, in order: first byte, and the first one behind."""
        span = self.bitmap_size + self.block_size
        starts = [entry * SECTOR for entry in self.entries if entry != UNUSED_ENTRY]
        return sorted([*self.reserved, *((start, start + span) for start in starts)])

    def unused_space(self, end_of_file: int) -> int:
        """Bytes of gaps that are large enough for a block."""
        occupied = [*self.occupied(), (end_of_file, end_of_file)]
        gaps = (begin - end for (_, end), (begin, _) in pairwise(occupied))
        return sum(gap for gap in gaps if gap >= self.bitmap_size + self.block_size)

    def data_offsets(self) -> array[int]:
        """For each block the place of its data in bytes, 0 for none."""
        gap = self.bitmap_size
        return array("Q", [0 if e == UNUSED_ENTRY else e * SECTOR + gap for e in self.entries])

    def set(self, number: int, data_offset: int) -> None:
        """Note a block's place (of its data, in bytes; 0 for none); `write` brings it into the file."""
        self.entries[number] = (data_offset - self.bitmap_size) // SECTOR if data_offset else UNUSED_ENTRY

    def write(self, numbers: Iterable[int]) -> None:
        """Write the sectors of the table that hold these entries; raises `DiskError`."""
        per_sector = SECTOR // BAT_ENTRY_SIZE
        for sector in sorted({number // per_sector for number in numbers}):
            part = _swapped(self.entries[sector * per_sector : (sector + 1) * per_sector])
            self._file.write_at(self.offset + sector * SECTOR, part.tobytes())


def bitmap_size(block_size: int) -> int:
    """Bytes that a block's sector bitmap takes in the file."""
    return -(-block_size // (SECTOR * 8 * SECTOR)) * SECTOR


def empty_table(entries: int) -> bytes:
    """A table of unused entries, padded to whole sectors as the format wants it."""
    size = -(-entries * BAT_ENTRY_SIZE // SECTOR) * SECTOR
    return b"\xff" * size

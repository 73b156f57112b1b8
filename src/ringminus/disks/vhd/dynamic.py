"""Dynamic and differencing VHDs: data in blocks that come into being when they are first written.

`blocks` has the theory of what is written when; here a request is cut into blocks and runs of sectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import UUID

from ringminus.disks.disk import Buffers, CorruptDisk, Disk, DiskError
from ringminus.disks.files import IOV_MAX, LARGEST_INLINE_WRITE, HostFile, after, fill_zeros, first, total
from ringminus.disks.vhd.bitmaps import runs
from ringminus.disks.vhd.blocks import Blocks
from ringminus.disks.vhd.facts import footer_facts
from ringminus.disks.vhd.footer import FoundFooter
from ringminus.disks.vhd.grow import grow
from ringminus.disks.vhd.table import BlockTable
from ringminus.disks.vhd.wire import LARGEST_DISK, SECTOR, DynamicHeader
from ringminus.errors import ConfigError


class DynamicVhd(Disk):
    """A dynamic VHD, or a differencing one if it has a `parent`. A parent is closed with its child."""

    format = "vhd"

    def __init__(
        self, file: HostFile, found: FoundFooter, header: DynamicHeader, parent: Disk | None
    ) -> None:
        """Raises `CorruptDisk`. A damaged table is refused for writing; reading fails where it is damaged."""
        self._file = file
        self._footer = found.footer
        self._header = header
        self.parent = parent
        self.size = found.footer.current_size
        self.block_size = header.block_size
        self.identity = UUID(bytes_le=found.footer.unique_id)
        self.read_only = file.read_only
        self._shift = header.block_size.bit_length() - 1
        self._mask = header.block_size - 1
        table = BlockTable(file, found.footer, header)
        if not self.read_only:
            for number, problem in table.problems(file.size).items():
                raise CorruptDisk(
                    f"{file.path}: block {number} {problem}; see: ringminus disk check {file.path}"
                )
        self.blocks = blocks = Blocks(file, found.footer, table, parent is not None)
        self._data, self._whole, self._active = blocks.data, blocks.whole, blocks.active
        if not found.at_end and not self.read_only:
            blocks.restore_footer()

    # reading

    def read(self, offset: int, buffers: Buffers) -> None:
        length = total(buffers)
        self._check(offset, length)
        self._active.append(None)
        try:
            for number, within, part in self._cut(offset, length, buffers):
                self._read_block(number, within, part)
        finally:
            self._active.pop()

    def _read_block(self, number: int, within: int, buffers: Buffers) -> None:
        place = self._data[number]
        if not place:
            self.read_below(number << self._shift | within, buffers)
            return
        bitmap = None if self._whole[number] else self.blocks.bitmap(number)
        if bitmap is None:
            self._file.read(place + within, buffers)
            return
        for held, at, part in self._runs(bitmap, within, buffers):
            if held:
                self._file.read(place + at, part)
            else:
                self.read_below(number << self._shift | at, part)

    def read_below(self, offset: int, buffers: Buffers) -> None:
        """Read what the disk would have here if its own file held nothing."""
        if self.parent is None:
            fill_zeros(buffers)
        else:
            self.parent.read(offset, buffers)

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        length = total(buffers)
        self._check(offset, length)
        within = offset & self._mask
        number = offset >> self._shift
        if within + length > self.block_size or len(buffers) > IOV_MAX:
            return False
        self._active.append(None)
        try:
            place = self._data[number]
            if not place:
                return self._try_below(offset, buffers)
            if self._whole[number]:
                return self._file.try_read(place + within, buffers)
            bitmap = self.blocks.known_bitmap(number)
            if bitmap is None:
                return False
            for held, at, part in self._runs(bitmap, within, buffers):
                done = self._file.try_read(place + at, part) if held else self._try_below(offset, part)
                if not done:
                    return False
                offset += total(part)
            return True
        finally:
            self._active.pop()

    def _try_below(self, offset: int, buffers: Buffers) -> bool:
        if self.parent is None:
            fill_zeros(buffers)
            return True
        return self.parent.try_read(offset, buffers)

    # writing

    def write(self, offset: int, buffers: Buffers) -> None:
        length = total(buffers)
        self._check(offset, length)
        self._must_write()
        self._active.append(None)
        try:
            for number, within, part in self._cut(offset, length, buffers):
                self._write_block(number, within, part)
        finally:
            self._active.pop()

    def _write_block(self, number: int, within: int, buffers: Buffers) -> None:
        place = self._data[number] or self.blocks.add(number)
        self._file.write(place + within, buffers)
        if not self._whole[number]:
            self.blocks.mark(number, place, within // SECTOR, total(buffers) // SECTOR)

    def try_write(self, offset: int, buffers: Buffers) -> bool:
        length = total(buffers)
        self._check(offset, length)
        self._must_write()
        within = offset & self._mask
        number = offset >> self._shift
        if length > LARGEST_INLINE_WRITE or within + length > self.block_size or len(buffers) > IOV_MAX:
            return False
        self._active.append(None)
        try:
            if not self._data[number]:
                return False
            if not self._whole[number] and self.blocks.known_bitmap(number) is None:
                return False
            self._write_block(number, within, buffers)
            return True
        finally:
            self._active.pop()

    def flush(self) -> None:
        if not self.read_only:
            self.blocks.flush()

    # zeros and space

    @property
    def can_unmap(self) -> bool:
        return not self.read_only

    def unmap(self, offset: int, length: int) -> None:
        """A whole block of a dynamic disk loses its place; what else the file holds becomes holes of it."""
        self._check(offset, length)
        self._must_write()
        self._active.append(None)
        try:
            for number, within, count in self._blocks_in(offset, length):
                if self._covers(number, count) and self.parent is None:
                    self.blocks.give_up(number)
                elif self._data[number]:
                    self._file.punch(self._data[number] + within, count)
        finally:
            self._active.pop()

    def write_zeros(self, offset: int, length: int) -> None:
        self._check(offset, length)
        self._must_write()
        self._active.append(None)
        try:
            for number, within, count in self._blocks_in(offset, length):
                self._zero_block(number, within, count)
        finally:
            self._active.pop()

    def _zero_block(self, number: int, within: int, count: int) -> None:
        place = self._data[number]
        if self.parent is not None:
            place = place or self.blocks.add(number)
            self._file.zero(place + within, count)
            if not self._whole[number]:
                self.blocks.mark(number, place, within // SECTOR, count // SECTOR)
        elif self._covers(number, count):
            self.blocks.give_up(number)
        elif place:
            self._file.zero(place + within, count)

    def _covers(self, number: int, count: int) -> bool:
        return count == self.blocks.sectors_of(number) * SECTOR

    def resize(self, size: int) -> None:
        """Only dynamic disks, and only to grow: the format's tables are not made to shrink."""
        self._must_write()
        if self.parent is not None:
            raise ConfigError(f"{self._file.path} is a differencing disk: it has the size of its parent")
        if size < self.size:
            raise ConfigError(f"{self._file.path}: a dynamic VHD cannot shrink; convert it to a VHDX")
        if size % SECTOR or size > LARGEST_DISK:
            raise ConfigError(f"a size of {size} bytes: a VHD has whole sectors of 512 bytes, at most 2040G")
        try:
            with self.blocks.steady():
                grow(self._file, self._footer, self._header, self.blocks, size)
        except BaseException:
            # which tables are in the file now is not known
            self.read_only = True
            raise
        self.size = size

    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        self._check(offset, length)
        stretches = self._stretches(offset, length)
        answer, known = next(stretches, (False, 0))
        for same, count in stretches:
            if same != answer:
                break
            known += count
        return answer, known

    def _stretches(self, offset: int, length: int) -> Iterator[tuple[bool, int]]:
        for number, within, count in self._blocks_in(offset, length):
            place = self._data[number]
            bitmap = self.blocks.bitmap(number) if place else None
            if bitmap is not None:
                for held, sectors in runs(bitmap, within // SECTOR, count // SECTOR):
                    yield held, sectors * SECTOR
            elif not place or self.parent is not None:
                yield bool(place), count
            else:
                done = 0
                while done < count:
                    held, stretch = self._file.extent(place + within + done, count - done)
                    yield held, stretch
                    done += stretch

    # the rest

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    def info(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "format": self.format,
            "path": str(self._file.path),
            "kind": "differencing" if self.parent is not None else "dynamic",
            "size": self.size,
            "used": self._file.used,
            "file_size": self._file.size,
            "sector_size": self.sector_size,
            "physical_sector_size": self.physical_sector_size,
            "block_size": self.block_size,
            "blocks": len(self._data),
            "allocated_blocks": sum(1 for place in self._data if place),
        }
        facts |= footer_facts(self._footer)
        if self.parent is not None:
            facts["parent"] = self.parent.info()
        return facts

    def close(self) -> None:
        if self._file.fd < 0:
            return
        try:
            self.flush()
        finally:
            self._file.close()
            if self.parent is not None:
                self.parent.close()

    def _cut(self, offset: int, length: int, buffers: Buffers) -> Iterator[tuple[int, int, Buffers]]:
        """A request as (block, offset in it, buffers)."""
        within = offset & self._mask
        if within + length <= self.block_size:
            yield offset >> self._shift, within, buffers
            return
        for number, begin, count in self._blocks_in(offset, length):
            yield number, begin, first(buffers, count)
            buffers = after(buffers, count)

    def _blocks_in(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """A range as (block, offset in it, length)."""
        end = offset + length
        start = (offset >> self._shift) + 1 << self._shift
        for here, there in pairwise([offset, *range(start, end, self.block_size), end]):
            yield here >> self._shift, here & self._mask, there - here

    def _runs(self, bitmap: bytearray, within: int, buffers: Buffers) -> Iterator[tuple[bool, int, Buffers]]:
        """A request to one block as (held by the file, offset in the block, buffers)."""
        for held, sectors in runs(bitmap, within // SECTOR, total(buffers) // SECTOR):
            yield held, within, first(buffers, sectors * SECTOR)
            buffers = after(buffers, sectors * SECTOR)
            within += sectors * SECTOR

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{offset}+{length} is not in a disk of {self.size} bytes")

    def _must_write(self) -> None:
        if self.read_only:
            raise DiskError(f"{self._file.path} was opened read-only")

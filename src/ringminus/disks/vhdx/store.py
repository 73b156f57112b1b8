"""Blocks coming into the file and leaving it: the metadata of one open file, and the rules for changing them.

Everything here is called with `lock` held, unless it says otherwise.
"""

from __future__ import annotations

import threading

from ringminus.disks.disk import DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx.bat import Bat
from ringminus.disks.vhdx.bitmaps import Bitmaps
from ringminus.disks.vhdx.geometry import Geometry
from ringminus.disks.vhdx.header import new_guid
from ringminus.disks.vhdx.image import Image
from ringminus.disks.vhdx.journal import Journal
from ringminus.disks.vhdx.log import LogWriter
from ringminus.disks.vhdx.wire import (
    BITMAP_BLOCK_SIZE,
    MIB,
    PLACE_MASK,
    STATE_MASK,
    BitmapState,
    BlockState,
)


class Store:
    """The metadata of one open file, shared by all threads that use it."""

    def __init__(self, file: HostFile, image: Image) -> None:
        self.file = file
        self.image = image
        self.lock = threading.Lock()
        self.bat: Bat = image.bat
        self.fixed = image.metadata.fixed
        self.begun = False
        self.geometry = image.geometry
        self.space = image.survey.space()
        self.log = LogWriter(file, image.headers)
        self.journal = Journal(file, self.log, self.space, self.lock)
        self.bitmaps = Bitmaps(image.source, self.bat, self.journal.waiting_bitmaps)

    def begin(self, contents: bool = True) -> None:
        """Before the first change: say in the header that the file, and the disk's `contents`, are changing.

        Takes the lock itself. Children know their parent by its contents' GUID, so what leaves the contents
        as they are must leave that too.
        """
        if self._has_begun(contents):
            return
        if self.file.read_only:
            raise DiskError(f"{self.file.path} was opened read-only")
        with self.lock:
            self.journal.check()
            if self._has_begun(contents):
                return
            fields: dict[str, bytes | int] = {}
            if not self.begun:
                fields["file_write_guid"] = new_guid()
                if not self.image.headers.current.log_length:
                    place = self.space.take(MIB)
                    fields["log_offset"] = self.space.append(MIB) if place is None else place
                    fields["log_length"] = MIB
                if self.file.size != self.space.end:
                    self.file.truncate(self.space.end)
            if contents:
                fields["data_write_guid"] = new_guid()
            self.image.headers.update(**fields)
            self.begun, self.journal.ready = True, contents

    def _has_begun(self, contents: bool) -> bool:
        return self.journal.ready or (self.begun and not contents)

    def look_up(self, block: int) -> tuple[int, int]:
        """A payload block's state and its place in the file."""
        entry = self.bat.entries[self.geometry.index_of(block)]
        return entry & STATE_MASK, entry & PLACE_MASK

    def change(self, block: int, state: BlockState, place: int = 0) -> None:
        """Give a block's entry another value."""
        self.journal.change_table(*self.bat.page(self.bat.set(block, state, place)))

    def take(self, length: int) -> int:
        """A place in the file of so many bytes, all zeros."""
        place = self.space.take(length)
        if place is None:
            self.journal.reuse()
            place = self.space.take(length)
        if place is None:
            place = self.space.append(length)
            try:
                self.file.truncate(self.space.end)
                if self.fixed:
                    self.file.allocate(place, length)
            except DiskError:
                # the log must not say that the file is longer than it is
                self.space.give(place, length)
                self.space.cut()
                raise
        else:
            self.file.zero(place, length)
        return place

    def allocate(self, block: int) -> None:
        """Give a block that is not in the file a place there; it reads as before."""
        state, remembered = self.look_up(block)
        if state == BlockState.NOT_PRESENT and self.geometry.differencing:
            self._need_bitmap(block)
            self.change(block, BlockState.PARTIALLY_PRESENT, self.take(self.geometry.block_size))
            return
        if remembered:
            # only an unmapped block's own place is left in its entry
            self.file.zero(remembered, self.geometry.block_size)
        place = remembered or self.take(self.geometry.block_size)
        self.change(block, BlockState.FULLY_PRESENT, place)

    def _need_bitmap(self, block: int) -> None:
        """A bitmap block for the block's chunk, with the block's own bits clear."""
        geometry = self.geometry
        chunk = block // geometry.chunk_ratio
        index = geometry.bitmap_index_of(chunk)
        if self.bat.entries[index] & STATE_MASK != BitmapState.PRESENT:
            self.bat.entries[index] = self.take(BITMAP_BLOCK_SIZE) | BitmapState.PRESENT
            self.journal.change_table(*self.bat.page(index))
            self.bitmaps.new_chunk(chunk)
        sectors = geometry.block_size // geometry.sector_size
        for offset, page in self.bitmaps.clear(block * sectors, sectors):
            self.journal.change_bitmap(offset, page)

    def written(self, block: int, place: int, within: int, length: int) -> None:
        """Data are at these bytes of a block that was partially present and had this place."""
        if self.look_up(block) != (BlockState.PARTIALLY_PRESENT, place):
            return  # meanwhile it has been unmapped, or become wholly present
        geometry = self.geometry
        sectors = geometry.block_size // geometry.sector_size
        first = block * sectors
        count = length // geometry.sector_size
        for offset, page in self.bitmaps.set(first + within // geometry.sector_size, count):
            self.journal.change_bitmap(offset, page)
        in_disk = min(sectors, geometry.size // geometry.sector_size - first)
        if self.bitmaps.are_present(first, in_disk):
            self.change(block, BlockState.FULLY_PRESENT, place)

    def drop(self, block: int, state: BlockState) -> None:
        """Give a block's place back, and have it read as `state` says."""
        old, place = self.look_up(block)
        if old == state and not place:
            return
        self.change(block, state)
        if place:
            self.journal.free(place, self.geometry.block_size)

    def use(self, geometry: Geometry) -> None:
        """Work with another size."""
        self.geometry = self.bat.geometry = geometry

    def cut(self) -> None:
        """Make the file end where its last part does; the log must be empty."""
        end = self.space.end
        if self.space.cut() < end:
            self.file.truncate(self.space.end)

"""Another size for an open disk.

The size stands in one page of metadata, which is logged by itself: before it is durable the disk has the old
size, after it the new one. Entries of the BAT behind the disk's end mean nothing, so they are made right for
the new size before it grows, and cleared after it has shrunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringminus.disks.disk import DiskError
from ringminus.disks.vhdx import trim
from ringminus.disks.vhdx.bat import PAGE
from ringminus.disks.vhdx.geometry import Geometry
from ringminus.disks.vhdx.log import Page
from ringminus.disks.vhdx.regions import Region
from ringminus.disks.vhdx.store import Store
from ringminus.disks.vhdx.wire import (
    BAT_ENTRY_SIZE,
    BAT_REGION,
    BITMAP_BLOCK_SIZE,
    LARGEST_DISK,
    MIB,
    PLACE_MASK,
    REGION_TABLE_OFFSETS,
    REGION_TABLE_SIZE,
    STATE_MASK,
    BitmapState,
    VirtualDiskSize,
)
from ringminus.errors import ConfigError

if TYPE_CHECKING:
    from ringminus.disks.vhdx.disk import Vhdx

_CHUNK = MIB


def bat_length(geometry: Geometry) -> int:
    """Bytes of a BAT region for such a disk."""
    return -(-geometry.entries * BAT_ENTRY_SIZE // MIB) * MIB


def resize(disk: Vhdx, size: int) -> None:
    """See `Disk.resize`; nothing may be read or written behind the smaller of the sizes meanwhile."""
    if disk.read_only:
        raise DiskError("the disk was opened read-only")
    if not 0 < size <= LARGEST_DISK:
        raise ConfigError(f"a size of {size} bytes: a VHDX has at most {LARGEST_DISK} (64 TiB)")
    if size % disk.sector_size:
        raise ConfigError(f"a size of {size} bytes is not a whole number of {disk.sector_size}-byte sectors")
    if size < disk.size:
        _refuse_if_needed(disk, size)
    if size != disk.size:
        disk.store.begin()
        (_grow if size > disk.size else _shrink)(disk, size)


def _page_with_size(store: Store, size: int) -> Page:
    offset = store.image.metadata.size_offset
    start = offset // PAGE * PAGE
    page = bytearray(store.file.read_at(start, PAGE))
    VirtualDiskSize(size=size).pack_into(page, offset - start)
    return start, bytes(page)


def _grow(disk: Vhdx, size: int) -> None:
    store, old = disk.store, disk.store.geometry
    new = old.resized(size)
    with store.journal.alone():
        if new.entries * BAT_ENTRY_SIZE > store.bat.region.length:
            _move_bat(store, new)
        store.bat.make_room(new)
        disk.take_places()
        # whatever stands where new blocks will have their entries
        region, unused = store.bat.region, old.unused_entries()
        store.file.zero(region.offset + unused.start * BAT_ENTRY_SIZE, len(unused) * BAT_ENTRY_SIZE)
        used = old.entries * BAT_ENTRY_SIZE
        store.file.zero(region.offset + used, region.length - used)
        # from here on the store knows blocks behind the disk's end, and the disk asks for none of them
        store.use(new)
    try:
        _prepare(disk, old, new)
        store.journal.commit()
        with store.journal.alone():
            store.journal.log_at_once([_page_with_size(store, size)])
            disk.size = size
    except BaseException:
        if store.journal.ready:
            _drop_behind(store, old, new)
        raise


def _prepare(disk: Vhdx, old: Geometry, new: Geometry) -> None:
    """Make what is behind the old end zeros: the rest of the last block, and what the parent has there."""
    store = disk.store
    rest = min(new.size, old.blocks * old.block_size)
    if disk.parent is not None:
        rest = max(rest, min(new.size, disk.parent.size))
    trim.write_zeros(store, old.size, rest - old.size)
    for block in range(old.blocks, new.blocks if store.fixed else old.blocks):
        with store.lock:
            store.allocate(block)
        if store.journal.is_due:
            store.journal.commit()


def _move_bat(store: Store, geometry: Geometry) -> None:
    """Give the BAT a region that is large enough for another geometry; it keeps its contents."""
    old = store.bat
    length = bat_length(geometry)
    region = Region(BAT_REGION, store.take(length), length)
    table = old.entries[: old.geometry.entries].cast("B")
    for first in range(0, len(table), _CHUNK):
        store.file.write_at(region.offset + first, table[first : first + _CHUNK])
    regions = store.image.regions.with_bat(region)
    before, after = store.image.regions.pack(), regions.pack()
    store.journal.log_at_once(
        [
            (offset + at, after[at : at + PAGE])
            for offset in REGION_TABLE_OFFSETS
            for at in range(0, REGION_TABLE_SIZE, PAGE)
            if at == 0 or after[at : at + PAGE] != before[at : at + PAGE]
        ]
    )
    store.image.regions = regions
    store.journal.free_now(old.region.offset, old.region.length)
    store.journal.reuse()
    old.region = region


def _shrink(disk: Vhdx, size: int) -> None:
    store, old = disk.store, disk.store.geometry
    with store.journal.alone():
        store.journal.log_at_once([_page_with_size(store, size)])
    disk.size = size
    _drop_behind(store, old.resized(size), old)


def _drop_behind(store: Store, disk: Geometry, known: Geometry) -> None:
    """Forget the blocks that are known, but not the disk's."""
    with store.journal.alone():
        entries = store.bat.entries
        pages, freed = dict[int, memoryview](), list[tuple[int, int]]()
        for index, value in store.bat.used_entries():
            block = store.bat.block_of(index)
            if block is None:
                chunk = index // (known.chunk_ratio + 1)
                if chunk < disk.chunks:
                    continue
                length = BITMAP_BLOCK_SIZE if value & STATE_MASK == BitmapState.PRESENT else 0
            else:
                if block < disk.blocks:
                    continue
                length = known.block_size if value & PLACE_MASK else 0
                store.bat.places[block] = 0
            if length:
                freed.append((value & PLACE_MASK, length))
            entries[index] = 0
            offset, page = store.bat.page(index)
            pages[offset] = page
        store.journal.log_at_once([(offset, bytes(page)) for offset, page in sorted(pages.items())])
        store.use(disk)
        store.bitmaps.forget()
        for offset, length in freed:
            store.journal.free_now(offset, length)
        store.journal.reuse()
        store.cut()


def _refuse_if_needed(disk: Vhdx, size: int) -> None:
    """Raise `ConfigError` if anything but zeros is behind `size`."""
    buffer = memoryview(bytearray(_CHUNK))
    zeros = bytes(_CHUNK)
    offset = size
    while offset < disk.size:
        count = min(disk.size - offset, _CHUNK)
        stored, length = disk.allocated(offset, disk.size - offset)
        if not stored and disk.parent is None:
            offset += length
            continue
        disk.read(offset, [buffer[:count]])
        if buffer[:count] != zeros[:count]:
            raise ConfigError(
                f"{disk.path} has data behind {size} bytes (at {offset} or a little later): "
                "shrink what is on the disk first, and let it trim the rest"
            )
        offset += count

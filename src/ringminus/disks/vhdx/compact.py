"""Making a VHDX file smaller: blocks that need no place lose it, the others move into the gaps.

A process that is killed here leaves a good disk with the same contents: a block is copied into free space,
and the table changed in the log; its old place is reused only after that (see `journal`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ringminus.disks.vhdx import trim
from ringminus.disks.vhdx.disk import Vhdx
from ringminus.disks.vhdx.open import open_vhdx
from ringminus.disks.vhdx.store import Store
from ringminus.disks.vhdx.wire import (
    BITMAP_BLOCK_SIZE,
    MIB,
    PLACE_MASK,
    STATE_MASK,
    BitmapState,
    BlockState,
)

Progress = Callable[[float], None]
_CHUNK = MIB
_ZEROS = bytes(_CHUNK)
_MOVED_AT_ONCE = 64  # blocks between two commits, and at most this much
_MOVED_BYTES_AT_ONCE = 256 * MIB
_MOVING_SHARE = 0.5  # of the progress
_IN_FILE = (BlockState.FULLY_PRESENT, BlockState.PARTIALLY_PRESENT)


def compact_vhdx(path: Path | str, progress: Progress = lambda fraction: None) -> int:
    """Free what the disk does not need; returns by how many bytes the file has become shorter.

    Contents stay the same. Fixed disks stay as they are. `progress` is told the share that is done. Raises
    `DiskError`.
    """
    with open_vhdx(path) as disk:
        before = disk.store.file.size
        compact(disk, progress)
    progress(1.0)
    return before - Path(path).stat().st_size


def compact(disk: Vhdx, progress: Progress) -> None:
    """`compact_vhdx` of an open disk that nobody else uses; closing it makes the file shorter."""
    if not disk.store.fixed:
        disk.store.begin(contents=False)
        _free(disk, lambda share: progress(share * (1 - _MOVING_SHARE)))
        _pack(disk.store, lambda share: progress(1 - _MOVING_SHARE * (1 - share)))


def _free(disk: Vhdx, progress: Progress) -> None:
    """Take the place from every block that reads the same without it."""
    store = disk.store
    blocks = [block for block, entry in store.bat.blocks() if entry & STATE_MASK in _IN_FILE]
    for number, block in enumerate(blocks):
        progress(number / len(blocks))
        state = _instead(disk, block)
        if state is not None:
            with store.lock:
                store.drop(block, state)
            if store.journal.is_due:
                store.journal.commit()
    store.journal.commit(forget=True)


def _instead(disk: Vhdx, block: int) -> BlockState | None:
    """What a block could be without a place in the file, or None; makes holes where it is zeros."""
    start = block * disk.block_size
    end = min(start + disk.block_size, disk.size)
    view, below = memoryview(bytearray(_CHUNK)), memoryview(bytearray(_CHUNK))
    is_zeros, is_parents = True, disk.parent is not None
    holes: list[tuple[int, int]] = []
    while start < end and (is_zeros or is_parents or disk.store.bat.places[block]):
        stored, length = disk.allocated(start, min(end - start, _CHUNK))
        if not stored and disk.parent is None:
            start += length
            continue
        here = view[:length]
        disk.read(start, [here])
        if here != _ZEROS[:length]:
            is_zeros = False
        elif stored and length == _CHUNK:
            holes.append((start, length))
        if is_parents:
            disk.read_parent(start, [below[:length]])
            is_parents = here == below[:length]
        start += length
    if is_parents:
        return BlockState.NOT_PRESENT
    if is_zeros:
        return BlockState.ZERO
    for offset, length in holes:
        trim.punch(disk.store, block, offset & (disk.block_size - 1), length)
    return None


def _pack(store: Store, progress: Progress) -> None:
    """Move what is at the end of the file into gaps before it."""
    used = sorted(_movable(store))
    first_end = store.space.last_used
    while used and store.space.gaps:
        moved = moved_bytes = 0
        while used and moved < _MOVED_AT_ONCE and moved_bytes < _MOVED_BYTES_AT_ONCE:
            place, length, index = used[-1]
            with store.lock:
                target = store.space.take(length, below=place)
            if target is None:
                break
            used.pop()
            _move(store, index, place, target, length)
            moved, moved_bytes = moved + 1, moved_bytes + length
        if not moved:
            break
        store.journal.commit(forget=True)
        lowest = store.space.gaps[0][0] if store.space.gaps else store.space.end
        progress(min(1.0, (first_end - store.space.last_used) / max(1, first_end - lowest)))


def _movable(store: Store) -> list[tuple[int, int, int]]:
    """Place, length and BAT index of every block and bitmap in the file."""
    found = []
    for index, entry in store.bat.used_entries():
        block, state = store.bat.block_of(index), entry & STATE_MASK
        if block is None:
            if store.geometry.differencing and state == BitmapState.PRESENT:
                found.append((entry & PLACE_MASK, BITMAP_BLOCK_SIZE, index))
        elif state in _IN_FILE:
            found.append((entry & PLACE_MASK, store.geometry.block_size, index))
    return found


def _move(store: Store, index: int, place: int, target: int, length: int) -> None:
    """Copy a block, and have its entry say where it is now."""
    file = store.file
    file.zero(target, length)
    at = 0
    while at < length:
        stored, count = file.extent(place + at, length - at)
        count = min(count, _CHUNK) if stored else count
        if stored:
            file.write_at(target + at, file.read_at(place + at, count))
        at += count
    with store.lock:
        state = store.bat.entries[index] & STATE_MASK
        block = store.bat.block_of(index)
        if block is not None:
            store.change(block, BlockState(state), target)
        else:
            store.bat.entries[index] = target | state
            store.journal.change_table(*store.bat.page(index))
        store.journal.free(place, length)

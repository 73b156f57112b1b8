"""Contents that are not needed, and zeros, without writing them where the format can say so; and the
question what is stored.

A whole block that is not needed leaves the file. A part of a block that is wholly in the file becomes a hole
of the host's file, which reads as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringminus.disks.vhdx.store import Store
from ringminus.disks.vhdx.wire import BlockState

_IN_FILE = (BlockState.FULLY_PRESENT, BlockState.PARTIALLY_PRESENT)
_UNDEFINED = (BlockState.UNDEFINED, BlockState.UNMAPPED)


def _pieces(store: Store, offset: int, length: int) -> Iterator[tuple[int, int, int, bool]]:
    """The range block by block: block, offset in it, length, and whether that is all of it."""
    geometry = store.geometry
    end = offset + length
    while offset < end:
        block, within = divmod(offset, geometry.block_size)
        count = min(end - offset, geometry.block_size - within)
        whole = not within and (count == geometry.block_size or offset + count == geometry.size)
        yield block, within, count, whole
        offset += count


def unmap(store: Store, offset: int, length: int) -> None:
    """See `Disk.unmap`. A fixed disk keeps everything; so does a part of a partially present block."""
    if store.fixed and not store.file.read_only:
        return
    store.begin()
    for block, within, count, whole in _pieces(store, offset, length):
        if whole:
            with store.lock:
                _unmap_block(store, block)
        else:
            punch(store, block, within, count)
        if store.journal.is_due:
            store.journal.commit()


def _unmap_block(store: Store, block: int) -> None:
    state, _ = store.look_up(block)
    # an absent block of a differencing disk is the parent's: it has to be said that it is not needed
    if state in _IN_FILE or (state == BlockState.NOT_PRESENT and store.geometry.differencing):
        store.drop(block, BlockState.UNMAPPED)


def punch(store: Store, block: int, within: int, count: int) -> bool:
    """Make a part of a block a hole, if the block is wholly in the file."""
    writer = object()
    store.journal.writers.add(writer)
    try:
        place = store.bat.places[block]
        if not place:
            return False
        store.file.zero(place + within, count)
        if store.fixed:
            store.file.allocate(place + within, count)
        return True
    finally:
        store.journal.writers.discard(writer)


def write_zeros(store: Store, offset: int, length: int) -> None:
    """See `Disk.write_zeros`."""
    store.begin()
    for block, within, count, whole in _pieces(store, offset, length):
        if whole and not store.fixed:
            with store.lock:
                _zero_block(store, block)
        elif not punch(store, block, within, count):
            _zero_part(store, block, within, count)
        if store.journal.is_due:
            store.journal.commit()


def _zero_block(store: Store, block: int) -> None:
    state, _ = store.look_up(block)
    if state != BlockState.NOT_PRESENT or store.geometry.differencing:
        store.drop(block, BlockState.ZERO)


def _zero_part(store: Store, block: int, within: int, count: int) -> None:
    """Zeros for a part of a block that is not wholly in the file."""
    writer = object()
    store.journal.writers.add(writer)
    try:
        with store.lock:
            store.journal.check()
            state, place = store.look_up(block)
            if state in _UNDEFINED:
                # it reads as zeros here, and now must do so everywhere
                store.drop(block, BlockState.ZERO)
            elif state == BlockState.NOT_PRESENT and store.geometry.differencing:
                store.allocate(block)
                state, place = store.look_up(block)
        if state in _IN_FILE:
            store.file.zero(place + within, count)
        if state == BlockState.PARTIALLY_PRESENT:
            with store.lock:
                store.written(block, place, within, count)
    finally:
        store.journal.writers.discard(writer)


def allocated(store: Store, offset: int, length: int) -> tuple[bool, int]:
    """See `Disk.allocated`; a hole of the host's file counts as not stored."""
    answer, known = None, 0
    while known < length:
        for stored, count in _stored(store, offset + known, length - known):
            if answer is None:
                answer = stored
            elif stored != answer:
                return answer, known
            known += count
    return bool(answer), known


def _stored(store: Store, offset: int, length: int) -> Iterator[tuple[bool, int]]:
    """What is stored of the block at `offset`, or that nothing is of several blocks."""
    size = store.geometry.block_size
    block, within = divmod(offset, size)
    count = min(length, size - within)
    with store.lock:
        state, place = store.look_up(block)
        if absent := store.bat.absent(block):
            count = min(length, absent * size - within)
        runs = [(state == BlockState.FULLY_PRESENT, count)]
        if state == BlockState.PARTIALLY_PRESENT:
            sector = store.geometry.sector_size
            found = store.bitmaps.runs(offset // sector, count // sector)
            runs = [(there, n * sector) for there, n in found]
    for there, some in runs:
        while some:
            stored, count = store.file.extent(place + within, some) if there else (False, some)
            yield stored, count
            within += count
            some -= count

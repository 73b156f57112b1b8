"""Copying what a disk holds into another one, or finding out what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ringminus.disks.disk import Disk

Progress = Callable[[float], None]
_CHUNK = 1 << 20
_PIECE = 64 << 10  # zeros shorter than this are copied
_ZEROS = bytes(_PIECE)


def stored(disk: Disk, offset: int, length: int) -> tuple[bool, int]:
    """Whether the disk or one of its parents holds data at `offset`, and for how many bytes that is so.

    Where it is false, the disk reads as zeros.
    """
    held, known = disk.allocated(offset, length)
    parent = disk.parent
    if held or parent is None or offset >= parent.size:
        return held, known
    return stored(parent, offset, min(known, parent.size - offset))


def extents(disk: Disk, start: int = 0) -> Iterator[tuple[int, int]]:
    """Where data may be, from `start` on: offsets and lengths in order."""
    offset = start
    while offset < disk.size:
        held, length = stored(disk, offset, disk.size - offset)
        if held:
            yield offset, length
        offset += length


def stretches(disk: Disk, start: int = 0) -> Iterator[tuple[int, int]]:
    """`extents` in parts of at most 1 MiB."""
    for offset, length in extents(disk, start):
        for at in range(offset, offset + length, _CHUNK):
            yield at, min(_CHUNK, offset + length - at)


def pieces_with_data(data: memoryview) -> Iterator[tuple[int, int]]:
    """The parts of `data` that are not zeros, as offsets and lengths; multiples of 64 KiB but for the end."""
    begin = -1
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        if bytes(piece) == _ZEROS[: len(piece)]:
            if begin >= 0:
                yield begin, at - begin
            begin = -1
        elif begin < 0:
            begin = at
    if begin >= 0:
        yield begin, len(data) - begin


def copy(source: Disk, target: Disk, progress: Progress = lambda fraction: None) -> int:
    """Copy all data to `target`, which is at least as large and all zeros; returns the bytes written.

    `progress` is told the share that is done. Raises `DiskError`.
    """
    buffer, written = memoryview(bytearray(_CHUNK)), 0
    for offset, length in stretches(source):
        view = buffer[:length]
        source.read(offset, [view])
        for at, count in pieces_with_data(view):
            _put(target, offset + at, view[at : at + count])
            written += count
        progress((offset + length) / source.size)
    target.flush()
    progress(1.0)
    return written


def _put(target: Disk, offset: int, data: memoryview) -> None:
    """Write, also where data ends inside a sector of the target."""
    odd_begin, odd_end = offset % target.sector_size, -(offset + len(data)) % target.sector_size
    if odd_begin or odd_end:
        whole = bytearray(odd_begin + len(data) + odd_end)
        target.read(offset - odd_begin, [memoryview(whole)])
        whole[odd_begin : odd_begin + len(data)] = data
        offset, data = offset - odd_begin, memoryview(whole)
    target.write(offset, [data])


def end_of_data(disk: Disk, start: int = 0) -> int:
    """The first byte behind all that is not zeros; 0 if there is nothing but zeros from `start` on."""
    buffer = memoryview(bytearray(_CHUNK))
    for offset, length in reversed(list(extents(disk, start))):
        for at in reversed(range(offset, offset + length, _CHUNK)):
            view = buffer[: min(_CHUNK, offset + length - at)]
            disk.read(at, [view])
            if data := bytes(view).rstrip(b"\0"):
                return at + len(data)
    return 0


def punch_zeros(disk: Disk, progress: Progress = lambda fraction: None) -> None:
    """Free what the disk holds but is zeros, without moving anything. Raises `DiskError`."""
    buffer = memoryview(bytearray(_CHUNK))
    for offset, length in stretches(disk):
        view = buffer[:length]
        disk.read(offset, [view])
        end = 0
        for at, count in (*pieces_with_data(view), (length, 0)):
            if at > end:
                disk.unmap(offset + end, at - end)
            end = at + count
        progress((offset + length) / disk.size)
    disk.flush()
    progress(1.0)

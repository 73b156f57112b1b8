"""Making a VHD file smaller: blocks that need no place lose it, the others move into the gaps.

A process that is killed here leaves a good disk: a block is copied, its copy made durable, and only then the
table changed; the file is cut when nothing behind the cut is in use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ringminus.disks.vhd.blocks import Blocks
from ringminus.disks.vhd.dynamic import DynamicVhd
from ringminus.disks.vhd.opening import open_vhd

Progress = Callable[[float], None]
_CHUNK = 1 << 20
_MOVED_AT_ONCE = 32
_MOVING_SHARE = 0.5  # of the progress


def compact_vhd(path: Path, progress: Progress = lambda fraction: None) -> int:
    """Free what the disk does not need; returns by how many bytes the file has become shorter.

    Fixed disks stay as they are. `progress` is told the share that is done. Raises `DiskError`.
    """
    with open_vhd(path) as disk:
        before = disk.file_size
        if isinstance(disk, DynamicVhd):
            _free(disk, lambda fraction: progress(fraction * (1 - _MOVING_SHARE)))
            _pack(disk.blocks, lambda fraction: progress(1 - _MOVING_SHARE * (1 - fraction)))
        progress(1.0)
        return before - disk.file_size


def _free(disk: DynamicVhd, progress: Progress) -> None:
    """Take the place from every block that reads the same without it."""
    blocks = disk.blocks
    view = memoryview(bytearray(_CHUNK))
    below = memoryview(bytearray(_CHUNK))
    for number, place in enumerate(blocks.data):
        progress(number / len(blocks.data))
        if place and _is_needless(disk, number, view, below):
            blocks.give_up(number)
    disk.flush()


def _is_needless(disk: DynamicVhd, number: int, view: memoryview, below: memoryview) -> bool:
    start = number * disk.block_size
    end = start + disk.blocks.sectors_of(number) * disk.sector_size
    while start < end:
        held, length = disk.allocated(start, min(end - start, _CHUNK))
        if held:
            here, there = view[:length], below[:length]
            disk.read(start, [here])
            disk.read_below(start, [there])
            if here != there:
                return False
        start += length
    return True


def _pack(blocks: Blocks, progress: Progress) -> None:
    """Move the last blocks to the first gaps, as long as that makes the file shorter."""
    moves = blocks.moves()
    for done in range(0, len(moves), _MOVED_AT_ONCE):
        progress(done / len(moves))
        blocks.move(moves[done : done + _MOVED_AT_ONCE])
    blocks.cut()

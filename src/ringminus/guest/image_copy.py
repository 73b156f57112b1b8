"""Copying a sparse raw image into a VHDX, without what is only zeros."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ringminus.memory import MIB

CHUNK = MIB


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and end of each range of a file that has data, rounded out to whole chunks."""
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        start, end = max(position, start // CHUNK * CHUNK), min(size, -(-end // CHUNK) * CHUNK)
        yield start, end
        position = end


def image_to_vhdx(image: Path, path: Path, progress: Callable[[float], None]) -> None:
    """Make a dynamic VHDX of the image's contents; raises `OSError` and `DiskError`."""
    from ringminus.disks.vhdx import create_vhdx, open_vhdx

    size = image.stat().st_size
    create_vhdx(path, size, block_size=CHUNK)
    zeros = bytes(CHUNK)
    progress(0.0)
    with image.open("rb") as file, open_vhdx(path) as disk:
        for start, end in data_ranges(file.fileno(), size):
            for offset in range(start, end, CHUNK):
                data = os.pread(file.fileno(), min(CHUNK, end - offset), offset)
                if data != zeros[: len(data)]:
                    disk.write(offset, [memoryview(data)])
                progress(offset / size)
    progress(1.0)

"""A guest's requests to a disk, side by side with QEMU: `python bench/disk_guest.py`.

Both boot the same kernel and initrd, with fio in it, and give the guest the same raw file as its disk: here
through hv_storvsc, there through virtio-blk on microvm. fio opens it with O_DIRECT, so every request is one
of the device; the file is in the host's page cache for both.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import side_by_side
from image import SOURCES, prepare_with
from side_by_side import MEGABYTES, Line, Prepared, append

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ringminus.memory import MIB
from support.guest_programs import host_program

DISK_SIZE = 1 << 30
SCRIPT_IN_GUEST = "bin/disk.sh"
LINES = (
    Line("random_read_1", "IOPS"),
    Line("random_read_32", "IOPS"),
    Line("random_write_1", "IOPS"),
    Line("random_write_32", "IOPS"),
    Line("sequential_read", "MB/s", MEGABYTES),
    Line("sequential_write", "MB/s", MEGABYTES),
)
"""Requests of 4 KiB at queue depth 1 and 32, and of 1 MiB at depth 4. How many of them each makes, the
guest's script says, where others say a checksum."""


def make_disk(path: Path) -> None:
    """A raw disk without holes, in the host's page cache."""
    with path.open("wb") as file:
        for _ in range(DISK_SIZE // MIB):
            file.write(os.urandom(4096) * (MIB // 4096))


@contextmanager
def prepare(guest: Path) -> Iterator[Prepared]:
    """The disk has the defaults of QEMU there: the host's page cache, and threads for its requests."""
    files = host_program("fio", "fio") | {SCRIPT_IN_GUEST: (SOURCES / "disk.sh").read_bytes()}
    image = prepare_with(guest, "disk-bench", files, ("virtio_mmio", "virtio_blk"))
    with tempfile.TemporaryDirectory(prefix="ringminus-bench-", dir=guest.parent) as directory:
        disk = Path(directory) / "disk.raw"
        make_disk(disk)
        drive = f"file={disk},if=none,id=disk,format=raw"
        theirs = ("-drive", drive, "-device", "virtio-blk-device,drive=disk")
        words = append(SCRIPT_IN_GUEST)
        yield (
            image,
            [
                side_by_side.ours(image, ("--disk", str(disk)), words),
                side_by_side.qemu(image, theirs, words),
            ],
        )


if __name__ == "__main__":
    sys.exit(side_by_side.main("disk", LINES, prepare))

"""VHDX files for tests: making them, damaging them, and leaving their logs unplayed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ringminus.disks.files import HostFile
from ringminus.disks.vhdx import Vhdx, create_vhdx, open_vhdx
from ringminus.disks.vhdx.checksums import seal
from ringminus.disks.vhdx.header import Headers
from ringminus.disks.vhdx.image import Image, load
from ringminus.disks.vhdx.log import LogWriter, Page
from ringminus.disks.vhdx.wire import (
    HEADER_OFFSETS,
    REGION_TABLE_OFFSETS,
    REGION_TABLE_SIZE,
    Header,
)
from support.disks import MIB, put, qemu_img

BLOCK = MIB


def make(path: Path, kind: str = "dynamic", size: int = 8 * MIB, sector_size: int = 512) -> Vhdx:
    """A disk of a kind, open; a differencing one has a parent with something in it."""
    if kind == "differencing":
        parent = path.with_name("parent.vhdx")
        create_vhdx(parent, size, block_size=BLOCK, sector_size=sector_size)
        with open_vhdx(parent) as disk:
            put(disk, 0, b"p" * (size - BLOCK))
        create_vhdx(path, None, kind="differencing", block_size=BLOCK, parent=parent)
    else:
        assert kind in ("dynamic", "fixed")
        create_vhdx(
            path,
            size,
            kind="fixed" if kind == "fixed" else "dynamic",
            block_size=BLOCK,
            sector_size=sector_size,
        )
    return open_vhdx(path)


def image_of(path: Path) -> Image:
    """The file's structure, whatever is wrong with its BAT."""
    file = HostFile(path, read_only=True, locked=False)
    try:
        return load(file)
    finally:
        file.close()


def at_once(disk: Vhdx, offset: int, buffers: Sequence[memoryview]) -> bool:
    """`try_read`, or `read` if the tests' file system never says what is in memory (tmpfs does not)."""
    try:
        os.preadv(disk.store.file.fd, [memoryview(bytearray(512))], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        pass
    except OSError:
        disk.read(offset, buffers)
        return True
    return disk.try_read(offset, buffers)


def change(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def reseal(path: Path) -> None:
    """Make the checksums of both headers and region tables right again."""
    contents = path.read_bytes()
    sealed = [(offset, Header.SIZE) for offset in HEADER_OFFSETS]
    sealed += [(offset, REGION_TABLE_SIZE) for offset in REGION_TABLE_OFFSETS]
    for offset, size in sealed:
        part = bytearray(contents[offset : offset + size])
        seal(part)
        change(path, offset, bytes(part))


def set_entry(path: Path, index: int, value: int) -> None:
    """Change an entry of the BAT."""
    region = image_of(path).regions.bat
    change(path, region.offset + index * 8, value.to_bytes(8, "little"))


def log_without_doing(path: Path, pages: list[Page]) -> None:
    """Put changes into the log of a closed file, as if its writer had been killed there."""
    file = HostFile(path)
    try:
        LogWriter(file, Headers(file)).append(pages, file.size)
    finally:
        file.close()


@contextmanager
def abandoned(path: Path) -> Iterator[Vhdx]:
    """An open disk that is never closed: nothing but the lock is let go of."""
    disk = open_vhdx(path)
    try:
        yield disk
    finally:
        disk.store.file.close()


def left_dirty_by_qemu(path: Path, failing_write: int) -> None:
    """A disk of 8 MiB at which QEMU wrote 64 KiB of 0xA5 at 1 MiB until its nth write to the file failed."""
    qemu_img("create", "-f", "vhdx", "-o", "block_size=1M", path, "8M")
    rules = [
        f'[set-state]\nevent = "pwritev"\nstate = "{n}"\nnew_state = "{n + 1}"\n'
        for n in range(1, failing_write)
    ]
    rules.append(f'[inject-error]\nevent = "pwritev"\nerrno = "5"\nstate = "{failing_write}"\n')
    config = path.with_name("faults")
    config.write_text("".join(rules))
    file = f"file.driver=blkdebug,file.config={config},file.image.driver=file,file.image.filename={path}"
    subprocess.run(
        ["qemu-io", "-c", "write -P 0xa5 1M 64k", "--image-opts", f"driver=vhdx,{file}"],
        capture_output=True,
        check=False,
    )

"""Raw disks: the file's bytes are the disk's; holes are used; failures name the file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ringminus.disks.disk import CorruptDisk, Disk, DiskError
from ringminus.disks.files import LARGEST_INLINE_WRITE
from ringminus.disks.open import open_disk
from ringminus.disks.raw import create_raw
from ringminus.errors import ConfigError

MIB = 1 << 20
PAGE = 4096


def get(disk: Disk, offset: int, length: int) -> bytes:
    data = bytearray(length)
    disk.read(offset, [memoryview(data)])
    return bytes(data)


def put(disk: Disk, offset: int, data: bytes) -> None:
    disk.write(offset, [memoryview(data)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    create_raw(path, 8 * MIB)
    return path


def test_bytes_are_scattered_and_gathered_in_order(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(512, [memoryview(b"a" * 100), memoryview(b"b" * 400), memoryview(b"c" * 12)])
        parts = [bytearray(500), bytearray(12)]
        disk.read(512, [memoryview(part) for part in parts])
    assert parts == [b"a" * 100 + b"b" * 400, b"c" * 12]
    assert path.read_bytes()[512:1024] == b"a" * 100 + b"b" * 400 + b"c" * 12


def test_more_buffers_than_one_system_call_takes(path: Path) -> None:
    data = os.urandom(3000 * 512)
    with open_disk(path) as disk:
        disk.write(MIB, [memoryview(data)[at : at + 512] for at in range(0, len(data), 512)])
        back = bytearray(len(data))
        disk.read(MIB, [memoryview(back)[at : at + 512] for at in range(0, len(data), 512)])
        assert back == data
        back = bytearray(len(data))
        views = [memoryview(back)[at : at + 512] for at in range(0, len(data), 512)]
        assert not disk.try_read(MIB, views)
        assert not disk.try_write(MIB, views)


def test_what_is_in_memory_is_read_at_once(path: Path) -> None:
    with open_disk(path) as disk:
        assert disk.try_write(PAGE, [memoryview(b"x" * PAGE)])
        back = bytearray(PAGE)
        assert disk.try_read(PAGE, [memoryview(back)])
        assert back == b"x" * PAGE
        assert not disk.try_write(0, [memoryview(bytes(LARGEST_INLINE_WRITE + 512))])


@pytest.mark.parametrize(("offset", "length"), [(-512, 512), (8 * MIB, 512), (8 * MIB - 512, 1024)])
def test_ranges_outside_are_the_callers_mistake(path: Path, offset: int, length: int) -> None:
    with open_disk(path) as disk:
        view = [memoryview(bytearray(length))]
        for call in (disk.read, disk.write, disk.try_read, disk.try_write):
            with pytest.raises(ValueError, match="not in a disk of"):
                call(offset, view)
        for cut in (disk.unmap, disk.write_zeros, disk.allocated):
            with pytest.raises(ValueError, match="not in a disk of"):
                cut(offset, length)


def test_unmap_and_zeros_free_space(path: Path) -> None:
    with open_disk(path) as disk:
        put(disk, 0, b"x" * 4 * MIB)
        disk.flush()
        full = disk.info()["used"]
        disk.unmap(MIB, MIB)
        disk.write_zeros(2 * MIB, MIB)
        disk.flush()
        assert get(disk, MIB, 2 * MIB) == bytes(2 * MIB)
        assert get(disk, 0, MIB) == get(disk, 3 * MIB, MIB) == b"x" * MIB
        assert disk.info()["used"] == full - 2 * MIB
        assert disk.allocated(0, 8 * MIB) == (True, MIB)
        assert disk.allocated(MIB, 8 * MIB - MIB) == (False, 2 * MIB)
        assert disk.allocated(4 * MIB, 4 * MIB) == (False, 4 * MIB)


def test_a_file_that_ends_inside_a_sector_reads_as_if_zeros_followed(tmp_path: Path) -> None:
    path = tmp_path / "odd.img"
    path.write_bytes(b"y" * 1000)
    with open_disk(path) as disk:
        assert disk.size == 1024
        assert get(disk, 0, 1024) == b"y" * 1000 + bytes(24)
        assert path.stat().st_size == 1000
        put(disk, 512, b"z" * 512)
        assert get(disk, 0, 1024) == b"y" * 512 + b"z" * 512
    assert path.stat().st_size == 1024


def test_iso_images_have_large_sectors_and_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "cd.iso"
    path.write_bytes(b"i" * 2048 * 20)
    with open_disk(path) as disk:
        assert (disk.format, disk.sector_size, disk.read_only, disk.can_unmap) == ("iso", 2048, True, False)
        with pytest.raises(DiskError, match="read-only"):
            put(disk, 0, bytes(2048))


def test_the_sector_can_be_chosen(path: Path) -> None:
    with open_disk(path, sector_size=4096) as disk:
        assert (disk.sector_size, disk.physical_sector_size) == (4096, 4096)
    with open_disk(path, format="iso", sector_size=2048) as disk:
        assert (disk.sector_size, disk.read_only) == (2048, True)
    with pytest.raises(ConfigError, match="a sector of 100 bytes"):
        open_disk(path, sector_size=100)


def test_resize(path: Path) -> None:
    with open_disk(path) as disk:
        put(disk, 0, b"x" * PAGE)
        disk.resize(16 * MIB)
        put(disk, 16 * MIB - 512, b"e" * 512)
        disk.resize(MIB)
        assert disk.size == MIB
        assert get(disk, 0, PAGE) == b"x" * PAGE
        with pytest.raises(ConfigError, match="512-byte sectors"):
            disk.resize(MIB + 1)
    assert path.stat().st_size == MIB


def test_identity_stays_with_the_file(path: Path) -> None:
    with open_disk(path) as one:
        identity = one.identity
    with open_disk(path, read_only=True) as again:
        assert again.identity == identity
    create_raw(path.with_name("other.raw"), MIB)
    with open_disk(path.with_name("other.raw")) as other:
        assert other.identity != identity


def test_a_disk_has_one_writer_or_many_readers(path: Path) -> None:
    with open_disk(path), pytest.raises(DiskError, match=r"disk\.raw is in use: it is being used by another"):
        open_disk(path)
    with open_disk(path), pytest.raises(DiskError, match=r"disk\.raw is in use: it is being written"):
        open_disk(path, read_only=True)
    with (
        open_disk(path, read_only=True),
        open_disk(path, read_only=True),
        pytest.raises(DiskError, match="use"),
    ):
        open_disk(path)
    open_disk(path).close()


def test_a_file_that_shrinks_behind_us_is_a_damaged_disk(path: Path) -> None:
    with open_disk(path) as disk:
        os.truncate(path, PAGE)
        assert not disk.try_read(MIB, [memoryview(bytearray(PAGE))])
        with pytest.raises(CorruptDisk, match="ends before offset"):
            get(disk, MIB, PAGE)


def test_a_full_host_is_said_with_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    create_raw(path, MIB)
    with open_disk(path) as disk:
        # /dev/full is no disk, but its refusal is that of a full file system
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, disk._file.fd)  # type: ignore[attr-defined]
        os.close(full)
        with pytest.raises(DiskError, match=r"cannot write .*disk\.raw at 4096: No space left") as raised:
            put(disk, PAGE, bytes(PAGE))
        assert raised.value.offset == PAGE
        os.dup2(os.open(path, os.O_RDWR), disk._file.fd)  # type: ignore[attr-defined]


def test_closing_twice_is_nothing(path: Path) -> None:
    disk = open_disk(path)
    disk.close()
    disk.close()


def test_creation(tmp_path: Path) -> None:
    path = tmp_path / "new.raw"
    create_raw(path, MIB, fixed=True)
    assert path.stat().st_blocks * 512 >= MIB
    with pytest.raises(ConfigError, match="exists already"):
        create_raw(path, MIB)
    with pytest.raises(ConfigError, match="whole number of 512-byte sectors"):
        create_raw(tmp_path / "odd.raw", 1000)
    assert not (tmp_path / "odd.raw").exists()


def test_qemu_and_we_respect_each_other(path: Path) -> None:
    write = ["qemu-io", "-f", "raw", "-c", "write 0 4k", str(path)]
    with open_disk(path, read_only=True):
        run = subprocess.run(write, capture_output=True, text=True, check=False)
        assert (run.returncode, 'Failed to get "write" lock' in run.stderr) == (1, True)
    assert subprocess.run(write, capture_output=True, check=False).returncode == 0
    # qemu-io holds the disk until its input ends
    holder = subprocess.Popen(
        ["qemu-io", "-f", "raw", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdin.write(b"read 0 512\n")
    holder.stdin.flush()
    while b"read 512/512" not in holder.stdout.readline():
        pass
    with pytest.raises(DiskError, match="in use"):
        open_disk(path)
    holder.communicate()
    open_disk(path).close()

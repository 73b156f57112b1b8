"""VHDX disks: what is written is read, here and by others."""

from __future__ import annotations

import contextlib
import random
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from dissect.hypervisor.disk.vhdx import VHDX

from ringminus.disks.disk import DiskError
from ringminus.disks.files import LARGEST_INLINE_WRITE
from ringminus.disks.open import open_disk
from ringminus.disks.vhdx import create_vhdx, open_vhdx
from ringminus.disks.vhdx.wire import LARGEST_DISK, TIB, BlockState
from ringminus.errors import ConfigError
from support.disks import KIB, MIB, as_qemu_reads, by_qemu, everything, get, put, qemu_img, sparse_bytes
from support.disks import work_and_compare as work
from support.vhdx import BLOCK, at_once, image_of, make


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "differencing"])
@pytest.mark.parametrize("seed", range(3))
def test_random_work_leaves_what_was_written(tmp_path: Path, kind: str, seed: int) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, kind, size=4 * MIB + 512) as disk:
        expected = work(disk, seed, 100, BLOCK)
    with open_disk(path, read_only=True) as disk:
        assert everything(disk) == expected
    if kind != "differencing":
        assert "No errors" in qemu_img("check", path)
        assert as_qemu_reads(path, "vhdx") == expected
        assert VHDX(BytesIO(path.read_bytes())).read(len(expected)) == expected


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "differencing"])
def test_sectors_of_4096_bytes(tmp_path: Path, kind: str) -> None:
    path, source = tmp_path / "disk.vhdx", random.Random(kind)
    with make(path, kind, sector_size=4096) as disk:
        assert (disk.sector_size, disk.physical_sector_size) == (4096, 4096)
        expected = bytearray(everything(disk))
        for _ in range(60):
            offset = source.randrange(disk.size // 4096) * 4096
            data = source.randbytes(min(source.choice([1, 5, 300]) * 4096, disk.size - offset))
            put(disk, offset, data)
            expected[offset : offset + len(data)] = data
        assert everything(disk) == expected
    with open_vhdx(path) as disk:
        assert everything(disk) == expected
    if kind != "differencing":
        assert VHDX(BytesIO(path.read_bytes())).read(len(expected)) == expected


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
@pytest.mark.parametrize("options", ["block_size=1M", "block_size=16M,log_size=3M", "block_state_zero=off"])
def test_what_qemu_writes_is_read(tmp_path: Path, kind: str, options: str) -> None:
    data = sparse_bytes(9 * MIB)
    path = by_qemu(tmp_path / "disk.vhdx", "vhdx", data, "-o", f"subformat={kind},{options}")
    with open_disk(path) as disk:
        assert everything(disk) == data
        put(disk, 3 * MIB, b"x" * MIB)
        disk.flush()
        disk.write_zeros(5 * MIB, MIB)
    expected = data[: 3 * MIB] + b"x" * MIB + data[4 * MIB : 5 * MIB] + bytes(MIB) + data[6 * MIB :]
    assert as_qemu_reads(path, "vhdx") == expected
    assert "No errors" in qemu_img("check", path)


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_requests_are_scattered_and_cross_blocks(tmp_path: Path, kind: str) -> None:
    data = random.Random(1).randbytes(3 * MIB)
    with make(tmp_path / "disk.vhdx", kind) as disk:
        view = memoryview(data)
        cuts = [0, 512, 512, 100 * KIB, 2 * MIB + 1, len(data)]
        disk.write(BLOCK // 2, [view[a:b] for a, b in pairwise(cuts)])
        assert get(disk, BLOCK // 2, len(data)) == data
        halves = [memoryview(bytearray(MIB)), memoryview(bytearray(2 * MIB))]
        assert at_once(disk, BLOCK // 2, halves)
        assert b"".join(halves) == data
        many = [memoryview(bytearray(512)) for _ in range(3000)]
        disk.read(BLOCK // 2, many)
        assert b"".join(many) == data[: 3000 * 512]
        disk.write(BLOCK, many)
        assert get(disk, BLOCK, 3000 * 512) == data[: 3000 * 512]


def test_what_need_not_wait_is_done_at_once(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx") as disk:
        small = [memoryview(bytearray(b"s" * 4096))]
        assert not disk.try_write(0, small)  # the first write changes the header
        put(disk, 0, b"x" * 4096)
        assert disk.try_write(4096, small)
        assert not disk.try_write(BLOCK, small)  # a new block
        assert not disk.try_write(0, [memoryview(bytes(LARGEST_INLINE_WRITE + 512))])
        assert get(disk, 0, 12288) == b"x" * 4096 + b"s" * 4096 + bytes(4096)
        read = [memoryview(bytearray(b"?" * 8192))]
        assert at_once(disk, 0, read)
        assert read[0] == b"x" * 4096 + b"s" * 4096
        assert at_once(disk, 3 * BLOCK, read)
        assert read[0] == bytes(8192)


def test_a_part_of_a_block_is_written_at_once_when_its_bitmap_is_known(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx", "differencing") as disk:
        put(disk, 0, b"x" * 512)
        assert disk.try_write(1024, [memoryview(b"y" * 512)])
        read = [memoryview(bytearray(2048))]
        assert at_once(disk, 0, read)
        assert read[0] == b"x" * 512 + b"p" * 512 + b"y" * 512 + b"p" * 512
        assert disk.store.look_up(0)[0] == BlockState.PARTIALLY_PRESENT
        for offset in range(512, BLOCK, 512):
            assert disk.try_write(offset, [memoryview(b"z" * 512)])
        assert disk.store.look_up(0)[0] == BlockState.FULLY_PRESENT


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "differencing"])
def test_ranges_outside_the_disk_are_the_callers_error(tmp_path: Path, kind: str) -> None:
    with make(tmp_path / "disk.vhdx", kind) as disk:
        put(disk, 0, bytes(512))
        buffer = [memoryview(bytearray(1024))]
        for offset in (disk.size - 512, disk.size, disk.size + BLOCK, -512, -1024, -BLOCK):
            for call in (disk.read, disk.write, disk.try_read):
                with pytest.raises(ValueError):
                    call(offset, buffer)
            with contextlib.suppress(ValueError):
                assert not disk.try_write(offset, buffer)
            with pytest.raises(ValueError):
                disk.unmap(offset, 1024)


def test_requests_of_no_bytes(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx", size=512 * MIB) as disk:
        put(disk, 0, bytes(512))
        for offset in (0, 512, disk.size):
            disk.read(offset, [])
            disk.write(offset, [])
            disk.try_read(offset, [])
            disk.try_write(offset, [])
            disk.unmap(offset, 0)
            disk.write_zeros(offset, 0)
            assert disk.allocated(offset, 0)[1] == 0


def test_a_disk_that_is_only_read_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    make(path).close()
    before = path.read_bytes()
    with open_vhdx(path) as disk:
        everything(disk)
        disk.flush()
    with open_vhdx(path, read_only=True) as disk:
        with pytest.raises(DiskError, match="read-only"):
            put(disk, 0, bytes(512))
        with pytest.raises(DiskError, match="read-only"):
            disk.unmap(0, 512)
        with pytest.raises(DiskError, match="read-only"):
            disk.resize(MIB)
        assert not disk.can_unmap
    assert path.read_bytes() == before


def test_headers_say_when_contents_may_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        before = disk.data_write_guid
        disk.flush()
        assert disk.data_write_guid == before
        put(disk, 0, b"x" * 512)
        during = disk.data_write_guid
        put(disk, 0, b"y" * 512)
        assert before != during == disk.data_write_guid
    with open_vhdx(path, read_only=True) as disk:
        assert disk.data_write_guid == during
        assert image_of(path).headers.log_guid == bytes(16)


def test_facts(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing") as disk:
        facts = disk.info()
        assert (facts["kind"], facts["size"], facts["block_size"]) == ("differencing", 8 * MIB, BLOCK)
        assert facts["parent"]["kind"] == "dynamic"
        assert facts["identity"] == facts["parent"]["identity"] == str(disk.identity)
        assert facts["creator"].startswith("ringminus")


@pytest.mark.parametrize("size", [512, MIB, 127 << 30, 2 * TIB, LARGEST_DISK])
def test_disks_of_all_sizes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "disk.vhdx"
    create_vhdx(path, size)
    with open_vhdx(path) as disk:
        put(disk, size - 512, b"e" * 512)
        assert get(disk, size - 512, 512) == b"e" * 512
        assert disk.allocated(0, 512) == (size == 512, 512)
    facts = qemu_img("info", path)
    assert f"({size} bytes)" in facts
    assert path.stat().st_blocks * 512 < 8 * MIB


def make_impossible(path: Path, **arguments: object) -> None:
    defaults: dict[str, object] = {"size": MIB}
    create_vhdx(path, **(defaults | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "at most"),
        ({"size": LARGEST_DISK + 512}, "64 TiB"),
        ({"size": 1000}, "whole number of 512-byte sectors"),
        ({"size": 512, "sector_size": 4096}, "whole number of 4096-byte sectors"),
        ({"block_size": 3 * MIB}, "power of two"),
        ({"block_size": 512 * KIB}, "1 MiB"),
        ({"sector_size": 1024}, "512 or 4096"),
        ({"sector_size": 4096, "physical_sector_size": 512}, "smaller"),
        ({"kind": "differencing"}, "parent"),
        ({"size": None}, "needs a size"),
    ],
)
def test_what_cannot_be_made(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    path = tmp_path / "disk.vhdx"
    with pytest.raises(ConfigError, match=message):
        make_impossible(path, **arguments)
    assert not path.exists()


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    path.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="exists"):
        create_vhdx(path, MIB)
    assert path.read_bytes() == b"precious"

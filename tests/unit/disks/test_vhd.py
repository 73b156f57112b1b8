"""VHD disks: what is written is read, here and by others."""

from __future__ import annotations

import os
import random
import threading
from io import BytesIO
from pathlib import Path

import pytest
from dissect.hypervisor.disk.vhd import VHD

from ringminus.disks.disk import Disk, DiskError
from ringminus.disks.open import open_disk
from ringminus.disks.vhd import create_vhd
from ringminus.disks.vhd.footer import geometry
from ringminus.errors import ConfigError
from support.disks import KIB, MIB, as_qemu_reads, by_qemu, everything, get, put, qemu_img, sparse_bytes
from support.disks import work_and_compare as work

BLOCK = 64 * KIB


def make(path: Path, kind: str, size: int = 4 * MIB) -> Disk:
    """A disk of a kind, open; a differencing one has a parent with something in it."""
    if kind == "differencing":
        parent = path.with_name("parent.vhd")
        create_vhd(parent, size, block_size=BLOCK)
        with open_disk(parent) as disk:
            put(disk, MIB, sparse_bytes(MIB))
        create_vhd(path, parent=parent, block_size=BLOCK)
    else:
        create_vhd(path, size, fixed=kind == "fixed", block_size=BLOCK)
    return open_disk(path)


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "differencing"])
@pytest.mark.parametrize("seed", range(3))
def test_random_work_leaves_what_was_written(tmp_path: Path, kind: str, seed: int) -> None:
    path = tmp_path / "disk.vhd"
    with make(path, kind) as disk:
        expected = work(disk, seed, 150, BLOCK)
    with open_disk(path, read_only=True) as disk:
        assert everything(disk) == expected
    if kind != "differencing":
        assert as_qemu_reads(path, "vpc") == expected
        assert VHD(BytesIO(path.read_bytes())).read(len(expected)) == expected


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_what_qemu_writes_is_read(tmp_path: Path, kind: str) -> None:
    data = sparse_bytes(9 * MIB)
    path = by_qemu(tmp_path / "disk.vhd", "vpc", data, "-o", f"subformat={kind},force_size=on")
    with open_disk(path) as disk:
        assert everything(disk) == data
        assert disk.info()["kind"] == kind
        put(disk, 3 * MIB, b"x" * MIB)
    assert as_qemu_reads(path, "vpc") == data[: 3 * MIB] + b"x" * MIB + data[4 * MIB :]


def test_a_disk_that_virtual_pc_rounds_to_its_geometry(tmp_path: Path) -> None:
    path = by_qemu(tmp_path / "disk.vhd", "vpc", sparse_bytes(9 * MIB))
    with open_disk(path) as disk:
        cylinders, heads, sectors = geometry(9 * MIB)
        assert cylinders * heads * sectors * 512 < 9 * MIB
        assert disk.size == (cylinders + 1) * heads * sectors * 512
        assert everything(disk)[: 9 * MIB] == sparse_bytes(9 * MIB)


@pytest.mark.parametrize("size", ["1M", "5M", "100M", "503M", "504M", "2G", "17G", "126G", "128G", "2000G"])
def test_geometry_is_what_qemu_computes(tmp_path: Path, size: str) -> None:
    path = tmp_path / "disk.vhd"
    qemu_img("create", "-f", "vpc", "-o", "force_size=off", path, size)
    with open_disk(path) as disk:
        stored = disk.info()["geometry"]
        # QEMU rounds the size up to a geometry's, unless that is larger than the largest
        assert "/".join(map(str, geometry(disk.size))) == stored


def test_sizes_are_exact_also_for_qemu(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    create_vhd(path, 4 * MIB + 512)
    assert "(4194816 bytes)" in qemu_img("info", path)
    with open_disk(path) as disk:
        assert disk.size == 4 * MIB + 512
        put(disk, 4 * MIB, b"e" * 512)
    assert as_qemu_reads(path, "vpc")[4 * MIB :] == b"e" * 512


def test_a_block_appears_when_it_is_written_and_goes_when_it_is_unmapped(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhd", "dynamic") as disk:
        assert disk.allocated(0, 4 * MIB) == (False, 4 * MIB)
        put(disk, MIB, b"x" * BLOCK)
        put(disk, MIB + BLOCK, b"y" * 4096)
        assert disk.allocated(0, 4 * MIB) == (False, MIB)
        held, length = disk.allocated(MIB, 3 * MIB)
        assert held and BLOCK + 4096 <= length <= 2 * BLOCK
        assert disk.info()["allocated_blocks"] == 2
        disk.unmap(MIB, BLOCK)
        assert get(disk, MIB, BLOCK + 4096) == bytes(BLOCK) + b"y" * 4096
        assert disk.info()["allocated_blocks"] == 1


def test_space_that_was_given_up_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    with make(path, "dynamic") as disk:
        for turn in range(50):
            put(disk, (turn % 8) * BLOCK, b"x" * BLOCK)
            disk.unmap((turn % 8) * BLOCK, BLOCK)
            disk.flush()
    assert path.stat().st_size < 4 * BLOCK


def test_a_place_is_not_used_again_before_the_table_without_it_is_durable(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhd", "dynamic") as disk:
        put(disk, 0, b"x" * BLOCK)
        disk.flush()
        before = disk.blocks.data[0]  # type: ignore[attr-defined]
        disk.unmap(0, BLOCK)
        put(disk, BLOCK, b"y" * BLOCK)
        assert disk.blocks.data[1] != before  # type: ignore[attr-defined]


def test_data_lies_on_pages_of_the_host(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhd", "dynamic") as disk:
        put(disk, 0, b"x" * MIB)
        assert all(place % 4096 == 0 for place in disk.blocks.data)  # type: ignore[attr-defined]


def test_what_is_in_memory_is_done_at_once(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhd", "differencing") as disk:
        page = [memoryview(bytearray(4096))]
        assert not disk.try_write(0, page)  # a block would have to be added
        put(disk, 0, b"x" * 4096)
        assert disk.try_write(4096, [memoryview(b"y" * 4096)])
        assert disk.try_read(0, [memoryview(back := bytearray(8192))])
        assert back == b"x" * 4096 + b"y" * 4096
        assert not disk.try_read(BLOCK - 4096, [memoryview(bytearray(8192))])  # two blocks
        assert get(disk, MIB, 4096) == sparse_bytes(MIB)[:4096]
        assert disk.try_read(MIB, page)
        assert page[0] == sparse_bytes(MIB)[:4096]


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_growing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.vhd"
    with make(path, kind, 4 * MIB + 512) as disk:
        before = work(disk, 1, 50, BLOCK)
        disk.resize(40 * MIB)  # a table that no longer fits where it is
        put(disk, 40 * MIB - 512, b"e" * 512)
        assert get(disk, 0, 5 * MIB) == before + bytes(MIB - 512)
    with open_disk(path) as disk:
        assert disk.size == 40 * MIB
        assert get(disk, 0, 5 * MIB) == before + bytes(MIB - 512)
        disk.resize(41 * MIB)
        put(disk, 41 * MIB - 512, b"f" * 512)
    there = as_qemu_reads(path, "vpc")
    assert there[: 5 * MIB] == before + bytes(MIB - 512)
    assert (there[40 * MIB - 512 : 40 * MIB], there[-512:]) == (b"e" * 512, b"f" * 512)


def test_shrinking(tmp_path: Path) -> None:
    with make(tmp_path / "fixed.vhd", "fixed") as disk:
        put(disk, 0, b"x" * MIB)
        disk.resize(MIB)
        assert everything(disk) == b"x" * MIB
    with open_disk(tmp_path / "fixed.vhd") as disk:
        assert everything(disk) == b"x" * MIB
    with make(tmp_path / "dynamic.vhd", "dynamic") as disk, pytest.raises(ConfigError, match="cannot shrink"):
        disk.resize(MIB)


def test_ranges_outside_are_the_callers_mistake(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhd", "dynamic") as disk:
        for call in (disk.read, disk.write, disk.try_read, disk.try_write):
            with pytest.raises(ValueError, match="not in a disk of"):
                call(disk.size - 512, [memoryview(bytearray(1024))])
        for cut in (disk.unmap, disk.write_zeros, disk.allocated):
            with pytest.raises(ValueError, match="not in a disk of"):
                cut(disk.size, 512)


def test_a_disk_opened_read_only_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    make(path, "dynamic").close()
    before = path.read_bytes()
    with open_disk(path, read_only=True) as disk:
        for change in (disk.unmap, disk.write_zeros):
            with pytest.raises(DiskError, match="read-only"):
                change(0, 512)
        with pytest.raises(DiskError, match="read-only"):
            put(disk, 0, bytes(512))
        disk.flush()
    assert path.read_bytes() == before


def test_impossible_wishes(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    for size in (0, 1000, 3000 << 30):
        with pytest.raises(ConfigError, match="512 bytes, at most 2040G"):
            create_vhd(path, size)
    with pytest.raises(ConfigError, match="a power of two from 64K"):
        create_vhd(path, MIB, block_size=3 * MIB)
    assert not path.exists()
    path.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="exists already"):
        create_vhd(path, MIB)
    assert path.read_bytes() == b"precious"


def test_a_host_that_is_full_loses_nothing_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.vhd"
    with make(path, "dynamic") as disk:
        put(disk, 0, b"x" * BLOCK)
        real, source = os.pwritev, random.Random(1)

        def full(*arguments: object) -> int:
            if source.random() < 0.5:
                raise OSError(28, "No space left on device")
            return real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "pwritev", full)
        failures = 0
        for number in range(1, 40):
            try:
                put(disk, number * BLOCK, b"y" * BLOCK)
                disk.flush()
            except DiskError as error:
                failures += 1
                assert "No space left" in str(error)
        monkeypatch.undo()
        assert failures
        put(disk, 40 * BLOCK, b"z" * BLOCK)
    with open_disk(path) as disk:
        assert get(disk, 0, BLOCK) + get(disk, 40 * BLOCK, BLOCK) == b"x" * BLOCK + b"z" * BLOCK
        for number in range(1, 40):
            assert get(disk, number * BLOCK, BLOCK) in (b"y" * BLOCK, bytes(BLOCK))


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_several_threads_at_once(tmp_path: Path, kind: str) -> None:
    path, failures = tmp_path / "disk.vhd", list[BaseException]()
    with make(path, kind) as disk:

        def work_on(number: int) -> None:
            try:
                for turn in range(60):
                    # neighbours share blocks, and every other round their places are given up
                    offset = turn % 8 * 8 * BLOCK + number * 4096
                    put(disk, offset, bytes([turn % 255 + 1]) * 4096)
                    assert get(disk, offset, 4096) == bytes([turn % 255 + 1]) * 4096
                    if number == 0:
                        disk.unmap((turn % 8 * 8 + 4) * BLOCK, 2 * BLOCK)
                        put(disk, (turn % 8 * 8 + 5) * BLOCK, b"z" * 512)
                        disk.flush()
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work_on, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    with open_disk(path) as disk:
        for turn in range(52, 60):
            for number in range(4):
                offset = turn % 8 * 8 * BLOCK + number * 4096
                assert get(disk, offset, 4096) == bytes([turn % 255 + 1]) * 4096

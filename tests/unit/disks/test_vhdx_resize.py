"""VHDX disks grow and shrink."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringminus.disks.vhdx import compact_vhdx, create_vhdx, open_vhdx
from ringminus.disks.vhdx.wire import BAT_ENTRY_SIZE, BlockState
from ringminus.errors import ConfigError
from support.disks import MIB, everything, get, put, qemu_img
from support.vhdx import BLOCK, change, image_of, make

KINDS = ["fixed", "dynamic", "differencing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [8 * MIB + 512, 9 * MIB, 20 * MIB + 4096])
def test_what_is_new_is_zeros(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, kind, size=8 * MIB - 1024) as disk:
        put(disk, 7 * MIB, b"x" * (MIB - 1024))
        before = everything(disk)
        disk.resize(size)
        assert disk.size == size
        assert everything(disk) == before + bytes(size - len(before))
        if kind == "fixed":
            states = {disk.store.look_up(block)[0] for block in range(disk.store.geometry.blocks)}
            assert states == {BlockState.FULLY_PRESENT}
        put(disk, size - 512, b"e" * 512)
    with open_vhdx(path) as disk:
        assert everything(disk) == before + bytes(size - len(before) - 512) + b"e" * 512
    if kind != "differencing":
        assert f"({size} bytes)" in qemu_img("info", path)
        assert "No errors" in qemu_img("check", path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_cut_off_does_not_come_back(tmp_path: Path, kind: str) -> None:
    with make(tmp_path / "disk.vhdx", kind) as disk:
        put(disk, 0, b"x" * 8 * MIB)
        disk.write_zeros(2 * MIB + 512, 6 * MIB - 512)
        place = disk.store.look_up(2)[1]
        disk.resize(2 * MIB + 512)
        # what others may have left behind the end of the disk
        if place:
            disk.store.file.write_at(place + 512, b"o" * (MIB - 512))
        disk.resize(8 * MIB)
        assert everything(disk) == b"x" * (2 * MIB + 512) + bytes(6 * MIB - 512)


def test_a_parent_does_not_show_behind_a_child_that_was_smaller(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx", "differencing") as disk:
        disk.write_zeros(BLOCK + 1024, disk.size - BLOCK - 1024)
        disk.resize(BLOCK + 1024)
        disk.resize(6 * MIB)
        assert everything(disk) == b"p" * (BLOCK + 1024) + bytes(5 * MIB - 1024)


@pytest.mark.parametrize("kind", KINDS)
def test_shrinking_gives_back_space(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, kind) as disk:
        put(disk, 0, b"x" * 8 * MIB)
        disk.flush()
        full = path.stat().st_size
        disk.write_zeros(3 * MIB, 5 * MIB)
        disk.resize(3 * MIB)
        assert everything(disk) == b"x" * 3 * MIB
    assert path.stat().st_size <= full - 5 * MIB
    with open_vhdx(path) as disk:
        assert everything(disk) == b"x" * 3 * MIB
        put(disk, 0, b"y" * 3 * MIB)
    if kind != "differencing":
        assert "No errors" in qemu_img("check", path)


def test_data_are_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        put(disk, 5 * MIB + 512, b"x" * 512)
        for size in (4 * MIB, 5 * MIB, 5 * MIB + 512):
            with pytest.raises(ConfigError, match=r"disk\.vhdx has data behind"):
                disk.resize(size)
        assert disk.size == 8 * MIB
        disk.resize(5 * MIB + 1024)
        assert get(disk, 5 * MIB + 512, 512) == b"x" * 512


def test_a_parents_data_are_not_cut_off_either(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx", "differencing") as disk:
        with pytest.raises(ConfigError, match="has data behind"):
            disk.resize(6 * MIB)
        disk.resize(7 * MIB)


@pytest.mark.parametrize(
    ("size", "message"), [(0, "at most"), (-512, "at most"), (1000, "whole number"), (1 << 50, "64 TiB")]
)
def test_impossible_sizes(tmp_path: Path, size: int, message: str) -> None:
    with make(tmp_path / "disk.vhdx") as disk, pytest.raises(ConfigError, match=message):
        disk.resize(size)


def test_a_bat_without_room_moves(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    create_vhdx(path, 100 << 30, block_size=BLOCK)
    with open_vhdx(path) as disk:
        put(disk, 0, b"x" * 2 * BLOCK)
        put(disk, 99 << 30, b"y" * 512)
        old = disk.store.bat.region
        disk.resize(1 << 40)
        put(disk, (1 << 40) - BLOCK, b"z" * BLOCK)
        new = disk.store.bat.region
        assert new.length >= (1 << 20) * BAT_ENTRY_SIZE > old.length
        assert disk.store.look_up((1 << 20) - 1)[1] == old.offset  # where the BAT was
        assert get(disk, 0, 2 * BLOCK) == b"x" * 2 * BLOCK
    with open_vhdx(path) as disk:
        assert disk.store.bat.region == new
        assert get(disk, 0, 2 * BLOCK) == b"x" * 2 * BLOCK
        assert get(disk, 99 << 30, 512) == b"y" * 512
        assert get(disk, (1 << 40) - BLOCK, BLOCK) == b"z" * BLOCK
    assert "No errors" in qemu_img("check", path)


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_old_entries_behind_the_end_mean_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, kind) as disk:
        put(disk, 0, b"x" * 512)
        expected = everything(disk)
    region = image_of(path).regions.bat
    garbage = (4 * MIB | BlockState.FULLY_PRESENT).to_bytes(8, "little")
    change(path, region.offset + 8 * 8, garbage * 8000)
    compact_vhdx(path)
    with open_vhdx(path) as disk:
        disk.resize(64 * MIB)
        assert everything(disk) == expected + bytes(56 * MIB)
    with open_vhdx(path) as disk:
        assert everything(disk) == expected + bytes(56 * MIB)


def test_a_growth_for_which_there_is_no_space_leaves_the_disk_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "fixed") as disk:
        put(disk, 0, b"x" * 8 * MIB)
        take, places = disk.store.take, iter(range(3))

        def take_three(length: int) -> int:
            if next(places, None) is None:
                raise ConfigError("no space")
            return take(length)

        monkeypatch.setattr(disk.store, "take", take_three)
        with pytest.raises(ConfigError, match="no space"):
            disk.resize(20 * MIB)
        monkeypatch.undo()
        assert disk.size == 8 * MIB
        assert everything(disk) == b"x" * 8 * MIB
        disk.resize(9 * MIB)
    with open_vhdx(path) as disk:
        assert everything(disk) == b"x" * 8 * MIB + bytes(MIB)
    assert "No errors" in qemu_img("check", path)

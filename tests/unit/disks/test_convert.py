"""Copying disks: all that is not zeros, through chains, over different sectors; and what a disk's end is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringminus.disks.care import resize_disk, smallest_size
from ringminus.disks.convert import copy, end_of_data, pieces_with_data, stored
from ringminus.disks.create import create_disk
from ringminus.disks.open import open_disk
from ringminus.disks.raw import create_raw
from ringminus.errors import ConfigError
from support.disks import KIB, MIB, everything, put, sparse_bytes

FORMATS = ["raw", "vhd", "vhdx", "qcow2"]


@pytest.mark.parametrize("old", FORMATS)
@pytest.mark.parametrize("new", FORMATS)
def test_every_format_into_every_other(tmp_path: Path, old: str, new: str) -> None:
    data, seen = sparse_bytes(8 * MIB), list[float]()
    (tmp_path / "data.raw").write_bytes(data)
    for name, format in ((f"old.{old}", old), (f"new.{new}", new)):
        create_disk(tmp_path / name, format, 8 * MIB)
    with open_disk(tmp_path / "data.raw") as source, open_disk(tmp_path / f"old.{old}") as target:
        copy(source, target)
    with open_disk(tmp_path / f"old.{old}") as source, open_disk(tmp_path / f"new.{new}") as target:
        written = copy(source, target, seen.append)
        assert everything(target) == data
    assert written < 4 * MIB
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_disk_of_other_sectors(tmp_path: Path) -> None:
    create_disk(tmp_path / "new.vhdx", "vhdx", 8 * MIB, sector_size=4096)
    create_disk(tmp_path / "old.vhd", "vhd", 8 * MIB)
    with open_disk(tmp_path / "old.vhd") as old, open_disk(tmp_path / "new.vhdx") as new:
        for offset in (512, 4096 * 3 + 1024, 8 * MIB - 512):
            put(old, offset, b"o" * 512)
        copy(old, new)
        assert everything(new) == everything(old)


@pytest.mark.parametrize("format", ["vhd", "vhdx"])
def test_what_a_chain_stores(tmp_path: Path, format: str) -> None:
    base, child = tmp_path / f"base.{format}", tmp_path / f"child.{format}"
    create_disk(base, format, 8 * MIB)
    with open_disk(base) as disk:
        put(disk, 4 * MIB, b"b" * 2 * MIB)
    create_disk(child, format, None, parent=base)
    with open_disk(child) as disk:
        put(disk, 0, b"c" * 4 * KIB)
        assert stored(disk, 0, 8 * MIB)[0]
        assert not stored(disk, 2 * MIB, MIB)[0]
        assert stored(disk, 4 * MIB, 4 * MIB)[0]
        create_raw(tmp_path / "flat.raw", 8 * MIB)
        with open_disk(tmp_path / "flat.raw") as flat:
            copy(disk, flat)
            assert everything(flat) == everything(disk)
            assert flat.info()["used"] <= 2 * MIB + 128 * KIB


def test_pieces_with_data() -> None:
    piece = 64 * KIB
    data = bytearray(6 * piece + 1000)
    assert list(pieces_with_data(memoryview(data))) == []
    data[piece] = data[3 * piece - 1] = data[-1] = 1
    assert list(pieces_with_data(memoryview(data))) == [(piece, 2 * piece), (6 * piece, 1000)]


def test_the_end_of_data(tmp_path: Path) -> None:
    create_raw(tmp_path / "disk.raw", 8 * MIB)
    with open_disk(tmp_path / "disk.raw") as disk:
        assert (end_of_data(disk), smallest_size(disk)) == (0, MIB)
        put(disk, 0, b"\0" * 700 + b"x" + b"\0" * 323)
        put(disk, 5 * MIB, bytes(MIB))
        assert (end_of_data(disk), end_of_data(disk, MIB), smallest_size(disk)) == (701, 0, MIB)
        put(disk, 3 * MIB, b"x" * 512)
        assert (end_of_data(disk), smallest_size(disk)) == (3 * MIB + 512, 4 * MIB)


@pytest.mark.parametrize("format", ["raw", "vhdx"])
def test_shrinking_keeps_data_unless_it_is_meant_to_be_cut(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"disk.{format}"
    create_disk(path, format, 8 * MIB)
    with open_disk(path) as disk:
        put(disk, 5 * MIB, b"x" * 512)
        with pytest.raises(ConfigError, match=r"disk.* has data up to byte 5243392, .* 6M would keep it"):
            resize_disk(disk, 5 * MIB)
        resize_disk(disk, 6 * MIB)
        assert everything(disk)[5 * MIB :] == b"x" * 512 + bytes(MIB - 512)
        resize_disk(disk, 2 * MIB, cut=True)
        resize_disk(disk, 8 * MIB)
        assert everything(disk) == bytes(8 * MIB)

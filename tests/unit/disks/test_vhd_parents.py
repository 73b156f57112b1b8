"""Differencing VHDs find their parents, and refuse those that are not theirs any more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.open import open_disk
from ringminus.disks.vhd import check_vhd, create_vhd
from ringminus.disks.vhd.footer import find_footer, read_header
from ringminus.disks.vhd.parents import candidates, names
from ringminus.disks.vhd.wire import Platform
from ringminus.errors import ConfigError
from support.disks import KIB, MIB, everything, get, put

SIZE = 2 * MIB


def base(path: Path, fill: bytes = b"p") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    create_vhd(path, SIZE, block_size=64 * KIB)
    with open_disk(path) as disk:
        put(disk, 0, fill * MIB)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def child(path: Path, parent: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    create_vhd(path, parent=parent, block_size=64 * KIB)
    return path


def test_a_chain_shows_the_newest_bytes(tmp_path: Path) -> None:
    one = base(tmp_path / "one.vhd")
    two = child(tmp_path / "two.vhd", one)
    with open_disk(two) as disk:
        put(disk, 4096, b"2" * 4096)
    three = child(tmp_path / "three.vhd", two)
    with open_disk(three) as disk:
        put(disk, 8192, b"3" * 512)
        assert get(disk, 0, 16384) == b"p" * 4096 + b"2" * 4096 + b"3" * 512 + b"p" * (8192 - 512)
        assert disk.allocated(0, SIZE) == (False, 8192)
        assert disk.allocated(8192, SIZE - 8192) == (True, 512)
    with open_disk(one) as disk:
        assert everything(disk) == b"p" * MIB + bytes(MIB)


def test_a_parent_is_in_use_as_long_as_its_child(tmp_path: Path) -> None:
    one = base(tmp_path / "one.vhd")
    two, other = child(tmp_path / "two.vhd", one), child(tmp_path / "other.vhd", one)
    with open_disk(two), open_disk(other), pytest.raises(DiskError, match=r"one\.vhd is in use"):
        open_disk(one)
    open_disk(one).close()


def test_both_kinds_of_names_are_written(tmp_path: Path) -> None:
    path = child(tmp_path / "snapshots" / "two.vhd", base(tmp_path / "disks" / "one.vhd"))
    file = HostFile(path, read_only=True)
    header = read_header(file, find_footer(file).footer)
    assert names(file, header) == [
        (Platform.WINDOWS_RELATIVE, r"..\disks\one.vhd"),
        (Platform.WINDOWS_ABSOLUTE, str(tmp_path / "disks" / "one.vhd")),
    ]
    assert header.parent_name.decode("utf-16-be").rstrip("\0") == "one.vhd"
    assert candidates(file, header)[0] == tmp_path / "disks" / "one.vhd"
    file.close()


def test_a_chain_may_move_as_a_whole(tmp_path: Path) -> None:
    child(tmp_path / "here" / "two.vhd", base(tmp_path / "here" / "one.vhd"))
    (tmp_path / "here").rename(tmp_path / "there")
    with open_disk(tmp_path / "there" / "two.vhd") as disk:
        assert get(disk, 0, 512) == b"p" * 512


def test_a_child_alone_may_move(tmp_path: Path) -> None:
    two = child(tmp_path / "two.vhd", base(tmp_path / "one.vhd"))
    (tmp_path / "elsewhere").mkdir()
    two.rename(tmp_path / "elsewhere" / "two.vhd")
    with open_disk(tmp_path / "elsewhere" / "two.vhd") as disk:
        assert get(disk, 0, 512) == b"p" * 512


def test_a_parent_is_also_looked_for_beside_the_child(tmp_path: Path) -> None:
    one = base(tmp_path / "far" / "away" / "one.vhd")
    two = child(tmp_path / "two.vhd", one)
    one.rename(tmp_path / "one.vhd")
    open_disk(two).close()
    (tmp_path / "one.vhd").unlink()
    with pytest.raises(DiskError, match=r"needs its parent disk.*far/away/one\.vhd.*/one\.vhd"):
        open_disk(two)


def test_another_disk_of_the_parents_name_is_refused(tmp_path: Path) -> None:
    two = child(tmp_path / "two.vhd", base(tmp_path / "one.vhd"))
    (tmp_path / "one.vhd").unlink()
    base(tmp_path / "one.vhd", b"q")
    with pytest.raises(CorruptDisk, match=r"one\.vhd is not the parent of .*two\.vhd"):
        open_disk(two)
    assert "is not the parent" in check_vhd(two)[0].message


def test_a_parent_that_was_written_since_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    one = base(tmp_path / "one.vhd")
    two = child(tmp_path / "two.vhd", one)
    three = child(tmp_path / "three.vhd", two)
    with open_disk(one) as disk:
        put(disk, 0, b"changed!" * 64)
    for path in (two, three):
        with pytest.raises(CorruptDisk, match=r"one\.vhd was changed after .*two\.vhd was made.*disk check"):
            open_disk(path)
    (found,) = check_vhd(two)
    assert (found.repairable, found.repaired) == (True, False)
    (found,) = check_vhd(two, repair=True)
    assert found.repaired
    assert check_vhd(two) == []
    open_disk(three).close()


def test_a_copied_parent_keeps_its_time_or_is_accepted(tmp_path: Path) -> None:
    one = base(tmp_path / "one.vhd")
    two = child(tmp_path / "two.vhd", one)
    shutil.copy2(one, tmp_path / "copy.vhd")
    (tmp_path / "copy.vhd").rename(one)
    open_disk(two).close()


def test_a_child_has_its_parents_size(tmp_path: Path) -> None:
    one = base(tmp_path / "one.vhd")
    with pytest.raises(ConfigError, match="size of its parent, 2097152 bytes"):
        create_vhd(tmp_path / "two.vhd", 4 * MIB, parent=one)
    two = child(tmp_path / "two.vhd", one)
    with open_disk(two) as disk, pytest.raises(ConfigError, match="size of its parent"):
        disk.resize(4 * MIB)
    with open_disk(one) as disk:
        disk.resize(4 * MIB)
    with pytest.raises(CorruptDisk, match=r"changed after|has 2097152 bytes"):
        open_disk(two)


def test_a_disk_that_is_its_own_ancestor(tmp_path: Path) -> None:
    two = child(tmp_path / "two.vhd", base(tmp_path / "one.vhd"))
    child(tmp_path / "other" / "one.vhd", base(tmp_path / "other" / "two.vhd")).rename(tmp_path / "one.vhd")
    with pytest.raises(CorruptDisk, match="chain of more than 256"):
        open_disk(two, read_only=True)

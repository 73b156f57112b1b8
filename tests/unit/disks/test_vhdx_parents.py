"""Differencing VHDX disks and their parents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dissect.hypervisor.disk.vhdx import VHDX

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.vhdx import compact_vhdx, create_vhdx, open_vhdx
from ringminus.disks.vhdx.locator import ParentLocator
from ringminus.disks.vhdx.wire import BlockState
from ringminus.errors import ConfigError
from support.disks import MIB, everything, get, put
from support.vhdx import BLOCK, at_once, change, make


def child_of(parent: Path, path: Path) -> Path:
    create_vhdx(path, None, kind="differencing", block_size=BLOCK, parent=parent)
    return path


def test_a_chain_reads_the_youngest_data(tmp_path: Path) -> None:
    disks = [tmp_path / f"{number}.vhdx" for number in range(5)]
    create_vhdx(disks[0], 4 * MIB, block_size=BLOCK)
    for number, path in enumerate(disks):
        if number:
            child_of(disks[number - 1], path)
        with open_vhdx(path) as disk:
            put(disk, number * 4096, bytes([number + 1]) * 4 * 4096)
    with open_vhdx(disks[-1], read_only=True) as disk:
        letters = [get(disk, page * 4096, 4096) for page in range(9)]
        assert letters == [bytes([min(page + 1, 5) if page < 8 else 0]) * 4096 for page in range(9)]
        assert at_once(disk, 0, [memoryview(bytearray(8 * 4096))])


def test_the_parent_is_not_written(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx", "differencing") as disk:
        before = (tmp_path / "parent.vhdx").read_bytes()
        put(disk, 0, b"x" * 3 * BLOCK)
        disk.unmap(BLOCK, BLOCK)
        assert disk.parent is not None
        assert disk.parent.read_only
    assert (tmp_path / "parent.vhdx").read_bytes() == before


def test_another_reader_agrees(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing") as disk:
        put(disk, 512, b"x" * 1024)
        put(disk, 2 * BLOCK, b"y" * BLOCK)
        put(disk, 7 * BLOCK + 4096, b"z" * 512)
        expected = everything(disk)
    with path.open("rb") as child, (tmp_path / "parent.vhdx").open("rb") as parent:
        theirs = VHDX(child)
        theirs.parent = VHDX(parent)
        assert theirs.read(len(expected)) == expected


def test_a_block_of_which_all_sectors_were_written_needs_no_bitmap(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing", size=2 * BLOCK + 1024) as disk:
        put(disk, 0, b"x" * (BLOCK - 512))
        assert disk.store.look_up(0)[0] == BlockState.PARTIALLY_PRESENT
        put(disk, BLOCK - 512, b"x" * 512)
        put(disk, 2 * BLOCK, b"x" * 1024)  # all that the disk has of it
        assert disk.store.look_up(0)[0] == disk.store.look_up(2)[0] == BlockState.FULLY_PRESENT


def test_a_parent_that_was_written_since_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    make(path, "differencing").close()
    with open_vhdx(tmp_path / "parent.vhdx") as parent:
        put(parent, 0, b"x" * 512)
    with pytest.raises(DiskError, match=r"parent\.vhdx is not what .*disk\.vhdx was made from"):
        open_vhdx(path)


def test_a_parent_may_be_compacted(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    make(path, "differencing").close()
    with open_vhdx(tmp_path / "parent.vhdx", read_only=True) as parent:
        before = parent.data_write_guid
    compact_vhdx(tmp_path / "parent.vhdx")
    with open_vhdx(path) as disk:
        assert disk.parent is not None
        assert disk.parent.data_write_guid == before


def test_a_missing_parent_says_where_it_was_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    make(path, "differencing").close()
    (tmp_path / "parent.vhdx").unlink()
    with pytest.raises(DiskError, match=r"looked for: .*parent\.vhdx"):
        open_vhdx(path)


def test_both_may_be_moved_together(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    create_vhdx(tmp_path / "a" / "base.vhdx", 4 * MIB)
    child_of(tmp_path / "a" / "base.vhdx", tmp_path / "a" / "b" / "child.vhdx")
    shutil.move(tmp_path / "a", tmp_path / "c")
    with open_vhdx(tmp_path / "c" / "b" / "child.vhdx") as disk:
        assert disk.parent is not None
        assert disk.parent.path.resolve() == tmp_path / "c" / "base.vhdx"


def test_the_child_alone_may_be_moved(tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    child = child_of_new(tmp_path)
    moved = tmp_path / "far" / "away" / "child.vhdx"
    shutil.move(child, moved)
    with open_vhdx(moved) as disk:
        assert disk.parent is not None
        assert disk.parent.path == tmp_path / "base.vhdx"


def child_of_new(directory: Path) -> Path:
    create_vhdx(directory / "base.vhdx", 4 * MIB)
    return child_of(directory / "base.vhdx", directory / "child.vhdx")


@pytest.mark.parametrize(
    "stored",
    [r".\base.vhdx", r"sub\..\base.vhdx", "base.vhdx", r"C:\machines\base.vhdx", r"\\?\C:\x\base.vhdx"],
)
def test_windows_names_of_parents(tmp_path: Path, stored: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.vhdx").touch()
    locator = ParentLocator({"relative_path": stored})
    found = [path for path in locator.candidates(tmp_path / "child.vhdx") if path.is_file()]
    assert found[0].resolve() == tmp_path / "base.vhdx"


def test_windows_reads_the_relative_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    create_vhdx(tmp_path / "base.vhdx", MIB)
    for child, expected in (("child.vhdx", ".\\base.vhdx"), ("sub/child.vhdx", "..\\base.vhdx")):
        child_of(tmp_path / "base.vhdx", tmp_path / child)
        theirs = VHDX(tmp_path / child)
        assert theirs.parent_locator.entries["relative_path"] == expected
        assert theirs.parent_locator.entries["parent_linkage"].startswith("{")


def test_a_disk_that_is_its_own_ancestor(tmp_path: Path) -> None:
    first = child_of_new(tmp_path)
    second = child_of(first, tmp_path / "grandchild.vhdx")
    # the two look for their parents at each other's place
    shutil.copyfile(second, tmp_path / "copy.vhdx")
    first.unlink()
    (tmp_path / "copy.vhdx").rename(first)
    data = first.read_bytes()
    at = data.index("child.vhdx".encode("utf-16-le"))
    change(first, at, "child.vhdX".encode("utf-16-le"))
    (tmp_path / "child.vhdX").symlink_to(second)
    with pytest.raises(CorruptDisk, match="at the same time its child"):
        open_vhdx(second)


def test_what_cannot_be_a_child(tmp_path: Path) -> None:
    base = tmp_path / "base.vhdx"
    create_vhdx(base, 4 * MIB)
    for arguments, message in (
        ({"size": MIB}, "cannot be smaller"),
        ({"sector_size": 4096}, "sectors of 512"),
        ({"parent": tmp_path / "none.vhdx"}, "none.vhdx"),
    ):
        with pytest.raises((ConfigError, DiskError), match=message):
            create_vhdx(
                tmp_path / "child.vhdx",
                **({"size": None, "kind": "differencing", "parent": base} | arguments),
            )
    assert not (tmp_path / "child.vhdx").exists()


def test_a_larger_child_reads_zeros_behind_its_parents_end(tmp_path: Path) -> None:
    base = tmp_path / "base.vhdx"
    create_vhdx(base, MIB + 512, block_size=BLOCK)
    with open_vhdx(base) as disk:
        put(disk, 0, b"x" * disk.size)
    create_vhdx(tmp_path / "child.vhdx", 4 * MIB, kind="differencing", parent=base)
    with open_vhdx(tmp_path / "child.vhdx") as disk:
        assert everything(disk) == b"x" * (MIB + 512) + bytes(3 * MIB - 512)
        put(disk, MIB + 1024, b"y" * 512)
        assert get(disk, MIB, 2048) == b"x" * 512 + bytes(512) + b"y" * 512 + bytes(512)

"""Checking, repairing and compacting VHDX files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringminus.disks.findings import Finding, Severity
from ringminus.disks.vhdx import check_vhdx, compact_vhdx, open_vhdx
from ringminus.disks.vhdx.wire import HEADER_OFFSETS, REGION_TABLE_OFFSETS, BlockState
from support.disks import MIB, as_qemu_reads, everything, put, qemu_img
from support.vhdx import BLOCK, abandoned, change, make, set_entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed disk with three blocks in it."""
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        put(disk, 0, b"x" * 3 * BLOCK)
    return path


def damage(findings: list[Finding]) -> list[str]:
    return [found.message for found in findings if found.severity == Severity.DAMAGE and not found.repaired]


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "differencing"])
def test_a_good_disk(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, kind) as disk:
        put(disk, 0, b"x" * BLOCK)
        put(disk, 3 * BLOCK, b"x" * 512)
    assert check_vhdx(path) == []


@pytest.mark.parametrize("offset", [*HEADER_OFFSETS, *REGION_TABLE_OFFSETS])
def test_the_copy_restores_what_it_is_the_copy_of(path: Path, offset: int) -> None:
    change(path, offset + 20, b"?")
    found = check_vhdx(path)
    assert [(one.severity, one.repairable, one.repaired) for one in found] == [(Severity.DAMAGE, True, False)]
    assert "not valid; the other one is good" in found[0].message
    assert [one.repaired for one in check_vhdx(path, repair=True)] == [True]
    assert check_vhdx(path) == []
    with open_vhdx(path) as disk:
        assert everything(disk)[: 3 * BLOCK] == b"x" * 3 * BLOCK


def test_every_bad_entry_is_told(path: Path) -> None:
    set_entry(path, 4, 1 << 40 | BlockState.FULLY_PRESENT)
    set_entry(path, 5, 4)
    set_entry(path, 6, 4 * MIB | BlockState.FULLY_PRESENT)
    told = damage(check_vhdx(path))
    assert len(told) == 3
    assert "block 5 has the unknown state 4" in told[0]
    assert "block 4 is said to be at 1099511627776" in told[1]
    assert "overlap" in told[2]
    assert len(damage(check_vhdx(path, repair=True))) == 3


def test_what_cannot_be_opened_says_why(path: Path) -> None:
    for offset in HEADER_OFFSETS:
        change(path, offset, b"HEAD")
    assert damage(check_vhdx(path)) == [f"{path}: neither header is valid"]


def test_a_log_that_was_left_is_a_note_and_repairing_replays_it(path: Path) -> None:
    with abandoned(path) as disk:
        put(disk, 3 * BLOCK, b"y" * BLOCK)
        disk.flush()
    before = path.read_bytes()
    found = check_vhdx(path)
    assert [(one.severity, one.repairable) for one in found] == [(Severity.NOTE, True)]
    assert path.read_bytes() == before
    check_vhdx(path, repair=True)
    assert check_vhdx(path) == []
    with open_vhdx(path, read_only=True) as disk:
        assert disk.info()["log_entries_replayed"] == 0
        assert everything(disk)[: 4 * BLOCK] == b"x" * 3 * BLOCK + b"y" * BLOCK


def test_space_that_holds_nothing(path: Path) -> None:
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(5 * MIB))
    found = check_vhdx(path)
    assert [(one.severity, one.repairable) for one in found] == [(Severity.LEAK, True)]
    assert "5 MiB" in found[0].message
    check_vhdx(path, repair=True)
    assert check_vhdx(path) == []
    assert path.stat().st_size == size


def test_a_lost_parent_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    make(path, "differencing").close()
    (tmp_path / "parent.vhdx").unlink()
    assert "needs its parent" in damage(check_vhdx(path))[0]


def test_compacting_keeps_what_is_there_and_makes_the_file_short(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, size=32 * MIB) as disk:
        put(disk, 0, bytes(range(1, 256)) * 131072 + b"x" * 131072)
        for block in range(0, 32, 2):
            put(disk, block * BLOCK, bytes(BLOCK))
        disk.unmap(BLOCK, BLOCK)
        before = everything(disk)
    seen = list[float]()
    freed = compact_vhdx(path, seen.append)
    assert freed == 17 * MIB
    assert (seen, seen[-1]) == (sorted(seen), 1.0)
    with open_vhdx(path) as disk:
        assert everything(disk) == before
        assert disk.store.space.free == 0
    assert check_vhdx(path) == []
    assert "No errors" in qemu_img("check", path)
    assert as_qemu_reads(path, "vhdx") == before
    assert compact_vhdx(path) == 0


def test_compacting_forgets_what_equals_the_parent(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing") as disk:
        put(disk, 0, b"p" * 3 * BLOCK)
        put(disk, 3 * BLOCK + 512, b"p" * 512)
        put(disk, 4 * BLOCK, bytes(BLOCK))  # differs from the parent
        put(disk, 5 * BLOCK, b"d" * 512)
        put(disk, 7 * BLOCK, bytes(BLOCK))  # as is the parent
        before = everything(disk)
    compact_vhdx(path)
    with open_vhdx(path) as disk:
        assert everything(disk) == before
        states = [disk.store.look_up(block)[0] for block in range(8)]
    absent, zero, part = BlockState.NOT_PRESENT, BlockState.ZERO, BlockState.PARTIALLY_PRESENT
    assert states == [absent, absent, absent, absent, zero, part, absent, absent]


def test_compacting_makes_holes_where_blocks_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    from ringminus.disks.vhdx import create_vhdx

    create_vhdx(path, 64 * MIB)
    with open_vhdx(path) as disk:
        put(disk, 0, bytes(31 * MIB) + b"x" * MIB)
    compact_vhdx(path)
    assert path.stat().st_blocks * 512 < 4 * MIB
    with open_vhdx(path) as disk:
        assert everything(disk) == bytes(31 * MIB) + b"x" * MIB + bytes(32 * MIB)


def test_a_fixed_disk_is_not_compacted(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    make(path, "fixed").close()
    before = path.read_bytes()
    assert compact_vhdx(path) == 0
    assert path.read_bytes() == before

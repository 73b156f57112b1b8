"""What is not needed leaves a VHDX, and its space is used again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringminus.disks.vhdx import open_vhdx
from ringminus.disks.vhdx.wire import BlockState
from support.disks import KIB, MIB, as_qemu_reads, everything, get, put
from support.vhdx import BLOCK, make

NOT_PRESENT, ZERO = BlockState.NOT_PRESENT, BlockState.ZERO
UNMAPPED, FULLY, PARTIALLY = BlockState.UNMAPPED, BlockState.FULLY_PRESENT, BlockState.PARTIALLY_PRESENT


def test_whole_blocks_leave_the_file(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        put(disk, 0, b"x" * 4 * BLOCK)
        disk.flush()
        full = path.stat().st_blocks
        disk.unmap(BLOCK, 2 * BLOCK)
        states = [disk.store.look_up(block)[0] for block in range(5)]
        assert states == [FULLY, UNMAPPED, UNMAPPED, FULLY, NOT_PRESENT]
        assert everything(disk)[: 4 * BLOCK] == b"x" * BLOCK + bytes(2 * BLOCK) + b"x" * BLOCK
        disk.flush()
        assert path.stat().st_blocks * 512 <= full * 512 - 2 * BLOCK
    assert as_qemu_reads(path, "vhdx")[: 4 * BLOCK] == b"x" * BLOCK + bytes(2 * BLOCK) + b"x" * BLOCK


def test_freed_space_is_used_again_after_a_flush_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        put(disk, 0, b"x" * 2 * BLOCK)
        places = {disk.store.look_up(block)[1] for block in (0, 1)}
        disk.unmap(0, 2 * BLOCK)
        put(disk, 2 * BLOCK, b"y" * 512)
        assert disk.store.look_up(2)[1] not in places
        disk.flush()
        put(disk, 3 * BLOCK, b"z" * 512)
        assert disk.store.look_up(3)[1] in places
        assert get(disk, 3 * BLOCK, BLOCK) == b"z" * 512 + bytes(BLOCK - 512)


def test_a_part_of_a_block_becomes_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        put(disk, 0, b"x" * BLOCK)
        disk.flush()
        before = path.stat().st_blocks
        disk.unmap(256 * KIB, 512 * KIB)
        assert path.stat().st_blocks == before - 1024
        assert disk.allocated(0, BLOCK) == (True, 256 * KIB)
        assert disk.allocated(256 * KIB, BLOCK) == (False, 512 * KIB)
        assert get(disk, 0, BLOCK) == b"x" * 256 * KIB + bytes(512 * KIB) + b"x" * 256 * KIB
        assert disk.store.look_up(0)[0] == FULLY


def test_the_last_block_is_whole_when_the_disk_ends_in_it(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx", size=BLOCK + 512) as disk:
        put(disk, BLOCK, b"x" * 512)
        disk.unmap(BLOCK, 512)
        assert disk.store.look_up(1) == (UNMAPPED, 0)


def test_a_fixed_disk_keeps_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "fixed") as disk:
        put(disk, 0, b"x" * 2 * BLOCK)
        disk.flush()
        before = path.stat().st_blocks
        assert not disk.can_unmap
        disk.unmap(0, BLOCK)
        assert get(disk, 0, BLOCK) == b"x" * BLOCK
        disk.write_zeros(0, 2 * BLOCK)
        assert get(disk, 0, 2 * BLOCK) == bytes(2 * BLOCK)
        assert path.stat().st_blocks == before
        assert disk.store.look_up(0)[0] == FULLY


def test_zeros_take_no_space(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx") as disk:
        put(disk, 0, b"x" * BLOCK)
        disk.write_zeros(0, 3 * BLOCK)
        assert [disk.store.look_up(block) for block in range(3)] == [
            (ZERO, 0),
            (NOT_PRESENT, 0),
            (NOT_PRESENT, 0),
        ]
        disk.write_zeros(512, 512)
        assert disk.store.look_up(0) == (ZERO, 0)


def test_zeros_hide_the_parent(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing") as disk:
        disk.write_zeros(0, BLOCK)
        disk.write_zeros(BLOCK + 512, 1024)
        put(disk, 2 * BLOCK, b"x" * 512)
        disk.write_zeros(2 * BLOCK + 512, 512)
        assert [disk.store.look_up(block)[0] for block in range(3)] == [ZERO, PARTIALLY, PARTIALLY]
        expected = bytes(BLOCK) + b"p" * 512 + bytes(1024) + b"p" * (BLOCK - 1536)
        expected += b"x" * 512 + bytes(512) + b"p" * (BLOCK - 1024)
        assert get(disk, 0, 3 * BLOCK) == expected
    with open_vhdx(path) as disk:
        assert get(disk, 0, 3 * BLOCK) == expected


def test_a_block_that_was_forgotten_does_not_show_the_parent_again(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing") as disk:
        put(disk, 0, b"x" * 512)
        disk.unmap(0, 2 * BLOCK)
        assert get(disk, 0, 2 * BLOCK) == bytes(2 * BLOCK)
        put(disk, 512, b"y" * 512)
        assert get(disk, 0, BLOCK) == bytes(512) + b"y" * 512 + bytes(BLOCK - 1024)
    with open_vhdx(path) as disk:
        assert get(disk, 0, BLOCK) == bytes(512) + b"y" * 512 + bytes(BLOCK - 1024)


def test_a_block_back_at_its_parents_shows_nothing_of_its_past(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing") as disk:
        put(disk, 0, b"x" * 4096)
        with disk.store.lock:
            disk.store.drop(0, NOT_PRESENT)
        disk.flush()
        put(disk, 8192, b"y" * 512)
        assert get(disk, 0, 16384) == b"p" * 8192 + b"y" * 512 + b"p" * 7680


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_forgetting_a_large_disk_is_committed_piece_by_piece(tmp_path: Path, kind: str) -> None:
    size = 80 << 30
    with make(tmp_path / "disk.vhdx", kind, size=8 * MIB) as disk:
        disk.resize(size)
        disk.unmap(0, size)
        assert not disk.store.journal.is_due
        assert get(disk, 0, MIB) == bytes(MIB)

"""VHDX files after a crash: they open, here and by QEMU, have what was flushed and nothing else."""

from __future__ import annotations

import copy
import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringminus.disks.findings import Severity
from ringminus.disks.vhdx import Vhdx, check_vhdx, create_vhdx, open_vhdx
from ringminus.disks.vhdx.open import open_file
from support.crashes import RecordedFile
from support.disks import (
    KILLS,
    MIB,
    SECTOR,
    History,
    everything,
    kill_while_writing,
    operations,
    put,
    qemu_img,
)

SIZE, BLOCK = 4 * MIB, MIB
CRASHES = int(os.environ.get("RINGMINUS_CRASHES", "12"))
"""At how many of the recorded changes each test crashes, once by a kill and once by a loss of power."""


def make(directory: Path, kind: str) -> Path:
    path = directory / "disk.vhdx"
    if kind == "differencing":
        parent = directory / "parent.vhdx"
        create_vhdx(parent, SIZE, block_size=BLOCK)
        with open_vhdx(parent) as disk:
            put(disk, 0, b"p" * (SIZE - BLOCK))
        create_vhdx(path, None, kind="differencing", block_size=BLOCK, parent=parent)
    else:
        create_vhdx(path, SIZE, block_size=BLOCK)
    return path


def no_damage(path: Path, kind: str) -> None:
    """That we find none and, on a copy whose log it replays itself, QEMU does not."""
    assert [found for found in check_vhdx(path) if found.severity == Severity.DAMAGE] == []
    if kind != "differencing":
        copied = path.with_name("for-qemu.vhdx")
        shutil.copyfile(path, copied)
        qemu_img("check", "-r", "all", copied)
        assert "No errors" in qemu_img("check", copied)
        with open_vhdx(copied, read_only=True) as theirs, open_vhdx(path, read_only=True) as ours:
            assert everything(theirs) == everything(ours)
        copied.unlink()


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_a_killed_process_leaves_all_that_was_flushed(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind)
    with open_vhdx(path, read_only=True) as disk:
        history = History(everything(disk))
    for seed in range(KILLS // 2):
        kill_while_writing(path, seed, BLOCK, open_vhdx, history)
        no_damage(path, kind)
        with open_vhdx(path, read_only=True) as disk:
            before_replay = everything(disk)
        with open_vhdx(path) as disk:
            assert everything(disk) == before_replay
            history.settle(before_replay)


def crash(path: Path, kind: str, file: RecordedFile, seed: int) -> Iterator[tuple[object, Vhdx]]:
    """The disk after some of the crashes that the recorded file could have had, with their marks."""
    after = path.with_name("after.vhdx")
    for mark, image in file.crashes(random.Random(seed), CRASHES):
        after.write_bytes(image)
        no_damage(after, kind)
        with open_vhdx(after) as disk:
            yield mark, disk
            # what the crash left behind in free space must not come to light in new blocks
            expected = bytearray(everything(disk))
            for offset in range(BLOCK // 2, disk.size, BLOCK):
                expected[offset : offset + SECTOR] = b"w" * SECTOR
                put(disk, offset, b"w" * SECTOR)
            assert everything(disk) == expected
        with open_vhdx(after) as disk:
            assert everything(disk) == expected


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_between_any_two_changes_leaves_all_that_was_flushed(
    tmp_path: Path, kind: str, seed: int
) -> None:
    path = make(tmp_path, kind)
    with open_vhdx(path, read_only=True) as disk:
        history = History(everything(disk))
    file = RecordedFile(path)
    work = list(itertools.islice(operations(seed, SIZE, BLOCK), 120))
    with open_file(file) as disk:
        for file.mark, operation in enumerate(work):
            operation.run(disk)
        file.mark = len(work)
    noted = 0
    for mark, disk in crash(path, kind, file, seed):
        assert isinstance(mark, int)
        for operation in work[noted:mark]:
            history.note(operation)
        noted = max(noted, mark)
        expected = copy.deepcopy(history)
        if mark < len(work) and work[mark].kind != "flush":
            expected.note(work[mark])
        expected.settle(everything(disk))

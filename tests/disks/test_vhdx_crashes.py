"""VHDX files after a crash: they open, here and by QEMU, have what was flushed and nothing else."""

from __future__ import annotations

import copy
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ringminus.disks.files import HostFile
from ringminus.disks.findings import Severity
from ringminus.disks.vhdx import Vhdx, check_vhdx, create_vhdx, open_vhdx
from ringminus.disks.vhdx.compact import compact
from ringminus.disks.vhdx.create import Kind
from ringminus.disks.vhdx.header import NO_LOG, Headers
from ringminus.disks.vhdx.open import open_file
from ringminus.disks.vhdx.replay import LogReader
from ringminus.disks.vhdx.wire import HEADER_OFFSETS
from support.crashes import RecordedFile
from support.disks import (
    KILLS,
    MIB,
    SECTOR,
    History,
    Operation,
    everything,
    get,
    kill_while_writing,
    operations,
    put,
    qemu_img,
)

SIZE, BLOCK = 4 * MIB, MIB
CRASHES = int(os.environ.get("RINGMINUS_CRASHES", "3"))
"""At how many of the recorded changes each test crashes, once by a kill and once by a loss of power."""


def make(directory: Path, kind: Kind) -> Path:
    path = directory / "disk.vhdx"
    if kind == "differencing":
        parent = directory / "parent.vhdx"
        create_vhdx(parent, SIZE, block_size=BLOCK)
        with open_vhdx(parent) as disk:
            put(disk, 0, b"p" * (SIZE - BLOCK))
        create_vhdx(path, None, kind="differencing", block_size=BLOCK, parent=parent)
    else:
        create_vhdx(path, SIZE, kind=kind, block_size=BLOCK)
    return path


def names_an_empty_log(path: Path) -> bool:
    """Whether the header names a log without a valid entry, which strict readers take for damage."""
    file = HostFile(path, read_only=True)
    try:
        header = Headers(file).current
        return header.log_guid != NO_LOG and not LogReader(file, header).active()
    finally:
        file.close()


def no_damage(path: Path, kind: Kind) -> None:
    """That we find none and, on a copy whose log it replays itself, QEMU does not."""
    assert [found for found in check_vhdx(path) if found.severity == Severity.DAMAGE] == []
    assert not names_an_empty_log(path)
    if kind != "differencing":
        copied = path.with_name("for-qemu.vhdx")
        shutil.copyfile(path, copied)
        qemu_img("check", "-r", "all", copied)
        assert "No errors" in qemu_img("check", copied)
        with open_vhdx(copied, read_only=True) as theirs, open_vhdx(path, read_only=True) as ours:
            assert everything(theirs) == everything(ours)
        copied.unlink()


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_a_killed_process_leaves_all_that_was_flushed(tmp_path: Path, kind: Kind) -> None:
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


def crash(
    path: Path, kind: Kind, file: RecordedFile, seed: int, candidates: Sequence[int] | None = None
) -> Iterator[tuple[object, Vhdx]]:
    """The disk after some of the crashes that the recorded file could have had, with their marks."""
    after = path.with_name("after.vhdx")
    for mark, image in file.crashes(random.Random(seed), CRASHES, candidates):
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


def settle_all(
    path: Path,
    kind: Kind,
    file: RecordedFile,
    work: Sequence[Operation],
    history: History,
    seed: int,
    candidates: Sequence[int] | None = None,
) -> None:
    """Crash while `work` was being done, whose numbers are the file's marks."""
    noted = 0
    for mark, disk in crash(path, kind, file, seed, candidates):
        assert isinstance(mark, int)
        for operation in work[noted:mark]:
            history.note(operation)
        noted = max(noted, mark)
        expected = copy.deepcopy(history)
        if mark < len(work) and work[mark].kind != "flush":
            expected.note(work[mark])
        expected.settle(everything(disk))


def record(path: Path, work: Sequence[Operation]) -> tuple[RecordedFile, History]:
    """Do the work on the disk and close it; the file tells what was done."""
    with open_vhdx(path, read_only=True) as disk:
        history = History(everything(disk))
    file = RecordedFile(path)
    with open_file(file) as disk:
        for file.mark, operation in enumerate(work):
            operation.run(disk)
        file.mark = len(work)
    return file, history


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_between_any_two_changes_leaves_all_that_was_flushed(
    tmp_path: Path, kind: Kind, seed: int
) -> None:
    path = make(tmp_path, kind)
    work = list(itertools.islice(operations(seed, SIZE, BLOCK), 120))
    file, history = record(path, work)
    settle_all(path, kind, file, work, history, seed)


def test_a_crash_while_the_log_changes_halves(tmp_path: Path) -> None:
    path = make(tmp_path, "dynamic")
    work = list[Operation]()
    for number in range(140):
        block = number % 4 * BLOCK
        work += [Operation("unmap", block, BLOCK), Operation("write", block, SECTOR, number + 1)]
        work.append(Operation("flush"))
    file, history = record(path, work)
    headers = [n for n, change in enumerate(file.changes) if change.offset in HEADER_OFFSETS]
    # the first two begin the session and the log, the last two end them
    candidates = [near for n in headers[2:-2] for near in range(n - 4, n + 5)]
    assert len(headers) >= 6
    settle_all(path, "dynamic", file, work, history, 1, candidates)


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "differencing"])
def test_a_crash_while_the_size_changes(tmp_path: Path, kind: Kind) -> None:
    path = make(tmp_path, kind)
    sizes = [SIZE, SIZE + 3 * BLOCK + 512, BLOCK + 512, SIZE + 2 * BLOCK]
    with open_vhdx(path) as disk:
        put(disk, 0, b"d" * BLOCK)
        disk.write_zeros(BLOCK, SIZE - BLOCK)  # where the parent has data
    file = RecordedFile(path)
    with open_file(file) as disk:
        for file.mark, size in enumerate(sizes):
            disk.resize(size)
        file.mark = len(sizes)
    for mark, disk in crash(path, kind, file, 1):
        assert isinstance(mark, int)
        assert disk.size in sizes[max(0, mark - 1) : mark + 1]
        assert everything(disk) == b"d" * BLOCK + bytes(disk.size - BLOCK)


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_a_crash_while_the_file_is_compacted_changes_nothing(tmp_path: Path, kind: Kind) -> None:
    path = make(tmp_path, kind)
    with open_vhdx(path) as disk:
        disk.resize(12 * BLOCK)
        for block in range(12):
            put(disk, block * BLOCK + 512 * block, bytes([block + 1]) * BLOCK if block < 11 else b"e" * 512)
        disk.write_zeros(0, BLOCK)
        put(disk, 4 * BLOCK, bytes(BLOCK))
        disk.unmap(6 * BLOCK, 2 * BLOCK)
        before = everything(disk)
    file = RecordedFile(path)
    with open_file(file) as disk:
        compact(disk, lambda fraction: None)
    assert path.stat().st_size <= len(file.before) - 2 * BLOCK
    for _, disk in crash(path, kind, file, 2):
        assert everything(disk) == before


class BusyFile(RecordedFile):
    """A file that has more written to its disk by the time a flush has ended."""

    __slots__ = ("meanwhile",)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.meanwhile: Callable[[], None] | None = None

    def flush(self) -> None:
        super().flush()
        if self.meanwhile is not None:
            work, self.meanwhile = self.meanwhile, None
            work()


def test_what_is_written_during_a_flush_does_not_count_as_flushed(tmp_path: Path) -> None:
    path = make(tmp_path, "differencing")
    file = BusyFile(path)
    with open_file(file) as disk:
        put(disk, 0, b"x" * SECTOR)
        disk.flush()
        # only now there is a difference between what is durable and what is known
        put(disk, SECTOR, b"x" * SECTOR)
        file.meanwhile = lambda: put(disk, 8192, b"n" * SECTOR)
        file.mark = 1
        disk.flush()
        file.mark = 2
    # the log may become durable before its flush, and then without those data
    logged = [
        n for n, one in enumerate(file.changes) if one.mark == 1 and one.offset and one.offset < 2 * MIB
    ]
    after = path.with_name("after.vhdx")
    for seed in range(60):
        for _, image in file.crashes(random.Random(seed), 1, logged[:1]):
            after.write_bytes(image)
            with open_vhdx(after, read_only=True) as disk:
                assert get(disk, 8192, SECTOR) in (b"p" * SECTOR, b"n" * SECTOR)
                assert get(disk, 8192 + SECTOR, SECTOR) == b"p" * SECTOR


def test_a_crash_between_two_entries_of_one_commit(tmp_path: Path) -> None:
    """No block may be partially present before its bitmap, though their entries are in different pages."""
    parent, path = tmp_path / "parent.vhdx", tmp_path / "disk.vhdx"
    create_vhdx(parent, 80 << 30)
    create_vhdx(path, None, kind="differencing", block_size=BLOCK, parent=parent)
    file = RecordedFile(path)
    with open_file(file) as disk:
        disk.store.begin()
        for block in range(0, disk.store.geometry.blocks, 512):
            with disk.store.lock:
                disk.store.allocate(block)
        file.mark = 1
        disk.flush()
        file.mark = 2
    in_log = [n for n, one in enumerate(file.changes) if one.mark == 1 and one.offset == MIB + MIB // 2]
    assert in_log, "all pages fitted one entry"
    after = tmp_path / "after.vhdx"
    for _, image in file.crashes(random.Random(1), 1, in_log):
        after.write_bytes(image)
        assert check_vhdx(after)[0].severity == Severity.NOTE
        open_vhdx(after).close()

"""VHD files after a crash: they open, have what was flushed, and nothing that was never written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ringminus.disks.findings import Severity
from ringminus.disks.open import open_disk
from ringminus.disks.vhd import check_vhd, compact_vhd, create_vhd, open_vhd
from ringminus.disks.vhd.dynamic import DynamicVhd
from ringminus.disks.vhd.footer import find_footer, read_header
from support.disks import (
    KIB,
    KILLS,
    MIB,
    History,
    PowerlessFile,
    PowerLoss,
    everything,
    kill_while_writing,
    operations,
    put,
    qemu_img,
)

SIZE, BLOCK = 4 * MIB, 64 * KIB


def make(directory: Path, kind: str) -> Path:
    path = directory / "disk.vhd"
    if kind == "differencing":
        create_vhd(directory / "parent.vhd", SIZE, block_size=BLOCK)
        with open_disk(directory / "parent.vhd") as parent:
            put(parent, 0, b"p" * SIZE)
        create_vhd(path, parent=directory / "parent.vhd", block_size=BLOCK)
    else:
        create_vhd(path, SIZE, block_size=BLOCK)
    return path


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
def test_a_killed_process_leaves_all_that_was_flushed(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind)
    with open_disk(path, read_only=True) as disk:
        history = History(everything(disk))
    for seed in range(KILLS // 2):
        kill_while_writing(path, seed, BLOCK, open_vhd, history)
        assert [found for found in check_vhd(path) if found.severity == Severity.DAMAGE] == []
        qemu_img("info", path)
        with open_disk(path) as disk:
            history.settle(everything(disk))


@pytest.mark.parametrize("kind", ["dynamic", "differencing"])
@pytest.mark.parametrize("seed", range(15))
def test_a_host_without_power_leaves_all_that_was_flushed(tmp_path: Path, kind: str, seed: int) -> None:
    path, source = make(tmp_path, kind), random.Random(seed)
    with open_disk(path, read_only=True) as disk:
        history = History(everything(disk))
    # at any moment, or during the nth flush, where order matters most
    at_flush = source.randrange(1, 10) if seed % 2 else 0
    file = PowerlessFile(path, 0 if at_flush else source.randrange(1, 300), source)
    found = find_footer(file)
    parent = open_vhd(tmp_path / "parent.vhd", read_only=True) if kind == "differencing" else None
    disk = DynamicVhd(file, found, read_header(file, found.footer), parent)
    work = operations(seed, SIZE, BLOCK)
    with pytest.raises(PowerLoss):
        while True:
            operation = next(work)
            if operation.kind != "flush":
                history.note(operation)
            else:
                at_flush -= 1
                file.calls_left = source.randrange(1, 20) if at_flush == 0 else file.calls_left
            operation.run(disk)
            if operation.kind == "flush":
                history.note(operation)
    disk.close()
    path.with_name("after.vhd").write_bytes(file.after)
    with open_disk(path.with_name("after.vhd")) as after:
        history.settle(everything(after))
        put(after, 0, b"x" * MIB)
    with open_disk(path.with_name("after.vhd")) as after:
        assert everything(after)[:MIB] == b"x" * MIB


def test_a_cut_and_a_lost_footer_are_mended_when_the_disk_is_opened(tmp_path: Path) -> None:
    path = make(tmp_path, "dynamic")
    with open_disk(path) as disk:
        put(disk, 0, b"x" * MIB)
    whole = path.read_bytes()
    path.write_bytes(whole[:-512])
    with open_disk(path, read_only=True) as disk:
        assert everything(disk)[:MIB] == b"x" * MIB
    assert path.read_bytes() == whole[:-512]
    open_disk(path).close()
    assert path.read_bytes() == whole


def test_compacting_keeps_what_is_there_and_makes_the_file_short(tmp_path: Path) -> None:
    path = make(tmp_path, "dynamic")
    with open_disk(path) as disk:
        put(disk, 0, b"x" * SIZE)
        for number in range(0, SIZE // BLOCK, 2):
            put(disk, number * BLOCK, bytes(BLOCK))
        before = everything(disk)
    seen = list[float]()
    freed = compact_vhd(path, seen.append)
    assert freed >= SIZE // 2 - BLOCK
    assert path.stat().st_size < SIZE // 2 + 2 * BLOCK + SIZE // BLOCK * 4096
    assert (seen, seen[-1]) == (sorted(seen), 1.0)
    with open_disk(path) as disk:
        assert everything(disk) == before
    assert check_vhd(path) == []
    assert compact_vhd(path) == 0


def test_compacting_forgets_what_equals_the_parent(tmp_path: Path) -> None:
    path = make(tmp_path, "differencing")
    with open_disk(path) as disk:
        put(disk, MIB, b"p" * MIB)
        put(disk, 3 * MIB, b"d" * BLOCK)
        put(disk, MIB, bytes(BLOCK))  # zeros that differ from the parent
        before = everything(disk)
    compact_vhd(path)
    with open_disk(path) as disk:
        assert everything(disk) == before
        assert disk.info()["allocated_blocks"] == 2

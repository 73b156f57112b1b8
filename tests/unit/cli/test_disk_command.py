"""`ringminus disk`: what it prints, its exit statuses, and what is left when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import pytest

from ringminus.cli.main import main
from ringminus.disks.open import open_disk
from ringminus.disks.raw import create_raw
from support.command import Run, command
from support.disks import MIB, as_qemu_reads, by_qemu, everything, put, qemu_img, sparse_bytes


class Command(Protocol):
    """`ringminus disk` in this process."""

    def __call__(self, *arguments: str | Path) -> Run: ...


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["ringminus", "disk", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Run(code if isinstance(code, int) else 0, said.out, said.err)

    return run


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("disk.vhdx", (), "20 GiB, dynamic vhdx"),
        ("disk.vhd", (), "20 GiB, dynamic vhd"),
        ("disk.raw", (), "20 GiB, file raw"),
        ("disk", ("--format", "vhdx"), "20 GiB, dynamic vhdx"),
    ],
)
def test_create(disk: Command, tmp_path: Path, name: str, options: tuple[str, ...], said: str) -> None:
    path = tmp_path / name
    run = disk("create", path, "20G", *options)
    assert (run.status, run.output, run.errors) == (0, f"{path}: {said}\n", "")
    assert path.stat().st_blocks * 512 < 4 * MIB
    with open_disk(path, format=name.partition(".")[2] or "vhdx") as opened:
        assert opened.size == 20 << 30


def test_create_with_all_that_a_vhdx_has(disk: Command, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    options = ("--fixed", "--sector-size", "4096", "--block-size", "1M", "--json")
    run = disk("create", path, "8M", *options)
    facts = json.loads(run.output)
    assert (facts["kind"], facts["sector_size"], facts["block_size"], facts["size"]) == (
        "fixed",
        4096,
        MIB,
        8 * MIB,
    )
    assert facts["used"] >= 8 * MIB


@pytest.mark.parametrize("format", ["vhd", "vhdx"])
def test_a_chain_is_created_shown_and_merged(disk: Command, tmp_path: Path, format: str) -> None:
    base, child = tmp_path / f"base.{format}", tmp_path / f"child.{format}"
    assert disk("create", base, "8M").status == 0
    with open_disk(base) as opened:
        put(opened, 0, b"b" * MIB)
    assert disk("create", child, "--parent", base).status == 0
    with open_disk(child) as opened:
        put(opened, 4096, b"c" * 4096)
        expected = everything(opened)
    assert f"parent:                 {base}" in disk("info", child).output
    chain = json.loads(disk("info", "--chain", "--json", child).output)
    assert [one["path"] for one in chain] == [str(child), str(base)]
    assert disk("check", child).status == 0
    merged = tmp_path / "merged.raw"
    assert disk("convert", child, merged).status == 0
    assert merged.read_bytes() == expected


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "disk", "1G"), "disk: which format?"),
        (("create", "disk.vhdx"), "disk.vhdx: how large? Say a size, such as 20G"),
        (("create", "disk.vhdx", "1X"), "'1X' is not a size: say for example 512M or 2G"),
        (("create", "disk.vhdx", "100T"), "a VHDX has at most"),
        (("create", "disk.vhd", "3T"), "a VHD has whole sectors of 512 bytes, at most 2040G"),
        (("create", "disk.raw", "1000"), "whole number of 512-byte sectors"),
        (("create", "disk.raw", "1M", "--parent", "x.raw"), "raw disks have no parents"),
        (("create", "disk.vhd", "1M", "--sector-size", "4096"), "does not hold its sector size: make a VHDX"),
        (("create", "disk.qcow2", "1M", "--fixed"), "fixed qcow2 disks are not made"),
        (("create", "disk.iso", "1M"), "no iso disks are made here, only raw, vhd, vhdx"),
        (("resize", "there.raw"), "say either a size, such as 40G or +10G, or --minimum"),
        (
            ("resize", "there.raw", "1M"),
            "there.raw has data up to byte 3145728, which would be lost: 3M would keep",
        ),
        (("convert", "there.raw", "there.raw"), "there.raw exists already: --force replaces it"),
        (("convert", "there.raw", "there.bin"), "there.bin: which format?"),
        (("info", "there.raw", "--format", "floppy"), "unknown format floppy: known are raw, iso, vhd, vhdx"),
        (("compact", "cd.iso"), "iso disks are not compacted in place"),
        (("bake",), "no such command 'bake' (see ringminus disk --help)"),
    ],
)
def test_wrong_requests(
    disk: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    create_raw(tmp_path / "there.raw", 4 * MIB)
    (tmp_path / "cd.iso").write_bytes(bytes(4096))
    with open_disk(tmp_path / "there.raw") as opened:
        put(opened, 0, b"x" * 3 * MIB)
    before = names(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = disk(*arguments)
    assert (run.status, run.output) == (2, "")
    assert run.errors.startswith("ringminus: error: ")
    assert reason in run.errors
    assert len(run.errors.splitlines()) == 1
    assert names(tmp_path) == before


def test_what_the_host_lacks(disk: Command, tmp_path: Path) -> None:
    run = disk("info", tmp_path / "missing.vhdx")
    assert run.status == 1
    assert run.errors == f"ringminus: error: cannot open {tmp_path}/missing.vhdx: No such file or directory\n"
    run = disk("create", tmp_path / "nowhere" / "disk.vhdx", "1G")
    assert (run.status, "No such file or directory" in run.errors) == (1, True)
    create_raw(tmp_path / "used.raw", MIB)
    with open_disk(tmp_path / "used.raw"):
        run = disk("info", tmp_path / "used.raw")
    assert (run.status, "used.raw is in use" in run.errors) == (1, True)


@pytest.mark.parametrize("target", ["new.vhdx", "new.vhd", "new.raw", "new.qcow2", "new.vdi"])
def test_convert(disk: Command, tmp_path: Path, target: str) -> None:
    data, path = sparse_bytes(16 * MIB), tmp_path / target
    source = by_qemu(tmp_path / "old.qcow2", "qcow2", data)
    run = disk("convert", source, path)
    format = path.suffix[1:]
    assert (run.status, run.output) == (0, f"{path}: 16 MiB, {format}\n")
    assert as_qemu_reads(path, "vpc" if format == "vhd" else format) == data
    if format in ("vhdx", "qcow2", "vdi"):
        qemu_img("check", path)
    assert path.stat().st_blocks * 512 < 12 * MIB
    assert names(tmp_path) == sorted([target, "old.qcow2"])


def test_convert_to_a_native_disk(disk: Command, tmp_path: Path) -> None:
    path = tmp_path / "new.vhdx"
    (tmp_path / "old.raw").write_bytes(sparse_bytes(8 * MIB))
    assert disk("convert", tmp_path / "old.raw", path, "--sector-size", "4096").status == 0
    with open_disk(path) as opened:
        assert (opened.sector_size, everything(opened)) == (4096, sparse_bytes(8 * MIB))
    # and back: what a disk's sectors are is lost in a raw file, its bytes are not
    assert disk("convert", path, tmp_path / "old.raw", "--force").status == 0
    assert (tmp_path / "old.raw").read_bytes() == sparse_bytes(8 * MIB)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    source = tmp_path / "old.raw"
    create_raw(source, 4 << 30, fixed=True)
    os.truncate(source, 4 << 30)
    with source.open("r+b") as file:
        for offset in range(0, 4 << 30, 64 * MIB):
            file.seek(offset)
            file.write(b"x" * 65536)
    child = subprocess.Popen(
        command("disk", "convert", source, tmp_path / "new.vhdx"), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob(".new.vhdx.*.part")) and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(number)
    assert child.stderr is not None
    errors = child.stderr.read()
    assert child.wait() == 130, errors
    assert errors.splitlines()[-1] == "ringminus: error: interrupted"
    assert names(tmp_path) == ["old.raw"]


def test_check_tells_damage_by_its_status(disk: Command, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    assert disk("create", path, "8M").status == 0
    run = disk("check", path)
    assert (run.status, run.output) == (0, f"{path}: nothing is wrong\n")
    os.truncate(path, path.stat().st_size - 512)
    run = disk("check", path)
    assert run.status == 3
    assert run.output.startswith("damage: the footer at the end is missing or damaged")
    assert "(--repair mends it)" in run.output
    run = disk("check", "--repair", "--json", path)
    told = json.loads(run.output)
    assert (run.status, told["damaged"]) == (0, False)
    assert told["findings"][0] == {
        "severity": "damage",
        "message": "the footer at the end is missing or damaged; the copy at the beginning is good",
        "repairable": True,
        "repaired": True,
    }
    assert disk("check", path).output == f"{path}: nothing is wrong\n"


@pytest.mark.parametrize("format", ["raw", "vhdx"])
def test_resize(disk: Command, tmp_path: Path, format: str) -> None:
    path = tmp_path / f"disk.{format}"
    assert disk("create", path, "8M").status == 0
    with open_disk(path) as opened:
        put(opened, 2 * MIB, b"x" * 512)
    run = disk("resize", path, "+24M")
    assert (run.status, run.output) == (0, f"{path}: 8 MiB before, 32 MiB now\n")
    run = disk("resize", path, "--minimum")
    assert run.output == f"{path}: 32 MiB before, 3 MiB now\n"
    assert disk("resize", path, "2M").status == 2
    run = disk("resize", path, "2M", "--cut")
    assert run.output == f"{path}: 3 MiB before, 2 MiB now\n"
    with open_disk(path) as opened:
        assert everything(opened) == bytes(2 * MIB)


@pytest.mark.parametrize("format", ["raw", "vhd", "vhdx"])
def test_compact(disk: Command, tmp_path: Path, format: str) -> None:
    path = tmp_path / f"disk.{format}"
    options = ("--block-size", "1M") if format != "raw" else ()
    assert disk("create", path, "24M", *options).status == 0
    data = b"x" * 16 * MIB
    with open_disk(path) as opened:
        put(opened, 0, data)
        put(opened, 0, bytes(8 * MIB))
    before = path.stat().st_blocks * 512
    run = disk("compact", path)
    assert run.status == 0
    assert run.output.startswith(f"{path}: took ")
    assert path.stat().st_blocks * 512 <= before - 7 * MIB
    with open_disk(path) as opened:
        assert everything(opened) == bytes(8 * MIB) + data[8 * MIB :] + bytes(8 * MIB)


def test_what_qemu_checks_is_told(disk: Command, tmp_path: Path) -> None:
    path = by_qemu(tmp_path / "disk.qcow2", "qcow2", sparse_bytes(4 * MIB))
    assert disk("check", path).output == f"{path}: nothing is wrong\n"
    with path.open("r+b") as file:
        file.seek(0x20000)  # the first block of reference counts
        file.write(bytes(64))
    run = disk("check", path)
    assert (run.status, "errors in its tables" in run.output) == (3, True)
    assert disk("check", "--repair", path).status == 0
    assert disk("check", path).status == 0

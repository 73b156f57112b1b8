"""Which format a disk has: name and contents must agree, because a guest decides the contents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringminus.disks.disk import DiskError
from ringminus.disks.files import written_beside
from ringminus.disks.open import open_disk, probe
from ringminus.errors import ConfigError

HEADERS = {
    "vhdx": b"vhdxfile",
    "qcow2": b"QFI\xfb\0\0\0\x03",
    "vmdk": b"KDMV",
    "vdi": b"<<< Oracle VM VirtualBox Disk Image >>>".ljust(64, b"\0") + b"\x7f\x10\xda\xbe",
}


def file(path: Path, start: bytes, end: bytes = b"") -> Path:
    path.write_bytes(start.ljust(4096, b"\0") + end)
    return path


@pytest.mark.parametrize("name", HEADERS)
def test_contents_tell_where_the_name_does_not(tmp_path: Path, name: str) -> None:
    assert probe(file(tmp_path / "disk", HEADERS[name])) == name
    assert probe(file(tmp_path / f"disk.{name.upper()}", HEADERS[name])) == name


@pytest.mark.parametrize("name", ["disk.raw", "disk.img", "cd.iso"])
def test_a_guest_cannot_turn_its_raw_disk_into_another_format(tmp_path: Path, name: str) -> None:
    path = file(tmp_path / name, HEADERS["qcow2"])
    with pytest.raises(ConfigError, match="looks like qcow2: name the format"):
        open_disk(path)
    open_disk(path, format="raw").close()


def test_a_guest_cannot_turn_its_fixed_vhd_into_another_format(tmp_path: Path) -> None:
    footer = b"conectix".ljust(512, b"\0")
    assert probe(file(tmp_path / "disk.vhd", HEADERS["qcow2"], footer)) == "vhd"
    assert probe(file(tmp_path / "disk", HEADERS["qcow2"], footer)) == "vhd"


def test_a_file_of_no_known_kind_is_not_guessed_to_be_raw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot tell the format"):
        open_disk(file(tmp_path / "disk", b"hello"))
    with pytest.raises(ConfigError, match="unknown format floppy"):
        open_disk(file(tmp_path / "disk", b"hello"), format="floppy")


def test_what_is_neither_file_nor_block_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.raw")
    with pytest.raises(ConfigError, match="neither a file nor a block device"):
        open_disk(tmp_path / "fifo.raw", read_only=True)
    with pytest.raises(ConfigError, match="is a directory"):
        open_disk(tmp_path, read_only=True)
    with pytest.raises(DiskError, match="No such file"):
        open_disk(tmp_path / "missing.raw")


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made.raw"
    with pytest.raises(KeyboardInterrupt), written_beside(path) as beside:
        beside.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with written_beside(path) as beside:
        beside.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = file(tmp_path / "kept.raw", b"old")
    with pytest.raises(ConfigError, match="exists already"), written_beside(path):
        pytest.fail("it must not begin")
    path.unlink()
    with pytest.raises(ConfigError, match="exists already"), written_beside(path) as beside:
        beside.write_bytes(b"new")
        file(path, b"came meanwhile")
    assert path.read_bytes().startswith(b"came meanwhile")
    with written_beside(path, overwrite=True) as beside:
        beside.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]

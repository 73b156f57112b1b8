"""The archives that the kernel unpacks: checked with the system's own cpio, and byte by byte."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ringminus.errors import ConfigError
from ringminus.guest.cpio import CpioWriter, clean_path


def archive() -> bytes:
    writer = CpioWriter()
    writer.file("etc/deep/file", b"content", 0o640)
    writer.symlink("bin/sh", "busybox")
    writer.character_device("dev/console", 5, 1)
    writer.directory("etc")
    return writer.finish()


def entries(data: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Mode, contents and device of each path, read as the kernel reads them."""
    found: dict[str, tuple[int, bytes, tuple[int, int]]] = {}
    position = 0
    while True:
        assert data[position : position + 6] == b"070701"
        fields = [int(data[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        name_at = position + 110
        name = data[name_at : name_at + fields[11] - 1].decode()
        start = (name_at + fields[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[start : start + fields[6]], (fields[9], fields[10]))
        position = (start + fields[6] + 3) & ~3


def test_entries_carry_mode_contents_and_device() -> None:
    found = entries(archive())
    assert found["etc/deep/file"] == (0o100640, b"content", (0, 0))
    assert found["bin/sh"] == (0o120777, b"busybox", (0, 0))
    assert found["dev/console"] == (0o020600, b"", (5, 1))


def test_directories_come_before_what_is_in_them_and_once() -> None:
    names = list(entries(archive()))
    assert names == ["etc", "etc/deep", "etc/deep/file", "bin", "bin/sh", "dev", "dev/console"]


def test_equal_contents_give_equal_archives_of_whole_blocks() -> None:
    assert archive() == archive()
    assert len(archive()) % 512 == 0


@pytest.mark.skipif(shutil.which("cpio") is None, reason="needs cpio")
def test_cpio_reads_it() -> None:
    listing = subprocess.run(["cpio", "-itv"], input=archive(), capture_output=True, check=True)
    lines = listing.stdout.decode().splitlines()
    assert any(line.startswith("crw-------") and "5,   1" in line for line in lines)
    assert any(line.endswith("bin/sh -> busybox") for line in lines)


@pytest.mark.parametrize("path", ["/a/b", "a/b", "/a//b/", "./a/b"])
def test_paths_are_cleaned(path: str) -> None:
    assert clean_path(path) == "a/b"


@pytest.mark.parametrize("path", ["", "/", "../a", "/a/../../b", "a\0b"])
def test_paths_that_lead_nowhere_or_outside_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="is not a path in the guest"):
        CpioWriter().file(path, b"")


def test_two_entries_of_one_name_are_refused() -> None:
    writer = CpioWriter()
    writer.file("init", b"")
    with pytest.raises(ConfigError, match="/init is in the guest already"):
        writer.file("/init", b"")
    with pytest.raises(ConfigError, match="/init is a file in the guest"):
        writer.file("/init/below", b"")

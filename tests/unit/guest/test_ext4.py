"""An ext4 image from a tar archive, looked at with e2fsprogs."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.guest.ext4 import LABEL, make_ext4, unpack
from ringminus.memory import MIB

SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
pytestmark = pytest.mark.skipif(shutil.which("debugfs", path=SBIN) is None, reason="needs e2fsprogs")

CAPABILITY = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)


class Archive:
    """A tar archive in the making, as mmdebstrap gives one."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.add("./", kind=tarfile.DIRTYPE, mode=0o755)

    def add(
        self,
        name: str,
        data: bytes = b"",
        *,
        kind: bytes = tarfile.REGTYPE,
        mode: int = 0o644,
        owner: tuple[int, int] = (0, 0),
        link: str = "",
        xattrs: dict[str, str] | None = None,
    ) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.linkname, member.size = kind, mode, link, len(data)
        (member.uid, member.gid), member.mtime = owner, 1_600_000_000
        member.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
        self.tar.addfile(member, io.BytesIO(data))

    def stream(self) -> io.BytesIO:
        self.tar.close()
        self.file.seek(0)
        return self.file


def make(archive: Archive, directory: Path, size: int = 64 * MIB) -> Path:
    (directory / "tree").mkdir()
    (directory / "work").mkdir()
    contents = unpack(archive.stream(), directory / "tree")
    make_ext4(directory / "tree", contents, directory / "image", size, directory / "work")
    return directory / "image"


def debugfs(image: Path, request: str) -> str:
    command = ["debugfs", "-R", request, str(image)]
    environment = {**os.environ, "PATH": SBIN}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


def test_files_keep_contents_owner_mode_and_time(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("./etc", kind=tarfile.DIRTYPE, mode=0o2775, owner=(0, 50))
    archive.add("./etc/shadow", b"root:*\n", mode=0o640, owner=(0, 42))
    archive.add("./etc/su", b"x" * 5000, mode=0o4755)
    archive.add("./etc/secret", b"nobody reads it", mode=0o000, owner=(70000, 65534))
    image = make(archive, tmp_path)
    assert debugfs(image, "cat /etc/shadow") == "root:*\n"
    assert debugfs(image, "cat /etc/secret") == "nobody reads it"
    listing = [line.split() for line in debugfs(image, "ls -l /etc").splitlines() if line.strip()]
    modes = {line[-1]: (line[1], line[3], line[4]) for line in listing}
    assert modes["shadow"] == ("100640", "0", "42")
    assert modes["su"] == ("104755", "0", "0")
    assert modes["secret"] == ("100000", "70000", "65534")
    assert modes["."] == ("42775", "0", "50")
    stat = debugfs(image, "stat /etc/shadow")
    assert re.search(r"mtime: 0x5f5e1000", stat)


def test_links_of_both_kinds(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("./bin", kind=tarfile.SYMTYPE, link="usr/bin")
    archive.add("./perl", b"#!")
    archive.add("./perl5", kind=tarfile.LNKTYPE, link="./perl")
    image = make(archive, tmp_path)
    assert 'Fast link dest: "usr/bin"' in debugfs(image, "stat /bin")
    assert "Links: 2" in debugfs(image, "stat /perl5")


def test_devices_are_left_out(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("./dev", kind=tarfile.DIRTYPE, mode=0o755)
    archive.add("./dev/null", kind=tarfile.CHRTYPE, mode=0o666)
    assert "null" not in debugfs(make(archive, tmp_path), "ls /dev")


def test_extended_attributes(tmp_path: Path) -> None:
    archive = Archive()
    value = CAPABILITY.decode("utf-8", "surrogateescape")
    archive.add("./ping", b"#!", mode=0o755, xattrs={"security.capability": value})
    image = make(archive, tmp_path)
    assert "security.capability" in debugfs(image, "ea_list /ping")
    shown = debugfs(image, "ea_get -x /ping security.capability")
    assert CAPABILITY.hex(" ") in shown.replace("\n", " ")


@pytest.mark.parametrize("name", ["a b", 'a"b', "a\\x2db", "a'b", "é", "$HOME", "-x", "#c"])
def test_names_that_a_command_language_could_misread(tmp_path: Path, name: str) -> None:
    archive = Archive()
    archive.add(f"./{name}", b"it", owner=(7, 8))
    (tmp_path / "out").mkdir()
    image = make(archive, tmp_path)
    debugfs(image, f"rdump / {tmp_path / 'out'}")
    assert (tmp_path / "out" / name).read_bytes() == b"it"
    line = next(line for line in debugfs(image, "ls -l /").splitlines() if "100644" in line)
    assert line.split()[3:5] == ["7", "8"]


def test_a_name_with_a_line_break_is_refused(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("./a\nquit", b"")
    with pytest.raises(HostError, match="line break"):
        make(archive, tmp_path)


@pytest.mark.parametrize("name", ["../out", "./link/out"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    archive = Archive()
    archive.add("./link", kind=tarfile.SYMTYPE, link=str(tmp_path))
    archive.add(name, b"")
    with pytest.raises(HostError, match="leads elsewhere"):
        make(archive, tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_image_is_sparse_and_has_a_name(tmp_path: Path) -> None:
    image = make(Archive(), tmp_path, 1024 * MIB)
    status = image.stat()
    assert status.st_size == 1024 * MIB
    assert status.st_blocks * 512 < 64 * MIB
    assert f"Filesystem volume name:   {LABEL}" in debugfs(image, "show_super_stats -h")


def test_a_size_that_is_too_small(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("./large", bytes(20 * MIB))
    with pytest.raises(ConfigError, match=r"32 MiB are too few for this system: at least 5\d MiB"):
        make(archive, tmp_path, 32 * MIB)


def test_an_archive_that_is_cut_short(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("./large", bytes(MIB))
    data = archive.stream().getvalue()
    with pytest.raises(tarfile.ReadError):
        unpack(io.BytesIO(data[: MIB // 2]), tmp_path)

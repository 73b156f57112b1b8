"""Building a root with the real apt and e2fsprogs, and an mmdebstrap that only pretends."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ringminus.cli.guest import guest
from ringminus.disks.open import open_disk
from ringminus.errors import ConfigError, HostError
from ringminus.guest.rootfs import DEFAULT_SIZE, RootImage, RootOptions, build_with_root
from ringminus.memory import GIB, MIB
from support.debian_archive import CODENAME, archive_configuration, debian_archive, pretend
from support.guest_packages import VERSION

SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
pytestmark = pytest.mark.skipif(
    any(shutil.which(name, path=SBIN) is None for name in ("apt-get", "dpkg-deb", "debugfs")),
    reason="needs apt and e2fsprogs",
)
OPTIONS = RootOptions(size=128 * MIB, suite=CODENAME)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return debian_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(autouse=True)
def programs(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pretender of mmdebstrap is."""
    monkeypatch.setenv("APT_CONFIG", str(archive_configuration(tmp_path / "apt", archive)))
    monkeypatch.setenv("RINGMINUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    pretend(tmp_path / "bin")
    return tmp_path / "bin"


def build(directory: Path, name: str = "root.vhdx", refresh: bool = False, **changes: object) -> RootImage:
    options = RootOptions(**{"size": OPTIONS.size, "suite": CODENAME, **changes})  # type: ignore[arg-type]
    _, root = build_with_root(directory, directory / name, options=options, refresh=refresh)
    return root


def read(path: Path, offset: int, length: int) -> bytes:
    data = bytearray(length)
    with open_disk(path, read_only=True) as disk:
        disk.read(offset, [memoryview(data)])
    return bytes(data)


def write(path: Path) -> None:
    """What a guest does."""
    with open_disk(path) as disk:
        disk.write(100 * MIB, [memoryview(b"kept" * 128)])


def test_a_root_is_a_disk_with_an_ext4_file_system(tmp_path: Path) -> None:
    root = build(tmp_path / "guest")
    with open_disk(root.path, read_only=True) as disk:
        assert (disk.format, disk.size) == ("vhdx", 128 * MIB)
    assert read(root.path, 1024, 512)[56:58] == b"\x53\xef"
    assert (root.name, root.kernel_version, root.packages) == ("Made-up 1", VERSION, ("a_1", "b_2"))
    assert not root.cached
    assert 0 < root.file_size < 64 * MIB
    names = ["guest.json", "initrd.img", "root.vhdx", "root.vhdx.json", "vmlinuz"]
    assert sorted(path.name for path in root.path.parent.iterdir()) == names


def test_a_plain_image_by_its_name(tmp_path: Path) -> None:
    root = build(tmp_path / "guest", "root.img")
    assert root.path.stat().st_size == 128 * MIB
    assert root.path.read_bytes()[1080:1082] == b"\x53\xef"


def test_the_kernels_modules_and_our_files_are_in_it(tmp_path: Path, programs: Path) -> None:
    root = build(tmp_path / "guest", "root.img")
    data = root.path.read_bytes()
    assert b"# Lists the devices that the VMBus offers" in data
    assert b"unwanted.ko" in data
    assert f'chroot "$1" depmod {VERSION}' in (programs / "asked").read_text()
    assert "Suites: wonder\n" in (programs / "sources").read_text()
    assert "http://proxy.example:3128/" in (programs / "settings").read_text()


def test_a_second_build_finds_it_there(tmp_path: Path, programs: Path) -> None:
    first = build(tmp_path / "guest")
    (programs / "mmdebstrap").unlink()
    second = build(tmp_path / "guest")
    assert second.cached
    assert (second.packages, second.file_size) == (first.packages, first.file_size)


def test_what_a_guest_has_written_stays(tmp_path: Path) -> None:
    root = build(tmp_path / "guest")
    write(root.path)
    assert build(tmp_path / "guest").cached
    with pytest.raises(ConfigError, match=r"a guest has written to it since: --refresh .* another file"):
        build(tmp_path / "guest", install=("more",))
    assert read(root.path, 100 * MIB, 4) == b"kept"


def test_refresh_makes_it_anew(tmp_path: Path) -> None:
    root = build(tmp_path / "guest")
    write(root.path)
    assert not build(tmp_path / "guest", refresh=True).cached
    assert read(root.path, 100 * MIB, 4) == bytes(4)


def test_one_that_no_guest_has_touched_is_replaced_for_other_wishes(tmp_path: Path, programs: Path) -> None:
    build(tmp_path / "guest")
    root = build(tmp_path / "guest", install=("vim-tiny",), size=256 * MIB)
    assert (root.cached, root.size) == (False, 256 * MIB)
    assert ",vim-tiny\n" in (programs / "asked").read_text()


@pytest.mark.parametrize("refresh", [False, True])
def test_a_file_that_is_not_ours_stays(tmp_path: Path, refresh: bool) -> None:
    path = tmp_path / "guest" / "root.vhdx"
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="was not made by `guest build`: name another file, or remove it"):
        build(tmp_path / "guest", refresh=refresh)
    assert path.read_text() == "precious"


def test_a_failure_leaves_what_was_there(tmp_path: Path, programs: Path) -> None:
    root = build(tmp_path / "guest")
    write(root.path)
    pretend(programs, "say('E: no luck'); sys.exit(1)")
    with pytest.raises(HostError, match="mmdebstrap failed: no luck"):
        build(tmp_path / "guest", refresh=True)
    assert read(root.path, 100 * MIB, 4) == b"kept"
    assert build(tmp_path / "guest").cached
    assert not [path for path in root.path.parent.iterdir() if path.name.startswith(".")]


def test_the_modules_are_always_those_of_the_kernel(tmp_path: Path) -> None:
    root = build(tmp_path / "guest")
    shutil.rmtree(tmp_path / "cache")
    root.path.unlink()
    assert build(tmp_path / "guest").kernel_version == VERSION


def test_a_size_that_is_too_small_says_how_much_it_takes(tmp_path: Path, programs: Path) -> None:
    pretend(programs, "").write_text(
        (programs / "mmdebstrap").read_text().replace('"etc/fstab": b""', '"etc/fstab": bytes(80 << 20)')
    )
    with pytest.raises(ConfigError, match=r"128 MiB|too few for this system: at least \d+ MiB"):
        build(tmp_path / "guest", size=64 * MIB)
    assert not (tmp_path / "guest" / "root.vhdx").exists()


@pytest.mark.parametrize("size", [0, 63 * MIB, 64 * MIB + 512, 4096 * GIB])
def test_sizes_that_cannot_be(size: int) -> None:
    with pytest.raises(ConfigError, match="say whole MiB, from 64M to 2T"):
        RootOptions(size=size)


@pytest.mark.parametrize("name", ["", "-o", "a,b", "a b", "../x", "A"])
def test_names_that_are_no_packages(name: str) -> None:
    with pytest.raises(ConfigError, match="no name of a Debian package"):
        RootOptions(install=(name,))


def test_a_name_that_tells_no_format(tmp_path: Path) -> None:
    for name in ("root", "root.qcow2"):
        with pytest.raises(ConfigError, match=r"end its name in \.vhdx, or in \.img"):
            build(tmp_path / "guest", name)


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(guest, ["build", *map(str, arguments)])


def test_the_command_tells_how_to_boot_it(tmp_path: Path) -> None:
    target = tmp_path / "guest"
    options = (target, "--rootfs", target / "root.vhdx", "--size", "128M", "--suite", CODENAME)
    result = command(*options)
    assert result.exit_code == 0, result.output
    assert f"{target}/root.vhdx: Made-up 1, 128 MiB, " in result.output
    assert f'--disk {target}/root.vhdx --append "quiet root=/dev/sda"' in result.output
    facts = json.loads(command(*options, "--json").stdout)
    assert facts["root"]["path"] == f"{target}/root.vhdx"
    assert facts["root"]["cached"]
    assert facts["kernel_version"] == VERSION


@pytest.mark.parametrize("options", [("--size", "1G"), ("--install", "fio")])
def test_wishes_for_a_root_without_one(tmp_path: Path, options: tuple[str, str]) -> None:
    result = command(tmp_path, *options)
    assert isinstance(result.exception, ConfigError)
    assert "name its file with --rootfs" in str(result.exception)


def test_a_size_that_is_none(tmp_path: Path) -> None:
    result = command(tmp_path, "--rootfs", "root.vhdx", "--size", "big")
    assert "'big' is not a size: say for example 512M or 2G" in str(result.exception)
    assert DEFAULT_SIZE == 4 * GIB

"""Building a guest with the real apt from a repository of made-up packages, without network or root."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import lz4.block  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from ringminus.cli.guest import guest
from ringminus.errors import ConfigError, HostError
from ringminus.guest.build import build
from ringminus.machine.loader.compression import decompress
from support.guest_packages import BUSYBOX, KERNEL, VERSION, apt_configuration, deb, guest_repository

pytestmark = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="needs apt"
)
MODULES = ("hv_vmbus", "hv_netvsc", "hid", "hid_hyperv")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guest_repository(tmp_path_factory.mktemp("packages"))


@pytest.fixture(autouse=True)
def apt(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APT_CONFIG", str(apt_configuration(tmp_path, repository)))
    monkeypatch.setenv("RINGMINUS_CACHE", str(tmp_path / "cache"))


def listing(initrd: Path) -> list[str]:
    archive = bytes(decompress(initrd.read_bytes()))
    command = ["cpio", "-it", "--quiet"]
    return subprocess.run(command, input=archive, capture_output=True, check=True).stdout.decode().split()


def order(initrd: Path) -> list[str]:
    """The lines of the list of modules to load: a name, and what it needs."""
    command = ["cpio", "-i", "--quiet", "--to-stdout", "lib/modules/order"]
    archive = bytes(decompress(initrd.read_bytes()))
    found = subprocess.run(command, input=archive, capture_output=True, check=True).stdout
    return found.decode().splitlines()


def test_a_guest_is_built_though_the_lists_were_never_fetched(tmp_path: Path) -> None:
    steps: list[str] = []
    image = build(tmp_path / "guest", lambda step, fraction: steps.append(step))
    assert image.kernel.read_bytes() == KERNEL
    assert (image.kernel_version, image.modules, image.cached) == (VERSION, MODULES, False)
    assert "package lists" in steps
    assert steps[-1] == "packing the initrd"
    assert sorted(path.name for path in image.directory.iterdir()) == ["guest.json", "initrd.img", "vmlinuz"]


def test_the_initrd_has_what_init_needs(tmp_path: Path) -> None:
    image = build(tmp_path / "guest", extra={"/data/words": b"some words"})
    archive = bytes(decompress(image.initrd.read_bytes()))
    assert image.initrd.read_bytes()[:4] == b"\x02\x21\x4c\x18"
    names = listing(image.initrd)
    for name in ("init", "bin/sh", "bin/busybox", "dev/console", "proc", "lib/modules/order", "data/words"):
        assert name in names
    assert [n for n in names if n.endswith(".ko")] == [f"lib/modules/{m}.ko" for m in MODULES]
    assert [line.split()[0] for line in order(image.initrd)] == list(MODULES)
    assert set(order(image.initrd)[-1].split()) == {"hid_hyperv", "hid", "hv_vmbus"}
    assert BUSYBOX in archive
    assert b"some words" in archive


def test_a_second_build_finds_everything_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(tmp_path / "guest")
    monkeypatch.setenv("PATH", "/nowhere")  # no apt can be run
    second = build(tmp_path / "guest")
    assert second.cached
    assert (second.modules, second.packages) == (first.modules, first.packages)
    with pytest.raises(HostError, match=r"has no apt-get: .* ringminus run --kernel PATH"):
        build(tmp_path / "guest", extra={"new": b""})


@pytest.mark.parametrize("name", ["vmlinuz", "initrd.img", "guest.json"])
def test_a_damaged_build_is_made_again(tmp_path: Path, name: str) -> None:
    image = build(tmp_path / "guest")
    whole = (image.directory / name).read_bytes()
    (image.directory / name).write_bytes(whole[:-1] + b"?")
    assert not build(tmp_path / "guest").cached
    assert (image.directory / name).read_bytes() == whole


def test_refresh_takes_a_newer_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = guest_repository(tmp_path)
    monkeypatch.setenv("APT_CONFIG", str(apt_configuration(tmp_path, repository)))
    build(tmp_path / "guest")
    deb(repository, "busybox-static", {"usr/bin/busybox": b"newer"}, version="2")
    assert build(tmp_path / "guest").cached
    image = build(tmp_path / "guest", refresh=True)
    assert "busybox-static_2_amd64.deb" in image.packages
    assert b"newer" in decompress(image.initrd.read_bytes())


def test_a_download_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    build(tmp_path / "guest")
    package = tmp_path / "cache" / "packages" / "busybox-static_1_amd64.deb"
    package.write_bytes(b"?" * package.stat().st_size)
    assert build(tmp_path / "other").modules == MODULES


def test_a_package_that_apt_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"apt knows no package linux-image-typo: .*--kernel-package"):
        build(tmp_path / "guest", kernel_package="linux-image-typo")


def test_a_package_without_a_kernel(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"the packages have no kernel: .*--kernel-package"):
        build(tmp_path / "guest", kernel_package="no-kernel")
    assert list((tmp_path / "guest").iterdir()) == []


def test_a_suite_that_apt_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt knows no suite nowhere"):
        build(tmp_path / "guest", suite="nowhere")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"cannot build a guest in .*Not a directory"):
        build(tmp_path / "file" / "guest")


def test_the_command_tells_how_to_go_on(tmp_path: Path) -> None:
    addition = tmp_path / "hello.sh"
    addition.write_text("echo hello")
    target = str(tmp_path / "guest")
    result = CliRunner().invoke(guest, ["build", target, "--add", f"{addition}:/hello.sh"])
    assert result.exit_code == 0, result.output
    assert f"Linux {VERSION}, 4 modules, built in" in result.output
    assert f"ringminus run --kernel {target}/vmlinuz --initrd {target}/initrd.img" in result.output
    again = CliRunner().invoke(guest, ["build", target, "--add", f"{addition}:/hello.sh", "--json"])
    facts = json.loads(again.stdout)
    assert facts["cached"]
    assert facts["kernel"] == f"{target}/vmlinuz"


@pytest.mark.parametrize("addition", ["nocolon", ":/path", "host:"])
def test_a_wrong_addition_says_how_to_write_it(tmp_path: Path, addition: str) -> None:
    result = CliRunner().invoke(guest, ["build", str(tmp_path), "--add", addition])
    assert isinstance(result.exception, ConfigError)
    assert "write HOST:GUEST" in str(result.exception)


def test_the_initrd_unpacks_block_by_block(tmp_path: Path) -> None:
    image = build(tmp_path / "guest", extra={"large": bytes(9 << 20)})
    data = image.initrd.read_bytes()
    length = int.from_bytes(data[4:8], "little")
    first = lz4.block.decompress(data[8 : 8 + length], uncompressed_size=8 << 20)
    assert len(first) == 8 << 20


def test_further_modules_bring_what_they_need(tmp_path: Path) -> None:
    plain = build(tmp_path / "plain").modules
    with pytest.raises(ConfigError, match="this kernel has no module bogus: it may be built in"):
        build(tmp_path / "guest", modules=("bogus",))
    again = build(tmp_path / "guest", modules=("hid",))
    assert again.modules == plain

"""Building a guest's root file system: Debian with systemd, on a virtual disk, for a built guest's kernel."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ringminus.disks.files import written_beside
from ringminus.disks.open import format_by_name
from ringminus.errors import ConfigError, HostError
from ringminus.guest.apt_sources import fetch_settings, sources
from ringminus.guest.bootstrap import EXCLUDED, Bootstrap, bootstrapped
from ringminus.guest.build import DEFAULT_KERNEL_PACKAGE, KERNEL_PARTS, GuestImage, build
from ringminus.guest.ext4 import Contents, make_ext4, unpack
from ringminus.guest.image_copy import image_to_vhdx
from ringminus.guest.overlay import LINKS, REMOVED, overlay_files, write_overlay
from ringminus.guest.packages import Apt, Progress
from ringminus.guest.packages import unpack as unpack_package
from ringminus.guest.programs import find_program
from ringminus.machine.loader.cache import cache_directory, write_atomically
from ringminus.memory import GIB, MIB

PACKAGES = (
    # a system that boots to a login
    *("systemd-sysv", "udev", "kmod", "mount", "e2fsprogs", "fdisk", "procps", "iproute2"),
    # Hyper-V's daemons, and what exercises its devices
    *("hyperv-daemons", "fio", "iperf3", "lsscsi", "sg3-utils"),
    # a network, and what looks into it
    *("ca-certificates", "curl", "iputils-ping", "ethtool", "tcpdump"),
)
DEFAULT_SIZE = 4 * GIB
LEAST_SIZE = 64 * MIB
LARGEST_SIZE = 2048 * GIB
_FORMAT = 1
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")


@dataclass(frozen=True, slots=True)
class RootImage:
    """A built root: `name` as the system calls itself, `size` in bytes as the guest sees it, `file_size` of
    the file on the host when it was built, `packages` all that are installed as name_version, `cached` that
    it was there already."""

    path: Path
    name: str
    size: int
    file_size: int
    kernel_version: str
    packages: tuple[str, ...]
    cached: bool


@dataclass(frozen=True, slots=True)
class RootOptions:
    """What a person can choose of a root; raises `ConfigError` for what cannot be."""

    size: int = DEFAULT_SIZE
    install: tuple[str, ...] = ()
    suite: str | None = None

    def __post_init__(self) -> None:
        if not LEAST_SIZE <= self.size <= LARGEST_SIZE or self.size % MIB:
            raise ConfigError(f"a root of {self.size} bytes: say whole MiB, from 64M to 2T")
        for name in self.install:
            if not _PACKAGE_NAME.fullmatch(name):
                raise ConfigError(f"--install {name}: that is no name of a Debian package")


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _recipe(guest: GuestImage, options: RootOptions) -> dict[str, Any]:
    """All that decides what is built, but for newer packages in the archive."""
    overlay = hashlib.sha256()
    for file in overlay_files():
        overlay.update(repr((file.path, file.mode, file.data)).encode())
    overlay.update(repr((sorted(LINKS.items()), REMOVED)).encode())
    return {
        "format": _FORMAT,
        "kernel": _kernel_packages(guest),
        "packages": [*PACKAGES, *options.install],
        "excluded": list(EXCLUDED),
        "suite": options.suite,
        "size": options.size,
        "overlay": overlay.hexdigest(),
    }


def _kernel_packages(guest: GuestImage) -> list[str]:
    return [name for name in guest.packages if KERNEL_PARTS.match(name)]


def _image(path: Path, facts: Mapping[str, Any], cached: bool) -> RootImage:
    return RootImage(
        path=path,
        name=facts["name"],
        size=facts["recipe"]["size"],
        file_size=facts["file_size"],
        kernel_version=facts["kernel_version"],
        packages=tuple(facts["packages"]),
        cached=cached,
    )


def _stamp(path: Path) -> dict[str, int]:
    """What changes when a guest writes to its disk."""
    status = path.stat()
    return {"size": status.st_size, "modified": status.st_mtime_ns}


def _built_before(path: Path, recipe: Mapping[str, Any], refresh: bool) -> RootImage | None:
    """The root that is there already, as built or as a guest has left it; None where it is to be built.

    Raises `ConfigError` if building would destroy what was not built here, or what a guest has written.
    """
    if not os.path.lexists(path):
        return None
    try:
        facts = json.loads(_facts_path(path).read_bytes())
        image = _image(path, facts, cached=True)
        same, changed = facts["recipe"] == recipe, facts["file"] != _stamp(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{path} is there, and was not made by `guest build`: name another file, or remove it"
        ) from None
    if refresh:
        return None
    if same:
        return image
    if changed:
        raise ConfigError(
            f"{path} was made by another recipe, and a guest has written to it since: "
            "--refresh makes it anew, without what was written, or name another file"
        )
    return None


def _installed(tree: Path) -> list[str]:
    """All packages in the root, from dpkg's own records."""
    text = (tree / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    pairs = re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", text, re.M | re.S)
    return sorted(f"{name}_{version}" for name, version in pairs)


def _name(tree: Path) -> str:
    text = (tree / "usr/lib/os-release").read_text(encoding="utf-8", errors="replace")
    match = re.search(r'^PRETTY_NAME="(.*)"$', text, re.M)
    return match[1] if match else "Linux"


def _install(
    work: Path, packages: Sequence[Path], options: RootOptions, guest: GuestImage, progress: Progress
) -> tuple[Path, Contents]:
    """Debian, the overlay and the kernel's modules in a directory of `work`."""
    apt = Apt(cache_directory() or guest.directory, options.suite)
    settings, overlay, kernel, tree = (work / name for name in ("apt.conf", "overlay.tar", "kernel", "tree"))
    source_list = sources(apt, options.suite, progress)
    settings.write_text(fetch_settings(apt))
    for package in packages:
        unpack_package(package, kernel)
    modules = next(iter(kernel.glob(f"**/lib/modules/{guest.kernel_version}")), None)
    if modules is None:
        raise HostError(f"the packages of the kernel {guest.kernel_version} have no modules")
    write_overlay(overlay, modules)
    tree.mkdir()
    wanted = [*PACKAGES, *options.install]
    request = Bootstrap(wanted, source_list, settings, overlay, guest.kernel_version)
    contents = Contents()
    with bootstrapped(request, progress) as archive:
        contents = unpack(archive, tree)
    return tree, contents


def _write_disk(image: Path, path: Path, progress: Progress) -> None:
    """Give the finished image its name, in the format that this tells."""
    with written_beside(path, overwrite=True) as beside:
        if format_by_name(path) == "raw":
            image.rename(beside)
        else:
            image_to_vhdx(image, beside, lambda fraction: progress(f"writing {path.name}", fraction))


def _build(
    path: Path,
    guest: GuestImage,
    kernel_files: Sequence[Path],
    recipe: Mapping[str, Any],
    options: RootOptions,
    progress: Progress,
) -> RootImage:
    with tempfile.TemporaryDirectory(prefix=".root-", dir=path.parent) as place:
        work = Path(place)
        tree, contents = _install(work, kernel_files, options, guest, progress)
        progress("ext4 file system", 0.0)
        (work / "debugfs").mkdir()
        make_ext4(tree, contents, work / "image", options.size, work / "debugfs")
        progress("ext4 file system", 1.0)
        name, installed = _name(tree), _installed(tree)
        _facts_path(path).unlink(missing_ok=True)  # what is half replaced is not to be taken for whole
        _write_disk(work / "image", path, progress)
    facts = {
        "recipe": recipe,
        "name": name,
        "kernel_version": guest.kernel_version,
        "packages": installed,
        "file_size": path.stat().st_blocks * 512,  # of a sparse one, what it takes
        "file": _stamp(path),
    }
    write_atomically(_facts_path(path), json.dumps(facts, indent=2).encode() + b"\n")
    return _image(path, facts, cached=False)


def build_with_root(
    directory: Path,
    path: Path,
    progress: Progress = lambda step, fraction: None,
    *,
    kernel_package: str = DEFAULT_KERNEL_PACKAGE,
    extra: Mapping[str, bytes] | None = None,
    modules: Sequence[str] = (),
    options: RootOptions | None = None,
    refresh: bool = False,
) -> tuple[GuestImage, RootImage]:
    """Make a guest in `directory` as `build` does, and its root file system in `path`, or find them made.

    `path` ends in .vhdx, or in .img or .raw for a plain image. It is written whole or not at all; one that a
    guest has written to is replaced only with `refresh`. Raises `ConfigError` for an unknown package or
    suite, a size that is too small, or a file that is not ours to replace; `HostError` where a program is
    missing or fails.
    """
    options = options or RootOptions()
    if format_by_name(path) not in ("vhdx", "raw"):
        raise ConfigError(f"--rootfs {path}: end its name in .vhdx, or in .img for a plain image")
    suite = options.suite

    def guest_again(refresh: bool) -> GuestImage:
        return build(
            directory,
            progress,
            kernel_package=kernel_package,
            suite=suite,
            extra=extra,
            modules=modules,
            refresh=refresh,
        )

    guest = guest_again(refresh)
    if root := _built_before(path, _recipe(guest, options), refresh):
        return guest, root
    find_program("mmdebstrap", "mmdebstrap")
    for name in ("mke2fs", "debugfs", "e2fsck"):
        find_program(name, "e2fsprogs")
    downloads = (cache_directory() or directory) / "packages"
    if not all((downloads / name).is_file() for name in _kernel_packages(guest)):
        guest = guest_again(True)  # the modules have to be those of the kernel in `directory`
    kernel_files = [downloads / name for name in _kernel_packages(guest)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        root = _build(path, guest, kernel_files, _recipe(guest, options), options, progress)
    except OSError as error:
        raise HostError(f"cannot build a root in {path}: {error.strerror or error}") from None
    return guest, root


def as_json(root: RootImage) -> dict[str, Any]:
    """Plain data for a program."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(root).items()}

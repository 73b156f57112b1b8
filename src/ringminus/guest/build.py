"""Building the demo guest: fetch packages, take a kernel, its modules and busybox, pack an initrd."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ringminus.errors import ConfigError, HostError
from ringminus.guest.init_script import INIT, MODULES, ROOT_MODULES, UDHCPC
from ringminus.guest.initramfs import compress_initramfs, make_initramfs
from ringminus.guest.modinfo import Module, load_order, module_name
from ringminus.guest.packages import OWN_KERNEL, Apt, Progress, unpack
from ringminus.machine.loader.cache import cache_directory, write_atomically

DEFAULT_KERNEL_PACKAGE = "linux-image-cloud-amd64"
BUSYBOX_PACKAGE = "busybox-static"
KERNEL_PARTS = re.compile(r"linux-(image|modules)-\d")
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A built guest. `packages` are the files it was made from, `modules` its modules in load order,
    `cached` tells that it was there already."""

    directory: Path
    kernel: Path
    initrd: Path
    kernel_version: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    cached: bool


def _recipe(
    kernel_package: str, suite: str | None, extra: Mapping[str, bytes], modules: Sequence[str]
) -> dict[str, Any]:
    """All that decides what is built, but for newer packages in the archive."""
    return {
        "format": _FORMAT,
        "kernel_package": kernel_package,
        "suite": suite,
        "extra": {path: hashlib.sha256(data).hexdigest() for path, data in sorted(extra.items())},
        "init": hashlib.sha256((INIT + UDHCPC).encode()).hexdigest(),
        "modules": [*MODULES, *ROOT_MODULES, *modules],
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _image(directory: Path, facts: Mapping[str, Any], cached: bool) -> GuestImage:
    return GuestImage(
        directory=directory,
        kernel=directory / "vmlinuz",
        initrd=directory / "initrd.img",
        kernel_version=facts["kernel_version"],
        packages=tuple(facts["packages"]),
        modules=tuple(facts["modules"]),
        cached=cached,
    )


def _built_before(directory: Path, recipe: Mapping[str, Any]) -> GuestImage | None:
    """The guest that is there already, if it was made by the same recipe and is whole."""
    try:
        facts = json.loads((directory / "guest.json").read_bytes())
        if facts["recipe"] != recipe:
            return None
        if any(_digest(directory / name) != digest for name, digest in facts["files"].items()):
            return None
        return _image(directory, facts, cached=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class _Ingredients:
    """What the packages gave."""

    kernel: bytes
    kernel_version: str
    busybox: bytes
    modules: list[Module]


def _only(tree: Path, pattern: str, what: str) -> Path:
    found = sorted(path for path in tree.glob(pattern) if path.is_file())
    if not found:
        raise HostError(
            f"the packages have no {what}: name another kernel with --kernel-package, {OWN_KERNEL}"
        )
    return found[-1]


def _take(packages: list[Path], directory: Path, progress: Progress, further: Sequence[str]) -> _Ingredients:
    """Unpack beside the result, take what is needed, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=directory) as name:
        tree = Path(name)
        for index, package in enumerate(packages):
            progress("unpacking", index / len(packages))
            unpack(package, tree)
        progress("unpacking", 1.0)
        kernel = _only(tree, "boot/vmlinuz-*", "kernel")
        busybox = _only(tree, "**/bin/busybox", "busybox")
        files = {}
        for path in tree.glob("**/lib/modules/*/kernel/**/*.ko*"):
            if module := module_name(path.name):
                files[module] = path
        progress("packing the initrd", 0.0)
        if missing := [name for name in further if name not in files]:
            raise ConfigError(f"this kernel has no module {', '.join(missing)}: it may be built in")
        modules = load_order((*MODULES, *ROOT_MODULES, *further), files)
        version = kernel.name.removeprefix("vmlinuz-")
        return _Ingredients(kernel.read_bytes(), version, busybox.read_bytes(), modules)


def _write(
    directory: Path, recipe: Mapping[str, Any], packages: list[Path], made: _Ingredients, initrd: bytes
) -> None:
    """Write the files, the description last, so that an interrupted build is not taken for a whole one."""
    write_atomically(directory / "vmlinuz", made.kernel)
    write_atomically(directory / "initrd.img", initrd)
    facts = {
        "recipe": recipe,
        "kernel_version": made.kernel_version,
        "packages": [package.name for package in packages],
        "modules": [module.name for module in made.modules],
        "files": {name: _digest(directory / name) for name in ("vmlinuz", "initrd.img")},
    }
    write_atomically(directory / "guest.json", json.dumps(facts, indent=2).encode() + b"\n")


def build(
    directory: Path,
    progress: Progress = lambda step, fraction: None,
    *,
    kernel_package: str = DEFAULT_KERNEL_PACKAGE,
    suite: str | None = None,
    extra: Mapping[str, bytes] | None = None,
    modules: Sequence[str] = (),
    refresh: bool = False,
) -> GuestImage:
    """Make `vmlinuz`, `initrd.img` and `guest.json` in `directory`, or find them made already.

    `suite` prefers packages of that distribution (such as bookworm-backports), `extra` puts files into
    the initrd (path in the guest: contents), `modules` are further kernel modules for it, and `refresh` asks
    the archive for newer packages. Raises `ConfigError` for an unknown package or module or a bad path, and
    `HostError` without apt or when it fails.
    """
    extra = extra or {}
    recipe = _recipe(kernel_package, suite, extra, modules)
    if not refresh and (image := _built_before(directory, recipe)):
        return image
    try:
        directory.mkdir(parents=True, exist_ok=True)
        apt = Apt(cache_directory() or directory, suite)
        packages = apt.get([kernel_package, BUSYBOX_PACKAGE], KERNEL_PARTS, progress)
        made = _take(packages, directory, progress, modules)
        initrd = compress_initramfs(make_initramfs(made.busybox, made.modules, extra))
        _write(directory, recipe, packages, made, initrd)
    except OSError as error:
        raise HostError(f"cannot build a guest in {directory}: {error.strerror or error}") from None
    progress("packing the initrd", 1.0)
    return _image(directory, json.loads((directory / "guest.json").read_bytes()), cached=False)


def as_json(image: GuestImage) -> dict[str, Any]:
    """Plain data for a program."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(image).items()}

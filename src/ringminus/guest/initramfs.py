"""What is in the demo guest's initrd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import lz4.block  # type: ignore[import-untyped]

from ringminus.guest.cpio import CpioWriter
from ringminus.guest.init_script import INIT, ORDER, ROOT_MODULES, ROOT_ORDER, UDHCPC, UDHCPC_PATH
from ringminus.guest.modinfo import Module
from ringminus.memory import MIB

_DIRECTORIES = ("bin", "sbin", "usr/bin", "usr/sbin", "proc", "sys", "dev", "tmp", "root", "lib/modules")

_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 * MIB


def compress_initramfs(archive: bytes) -> bytes:
    """LZ4 as the kernel reads it: of all compressions it costs a software processor least, and it halves
    what a small guest must hold twice while it unpacks."""
    out = [_LZ4_LEGACY]
    for start in range(0, len(archive), _LZ4_BLOCK):
        block = lz4.block.compress(
            archive[start : start + _LZ4_BLOCK], mode="high_compression", store_size=False
        )
        out += (len(block).to_bytes(4, "little"), block)
    return b"".join(out)


def _needed(wanted: Iterable[str], modules: Sequence[Module]) -> list[Module]:
    """Those of `modules` that are wanted or needed by one that is, in the same order."""
    needed: set[str] = set(wanted)
    for module in reversed(modules):
        if module.name in needed:
            needed.update(module.depends)
    return [module for module in modules if module.name in needed]


def _order(modules: Iterable[Module]) -> bytes:
    return "".join(f"{' '.join((module.name, *module.depends))}\n" for module in modules).encode()


def make_initramfs(busybox: bytes, modules: Sequence[Module], extra: Mapping[str, bytes]) -> bytes:
    """An uncompressed cpio archive with busybox, the modules in load order, `/init`, and the extra files,
    which are executable. Raises `ConfigError` for an extra file's bad path."""
    archive = CpioWriter()
    for path in _DIRECTORIES:
        archive.directory(path)
    archive.character_device("dev/console", 5, 1)
    archive.character_device("dev/null", 1, 3, 0o666)
    archive.file("bin/busybox", busybox, 0o755)
    archive.symlink("bin/sh", "busybox")
    archive.file("init", INIT.encode(), 0o755)
    archive.file(UDHCPC_PATH, UDHCPC.encode(), 0o755)
    for module in modules:
        archive.file(f"lib/modules/{module.name}.ko", module.data)
    archive.file(ORDER, _order(modules))
    archive.file(ROOT_ORDER, _order(_needed(ROOT_MODULES, modules)))
    for path, data in extra.items():
        archive.file(path, data, 0o755)
    return archive.finish()

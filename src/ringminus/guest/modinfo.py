"""What a kernel module says of itself, and which modules must be loaded before it.

Reading `.modinfo` here makes depmod and modules.dep, which a package does not ship, unnecessary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import ConfigError, GuestError
from ringminus.guest.wire import SectionHeader
from ringminus.machine.loader.compression import decompress, detect
from ringminus.machine.loader.wire import ELF_MAGIC, ElfHeader
from ringminus.memory import MIB

_MODULE_LIMIT = 64 * MIB
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


@dataclass(frozen=True, slots=True)
class Module:
    """A kernel module: `data` is the uncompressed file, `depends` the names it needs first."""

    name: str
    data: bytes
    depends: tuple[str, ...]


def module_name(file_name: str) -> str | None:
    """The module's name as the kernel says it (`hid-hyperv.ko.xz` is hid_hyperv); None for other files."""
    suffix = next((s for s in _SUFFIXES if file_name.endswith(s)), None)
    return file_name.removesuffix(suffix).replace("-", "_") if suffix else None


def _section(data: memoryview, header: SectionHeader) -> bytes:
    if header.offset > len(data) or header.size > len(data) - header.offset:
        raise ConfigError("is damaged: a section ends after the file")
    return bytes(data[header.offset : header.offset + header.size])


def elf_section(data: memoryview, name: bytes) -> bytes | None:
    """The contents of an ELF file's section, or None; raises `ConfigError` and `ShortBuffer`."""
    elf = ElfHeader.unpack(data)
    if elf.magic != ELF_MAGIC or elf.section_header_size != SectionHeader.SIZE:
        raise ConfigError("is not a kernel module")
    if elf.section_header_offset > len(data) or elf.section_name_index >= elf.section_header_count:
        raise ConfigError("is damaged: it has no section names")
    headers = [
        SectionHeader.unpack(data, elf.section_header_offset + index * SectionHeader.SIZE)
        for index in range(elf.section_header_count)
    ]
    names = _section(data, headers[elf.section_name_index])
    found = [header for header in headers if names[header.name :].split(b"\0", 1)[0] == name]
    return _section(data, found[-1]) if found else None


def modinfo(data: bytes) -> dict[str, list[str]]:
    """The `key=value` strings of a module's `.modinfo`; raises `ConfigError` when it is no module."""
    try:
        section = elf_section(memoryview(data), b".modinfo")
    except GuestError:
        raise ConfigError("is damaged: it is cut short") from None
    if section is None:
        raise ConfigError("is not a kernel module: it has no .modinfo")
    found: dict[str, list[str]] = {}
    for item in section.split(b"\0"):
        key, separator, value = item.decode("utf-8", "replace").partition("=")
        if separator:
            found.setdefault(key, []).append(value)
    return found


def read_module(path: Path) -> Module:
    """Read a module file of any compression; raises `ConfigError` when it is no module."""
    try:
        content = path.read_bytes()
        data = bytes(decompress(content, _MODULE_LIMIT)) if detect(content) else content
        info = modinfo(data)
    except ConfigError as error:
        raise ConfigError(f"kernel module {path.name} {error}") from None
    depends = [name.replace("-", "_") for line in info.get("depends", []) for name in line.split(",") if name]
    return Module(module_name(path.name) or path.name, data, tuple(depends))


def load_order(wanted: Iterable[str], files: Mapping[str, Path]) -> list[Module]:
    """The wanted modules that exist and all they need, each after those that it depends on.

    A name that is not in `files` is left out: another kernel has it built in, or not at all.
    """
    order: dict[str, Module] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in order or name in visiting or name not in files:
            return
        visiting.add(name)
        module = read_module(files[name])
        for needed in module.depends:
            visit(needed)
        order[name] = module

    for name in wanted:
        visit(name)
    return list(order.values())

"""Names for a guest kernel's addresses: from a vmlinux, a System.map, or what /proc/kallsyms says."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ringminus.errors import ConfigError, HostError

ELF = b"\x7fELF"
TEXT = "tTwW"
LONGEST = 1 << 20
"""How far behind a symbol an address may be to have its name: gaps have none."""
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
_FUNCTION, _OBJECT, _NO_TYPE = 2, 1, 0


class Symbols:
    """Addresses by name and names by address."""

    def __init__(self, symbols: Iterable[tuple[int, str, bool]] = ()) -> None:
        """`symbols` are (address, name, whether it is code)."""
        ordered = sorted(one for one in symbols if one[0])
        self._addresses = [address for address, _, _ in ordered]
        self._names = [name for _, name, _ in ordered]
        self._by_name: dict[str, int] = {}
        for address, name, _ in ordered:
            self._by_name.setdefault(name, address)
        code = [address for address, _, is_code in ordered if is_code]
        self.text = (code[0], code[-1]) if code else (0, 0)
        """The first and the last function."""

    def __len__(self) -> int:
        return len(self._addresses)

    def address(self, name: str) -> int | None:
        """Where a symbol is."""
        return self._by_name.get(name)

    def name(self, address: int) -> str:
        """`symbol+0x12`, "" for an address that belongs to none."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] > LONGEST:
            return ""
        offset = address - self._addresses[index]
        return self._names[index] + (f"+{offset:#x}" if offset else "")

    def starting(self, prefix: str) -> list[str]:
        """The names that begin so."""
        return sorted(name for name in self._by_name if name.startswith(prefix))


def load_symbols(path: Path) -> Symbols:
    """Read a file of symbols; raises `ConfigError` and `HostError`."""
    try:
        with path.open("rb") as file:
            if file.read(len(ELF)) == ELF:
                found = Symbols(_of_elf(file, path))
            else:
                file.seek(0)
                found = Symbols(_of_map(file))
    except OSError as error:
        raise HostError(f"--symbols {path}: {error.strerror}") from None
    if not len(found):
        what = "a vmlinux, a System.map, or what the guest's /proc/kallsyms says to root"
        raise ConfigError(f"--symbols {path}: no symbols are in it: it has to be {what}")
    return found


def _of_map(file: BinaryIO) -> Iterator[tuple[int, str, bool]]:
    """Lines of address, type and name; a module's name may follow."""
    for raw in file:
        words = raw.decode(errors="replace").split()
        if len(words) >= 3 and len(words[1]) == 1:
            try:
                yield int(words[0], 16), words[2], words[1] in TEXT
            except ValueError:
                continue


def _of_elf(file: BinaryIO, path: Path) -> Iterator[tuple[int, str, bool]]:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        if table is None or elf.elfclass != 64 or not elf.little_endian:
            return
        names = elf.get_section(table["sh_link"]).data()
        symbols = table.data()
    except (ELFError, AttributeError, KeyError) as error:
        raise ConfigError(f"--symbols {path}: it is a damaged ELF file: {error}") from None
    # one by one with the library's objects takes seconds for a kernel
    for name, info, _other, section, value, _size in _SYMBOL.iter_unpack(
        symbols[: len(symbols) // _SYMBOL.size * _SYMBOL.size]
    ):
        if section and info & 15 in (_FUNCTION, _OBJECT, _NO_TYPE):
            text = names[name : names.find(b"\0", name)].decode(errors="replace")
            if text:
                yield value, text, info & 15 == _FUNCTION

"""Names for addresses: from lists of symbols and from ELF files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.lens.breakpoints.symbols import Symbols, load_symbols

KALLSYMS = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000040 t secondary_startup
ffffffff81000040 T other_name
ffffffff82000000 D data
ffffffffc02032f0 t vmbus_isr\t[hv_vmbus]
not a line
"""


@pytest.fixture
def kallsyms(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS)
    return path


def test_a_list_of_symbols(kallsyms: Path) -> None:
    symbols = load_symbols(kallsyms)
    assert symbols.address("vmbus_isr") == 0xFFFFFFFFC02032F0
    assert symbols.name(0xFFFFFFFFC02032F5) == "vmbus_isr+0x5"
    assert symbols.name(0xFFFFFFFF81000000) == "_text"
    assert symbols.name(0xFFFFFFFF81000039) == "_text+0x39"
    assert symbols.text == (0xFFFFFFFF81000000, 0xFFFFFFFFC02032F0)
    assert symbols.starting("vm") == ["vmbus_isr"]


def test_what_is_far_behind_a_symbol_has_no_name(kallsyms: Path) -> None:
    symbols = load_symbols(kallsyms)
    assert symbols.name(0xFFFFFFFF90000000) == "" and symbols.name(0x1000) == ""
    assert Symbols().name(0x1000) == "" and Symbols().address("x") is None


def test_hidden_addresses_are_no_symbols(tmp_path: Path) -> None:
    """What /proc/kallsyms says to others than root."""
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T _text\n0000000000000000 T start\n")
    with pytest.raises(ConfigError, match="no symbols are in it: it has to be a vmlinux"):
        load_symbols(path)


@pytest.mark.skipif(shutil.which("as") is None, reason="no assembler here")
def test_an_elf_file(tmp_path: Path) -> None:
    source, made = tmp_path / "a.s", tmp_path / "a.o"
    source.write_text(
        ".globl one\n.type one,@function\n.set one,0xffffffff81000100\n"
        ".globl two\n.type two,@object\n.set two,0xffffffff81000200\n"
    )
    subprocess.run(["as", "-o", made, source], check=True)
    symbols = load_symbols(made)
    assert symbols.name(0xFFFFFFFF81000104) == "one+0x4" and symbols.address("two") == 0xFFFFFFFF81000200


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(b"\x7fELF" + bytes(20))
    with pytest.raises(ConfigError, match=r"--symbols .*vmlinux: "):
        load_symbols(path)
    with pytest.raises(HostError, match="No such file"):
        load_symbols(tmp_path / "gone")

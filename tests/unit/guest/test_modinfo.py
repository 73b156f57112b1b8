"""Reading what modules say of themselves, and the order in which they can be loaded."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ringminus.errors import ConfigError
from ringminus.guest.modinfo import load_order, modinfo, module_name, read_module
from support.guest_packages import kernel_module


def files(directory: Path, **modules: bytes) -> dict[str, Path]:
    paths = {name: directory / f"{name.replace('_', '-')}.ko" for name in modules}
    for name, data in modules.items():
        paths[name].write_bytes(data)
    return paths


def test_modinfo_gives_every_value_of_a_key() -> None:
    info = modinfo(kernel_module("a", "b"))
    assert info["depends"] == ["a,b"]
    assert info["alias"] == ["first", "second"]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".ko", bytes),
        (".ko.xz", lzma.compress),
        (".ko.gz", gzip.compress),
        (".ko.zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_modules_of_every_compression(tmp_path: Path, suffix: str, compress) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / f"hid-hyperv{suffix}"
    path.write_bytes(compress(kernel_module("hid", "hv-vmbus")))
    module = read_module(path)
    assert (module.name, module.depends) == ("hid_hyperv", ("hid", "hv_vmbus"))
    assert module.data == kernel_module("hid", "hv-vmbus")


def test_names() -> None:
    assert module_name("pci-hyperv-intf.ko.xz") == "pci_hyperv_intf"
    assert module_name("modules.builtin") is None


def test_each_module_comes_after_those_it_needs(tmp_path: Path) -> None:
    found = files(
        tmp_path,
        top=kernel_module("middle", "side"),
        middle=kernel_module("base"),
        side=kernel_module("base"),
        base=kernel_module(),
        other=kernel_module(),
    )
    assert [module.name for module in load_order(["top"], found)] == ["base", "middle", "side", "top"]
    assert [module.name for module in load_order(["side", "top"], found)] == ["base", "side", "middle", "top"]


def test_modules_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    found = files(tmp_path, top=kernel_module("built_in"))
    assert [module.name for module in load_order(["absent", "top"], found)] == ["top"]


def test_modules_that_need_each_other_do_not_hang(tmp_path: Path) -> None:
    found = files(tmp_path, a=kernel_module("b"), b=kernel_module("a"))
    assert {module.name for module in load_order(["a"], found)} == {"a", "b"}


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"text" * 100, kernel_module()[:80], gzip.compress(b"x", mtime=0)[:12]]
)
def test_what_is_no_module_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.ko"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"kernel module bad\.ko "):
        read_module(path)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8), st.integers(0, 400))
def test_a_changed_module_is_read_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(kernel_module("a"))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        modinfo(bytes(data[:length]))
    except ConfigError as error:
        assert "\n" not in str(error)

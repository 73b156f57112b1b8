"""A VHD file may hold anything: it opens or is refused with an error of ours, and so with all its uses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ringminus.disks.disk import DiskError
from ringminus.disks.open import open_disk
from ringminus.disks.vhd import check_vhd, compact_vhd, create_vhd
from ringminus.disks.vhd.footer import sealed
from ringminus.disks.vhd.wire import SECTOR, DynamicHeader, Footer
from ringminus.errors import RingminusError
from support.disks import KIB, MIB, everything, put
from support.effort import examples

SIZE, BLOCK = MIB, 64 * KIB
HEADER = Footer.SIZE
numbers = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 64),
    st.sampled_from([SECTOR, BLOCK, SIZE, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF]),
)


def whole(kind: str) -> bytes:
    """A file with something in it."""
    with tempfile.TemporaryDirectory() as name:
        path, parent = Path(name) / "disk.vhd", Path(name) / "parent.vhd"
        if kind == "differencing":
            create_vhd(parent, SIZE, block_size=BLOCK)
            create_vhd(path, parent=parent, block_size=BLOCK)
            with open_disk(path) as disk:
                put(disk, 0, b"x" * 3 * BLOCK)
            return path.read_bytes()
        create_vhd(path, SIZE, fixed=kind == "fixed", block_size=BLOCK)
        with open_disk(path) as disk:
            put(disk, 0, b"x" * 3 * BLOCK)
        return path.read_bytes()


FILES = {kind: whole(kind) for kind in ("fixed", "dynamic", "differencing")}


def survive(data: bytes) -> None:
    """Do with the file what a person would; only errors of ours may come, and no guest can break out."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "disk.vhd"
        path.write_bytes(data)
        for step in (read_all, write_all, lambda path: check_vhd(path, repair=True), compact_vhd):
            try:
                step(path)
            except RingminusError as error:
                assert str(error)
        # whatever the tables said, nothing was written into the distance
        assert path.stat().st_size < len(data) + 64 * MIB


def read_all(path: Path) -> None:
    with open_disk(path, format="vhd", read_only=True) as disk:
        if disk.size <= 16 * MIB:
            everything(disk)


def write_all(path: Path) -> None:
    with open_disk(path, format="vhd") as disk:
        span = min(disk.size, 4 * BLOCK)
        put(disk, 0, b"y" * span)
        disk.unmap(0, span)
        disk.write_zeros(disk.size - SECTOR, SECTOR)
        disk.flush()
    with open_disk(path, format="vhd", read_only=True) as again:
        assert again.size


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_any_field_of_the_footer(kind: str, data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    footer = Footer.unpack(file, len(file) - SECTOR)
    field = data.draw(st.sampled_from(Footer.FIELDS))
    change(footer, field.name, field.size, data.draw)
    file[-SECTOR:] = sealed(footer).pack()
    survive(bytes(file))


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(["dynamic", "differencing"]), st.data())
def test_any_field_of_the_header(kind: str, data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    header = DynamicHeader.unpack(file, HEADER)
    field = data.draw(st.sampled_from(DynamicHeader.FIELDS[:11]))
    change(header, field.name, field.size, data.draw)
    file[HEADER : HEADER + DynamicHeader.SIZE] = sealed(header).pack()
    survive(bytes(file))


Draw = Callable[[st.SearchStrategy[int]], int]


def change(structure: Footer | DynamicHeader, name: str, size: int, draw: Draw) -> None:
    """Give a field another value."""
    value = draw(numbers) & (1 << size * 8) - 1
    old = getattr(structure, name)
    setattr(structure, name, value.to_bytes(size, "little") if isinstance(old, bytes) else value)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.integers(0, SIZE // BLOCK - 1), numbers), min_size=1, max_size=5))
def test_any_entry_of_the_table(entries: list[tuple[int, int]]) -> None:
    file = bytearray(FILES["dynamic"])
    table = DynamicHeader.unpack(file, HEADER).table_offset
    for number, value in entries:
        file[table + number * 4 : table + number * 4 + 4] = (value & 0xFFFFFFFF).to_bytes(4, "big")
    survive(bytes(file))


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_bytes_that_change_anywhere_and_files_that_are_cut(kind: str, data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.one_of(st.integers(0, 4 * KIB), st.integers(len(file) - SECTOR, len(file) - 1)))
        file[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    survive(bytes(file[: data.draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))]))


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=600), st.sampled_from(["", ".vhd", ".img", ".raw"]))
def test_any_bytes_under_any_name(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"disk{suffix}"
        path.write_bytes(data)
        try:
            open_disk(path, read_only=True).close()
        except RingminusError as error:
            assert str(path) in str(error) or isinstance(error, DiskError)

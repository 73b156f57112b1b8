"""A VHDX file may hold anything: it opens, or is refused with an error of ours, and nothing else happens."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringminus.disks.disk import DiskError
from ringminus.disks.vhdx import check_vhdx, compact_vhdx, create_vhdx, open_vhdx
from ringminus.disks.vhdx.checksums import seal
from ringminus.disks.vhdx.header import sealed
from ringminus.disks.vhdx.log import encode_entry
from ringminus.disks.vhdx.wire import (
    HEADER_OFFSETS,
    LOG_SECTOR_SIZE,
    REGION_TABLE_OFFSETS,
    REGION_TABLE_SIZE,
    DataDescriptor,
    Header,
    LogEntryHeader,
    MetadataTableEntry,
    MetadataTableHeader,
    ParentLocatorEntry,
    ParentLocatorHeader,
    RegionTableEntry,
    RegionTableHeader,
    ZeroDescriptor,
)
from ringminus.errors import ConfigError
from ringminus.wire import Array, Bytes, Struct
from support.disks import MIB, everything, put
from support.effort import examples

SIZE, BLOCK = 4 * MIB, MIB
METADATA, BAT = 2 * MIB, 3 * MIB
LOG, LOG_GUID = MIB, b"l" * 16
MEMORY = 4 << 30
"""Bytes of address space that reading a bad file may take."""

numbers = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 64),
    st.integers(0, 64).map(lambda n: n * MIB),
    st.integers(0, 63).map(lambda n: 1 << n),
    st.sampled_from([LOG_SECTOR_SIZE, SIZE, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1, (64 << 40) - 512]),
)


def whole(kind: str) -> bytes:
    """A file with something in it."""
    with tempfile.TemporaryDirectory() as name:
        path, parent = Path(name) / "disk.vhdx", Path(name) / "parent.vhdx"
        if kind == "differencing":
            create_vhdx(parent, SIZE, block_size=BLOCK)
            create_vhdx(path, None, kind="differencing", block_size=BLOCK, parent=parent)
        else:
            create_vhdx(path, SIZE, kind="fixed" if kind == "fixed" else "dynamic", block_size=BLOCK)
        with open_vhdx(path) as disk:
            put(disk, 0, b"x" * (BLOCK + 512))
            disk.unmap(2 * BLOCK, BLOCK)
        return path.read_bytes()


PAGES = st.lists(st.tuples(st.integers(40, 2200), st.binary(max_size=32)), max_size=3)
"""Changes that a log may hold: numbers of pages in the file, and what they begin with."""
DESCRIPTORS: st.SearchStrategy[type[Struct]] = st.sampled_from([DataDescriptor, ZeroDescriptor])
KINDS = ["dynamic", "fixed", "differencing"]
FILES = {kind: whole(kind) for kind in KINDS}


@pytest.fixture(autouse=True, scope="module")
def little_memory() -> Iterator[None]:
    """A file that makes us ask for very much memory fails here."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def survive(file: bytes | bytearray) -> None:
    """Do with the file what a person would; only errors of ours may come."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "disk.vhdx"
        parent = Path(name) / "parent.vhdx"
        parent.write_bytes(FILES["dynamic"])
        path.write_bytes(file)
        for step in (read, check_vhdx, write, lambda path: check_vhdx(path, repair=True), compact_vhdx):
            try:
                step(path)
            except (DiskError, ConfigError) as error:
                assert str(error)
        # whatever the tables said, nothing was written into the distance
        assert path.stat().st_blocks * 512 < len(file) + 64 * MIB
        assert parent.read_bytes() == FILES["dynamic"]


def read(path: Path) -> None:
    with open_vhdx(path, read_only=True) as disk:
        if disk.size <= 64 * MIB:
            everything(disk)
        assert disk.info()


def write(path: Path) -> None:
    with open_vhdx(path) as disk:
        span = min(disk.size, 4 * BLOCK) // disk.sector_size * disk.sector_size
        put(disk, 0, b"y" * span)
        disk.unmap(0, span)
        disk.write_zeros(disk.size - disk.sector_size, disk.sector_size)
        disk.flush()
    with open_vhdx(path, read_only=True) as disk:
        assert disk.size


def mutated(structure: Struct, data: st.DataObject, skip: tuple[str, ...] = ()) -> Struct:
    """The structure with another value in one field."""
    field = data.draw(st.sampled_from([field for field in structure.FIELDS if field.name not in skip]))
    value = data.draw(numbers) & ((1 << field.size * 8) - 1)
    if isinstance(field.kind, Bytes):
        setattr(structure, field.name, value.to_bytes(field.size, "little"))
    else:
        assert not isinstance(field.kind, Array)
        setattr(structure, field.name, value)
    return structure


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_any_field_of_the_headers(kind: str, data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    for offset in HEADER_OFFSETS if data.draw(st.booleans()) else HEADER_OFFSETS[1:]:
        header = mutated(Header.unpack(file, offset), data, skip=("reserved",))
        assert isinstance(header, Header)
        file[offset : offset + Header.SIZE] = sealed(header)
    survive(file)


def reseal_tables(file: bytearray) -> None:
    for offset in REGION_TABLE_OFFSETS:
        table = bytearray(file[offset : offset + REGION_TABLE_SIZE])
        seal(table)
        file[offset : offset + REGION_TABLE_SIZE] = table


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_any_field_of_the_region_table(kind: str, data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    number = data.draw(st.integers(-1, 1))
    for offset in REGION_TABLE_OFFSETS:
        if number < 0:
            mutated(RegionTableHeader.unpack(file, offset), data).pack_into(file, offset)
        else:
            at = offset + RegionTableHeader.SIZE + number * RegionTableEntry.SIZE
            mutated(RegionTableEntry.unpack(file, at), data).pack_into(file, at)
    reseal_tables(file)
    survive(file)


@settings(max_examples=examples(80), deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_any_field_of_the_metadata_table(kind: str, data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    number = data.draw(st.integers(-1, 5))
    if number < 0:
        mutated(MetadataTableHeader.unpack(file, METADATA), data).pack_into(file, METADATA)
    else:
        at = METADATA + MetadataTableHeader.SIZE + number * MetadataTableEntry.SIZE
        mutated(MetadataTableEntry.unpack(file, at), data).pack_into(file, at)
    survive(file)


@settings(max_examples=examples(80), deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10), numbers)
def test_any_item_of_metadata(kind: str, place: int, value: int) -> None:
    file = bytearray(FILES[kind])
    at = METADATA + 64 * 1024 + place * 4
    file[at : at + 8] = value.to_bytes(8, "little")
    survive(file)


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_any_field_of_the_parent_locator(data: st.DataObject) -> None:
    file = bytearray(FILES["differencing"])
    at = METADATA + 64 * 1024 + 40
    header = ParentLocatorHeader.unpack(file, at)
    assert header.key_value_count == 3
    number = data.draw(st.integers(-1, 2))
    if number < 0:
        mutated(header, data).pack_into(file, at)
    else:
        at += ParentLocatorHeader.SIZE + number * ParentLocatorEntry.SIZE
        mutated(ParentLocatorEntry.unpack(file, at), data).pack_into(file, at)
    survive(file)


@settings(max_examples=examples(80), deadline=None)
@given(st.binary(max_size=200))
def test_any_words_of_the_parent_locator(words: bytes) -> None:
    file = bytearray(FILES["differencing"])
    at = METADATA + 64 * 1024 + 40 + ParentLocatorHeader.SIZE + 3 * ParentLocatorEntry.SIZE
    file[at : at + len(words)] = words
    survive(file)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 5), numbers, st.integers(0, 7)), min_size=1, max_size=4),
)
def test_any_entries_of_the_bat(kind: str, entries: list[tuple[int, int, int]]) -> None:
    file = bytearray(FILES[kind])
    for index, value, state in entries:
        index = 4096 * 2 if index == 5 else index  # the first bitmap's
        file[BAT + index * 8 : BAT + index * 8 + 8] = (value & ~7 | state).to_bytes(8, "little")
    survive(file)


@settings(max_examples=examples(120), deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 200), min_size=1, max_size=4), st.data())
def test_any_log(kind: str, positions: list[int], data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    for position in positions:
        pages = data.draw(PAGES)
        entry = encode_entry(
            [(number * LOG_SECTOR_SIZE, some.ljust(LOG_SECTOR_SIZE, b"p")) for number, some in pages],
            LOG_GUID,
            data.draw(st.integers(1, 5)),
            data.draw(st.sampled_from(positions)) * LOG_SECTOR_SIZE,
            data.draw(st.sampled_from([0, len(file), len(file) + MIB, 1 << 60])),
        )
        change_header, change_descriptor = data.draw(st.booleans()), data.draw(st.booleans())
        if change_header:
            mutated(LogEntryHeader.unpack(entry), data, skip=("log_guid",)).pack_into(entry)
        if pages and change_descriptor:
            one = data.draw(DESCRIPTORS)
            mutated(one.unpack(entry, LogEntryHeader.SIZE), data).pack_into(entry, LogEntryHeader.SIZE)
        seal(entry)
        at = LOG + position * LOG_SECTOR_SIZE
        file[at : min(at + len(entry), LOG + MIB)] = entry[: LOG + MIB - at]
    for offset in HEADER_OFFSETS:
        header = Header.unpack(file, offset)
        header.log_guid = LOG_GUID
        file[offset : offset + Header.SIZE] = sealed(header)
    survive(file)


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_bytes_that_change_anywhere_and_files_that_are_cut(kind: str, data: st.DataObject) -> None:
    file = bytearray(FILES[kind])
    places = st.one_of(*(st.integers(at, at + 8192) for at in (0, *HEADER_OFFSETS, METADATA, BAT)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(places)
        file[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    survive(file[: data.draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))])

"""A damaged VHDX is refused with a sentence that says where it is damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx import create_vhdx, open_vhdx
from ringminus.disks.vhdx.metadata import Metadata, load_metadata
from ringminus.disks.vhdx.regions import Region, Regions
from ringminus.disks.vhdx.wire import (
    BAT_REGION,
    HEADER_OFFSETS,
    METADATA_REGION,
    PARENT_LOCATOR,
    REGION_TABLE_OFFSETS,
    VIRTUAL_DISK_ID,
    BlockState,
    FileParameters,
    Header,
    MetadataFlag,
    MetadataTableEntry,
    MetadataTableHeader,
)
from support.disks import MIB, put
from support.vhdx import BLOCK, change, image_of, make, reseal, set_entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed disk with two blocks in it."""
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        put(disk, 0, b"x" * 2 * BLOCK)
    return path


def refused(path: Path, message: str) -> None:
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(CorruptDisk, match=message) as caught:
            open_vhdx(path, read_only=read_only)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_no_vhdx(path: Path) -> None:
    change(path, 0, b"vhdxFile")
    refused(path, "does not begin with 'vhdxfile'")


def test_a_file_that_is_too_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: MIB - 1])
    refused(path, "too short")


def test_one_damaged_header_is_enough(path: Path) -> None:
    for offset in HEADER_OFFSETS:
        whole = path.read_bytes()
        change(path, offset + 100, b"!")
        open_vhdx(path).close()
        path.write_bytes(whole)


def test_both_headers_damaged(path: Path) -> None:
    for offset in HEADER_OFFSETS:
        change(path, offset + 100, b"!")
    refused(path, "neither header is valid")


def test_two_equal_headers_are_good_and_two_that_differ_are_not(path: Path) -> None:
    # Microsoft's Disk2vhd writes equal ones
    change(path, HEADER_OFFSETS[1], path.read_bytes()[HEADER_OFFSETS[0] :][: Header.SIZE])
    open_vhdx(path, read_only=True).close()
    change(path, HEADER_OFFSETS[1] + Header.offset_of("data_write_guid"), b"!")
    reseal(path)
    refused(path, "headers differ")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 2, "neither header"),
        ("log_version", 1, "log of unknown version 1"),
        ("log_length", 4096, "not whole MiB"),
        ("log_offset", 4096, "not whole MiB"),
        ("log_offset", 0, "not whole MiB"),
        ("log_offset", 1 << 40, "behind the file's end"),
        ("log_offset", 2 * MIB, "the log and the metadata region overlap"),
        ("sequence_number", (1 << 64) - 1, "at its end"),
    ],
)
def test_fields_of_the_header(path: Path, field: str, value: int, message: str) -> None:
    for number, offset in enumerate(HEADER_OFFSETS):
        header = Header.unpack(path.read_bytes(), offset)
        setattr(header, field, value - number if field == "sequence_number" else value)
        change(path, offset, header.pack())
    reseal(path)
    refused(path, message)


def with_regions(path: Path, edit: Callable[[list[Region]], None]) -> None:
    regions = list(image_of(path).regions.all)
    edit(regions)
    for offset in REGION_TABLE_OFFSETS:
        change(path, offset, Regions(tuple(regions)).pack())


def test_one_damaged_region_table_is_enough(path: Path) -> None:
    change(path, REGION_TABLE_OFFSETS[0] + 100, b"!")
    open_vhdx(path).close()
    change(path, REGION_TABLE_OFFSETS[1] + 100, b"!")
    refused(path, "neither region table is valid")


def test_too_many_regions(path: Path) -> None:
    for offset in REGION_TABLE_OFFSETS:
        change(path, offset + 8, struct.pack("<I", 2048))
    reseal(path)
    refused(path, "neither region table is valid")


ODD = UUID(int=0x0DD)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region(BAT_REGION, 8 * MIB, MIB), "two BAT regions"),
        (Region(ODD, 4 * MIB, MIB, required=True), f"needs the region {ODD}"),
        (Region(ODD, 4 * MIB + 4096, MIB, required=False), "not whole MiB"),
        (Region(ODD, 4 * MIB, 4096, required=False), "not whole MiB"),
        (Region(ODD, 4 * MIB, 0, required=False), "not whole MiB"),
        (Region(ODD, 0, MIB, required=False), "not in the file"),
        (Region(ODD, 1 << 40, MIB, required=False), "not in the file"),
        (Region(ODD, 2 * MIB, MIB, required=False), "overlap"),
        (Region(ODD, 4 * MIB, MIB, required=False), "block 0 and .* overlap at 4194304"),
    ],
)
def test_a_region_that_must_not_be(path: Path, region: Region, message: str) -> None:
    with_regions(path, lambda regions: regions.append(region))
    refused(path, message)


def test_an_unknown_region_that_is_not_required_stays(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"?" * MIB)
    region = Region(ODD, path.stat().st_size - MIB, MIB, required=False)
    with_regions(path, lambda regions: regions.append(region))
    with open_vhdx(path) as disk:
        put(disk, 0, b"y" * 8 * BLOCK)
        disk.resize(9 * MIB)
    assert path.read_bytes()[region.offset : region.end] == b"?" * MIB
    assert region in image_of(path).regions.all


@pytest.mark.parametrize(("guid", "name"), [(BAT_REGION, "BAT"), (METADATA_REGION, "metadata")])
def test_a_missing_region(path: Path, guid: UUID, name: str) -> None:
    with_regions(path, lambda regions: regions.remove(next(r for r in regions if r.guid == guid)))
    refused(path, f"no {name} region")


def test_a_bat_that_is_too_small(path: Path) -> None:
    metadata = image_of(path).metadata
    change(path, metadata.size_offset, struct.pack("<Q", 1 << 40))
    refused(path, "room for 131072 entries, and the disk needs 1048831")


def item(path: Path, number: int) -> tuple[int, MetadataTableEntry]:
    """The place of an entry of the metadata table, and the entry."""
    at = image_of(path).regions.metadata.offset + MetadataTableHeader.SIZE + number * MetadataTableEntry.SIZE
    return at, MetadataTableEntry.unpack(path.read_bytes(), at)


def test_the_metadata_tables_header(path: Path) -> None:
    at = image_of(path).regions.metadata.offset
    change(path, at + 10, struct.pack("<H", 2048))
    refused(path, "no metadata table")
    change(path, at, b"metaData")
    refused(path, "no metadata table")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("item_id", ODD.bytes_le, f"needs the metadata item {ODD}"),
        ("item_id", VIRTUAL_DISK_ID.bytes_le, "virtual disk id is there twice"),
        ("offset", 0, "not in its region"),
        ("offset", MIB - 4, "not in its region"),
        ("offset", 0xFFFFFFF0, "not in its region"),
        ("length", 2 * MIB, "not in its region"),
        ("length", 4, "too short"),
        ("flags", MetadataFlag.USER, "file parameters is missing"),
    ],
)
def test_an_item_of_metadata(path: Path, field: str, value: int | bytes, message: str) -> None:
    at, entry = item(path, 0)
    setattr(entry, field, value)
    change(path, at, entry.pack())
    refused(path, message)


@pytest.mark.parametrize(
    ("block_size", "flags", "message"),
    [
        (0, 0, "block size of 0"),
        (512 * 1024, 0, "block size of 524288"),
        (3 * MIB, 0, "block size of 3145728"),
        (512 * MIB, 0, "block size of 536870912"),
        (MIB, 2, "does not say what its parent is"),
    ],
)
def test_file_parameters(path: Path, block_size: int, flags: int, message: str) -> None:
    _, entry = item(path, 0)
    at = image_of(path).regions.metadata.offset + entry.offset
    change(path, at, FileParameters(block_size=block_size, flags=flags).pack())
    refused(path, message)


@pytest.mark.parametrize(
    ("number", "data", "message"),
    [
        (1, struct.pack("<Q", 0), "a disk of 0 bytes"),
        (1, struct.pack("<Q", 1000), "a disk of 1000 bytes"),
        (1, struct.pack("<Q", (64 << 40) + 512), "a disk of"),
        (3, struct.pack("<I", 1024), "logical sector of 1024"),
        (4, struct.pack("<I", 0), "physical sector of 0"),
    ],
)
def test_sizes(path: Path, number: int, data: bytes, message: str) -> None:
    _, entry = item(path, number)
    change(path, image_of(path).regions.metadata.offset + entry.offset, data)
    refused(path, message)


FULLY, PARTIALLY = BlockState.FULLY_PRESENT, BlockState.PARTIALLY_PRESENT


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (FULLY, "block 3 is said to be at 0"),
        (1 << 40 | FULLY, "block 3 is said to be at 1099511627776"),
        (0xFFFFFFFFFFF00000 | FULLY, "block 3 is said to be at 18446744073708503040"),
        (4 * MIB | FULLY, "block . and block . overlap"),
        (2 * MIB | FULLY, "block 3 and the metadata region overlap at 2097152"),
        (4 * MIB | PARTIALLY, "partially present, but the disk has no parent"),
        (4, "block 3 has the unknown state 4"),
        (5, "block 3 has the unknown state 5"),
    ],
)
def test_entries_of_the_bat(path: Path, value: int, message: str) -> None:
    set_entry(path, 3, value)
    refused(path, message)


def test_a_place_that_an_unmapped_block_remembers(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"old!" * (MIB // 4))
    own = path.stat().st_size - MIB
    set_entry(path, 2, own | BlockState.UNMAPPED)
    set_entry(path, 3, 4 * MIB | BlockState.UNMAPPED)  # another's
    set_entry(path, 4, 1 << 40 | BlockState.UNDEFINED)  # nobody's
    with open_vhdx(path) as disk:
        for block in (4, 3, 2):
            put(disk, block * BLOCK, b"n" * 512)
        places = [disk.store.look_up(block)[1] for block in range(5)]
        assert len(set(places)) == 5
        assert places[2] == own
        data = bytearray(BLOCK)
        disk.read(2 * BLOCK, [memoryview(data)])
        assert data == b"n" * 512 + bytes(BLOCK - 512)


def test_a_partially_present_block_without_a_bitmap(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, "differencing") as disk:
        put(disk, 0, b"x" * 512)
        index = disk.store.geometry.bitmap_index_of(0)
    set_entry(path, index, 0)
    refused(path, "bitmap is missing")
    set_entry(path, index, 3)
    refused(path, "unknown state 3")
    set_entry(path, index, 1 << 40 | 6)
    refused(path, "sector bitmap block 0 is said to be at")


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (0, b"!", "of a kind that is not known"),
        (18, b"\xff\xff", "parent locator is damaged"),
        (20, b"\xff\xff\xff\xff", "parent locator is damaged"),
        (28, b"\x03\x00", "parent locator is damaged"),
        (28, b"\x02\x00", "does not identify the parent"),
    ],
)
def test_a_damaged_parent_locator(tmp_path: Path, at: int, data: bytes, message: str) -> None:
    path = tmp_path / "disk.vhdx"
    make(path, "differencing").close()
    _, entry = item(path, 5)
    assert UUID(bytes_le=entry.item_id) == PARENT_LOCATOR
    change(path, image_of(path).regions.metadata.offset + entry.offset + at, data)
    refused(path, message)


def test_metadata_are_read_as_they_were_written(tmp_path: Path) -> None:
    create_vhdx(tmp_path / "disk.vhdx", 10 * MIB, kind="fixed", block_size=4 * MIB, sector_size=4096)
    file = HostFile(tmp_path / "disk.vhdx")
    region = image_of_open(file).metadata
    read = load_metadata(file, region)
    file.close()
    assert read == Metadata(4 * MIB, True, 10 * MIB, read.disk_id, 4096, 4096, None, read.size_offset)


def image_of_open(file: HostFile) -> Regions:
    from ringminus.disks.vhdx.regions import load_regions

    return load_regions(file)

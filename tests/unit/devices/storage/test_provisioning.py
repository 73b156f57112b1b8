"""Giving space back and writing the same: UNMAP, WRITE SAME, GET LBA STATUS, and VERIFY."""

from __future__ import annotations

import pytest

from ringminus.devices.storage.scsi_wire import UnmapDescriptor, UnmapHeader
from ringminus.memory import MIB
from support import cdb
from support.storage import Guest, MemoryDisk

UNMAP, NDOB = 0x08, 0x01
LAST = MIB // 512
ILLEGAL_FIELD, OUT_OF_RANGE, LIST_LENGTH = (5, 0x24, 0), (5, 0x21, 0), (5, 0x1A, 0)


def unmap_list(*ranges: tuple[int, int]) -> bytes:
    body = b"".join(UnmapDescriptor(lba=lba, blocks=blocks).pack() for lba, blocks in ranges)
    header = UnmapHeader(data_length=6 + len(body), block_descriptor_data_length=len(body))
    return header.pack() + body


def test_unmap_gives_the_ranges_back(guest: Guest, disk: MemoryDisk) -> None:
    data = unmap_list((8, 8), (100, 0), (64, 1))
    result = guest.write(cdb.unmap(len(data)), data)
    assert (result.srb_status, result.moved) == (1, len(data))
    assert disk.holes == [(4096, 4096), (32768, 512)]
    assert guest.device.units[0].counters.unmaps == 1


def test_unmap_of_nothing_is_nothing(guest: Guest, disk: MemoryDisk) -> None:
    assert guest.command(cdb.unmap(0)).srb_status == 1
    assert guest.write(cdb.unmap(8), unmap_list()).srb_status == 1
    assert guest.write(cdb.unmap(24), unmap_list((3, 0))).srb_status == 1
    assert disk.calls == []


@pytest.mark.parametrize(
    ("data", "length", "sense"),
    [
        (unmap_list((LAST, 1)), 24, OUT_OF_RANGE),
        (unmap_list((0, 1), (LAST - 1, 2)), 40, OUT_OF_RANGE),
        (unmap_list(((1 << 64) - 1, 0xFFFFFFFF)), 24, OUT_OF_RANGE),
        (unmap_list((0, 1)), 25, LIST_LENGTH),
        (unmap_list((0, 1)), 7, LIST_LENGTH),
        (unmap_list(*[(0, 1)] * 257), 8 + 257 * 16, (5, 0x26, 0)),
    ],
    ids=["beyond", "second beyond", "overflow", "no buffer", "short header", "too many"],
)
def test_a_wrong_list_unmaps_nothing(
    guest: Guest, disk: MemoryDisk, data: bytes, length: int, sense: tuple[int, int, int]
) -> None:
    assert guest.write(cdb.unmap(length), data).sense == sense
    assert disk.calls == []


def test_a_list_that_says_more_than_it_has_is_cut(guest: Guest, disk: MemoryDisk) -> None:
    header = UnmapHeader(data_length=0xFFFF, block_descriptor_data_length=0xFFFF).pack()
    data = header + UnmapDescriptor(lba=1, blocks=1).pack() + b"half of one"
    assert guest.write(cdb.unmap(len(data)), data).srb_status == 1
    assert disk.holes == [(512, 512)]


def test_unmap_is_unknown_where_nothing_can_be_freed(guest: Guest, disk: MemoryDisk) -> None:
    disk.unmaps = False
    assert guest.write(cdb.unmap(24), unmap_list((0, 1))).sense == (5, 0x20, 0)
    assert guest.write(cdb.write_same16(0, 1, UNMAP), bytes(512)).sense == ILLEGAL_FIELD


@pytest.mark.parametrize("command", [cdb.write_same10, cdb.write_same16])
def test_write_same_of_zeros(guest: Guest, disk: MemoryDisk, command: object) -> None:
    assert callable(command)
    result = guest.write(command(8, 64), bytes(512))
    assert (result.srb_status, result.moved) == (1, 512)
    assert disk.data[4096 : 4096 + 64 * 512] == bytes(64 * 512) and any(disk.data[3584:4096])
    assert disk.calls == ["write_zeros"]
    assert guest.write(command(8, 64, UNMAP), bytes(512)).srb_status == 1
    assert disk.calls[1:] == ["write_zeros", "unmap"], "zeros for sure, and given back if possible"


@pytest.mark.parametrize("flags", [0, UNMAP])
def test_write_same_of_a_pattern_writes_it_whatever_the_flags(
    guest: Guest, disk: MemoryDisk, flags: int
) -> None:
    block = b"pattern!" * 64
    assert guest.write(cdb.write_same16(1, 2046, flags), block).srb_status == 1
    assert disk.data[512:-512] == block * 2046 and disk.data[:512] != block and disk.data[-512:] != block
    assert disk.holes == []


def test_write_same_without_data(guest: Guest, disk: MemoryDisk) -> None:
    result = guest.command(cdb.write_same16(8, 8, NDOB | UNMAP))
    assert (result.srb_status, result.moved) == (1, 0)
    assert disk.data[4096:8192] == bytes(4096) and disk.holes == [(4096, 4096)]


@pytest.mark.parametrize(
    ("command", "sense"),
    [
        (cdb.write_same16(0, 0), ILLEGAL_FIELD),
        (cdb.write_same16(LAST, 1), OUT_OF_RANGE),
        (cdb.write_same16((1 << 64) - 1, 1), OUT_OF_RANGE),
        (cdb.write_same16(0, 1, 0x10), ILLEGAL_FIELD),
        (cdb.write_same10(0, 1, 0x02), ILLEGAL_FIELD),
        (cdb.write_same10(0, 1, NDOB), ILLEGAL_FIELD),
        (cdb.write_same16(0, 1, 0x20), ILLEGAL_FIELD),
    ],
    ids=["no blocks", "beyond", "overflow", "anchor", "lbdata", "ndob in ten bytes", "protection"],
)
def test_write_same_of_what_cannot_be(
    guest: Guest, disk: MemoryDisk, command: bytes, sense: tuple[int, int, int]
) -> None:
    assert guest.write(command, bytes(512)).sense == sense
    assert disk.calls == []


def test_write_same_needs_its_block(guest: Guest) -> None:
    assert guest.write(cdb.write_same16(0, 8), bytes(511)).sense == LIST_LENGTH


def test_lba_status_tells_what_is_stored(guest: Guest, disk: MemoryDisk) -> None:
    disk.data[65536:131072] = bytes(65536)
    found = [guest.read(cdb.get_lba_status(lba), 24) for lba in (0, 128, 200, LAST - 1)]
    assert [int.from_bytes(one[8:16], "big") for one in found] == [0, 128, 200, LAST - 1]
    assert [int.from_bytes(one[16:20], "big") for one in found] == [128, 128, 56, 1]
    assert [one[20] for one in found] == [0, 1, 1, 0]
    assert guest.command(cdb.get_lba_status(LAST), 24).sense == OUT_OF_RANGE


def test_verify_reads_the_medium(guest: Guest, disk: MemoryDisk) -> None:
    result = guest.command(cdb.verify16(0, LAST))
    assert (result.srb_status, result.moved) == (1, 0)
    assert disk.calls == ["read"]
    assert guest.command(cdb.verify10(LAST, 1)).sense == OUT_OF_RANGE


def test_verify_compares_with_the_guests_blocks(guest: Guest, disk: MemoryDisk) -> None:
    right = bytes(disk.data[512:2048])
    assert guest.write(cdb.verify10(1, 3, 1), right).moved == 1536
    assert guest.write(cdb.verify10(1, 3, 1), right[:-1] + b"?").sense == (0xE, 0x1D, 0)
    assert guest.write(cdb.verify10(1, 4, 1), right).sense == LIST_LENGTH
    disk.data[512:2048] = b"\x77" * 1536
    assert guest.write(cdb.verify16(1, 3, 3), b"\x77" * 512).moved == 512
    assert guest.write(cdb.verify16(0, 3, 3), b"\x77" * 512).sense == (0xE, 0x1D, 0)
    assert guest.write(cdb.verify16(1, 3, 2), b"\x77" * 512).sense == ILLEGAL_FIELD

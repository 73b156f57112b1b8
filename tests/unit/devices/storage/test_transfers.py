"""READ and WRITE in all their sizes, at once or later, and what is wrong with some of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import MAX_TRANSFER, Direction, VmscsiRequest, VstorPacket
from ringminus.memory import MIB, PAGE_SIZE
from ringminus.vmbus.gpa import GpaRange
from support import cdb
from support.storage import BUFFER, Guest, MemoryDisk

READS = {6: cdb.read6, 10: cdb.read10, 12: cdb.read12, 16: cdb.read16}
WRITES = {6: cdb.write6, 10: cdb.write10, 12: cdb.write12, 16: cdb.write16}
LAST = MIB // 512
ILLEGAL_FIELD, OUT_OF_RANGE = (5, 0x24, 0), (5, 0x21, 0)
Command = Callable[[int, int], bytes]

every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
at_once_or_later = pytest.mark.parametrize("immediate", [True, False], ids=["at once", "later"])


@every_read
@at_once_or_later
def test_a_read_brings_the_disks_bytes(
    guest: Guest, disk: MemoryDisk, read: Command, immediate: bool
) -> None:
    disk.immediate = immediate
    assert guest.read(read(8, 16), 8192) == disk.data[4096 : 4096 + 8192]
    assert disk.calls[-1] == ("try_read" if immediate else "read")


@every_write
@at_once_or_later
def test_a_write_puts_the_guests_bytes(
    guest: Guest, disk: MemoryDisk, write: Command, immediate: bool
) -> None:
    disk.immediate = immediate
    before = bytes(disk.data)
    data = bytes(range(255, -1, -1)) * 16
    result = guest.write(write(24, 8), data)
    assert (result.srb_status, result.moved) == (1, 4096)
    assert disk.data == before[: 24 * 512] + data + before[24 * 512 + 4096 :]
    assert disk.calls[-1] == ("try_write" if immediate else "write")


def test_a_length_of_zero_is_256_blocks_in_six_bytes_and_nothing_in_more(
    guest: Guest, disk: MemoryDisk
) -> None:
    assert guest.read(cdb.read6(0, 0), 256 * 512) == disk.data[: 256 * 512]
    for command in (cdb.read10(0, 0), cdb.read16(LAST, 0)):
        result = guest.command(command)
        assert (result.srb_status, result.moved) == (1, 0)


def test_memory_may_be_scattered_and_begin_within_a_page(guest: Guest, disk: MemoryDisk) -> None:
    pages = (0x50, 0x52, 0x51)
    result = guest.command(cdb.read10(0, 16), 8192, range=GpaRange(8192, 0x800, pages))
    assert (result.srb_status, result.moved) == (1, 8192)
    memory = guest.memory
    found = memory.read(0x50800, 0x800) + memory.read(0x52000, 0x1000) + memory.read(0x51000, 0x800)
    assert found == disk.data[:8192]
    assert memory.read(0x50000, 0x800) == bytes(0x800) and memory.read(0x51800, 0x800) == bytes(0x800)


def test_requests_end_in_any_order(guest: Guest, disk: MemoryDisk) -> None:
    disk.immediate = False
    numbers = [
        guest.start(cdb.read10(lba, 1), 512, range=GpaRange(512, 0, (0x50 + lba,))) for lba in range(3)
    ]
    for index in (2, 0, 0):
        guest.services.step(index)
    assert [number for number, _ in guest.channel.completed][-3:] == [numbers[2], numbers[0], numbers[1]]
    for lba in range(3):
        assert guest.memory.read((0x50 + lba) * PAGE_SIZE, 512) == disk.data[lba * 512 : lba * 512 + 512]


@pytest.mark.parametrize(
    ("lba", "blocks"), [(LAST, 1), (LAST - 1, 2), (0xFFFFFFFF, 1), (LAST + 1, 8)], ids=str
)
@at_once_or_later
def test_what_lies_beyond_the_disk_is_refused(
    guest: Guest, disk: MemoryDisk, lba: int, blocks: int, immediate: bool
) -> None:
    disk.immediate = immediate
    for command in (cdb.read10, cdb.read12, cdb.read16):
        assert guest.command(command(lba, blocks), blocks * 512).sense == OUT_OF_RANGE
    for command in (cdb.write10, cdb.write12, cdb.write16):
        assert guest.write(command(lba, blocks), bytes(blocks * 512)).sense == OUT_OF_RANGE
    assert disk.calls == []


def test_the_first_block_beyond_the_disk_is_named(guest: Guest) -> None:
    result = guest.command(cdb.read16(LAST - 1, 4), 2048)
    assert result.srb.cdb[0] == 0xF0 and int.from_bytes(result.srb.cdb[3:7], "big") == LAST
    huge = guest.command(cdb.read16(1 << 63, 1), 512)
    assert huge.sense == OUT_OF_RANGE and huge.srb.cdb[0] == 0x70


def test_a_read_into_a_small_buffer_fills_it_and_says_so(guest: Guest, disk: MemoryDisk) -> None:
    result = guest.command(cdb.read10(0, 8), 1300)
    assert (result.srb_status, result.moved, result.sense) == (0x12, 1024, None)
    assert guest.memory.read(BUFFER * PAGE_SIZE, 1300) == disk.data[:1024] + bytes(276)


def test_a_write_from_a_small_buffer_writes_nothing(guest: Guest, disk: MemoryDisk) -> None:
    before = bytes(disk.data)
    result = guest.write(cdb.write10(0, 8), bytes(1024))
    assert (result.srb_status, result.moved) == (0x12, 0)
    assert disk.data == before


def test_a_large_buffer_has_a_rest(guest: Guest, disk: MemoryDisk) -> None:
    assert guest.read(cdb.read10(0, 1), 4096) == disk.data[:512]
    assert guest.write(cdb.write10(0, 1), b"\xaa" * 4096).moved == 512
    assert disk.data[:513] == b"\xaa" * 512 + disk.data[512:513]


def test_the_range_must_hold_what_the_request_says(guest: Guest, disk: MemoryDisk) -> None:
    result = guest.command(cdb.read10(0, 8), 4096, range=GpaRange(2048, 0, (BUFFER,)))
    assert (result.srb_status, result.moved, result.sense) == (6, 0, None)
    result = guest.command(cdb.write10(0, 8), 4096, Direction.OUT, range=GpaRange(4095, 1, (BUFFER,)))
    assert result.srb_status == 6
    assert disk.calls == []


def test_memory_that_is_none_is_refused_and_the_channel_lives(guest: Guest, disk: MemoryDisk) -> None:
    nowhere = GpaRange(8192, 0, (BUFFER, 1 << 40))
    assert guest.command(cdb.read10(0, 16), 8192, range=nowhere).srb_status == 6
    assert guest.command(cdb.write10(0, 16), 8192, Direction.OUT, range=nowhere).srb_status == 6
    assert guest.command(cdb.inquiry(), 8192, range=GpaRange(8192, 0, (1 << 40, 0))).srb_status == 6
    assert guest.read(cdb.read10(0, 1), 512) == disk.data[:512]


def test_two_ranges_in_one_request_are_refused(guest: Guest) -> None:
    srb = VmscsiRequest(data_in=Direction.IN, data_transfer_length=512, cdb=cdb.read10(0, 1))
    packet = VstorPacket(operation=3, flags=1, body=srb.pack()).pack()
    one = GpaRange(512, 0, (BUFFER,))
    assert guest.result(guest.post(packet, (one, one))).srb_status == 6


def test_data_in_the_wrong_direction_is_refused(guest: Guest, disk: MemoryDisk) -> None:
    assert guest.command(cdb.read10(0, 1), 512, Direction.OUT).sense == ILLEGAL_FIELD
    assert guest.command(cdb.write10(0, 1), 512, Direction.IN).sense == ILLEGAL_FIELD
    assert guest.command(cdb.read10(0, 1)).sense == ILLEGAL_FIELD
    assert disk.calls == []


def test_protection_information_is_refused(guest: Guest) -> None:
    assert guest.command(cdb.read10(0, 1, 0x20), 512).sense == ILLEGAL_FIELD
    assert guest.write(cdb.write16(0, 1, 0x60), bytes(512)).sense == ILLEGAL_FIELD


def test_the_longest_transfer_is_what_the_properties_promise() -> None:
    disk, controller = MemoryDisk(4 * MIB), ScsiController()
    controller.attach_disk(0, disk)
    guest = Guest(controller).connect()
    pages = tuple(range(0x20, 0x20 + MAX_TRANSFER // PAGE_SIZE))
    whole = guest.command(
        cdb.read10(0, MAX_TRANSFER // 512), MAX_TRANSFER, range=GpaRange(MAX_TRANSFER, 0, pages)
    )
    assert (whole.srb_status, whole.moved) == (1, MAX_TRANSFER)
    over = MAX_TRANSFER + 512
    result = guest.command(cdb.read10(0, over // 512), over, range=GpaRange(over, 0, (*pages, 0x10)))
    assert result.sense == ILLEGAL_FIELD


def test_a_disk_of_4096_byte_sectors_is_addressed_in_them() -> None:
    disk, controller = MemoryDisk(sector_size=4096), ScsiController()
    disk.data[4096:8192] = b"\x11" * 4096
    controller.attach_disk(0, disk)
    guest = Guest(controller).connect()
    assert guest.read(cdb.read10(1, 1), 4096) == b"\x11" * 4096
    assert guest.command(cdb.read10(256, 1), 4096).sense == OUT_OF_RANGE
    assert guest.read(cdb.read_capacity10(), 8) == bytes.fromhex("000000ff 00001000")


def test_a_read_only_disk_is_write_protected(
    guest: Guest, disk: MemoryDisk, controller: ScsiController
) -> None:
    disk.read_only = True
    controller.detach(0)
    controller.attach_disk(1, disk)
    for command, data in (
        (cdb.write10(0, 1), bytes(512)),
        (cdb.write_same16(0, 1), bytes(512)),
        (cdb.unmap(8), bytes(8)),
    ):
        assert guest.write(command, data, lun=1).sense == (7, 0x27, 0)
    assert guest.read(cdb.mode_sense6(0x3F, 4), 4, lun=1)[2] & 0x80
    assert "try_write" not in disk.calls


@at_once_or_later
def test_units_count_what_they_do(
    guest: Guest, disk: MemoryDisk, controller: ScsiController, immediate: bool
) -> None:
    disk.immediate = immediate
    guest.read(cdb.read10(0, 2), 1024)
    guest.read(cdb.read16(0, 1), 512)
    guest.write(cdb.write10(0, 8), bytes(4096))
    guest.command(cdb.synchronize_cache10())
    counters = controller.units[0].counters
    assert (counters.reads, counters.read_bytes) == (2, 1536)
    assert (counters.writes, counters.written_bytes, counters.flushes) == (1, 4096, 1)


def test_the_engine_hears_of_what_was_read_into_code(guest: Guest, disk: MemoryDisk) -> None:
    told: list[tuple[int, int]] = []
    memory = guest.memory
    memory.code_pages = bytearray(memory.size // PAGE_SIZE)
    memory.code_pages[BUFFER] = 1
    memory.invalidate = lambda gpa, length: told.append((gpa, length))
    for disk.immediate in (True, False):
        guest.read(cdb.read10(0, 1), 512)
        assert told == [(BUFFER * PAGE_SIZE, 512)]
        told.clear()
    guest.read(cdb.inquiry(), 96)
    assert told == [(BUFFER * PAGE_SIZE, 96)]

"""Who a disk says it is: INQUIRY, vital product data, capacity, mode pages."""

from __future__ import annotations

from uuid import UUID

import pytest

from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.scsi_wire import (
    BlockLimits,
    Capacity16,
    InquiryData,
    LogicalBlockProvisioning,
    VpdHeader,
)
from ringminus.devices.storage.wire import MAX_TRANSFER
from ringminus.memory import MIB
from support import cdb
from support.storage import IDENTITY, Guest, MemoryDisk

ILLEGAL_FIELD = (5, 0x24, 0)


def page(guest: Guest, number: int, length: int = 255) -> bytes:
    """The body of a page of vital product data."""
    data = guest.read(cdb.inquiry(length, number), length)
    header = VpdHeader.unpack(data)
    assert (header.peripheral, header.page_code) == (0, number)
    return data[VpdHeader.SIZE :][: header.page_length]


def test_a_disk_is_called_as_on_hyper_v(guest: Guest) -> None:
    data = InquiryData.unpack(guest.read(cdb.inquiry(), 96))
    assert (data.vendor, data.product, data.revision) == (b"Msft    ", b"Virtual Disk    ", b"1.0 ")
    assert (data.peripheral, data.removable, data.version, data.additional_length) == (0, 0, 5, 91)


def test_an_answer_ends_where_the_guest_wants(guest: Guest) -> None:
    assert len(guest.read(cdb.inquiry(36), 36)) == 36
    assert len(guest.read(cdb.inquiry(36), 255)) == 36
    assert len(guest.read(cdb.inquiry(4, 0x83), 4)) == 4
    assert guest.command(cdb.inquiry(0)).srb_status == 1


def test_more_data_than_buffer_is_an_overrun(guest: Guest) -> None:
    result = guest.command(cdb.inquiry(96), 36)
    assert (result.srb_status, result.moved) == (0x12, 36)


def test_pages_are_listed_and_each_is_there(guest: Guest) -> None:
    pages = page(guest, 0)
    assert list(pages) == [0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2]
    for number in pages:
        assert page(guest, number)
    assert guest.command(cdb.inquiry(255, 0x89), 255).sense == ILLEGAL_FIELD


def test_serial_number_and_name_follow_from_the_disks_identity(guest: Guest) -> None:
    assert page(guest, 0x80) == IDENTITY.hex.upper().encode()
    names = page(guest, 0x83)
    vendor, naa = names[: 4 + names[3]], names[4 + names[3] :]
    assert vendor[:2] == b"\1\1" and vendor[4:] == b"Msft    " + IDENTITY.bytes_le
    assert naa[:4] == bytes((1, 3, 0, 16)) and naa[4:8].hex() == "60022480"
    assert naa[8:] == IDENTITY.bytes_le[:6] + IDENTITY.bytes_le[10:]


def test_another_disk_has_another_name(guest: Guest, controller: ScsiController) -> None:
    other = MemoryDisk()
    other.identity = UUID(int=IDENTITY.int + 1)
    controller.attach_disk(1, other)
    one, two = (guest.read(cdb.inquiry(255, 0x83), 255, lun=lun) for lun in (0, 1))
    assert one != two


def test_limits_are_those_of_the_disk(guest: Guest) -> None:
    limits = BlockLimits.unpack(page(guest, 0xB0))
    assert limits.maximum_transfer_length == MAX_TRANSFER // 512
    assert (limits.wsnz, limits.maximum_write_same_length) == (1, (256 << 20) // 512)
    assert limits.maximum_unmap_lba_count == 0xFFFFFFFF
    assert (limits.optimal_unmap_granularity, limits.unmap_granularity_alignment) == (8, 1 << 31)
    assert page(guest, 0xB1)[:2] == b"\0\1"


def test_a_thin_disk_says_so(guest: Guest) -> None:
    provisioning = LogicalBlockProvisioning.unpack(page(guest, 0xB2))
    assert (provisioning.flags, provisioning.provisioning_type) == (0xE4, 2)
    capacity = Capacity16.unpack(guest.read(cdb.read_capacity16(), 32))
    assert capacity.provisioning == 0xC000


def test_a_disk_that_cannot_free_says_nothing_of_it(guest: Guest, disk: MemoryDisk) -> None:
    disk.unmaps = False
    assert 0xB2 not in page(guest, 0)
    assert guest.command(cdb.inquiry(255, 0xB2), 255).sense == ILLEGAL_FIELD
    limits = BlockLimits.unpack(page(guest, 0xB0))
    assert (limits.maximum_unmap_lba_count, limits.optimal_unmap_granularity) == (0, 0)
    assert Capacity16.unpack(guest.read(cdb.read_capacity16(), 32)).provisioning == 0


def test_capacity_is_told_in_both_sizes(guest: Guest) -> None:
    assert guest.read(cdb.read_capacity10(), 8) == bytes.fromhex("000007ff 00000200")
    capacity = Capacity16.unpack(guest.read(cdb.read_capacity16(), 32))
    assert (capacity.last_lba, capacity.block_length, capacity.exponents) == (MIB // 512 - 1, 512, 3)


def test_a_disk_too_large_for_ten_bytes_is_all_ones_there(guest: Guest, controller: ScsiController) -> None:
    huge = MemoryDisk()
    huge.size = 3 << 40
    controller.attach_disk(1, huge)
    assert guest.read(cdb.read_capacity10(), 8, lun=1)[:4] == b"\xff" * 4
    assert Capacity16.unpack(guest.read(cdb.read_capacity16(), 32, lun=1)).last_lba == (3 << 40) // 512 - 1


def test_mode_pages_are_the_same_in_both_sizes(guest: Guest) -> None:
    six, ten = guest.read(cdb.mode_sense6(0x3F), 255), guest.read(cdb.mode_sense10(0x3F), 255)
    assert six[4:] == ten[8:] and six[0] == len(six) - 1 and ten[:2] == (len(ten) - 2).to_bytes(2, "big")
    assert six[2] == ten[3] == 0x10, "DPO and FUA, not write-protected"
    pages, position = [], 4
    while position < len(six):
        pages.append(six[position])
        position += 2 + six[position + 1]
    assert pages == [0x08, 0x0A, 0x1C]


def test_linuxs_first_question_has_room_for_the_header_only(guest: Guest) -> None:
    assert guest.read(cdb.mode_sense6(0x3F, 4), 4)[0] == 47


@pytest.mark.parametrize("number", [0x08, 0x0A, 0x1C])
def test_what_can_be_changed_is_told(guest: Guest, number: int) -> None:
    body = guest.read(cdb.mode_sense6(number, control=1), 255)[4:]
    assert body[0] == number
    assert any(body[2:]) == (number == 0x08)


def test_saved_and_unknown_pages_are_refused(guest: Guest) -> None:
    # Linux's driver takes the answer for success, so look at what is sent
    assert guest.command(cdb.mode_sense6(0x08, control=3), 255).sense == (5, 0x39, 0)
    assert guest.command(cdb.mode_sense6(0x2A), 255).sense == ILLEGAL_FIELD
    assert guest.command(cdb.mode_sense10(0x08, subpage=1), 255).sense == ILLEGAL_FIELD

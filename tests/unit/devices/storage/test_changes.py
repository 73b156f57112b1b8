"""Disks that come, go and grow while the guest runs."""

from __future__ import annotations

from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Operation, VstorPacket
from ringminus.memory import MIB
from support import cdb
from support.storage import Guest, MemoryDisk

CAPACITY_CHANGED, LUNS_CHANGED = (6, 0x2A, 0x09), (6, 0x3F, 0x0E)


def messages(guest: Guest) -> list[int]:
    """The operations of what was sent unasked."""
    found = [VstorPacket.unpack(payload).operation for payload in guest.channel.sent]
    guest.channel.sent.clear()
    return found


def test_a_disk_that_comes_is_announced(guest: Guest, controller: ScsiController) -> None:
    controller.attach_disk(5, MemoryDisk())
    assert messages(guest) == [Operation.ENUMERATE_BUS]
    assert guest.command(cdb.TEST_UNIT_READY).sense == LUNS_CHANGED
    assert guest.command(cdb.TEST_UNIT_READY).sense is None
    assert guest.read(cdb.read10(0, 1), 512, lun=5) == bytes(512)


def test_a_disk_that_goes_is_announced_and_gone(
    guest: Guest, controller: ScsiController, disk: MemoryDisk
) -> None:
    controller.attach_disk(1, MemoryDisk())
    messages(guest)
    assert controller.detach(0) is disk
    assert messages(guest) == [Operation.REMOVE_DEVICE]
    assert guest.command(cdb.TEST_UNIT_READY).srb_status == 0x20
    assert guest.command(cdb.read10(0, 1), 512).srb_status == 0x20
    assert guest.command(cdb.TEST_UNIT_READY, lun=1).sense == LUNS_CHANGED


def test_a_disk_is_not_given_back_while_it_is_used(
    guest: Guest, controller: ScsiController, disk: MemoryDisk
) -> None:
    disk.immediate = False
    number = guest.start(cdb.read10(0, 8), 4096)
    controller.detach(0)
    assert guest.result(number).srb_status == 1
    assert guest.services.waiting == []


def test_before_the_guest_is_ready_nothing_is_announced() -> None:
    controller = ScsiController()
    guest = Guest(controller)
    controller.attach_disk(0, MemoryDisk())
    guest.open()
    controller.attach_disk(1, MemoryDisk())
    controller.resized(0)
    controller.detach(0)
    assert messages(guest) == []


def test_a_disk_that_grows_says_so_with_the_next_command(
    guest: Guest, controller: ScsiController, disk: MemoryDisk
) -> None:
    disk.resize(2 * MIB)
    controller.resized(0)
    assert messages(guest) == [Operation.ENUMERATE_BUS], "so that there is a next command"
    result = guest.command(cdb.read10(0, 8), 4096)
    assert (result.srb_status, result.sense) == (0x84, CAPACITY_CHANGED)
    assert guest.read(cdb.read10(0, 8), 4096) == disk.data[:4096]
    assert guest.read(cdb.read_capacity10(), 8)[:4] == bytes.fromhex("00000fff")
    assert guest.read(cdb.read10(0xFFF, 1), 512) == disk.data[-512:]


def test_a_disk_that_shrinks_refuses_what_is_gone(
    guest: Guest, controller: ScsiController, disk: MemoryDisk
) -> None:
    disk.resize(MIB // 2)
    controller.resized(0)
    assert guest.command(cdb.TEST_UNIT_READY).sense == CAPACITY_CHANGED
    assert guest.command(cdb.read10(1024, 8), 4096).sense == (5, 0x21, 0)


def test_commands_that_identify_are_answered_first(guest: Guest, controller: ScsiController) -> None:
    """Linux takes any answer to INQUIRY and MODE SENSE for success: an attention would be lost in them."""
    controller.resized(0)
    guest.read(cdb.inquiry(), 96)
    guest.read(cdb.mode_sense6(0x3F), 255)
    guest.read(cdb.mode_sense10(0x3F), 255)
    guest.read(cdb.report_luns(), 4096)
    assert guest.command(cdb.TEST_UNIT_READY).sense == CAPACITY_CHANGED


def test_request_sense_takes_what_waits(guest: Guest, controller: ScsiController) -> None:
    controller.resized(0)
    sense = guest.read(cdb.request_sense(), 18)
    assert (sense[2], sense[12], sense[13]) == CAPACITY_CHANGED
    assert guest.command(cdb.TEST_UNIT_READY).sense is None


def test_report_luns_is_the_news_itself(guest: Guest, controller: ScsiController) -> None:
    controller.attach_disk(5, MemoryDisk())
    guest.read(cdb.report_luns(), 4096)
    assert guest.command(cdb.TEST_UNIT_READY).sense is None


def test_each_thing_is_told_once_and_in_order(guest: Guest, controller: ScsiController) -> None:
    controller.resized(0)
    controller.resized(0)
    controller.attach_disk(5, MemoryDisk())
    controller.attach_disk(6, MemoryDisk())
    found = [guest.command(cdb.TEST_UNIT_READY).sense for _ in range(3)]
    assert found == [CAPACITY_CHANGED, LUNS_CHANGED, None]

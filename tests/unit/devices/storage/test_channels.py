"""Channels of a storage device: order of the handshake, sub-channels, resets, the end."""

from __future__ import annotations

import logging

import pytest

from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import NtStatus, Operation, SubChannelCount, VmscsiRequest, VstorPacket
from ringminus.errors import GuestError
from ringminus.vmbus.device import Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import PacketType
from support import cdb
from support.storage import BUFFER, FakeChannel, Guest, MemoryDisk

BAD_STATE = NtStatus.INVALID_DEVICE_STATE


def srb(command: bytes = cdb.TEST_UNIT_READY) -> bytes:
    body = VmscsiRequest(data_in=2, data_transfer_length=0, cdb=command).pack()
    return VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, body=body).pack()


def test_out_of_order_is_answered_and_noted(
    controller: ScsiController, caplog: pytest.LogCaptureFixture
) -> None:
    guest = Guest(controller)
    guest.open()
    with caplog.at_level(logging.INFO):
        assert guest.ask(Operation.END_INITIALIZATION).status == BAD_STATE
        assert guest.ask(Operation.EXECUTE_SRB).status == BAD_STATE
        assert guest.ask(Operation.RESET_BUS).status == BAD_STATE
        assert guest.ask(0x1234).status == guest.ask(0x4321).status == BAD_STATE
    assert "SCSI: END_INITIALIZATION in state BEGIN" in caplog.messages
    assert controller.refused == {
        "END_INITIALIZATION": 1,
        "EXECUTE_SRB": 1,
        "RESET_BUS": 1,
        "unknown operation": 2,
    }
    guest.connect()
    assert guest.ask(Operation.BEGIN_INITIALIZATION).status == BAD_STATE
    for only_ours in (Operation.COMPLETE_IO, Operation.REMOVE_DEVICE, Operation.ENUMERATE_BUS):
        assert guest.ask(only_ours).status == BAD_STATE
    assert guest.command(cdb.TEST_UNIT_READY).srb_status == 1


def test_an_answer_is_as_long_as_the_request(guest: Guest) -> None:
    """Windows guests check it."""
    for length in (48, 64, 80):
        answer = guest.answer(guest.post(srb().ljust(length, b"\0")[:length]))
        assert answer is not None and len(answer) == min(length, 64)
    read = VmscsiRequest(data_in=1, data_transfer_length=512, cdb=cdb.read10(0, 1)).pack()
    packet = VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, body=read).pack()
    answer = guest.answer(guest.post(packet[:48], (GpaRange(512, 0, (BUFFER,)),)))
    assert answer is not None and len(answer) == 48


def test_a_request_cut_short_is_answered_as_far_as_it_is_one(guest: Guest) -> None:
    for length in (12, 28, 29, 47):
        answer = guest.answer(guest.post(srb()[:length]))
        assert answer is not None and len(answer) == length
        assert answer[8:12] == NtStatus.INVALID_PARAMETER.to_bytes(4, "little")
    for length in (0, 4, 11):
        with pytest.raises(GuestError, match=f"request of {length} bytes"):
            guest.post(srb()[:length])


def test_packets_of_other_kinds_and_without_an_answer_fail_the_channel(guest: Guest) -> None:
    with pytest.raises(GuestError, match="type 7"):
        guest.post(srb(), kind=PacketType.DATA_USING_XFER_PAGES)
    silent = Packet(PacketType.DATA_INBAND, 1, False, memoryview(srb()))
    with pytest.raises(GuestError, match="no completion"):
        guest.device.packet(guest.channel, silent)


def test_sub_channels_are_offered_and_carry_requests(controller: ScsiController, disk: MemoryDisk) -> None:
    guest = Guest(controller).connect(subchannels=3)
    assert guest.bus.offered == [3]
    channel = guest.open(2)
    assert guest.read(cdb.read10(1, 8), 4096, channel=channel) == disk.data[512:4608]
    disk.immediate = False
    on_first = guest.start(cdb.read10(0, 1), 512)
    on_second = guest.start(cdb.read10(0, 1), 512, channel=channel)
    guest.services.step(1)
    assert guest.answer(on_first) is None and guest.answer(on_second, channel) is not None
    guest.services.step()
    assert guest.answer(on_first) is not None


def test_sub_channels_that_were_not_asked_for_are_refused(controller: ScsiController) -> None:
    guest = Guest(controller)
    with pytest.raises(GuestError, match="was not asked for"):
        guest.open(1)
    guest.connect()
    with pytest.raises(GuestError, match="was not asked for"):
        guest.open(1)
    assert guest.ask(Operation.CREATE_SUB_CHANNELS, SubChannelCount(count=2).pack()).status == 0
    guest.open(1)
    with pytest.raises(GuestError, match="was not asked for"):
        guest.open(3)


def test_too_many_sub_channels_are_refused(guest: Guest) -> None:
    body = SubChannelCount(count=17).pack()
    assert guest.ask(Operation.CREATE_SUB_CHANNELS, body).status == NtStatus.INVALID_PARAMETER
    assert guest.bus.offered == []


def test_there_is_no_handshake_on_a_sub_channel(controller: ScsiController) -> None:
    guest = Guest(controller).connect(subchannels=1)
    channel = guest.open(1)
    packet = VstorPacket(operation=Operation.CREATE_SUB_CHANNELS, flags=1).pack()
    answer = guest.answer(guest.post(packet, channel=channel), channel)
    assert answer is not None and VstorPacket.unpack(answer).status == BAD_STATE


@pytest.mark.parametrize("operation", [Operation.RESET_BUS, Operation.RESET_ADAPTER, Operation.RESET_LUN])
def test_a_reset_is_answered_when_what_ran_before_it_has_ended(
    guest: Guest, disk: MemoryDisk, operation: Operation
) -> None:
    assert guest.ask(operation).status == NtStatus.SUCCESS
    disk.immediate = False
    before = [guest.start(cdb.read10(0, 1), 512) for _ in range(2)]
    reset = guest.post(VstorPacket(operation=operation, flags=1).pack())
    after = guest.start(cdb.read10(0, 1), 512)
    guest.services.step(2)
    assert guest.answer(after) is not None
    guest.services.step()
    assert guest.answer(reset) is None
    guest.services.step()
    assert all(guest.answer(number) for number in before)
    answer = guest.answer(reset)
    assert answer is not None and VstorPacket.unpack(answer).status == NtStatus.SUCCESS


def test_a_reset_of_one_unit_does_not_wait_for_others(
    guest: Guest, controller: ScsiController, disk: MemoryDisk
) -> None:
    controller.attach_disk(1, MemoryDisk())
    guest.command(cdb.TEST_UNIT_READY)
    disk.immediate = False
    guest.start(cdb.read10(0, 1), 512)
    body = VmscsiRequest(lun=1, data_transfer_length=0).pack()
    assert guest.ask(Operation.RESET_LUN, body).status == NtStatus.SUCCESS


def test_a_closed_channel_is_left_alone(guest: Guest, disk: MemoryDisk) -> None:
    disk.immediate = False
    number = guest.start(cdb.read10(0, 1), 512)
    guest.post(VstorPacket(operation=Operation.RESET_BUS, flags=1).pack())
    before = len(guest.channel.completed)
    guest.close()
    assert guest.services.waiting == [], "work that runs is waited for"
    assert guest.answer(number) is None and len(guest.channel.completed) == before
    guest.close()


def test_the_engine_hears_even_of_what_was_read_at_the_end(guest: Guest, disk: MemoryDisk) -> None:
    told: list[int] = []
    memory = guest.memory
    memory.code_pages = bytearray(b"\1" * (memory.size >> 12))
    memory.invalidate = lambda gpa, length: told.append(gpa)
    disk.immediate = False
    guest.start(cdb.read10(0, 1), 512)
    guest.close()
    assert told == [BUFFER << 12]


def test_closing_a_sub_channel_leaves_the_others(controller: ScsiController, disk: MemoryDisk) -> None:
    guest = Guest(controller).connect(subchannels=1)
    channel = guest.open(1)
    disk.immediate = False
    on_first = guest.start(cdb.read10(0, 1), 512)
    on_second = guest.start(cdb.read10(0, 1), 512, channel=channel)
    guest.close(channel)
    assert guest.answer(on_first) is not None and guest.answer(on_second, channel) is None
    guest.open(1)


def test_a_new_guest_begins_with_the_handshake(guest: Guest, controller: ScsiController) -> None:
    guest.close()
    guest.open()
    assert guest.ask(Operation.EXECUTE_SRB).status == BAD_STATE
    assert guest.connect().command(cdb.TEST_UNIT_READY).srb_status == 1


def test_a_channel_that_is_not_ours_closes_nothing(guest: Guest) -> None:
    guest.device.closed(FakeChannel(guest.memory))
    assert guest.command(cdb.TEST_UNIT_READY).srb_status == 1


def test_a_device_is_the_same_when_restored(guest: Guest, controller: ScsiController) -> None:
    controller.resized(0)
    controller.units[0].write_cache = False
    state = controller.save()
    again = ScsiController()
    again.attach_disk(0, MemoryDisk())
    other = Guest(again, guest.memory)
    again.restore(state)
    other.open()
    assert other.command(cdb.TEST_UNIT_READY).sense == (6, 0x2A, 9)
    assert other.command(cdb.TEST_UNIT_READY).sense is None
    assert not other.read(cdb.mode_sense6(0x08), 255)[6] & 0x04
    other.close()
    other.open()
    assert other.ask(Operation.EXECUTE_SRB).status == BAD_STATE, "the next guest begins anew"


def test_a_disk_that_changed_its_size_meanwhile_says_so(controller: ScsiController) -> None:
    state = controller.save()
    again = ScsiController()
    again.attach_disk(0, MemoryDisk(1 << 19))
    other = Guest(again)
    again.restore(state)
    assert other.connect().command(cdb.TEST_UNIT_READY).sense == (6, 0x2A, 9)


def test_saving_waits_for_what_runs(guest: Guest, controller: ScsiController, disk: MemoryDisk) -> None:
    disk.immediate = False
    number = guest.start(cdb.read10(0, 1), 512)
    controller.save()
    assert guest.result(number).srb_status == 1

"""A recorded netvsc against our own adapter: the handshake, RNDIS, frames both ways, and another MTU."""

from __future__ import annotations

import struct

from ringminus.devices.network.oid_wire import Oid
from ringminus.devices.network.rndis_wire import HEADER_SIZE, InitializeComplete
from ringminus.devices.network.wire import MessageType
from ringminus.machine.replay.compare import Difference
from ringminus.machine.replay.network import answers_of
from ringminus.machine.replay.recording import Recording
from ringminus.tap import ChannelState, DeviceMessage, Event, NetworkFrame, RingPacket
from support.recordings import NETWORK, events, replayed
from unit.machine.replay.test_guest_side import changed, with_other


def recorded() -> list[Event]:
    return events(NETWORK)


def frames(found: list[Event], *, to_guest: bool) -> list[NetworkFrame]:
    return [one for one in found if isinstance(one, NetworkFrame) and one.to_guest == to_guest]


def about(differences: list[Difference]) -> set[tuple[str, str]]:
    return {(one.what, one.message) for one in differences}


def test_an_adapter_says_the_same_again_and_so_do_its_frames() -> None:
    found = recorded()
    opened = [one for one in found if isinstance(one, ChannelState) and one.open]
    assert len(opened) > 1  # once more for the MTU
    assert len(frames(found, to_guest=False)) > 10 and len(frames(found, to_guest=True)) > 10

    result = replayed(found)

    assert result.same and result.notes == []
    told = [one for one in found if isinstance(one, RingPacket | DeviceMessage) and one.to_guest]
    assert result.compared == len(told)
    assert result.sent == sum(isinstance(one, RingPacket) and not one.to_guest for one in found)


def test_what_the_adapter_is_called_and_how_fast_it_is_comes_from_the_recording() -> None:
    answers = answers_of(Recording(recorded()).device(None))
    address = answers[Oid.E802_3_PERMANENT_ADDRESS]
    assert len(address) == 6 and address[:3] == bytes.fromhex("00155d")


def test_an_rndis_message_that_is_another_one_is_shown_field_by_field() -> None:
    found = recorded()
    message = next(one for one in found if isinstance(one, DeviceMessage) and one.to_guest)
    at = HEADER_SIZE + InitializeComplete.offset_of("max_xfer_size")
    other = message.payload[:at] + struct.pack("<I", 512) + message.payload[at + 4 :]

    result = replayed(with_other(found, message, changed(message, payload=other)))

    (difference,) = result.differences
    assert (difference.message, difference.sequence) == ("rndis INIT_C", message.sequence)
    (change,) = difference.changes
    assert (change.field, change.recorded) == ("rndis.max_xfer_size", "0x200")


def test_a_frame_from_the_network_that_does_not_come_is_missed() -> None:
    found = recorded()
    frame = frames(found, to_guest=True)[0]
    result = replayed([one for one in found if one is not frame])
    assert not result.same
    assert any(one.what == "missing" for one in result.differences)


def test_a_guest_that_lies_in_its_send_buffer_has_its_channel_failed() -> None:
    found = recorded()
    frame = frames(found, to_guest=False)[0]
    message = next(one for one in found if isinstance(one, DeviceMessage) and one.sequence == frame.cause)
    lie = changed(message, payload=struct.pack("<II", 1, 0xFFFF_FFFF) + message.payload[8:])
    result = replayed(with_other(found, message, lie))
    assert any(
        one.what == "failed" and one.message.startswith("the guest broke a protocol")
        for one in result.differences
    )
    assert any("the channel had failed" in note for note in result.notes)


def test_packets_whose_messages_were_not_recorded_are_not_sent() -> None:
    found = [one for one in recorded() if not isinstance(one, DeviceMessage | NetworkFrame)]
    result = replayed(found)
    in_buffer = [
        one
        for one in found
        if isinstance(one, RingPacket)
        and not one.to_guest
        and one.kind == 6
        and int.from_bytes(one.payload[:4], "little") == MessageType.SEND_RNDIS_PKT
    ]
    notes = "\n".join(result.notes)
    assert f"{len(in_buffer)} packets were not sent: what they carried" in notes
    assert {what for what, _ in about(result.differences)} <= {"missing"}

"""The recorded host of a network adapter to a guest: here the guest is a recorded one, too."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

from ringminus.devices.network import wire
from ringminus.devices.network.handshake import Reply, State
from ringminus.devices.network.oid_wire import Oid
from ringminus.devices.network.rndis_wire import (
    HEADER_SIZE,
    MessageType,
    QueryComplete,
    QueryRequest,
    SetComplete,
    SetRequest,
)
from ringminus.devices.network.wire import MessageHeader, ReceiveBufferSection, SendReceiveBufferComplete
from ringminus.devices.network.wire import MessageType as NvspType
from ringminus.machine.replay.adapter import AdapterReplay, RecordedHandshake, build_adapter
from ringminus.machine.replay.guest import GuestReplay
from ringminus.machine.replay.network import NetworkPlay
from ringminus.machine.replay.recording import RecordedDevice, Recording
from ringminus.machine.replay.requests import Asked, nvsp_script
from ringminus.machine.replay.result import Result
from ringminus.memory import KIB, MIB, GuestMemory
from ringminus.tap import DeviceMessage, Event, NetworkFrame, RingPacket
from ringminus.vmbus.gpa import GpaRange
from ringminus.wire import Struct
from support.recordings import NETWORK, events
from unit.machine.replay.test_guest_side import changed, with_other


class OnlyGuest(NetworkPlay):
    """The recorded guest, without the frames of its network: they are the recorded host's here."""

    def deliver(self, event: NetworkFrame) -> None:
        self._nic.flush()


def bed(host: Sequence[Event], guest: Sequence[Event]) -> tuple[GuestReplay, AdapterReplay, Result]:
    found = Result()
    recording = Recording(guest)
    device = recording.device(None)
    adapter = build_adapter(Recording(host).device(None), found)
    return GuestReplay(device, adapter, recording.version, OnlyGuest(device, adapter)), adapter, found


def played(host: Sequence[Event], guest: Sequence[Event]) -> tuple[Result, Result]:
    """Let a recorded guest speak to a recorded host; gives what each found of the other."""
    player, _, found = bed(host, guest)
    result = player.run()
    player.close()
    return found, result


def messages(recorded: Sequence[Event], kind: MessageType) -> list[DeviceMessage]:
    return [
        one
        for one in recorded
        if isinstance(one, DeviceMessage) and int.from_bytes(one.payload[:4], "little") == kind
    ]


def answer_to(recorded: Sequence[Event], oid: Oid) -> DeviceMessage:
    """The first one."""
    asked = [QueryRequest.unpack(one.payload, HEADER_SIZE) for one in messages(recorded, MessageType.QUERY)]
    number = next(one.req_id for one in asked if one.oid == oid)
    return next(
        one
        for one in messages(recorded, MessageType.QUERY_C)
        if QueryComplete.unpack(one.payload, HEADER_SIZE).req_id == number
    )


def packet(recorded: Sequence[Event], kind: NvspType) -> RingPacket:
    return next(
        one
        for one in recorded
        if isinstance(one, RingPacket) and int.from_bytes(one.payload[:4], "little") == kind
    )


def patched(event: DeviceMessage, offset: int, value: int) -> DeviceMessage:
    payload = event.payload[:offset] + struct.pack("<I", value) + event.payload[offset + 4 :]
    return changed(event, payload=payload)


def saying(recorded: list[Event], message: DeviceMessage, other: DeviceMessage) -> list[Event]:
    """A guest that says something else; its requests lie in pages that packets name."""
    carrier = next(one for one in recorded if isinstance(one, RingPacket) and one.sequence == message.cause)
    found = with_other(recorded, carrier, changed(carrier, data=other.payload))
    return with_other(found, message, other)


def test_a_recorded_host_and_a_recorded_guest_understand_each_other() -> None:
    recorded = events(NETWORK)
    host, guest = played(recorded, recorded)
    assert host.same and guest.same
    assert host.notes == guest.notes == []
    frames = sum(isinstance(one, NetworkFrame) and not one.to_guest for one in recorded)
    assert host.compared > frames > 10
    assert guest.compared > 100


def test_the_answer_to_a_query_is_the_recorded_one_and_not_our_adapter_s() -> None:
    recorded = events(NETWORK)
    answer = answer_to(recorded, Oid.GEN_LINK_SPEED)
    other = patched(answer, HEADER_SIZE + QueryComplete.SIZE, 4242)
    _, guest = played(with_other(recorded, answer, other), recorded)
    (difference,) = [one for one in guest.differences if one.sequence == answer.sequence]
    assert difference.message.startswith("rndis QUERY_C")


def test_an_answer_has_the_number_of_the_live_request() -> None:
    recorded = events(NETWORK)
    asked = messages(recorded, MessageType.QUERY)[0]
    number = HEADER_SIZE + QueryRequest.offset_of("req_id")
    host, guest = played(recorded, saying(recorded, asked, patched(asked, number, 0x7777)))
    assert host.same
    (difference,) = guest.differences
    assert [tuple(one) for one in difference.changes] == [("rndis.req_id", "0x2", "0x7777")]


def test_what_the_recorded_host_refused_is_not_done() -> None:
    recorded = events(NETWORK)
    filters = [
        one
        for one in messages(recorded, MessageType.SET)
        if SetRequest.unpack(one.payload, HEADER_SIZE).oid == Oid.GEN_CURRENT_PACKET_FILTER
    ]
    numbers = {SetRequest.unpack(one.payload, HEADER_SIZE).req_id for one in filters}
    status = HEADER_SIZE + SetComplete.offset_of("status")
    refusing = [
        patched(one, status, 0xC0000001)
        if isinstance(one, DeviceMessage)
        and one in messages([one], MessageType.SET_C)
        and SetComplete.unpack(one.payload, HEADER_SIZE).req_id in numbers
        else one
        for one in recorded
    ]
    player, adapter, _ = bed(refusing, recorded)
    player.run()
    assert adapter.control.packet_filter == 0
    assert adapter.counters.received_frames == 0
    player.close()


def test_a_query_that_was_not_recorded_is_told_and_answered_by_our_adapter() -> None:
    recorded = events(NETWORK)
    asked = messages(recorded, MessageType.QUERY)[1]
    other = patched(asked, HEADER_SIZE + QueryRequest.offset_of("oid"), Oid.GEN_VENDOR_DRIVER_VERSION)
    host, guest = played(recorded, saying(recorded, asked, other))
    (difference,) = host.differences
    assert difference.what == "extra" and "was expected" in difference.note
    assert "1 RNDIS requests did not come" in host.notes
    assert len(guest.differences) == 1  # it got an answer, and goes on


def test_a_request_that_says_something_else_is_shown_beside_the_recorded_one() -> None:
    recorded = events(NETWORK)
    asked = next(
        one
        for one in messages(recorded, MessageType.SET)
        if SetRequest.unpack(one.payload, HEADER_SIZE).oid == Oid.GEN_CURRENT_PACKET_FILTER
    )
    other = patched(asked, HEADER_SIZE + SetRequest.SIZE, 0x20)  # all frames
    host, _ = played(recorded, saying(recorded, asked, other))
    (difference,) = host.differences
    assert (difference.what, difference.sequence) == ("changed", asked.sequence)
    assert [one.replayed for one in difference.changes if "filter" in one.field] == ["PROMISCUOUS (32)"]


def test_the_guest_s_buffer_is_cut_as_the_recorded_host_cut_it() -> None:
    recorded = events(NETWORK)
    done = packet(recorded, NvspType.SEND_RECV_BUF_COMPLETE)
    body = SendReceiveBufferComplete.unpack(done.payload, MessageHeader.SIZE)
    section = ReceiveBufferSection.unpack(body.sections)
    section.sub_alloc_size, section.num_sub_allocs = 8192, 16
    body.sections = section.pack()
    start = MessageHeader.SIZE
    payload = done.payload[:start] + body.pack() + done.payload[start + body.SIZE :]
    first = recorded.index(done)
    player, adapter, _ = bed(
        with_other(recorded, done, changed(done, payload=payload)), recorded[: first + 1]
    )
    player.run()
    buffer = adapter.handshake.receive_buffer
    assert buffer is not None
    assert (buffer.piece_size, buffer.count, len(buffer.free)) == (8192, 16, 16)
    player.close()


def test_a_guest_that_lies_has_its_channel_failed_and_it_is_told() -> None:
    recorded = events(NETWORK)
    asked = messages(recorded, MessageType.QUERY)[0]
    lie = patched(asked, HEADER_SIZE + QueryRequest.offset_of("info_buflen"), 0xFFFF_FFF0)
    host, guest = played(recorded, saying(recorded, asked, lie))
    assert any(one.message.startswith("the guest broke a protocol") for one in host.differences)
    assert any("the channel had failed" in note for note in guest.notes)


def test_a_recording_of_packets_only_answers_the_handshake() -> None:
    recorded = events(NETWORK)
    without = [one for one in recorded if not isinstance(one, DeviceMessage | NetworkFrame)]
    host, _ = played(without, recorded)
    assert any("the recording has no frames" in note for note in host.notes)
    assert {one.message.split()[0] for one in host.differences} <= {"rndis", "ethernet"}


# ------------------------------------------------------------ NVSP


class Owner:
    """The channel on which a guest's buffers are, which are of 1 MiB each."""

    def __init__(self) -> None:
        self.memory = GuestMemory(4 * MIB)

    def gpadl(self, handle: int) -> tuple[GpaRange]:
        return (GpaRange(MIB, 0, tuple(range(256 * handle, 256 * handle + 256))),)


def nvsp(kind: NvspType, body: Struct) -> bytes:
    return wire.message(kind, body, wire.Version.V61)


def handshake(*exchanges: tuple[bytes, bytes]) -> tuple[RecordedHandshake, Result]:
    """One with these recorded requests and answers."""
    result = Result()
    events: list[RingPacket] = []
    for number, (request, answer) in enumerate(exchanges):
        about = (AdapterReplay.interface, 0, True)
        asked = RingPacket(0, 0, 1, "NIC", False, 6, number, request, (), *about, sequence=2 * number + 1)
        events += [
            asked,
            RingPacket(0, 0, 1, "NIC", True, 11, number, answer, (), *about, cause=asked.sequence),
        ]
    device = RecordedDevice("NIC", AdapterReplay.interface, UUID(int=1), 1, list(events))
    made = RecordedHandshake(8)
    script, made.tables = nvsp_script(device)
    made.asked = Asked("nvsp", "NIC", script, result)
    return made, result


def init(low: int, high: int) -> bytes:
    return nvsp(NvspType.INIT, wire.Init(min_protocol_ver=low, max_protocol_ver=high))


def init_done(version: int, status: int) -> bytes:
    return nvsp(NvspType.INIT_COMPLETE, wire.InitComplete(negotiated_protocol_ver=version, status=status))


ONE = wire.Version.V61
GOOD, BAD = wire.Status.SUCCESS, wire.Status.FAIL
SEND = nvsp(NvspType.SEND_SEND_BUF, wire.SendSendBuffer(gpadl_handle=1, id=0))
RECEIVE = nvsp(NvspType.SEND_RECV_BUF, wire.SendReceiveBuffer(gpadl_handle=2, id=0xCAFE))
NDIS = nvsp(NvspType.SEND_NDIS_VER, wire.SendNdisVersion(ndis_major_ver=6, ndis_minor_ver=30))


def say(shake: RecordedHandshake, *requests: bytes) -> list[Reply]:
    owner = Owner()
    return [shake.receive(owner, memoryview(one)) for one in requests]


def test_a_version_that_the_recorded_host_refused_is_not_spoken() -> None:
    refused, taken = init_done(0, BAD), init_done(wire.Version.V4, GOOD)
    four = wire.Version.V4
    shake, result = handshake((init(ONE, ONE), refused), (init(four, four), taken))
    replies = say(shake, init(ONE, ONE))
    assert (replies[0].payload, shake.state, shake.version) == (refused, State.INIT, 0)
    replies = say(shake, init(four, four))
    assert (replies[0].payload, shake.state, shake.version) == (taken, State.SETUP, four)
    assert result.same and result.sent == 2


def test_the_send_buffer_has_the_sections_that_the_guest_was_told() -> None:
    done = wire.SendSendBufferComplete(status=GOOD, section_size=2048)
    shake, _ = handshake(
        (init(ONE, ONE), init_done(ONE, GOOD)), (SEND, nvsp(NvspType.SEND_SEND_BUF_COMPLETE, done))
    )
    say(shake, init(ONE, ONE), SEND)
    assert shake.send_buffer is not None
    assert (shake.send_buffer.piece_size, shake.send_buffer.count) == (2048, MIB // 2048)


def test_a_buffer_that_the_recorded_host_refused_is_none() -> None:
    none = wire.SendReceiveBufferComplete(status=BAD, num_sections=0, sections=b"")
    done = wire.SendSendBufferComplete(status=BAD, section_size=0)
    shake, _ = handshake(
        (init(ONE, ONE), init_done(ONE, GOOD)),
        (RECEIVE, nvsp(NvspType.SEND_RECV_BUF_COMPLETE, none)),
        (SEND, nvsp(NvspType.SEND_SEND_BUF_COMPLETE, done)),
    )
    say(shake, init(ONE, ONE), NDIS, RECEIVE, SEND)
    assert shake.receive_buffer is None and shake.send_buffer is None
    assert shake.state is State.SETUP


def test_sections_that_cannot_be_are_told_to_the_guest_and_not_believed() -> None:
    for size, count in ((0, 1), (16, 10), (1 << 31, 3)):
        section = wire.ReceiveBufferSection(offset=0, sub_alloc_size=size, num_sub_allocs=count, end_offset=9)
        told = nvsp(
            NvspType.SEND_RECV_BUF_COMPLETE,
            wire.SendReceiveBufferComplete(status=GOOD, num_sections=1, sections=section.pack()),
        )
        shake, _ = handshake((init(ONE, ONE), init_done(ONE, GOOD)), (RECEIVE, told))
        replies = say(shake, init(ONE, ONE), RECEIVE)
        assert replies[1].payload == told
        assert shake.receive_buffer is not None
        assert (shake.receive_buffer.piece_size, shake.receive_buffer.count) == (16 * KIB, count)


def test_as_many_subchannels_are_offered_as_were() -> None:
    asked = nvsp(NvspType.SUBCHANNEL, wire.SubchannelRequest(op=1, num_subchannels=3))
    good = wire.SendSendBufferComplete(status=GOOD, section_size=6144)
    for status, number, offered in ((GOOD, 2, 2), (BAD, 3, 0), (GOOD, 1 << 31, 8)):
        granted = nvsp(NvspType.SUBCHANNEL, wire.SubchannelComplete(status=status, num_subchannels=number))
        shake, _ = handshake(
            (init(ONE, ONE), init_done(ONE, GOOD)),
            (SEND, nvsp(NvspType.SEND_SEND_BUF_COMPLETE, good)),
            (asked, granted),
        )
        replies = say(shake, init(ONE, ONE), NDIS, RECEIVE, SEND, asked)
        assert (replies[-1].payload, replies[-1].subchannels) == (granted, offered)
        assert shake.subchannels == offered


def test_the_table_that_spreads_what_is_sent_is_the_recorded_one() -> None:
    shake, _ = handshake()
    shake.tables = (b"first", b"second")
    assert [shake.indirection_table() for _ in range(3)] == [b"first", b"second", b"second"]

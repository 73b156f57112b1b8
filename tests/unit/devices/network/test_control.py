"""RNDIS's control channel as a script: this message in, these messages out."""

from __future__ import annotations

import json

import pytest

from ringminus.devices.network.control import MAX_PACKETS, MAX_TRANSFER, OutOfOrder, RndisControl, State
from ringminus.devices.network.oid_wire import Oid, PacketFilter
from ringminus.devices.network.rndis_wire import (
    DeviceFlag,
    HaltRequest,
    InitializeRequest,
    KeepaliveRequest,
    Medium,
    MessageType,
    QueryRequest,
    ResetRequest,
    SetRequest,
    Status,
)
from ringminus.errors import GuestError
from support.rndis import ADDRESS, RndisGuest, decode, message

DIRECTED = int(PacketFilter.DIRECTED)
REQUESTS = {
    MessageType.QUERY: QueryRequest(
        req_id=7, oid=Oid.GEN_LINK_SPEED, info_buflen=0, info_buf_offset=0
    ).pack(),
    MessageType.SET: SetRequest(req_id=7, oid=Oid.GEN_LINK_SPEED, info_buflen=0, info_buf_offset=0).pack(),
    MessageType.SET_EX: SetRequest(req_id=7, oid=1, info_buflen=0, info_buf_offset=0).pack(),
    MessageType.RESET: ResetRequest().pack(),
    MessageType.KEEPALIVE: KeepaliveRequest(req_id=7).pack(),
}
"""What a guest sends after INIT."""


@pytest.fixture
def guest() -> RndisGuest:
    guest = RndisGuest()
    guest.initialize()
    return guest


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def test_a_guest_initializes_its_adapter() -> None:
    guest = RndisGuest()
    states = [guest.control.state]
    answer = guest.initialize()
    states.append(guest.control.state)
    assert states == [State.UNINITIALIZED, State.INITIALIZED]
    assert (answer.status, answer.major_ver, answer.minor_ver) == (Status.SUCCESS, 1, 0)
    assert (answer.dev_flags, answer.medium) == (DeviceFlag.CONNECTIONLESS, Medium.ETHERNET)
    assert (answer.max_pkt_per_msg, answer.max_xfer_size) == (MAX_PACKETS, MAX_TRANSFER)
    assert 1 << answer.pkt_alignment_factor == 8


def test_another_version_is_refused_and_the_guest_may_ask_for_ours() -> None:
    guest = RndisGuest()
    answer = guest.initialize(major=2)
    assert (answer.status, answer.major_ver) == (Status.BAD_VERSION, 1)
    assert guest.control.state is State.UNINITIALIZED
    assert guest.initialize().status == Status.SUCCESS


@pytest.mark.parametrize("kind", REQUESTS)
def test_before_init_nothing_else_is_allowed(kind: MessageType) -> None:
    guest = RndisGuest()
    with pytest.raises(OutOfOrder, match=f"{kind.name} in state UNINITIALIZED"):
        guest.send(kind, REQUESTS[kind])


@pytest.mark.parametrize("kind", REQUESTS)
def test_after_halt_nothing_but_init_is_allowed(kind: MessageType, guest: RndisGuest) -> None:
    guest.halt()
    with pytest.raises(OutOfOrder, match=f"{kind.name} in state HALTED"):
        guest.send(kind, REQUESTS[kind])
    assert guest.initialize().status == Status.SUCCESS


def test_a_second_init_is_an_error(guest: RndisGuest) -> None:
    with pytest.raises(OutOfOrder, match="INIT in state INITIALIZED"):
        guest.initialize()


@pytest.mark.parametrize(
    "kind", [MessageType.PACKET, MessageType.INDICATE, MessageType.QUERY_C, 0, 10, 0xFFFF_FFFF]
)
def test_what_no_guest_sends_is_an_error(kind: int, guest: RndisGuest) -> None:
    with pytest.raises(OutOfOrder):
        guest.send(kind, bytes(64))


def test_halt_is_allowed_always_and_has_no_answer() -> None:
    """Linux sends it also when INIT has failed."""
    guest = RndisGuest()
    guest.halt()
    guest.halt()
    assert guest.control.state is State.HALTED


def test_a_halt_forgets_what_the_guest_has_set_but_not_its_mtu(guest: RndisGuest) -> None:
    guest.control.mtu = 9000
    guest.set(Oid.GEN_CURRENT_PACKET_FILTER, number(DIRECTED))
    guest.halt()
    assert guest.control.packet_filter == 0
    assert guest.filters == [DIRECTED, 0]
    guest.initialize()
    assert guest.number(Oid.GEN_MAXIMUM_FRAME_SIZE) == 9000


def test_a_reset_begins_anew_except_for_the_address(guest: RndisGuest) -> None:
    """Linux closes the channel for a new MTU, and does not say again which address it has."""
    control = guest.control
    control.mtu = 9000
    control.take_address(bytes.fromhex("021122334455"))
    guest.set(Oid.GEN_CURRENT_PACKET_FILTER, number(DIRECTED))
    control.reset()
    assert (control.state, control.mtu, control.packet_filter) == (State.UNINITIALIZED, 1500, 0)
    assert control.address == bytes.fromhex("021122334455")
    assert control.permanent_address == ADDRESS


def test_a_keepalive_is_answered(guest: RndisGuest) -> None:
    ((kind, answer, _),) = guest.send(MessageType.KEEPALIVE, REQUESTS[MessageType.KEEPALIVE])
    assert (kind, answer.req_id, answer.status) == (MessageType.KEEPALIVE_C, 7, Status.SUCCESS)


def test_rndis_reset_leaves_everything_as_it_is_and_says_so(guest: RndisGuest) -> None:
    guest.set(Oid.GEN_CURRENT_PACKET_FILTER, number(DIRECTED))
    ((kind, answer, _),) = guest.send(MessageType.RESET, REQUESTS[MessageType.RESET])
    assert (kind, answer.status, answer.addressing_reset) == (MessageType.RESET_C, Status.SUCCESS, 0)
    assert guest.control.packet_filter == DIRECTED


def test_sets_with_an_answer_are_not_supported(guest: RndisGuest) -> None:
    ((kind, answer, _),) = guest.send(MessageType.SET_EX, REQUESTS[MessageType.SET_EX])
    assert (kind, answer.req_id, answer.status) == (MessageType.SET_EX_C, 7, Status.NOT_SUPPORTED)


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", 0),
        (b"", 7),
        (KeepaliveRequest(req_id=1).pack(), 13),
        (KeepaliveRequest(req_id=1).pack(), 11),
        (KeepaliveRequest(req_id=1).pack(), 8),
        (KeepaliveRequest(req_id=1).pack(), 0xFFFF_FFFF),
    ],
)
def test_a_message_that_lies_about_its_length_is_an_error(
    body: bytes, length: int, guest: RndisGuest
) -> None:
    with pytest.raises(GuestError):
        guest.control.receive(memoryview(message(MessageType.KEEPALIVE, body, length)))


def test_bytes_after_a_message_do_not_count(guest: RndisGuest) -> None:
    """A guest may name whole pages."""
    whole = message(MessageType.KEEPALIVE, KeepaliveRequest(req_id=9).pack()) + bytes(100)
    (answer,) = guest.control.receive(memoryview(whole))
    assert decode(answer)[1].req_id == 9


def test_half_a_header_is_an_error(guest: RndisGuest) -> None:
    with pytest.raises(GuestError):
        guest.control.receive(memoryview(b"\2\0\0\0\x18"))


@pytest.mark.parametrize(
    "body", [InitializeRequest(req_id=1, max_xfer_size=0).pack()[:-1], HaltRequest(req_id=1).pack()[:0]]
)
def test_a_body_that_is_too_short_is_an_error(body: bytes) -> None:
    with pytest.raises(GuestError):
        RndisGuest().send(MessageType.INIT, body)


@pytest.mark.parametrize("kind", [MessageType.QUERY, MessageType.SET, MessageType.SET_EX])
@pytest.mark.parametrize(
    ("length", "offset"),
    [(4, 21), (5, 20), (4, 19), (4, 0), (1, 24), (0xFFFF_FFFF, 20), (4, 0xFFFF_FFFF), (0xFFFF_FFF0, 0x10)],
)
def test_an_information_buffer_outside_of_its_message_is_an_error(
    kind: MessageType, length: int, offset: int, guest: RndisGuest
) -> None:
    oid = Oid.GEN_CURRENT_PACKET_FILTER
    request = QueryRequest(req_id=1, oid=oid, info_buflen=length, info_buf_offset=offset)
    with pytest.raises(GuestError, match="information buffer"):
        guest.send(kind, request.pack() + bytes(4))


def test_an_empty_information_buffer_is_nowhere(guest: RndisGuest) -> None:
    request = QueryRequest(
        req_id=1, oid=Oid.GEN_LINK_SPEED, info_buflen=0, info_buf_offset=0xFFFF_FFFF
    ).pack()
    ((_, answer, _),) = guest.send(MessageType.QUERY, request)
    assert answer.status == Status.SUCCESS


# ------------------------------------------------------------------ the link


def told(guest: RndisGuest, up: bool, megabits: int) -> list[tuple[Status, int]]:
    """What the guest is told of its link: statuses, and the numbers that come with them."""
    found = [decode(one) for one in guest.control.link_messages(up, megabits)]
    assert all(kind is MessageType.INDICATE for kind, _, _ in found)
    return [(Status(body.status), int.from_bytes(info, "little")) for _, body, info in found]


def test_a_link_that_comes_up_is_told_with_its_speed_first(guest: RndisGuest) -> None:
    assert guest.number(Oid.GEN_MEDIA_CONNECT_STATUS) == 1
    assert told(guest, True, 10_000) == [
        (Status.LINK_SPEED_CHANGE, 100_000_000),
        (Status.MEDIA_CONNECT, 0),
    ]
    assert guest.number(Oid.GEN_MEDIA_CONNECT_STATUS) == 0
    assert guest.number(Oid.GEN_LINK_SPEED) == 100_000_000


def test_only_what_changed_is_told(guest: RndisGuest) -> None:
    told(guest, True, 1000)
    assert told(guest, True, 1000) == []
    assert told(guest, False, 1000) == [(Status.MEDIA_DISCONNECT, 0)]
    assert told(guest, False, 100) == [(Status.LINK_SPEED_CHANGE, 1_000_000)]
    assert told(guest, True, 100) == [(Status.MEDIA_CONNECT, 0)]


def test_before_init_nothing_is_told_but_a_query_knows_it() -> None:
    guest = RndisGuest()
    assert guest.control.link_messages(True, 25_000) == []
    guest.initialize()
    assert guest.number(Oid.GEN_MEDIA_CONNECT_STATUS) == 0
    assert guest.number(Oid.GEN_LINK_SPEED) == 250_000_000


def test_a_speed_beyond_what_32_bits_hold_is_the_largest(guest: RndisGuest) -> None:
    told(guest, True, 800_000)
    assert guest.number(Oid.GEN_LINK_SPEED) == 0xFFFF_FFFF


# ------------------------------------------------------------------ state


def test_a_saved_adapter_goes_on_as_it_was(guest: RndisGuest) -> None:
    guest.set(Oid.GEN_CURRENT_PACKET_FILTER, number(PacketFilter.DIRECTED | PacketFilter.MULTICAST))
    guest.set(Oid.E802_3_MULTICAST_LIST, bytes.fromhex("01005e000001"))
    guest.set(Oid.GEN_CURRENT_LOOKAHEAD, number(100))
    guest.control.mtu = 9000
    guest.control.link_messages(True, 1000)
    state = guest.control.save()
    other = RndisControl(ADDRESS, "x", largest_mtu=65521, subchannels=3)
    other.restore(state)
    assert other.save() == state
    again = RndisGuest(other)
    assert again.number(Oid.GEN_MAXIMUM_FRAME_SIZE) == 9000
    assert again.number(Oid.GEN_LINK_SPEED) == 10_000_000
    assert again.ask(Oid.E802_3_MULTICAST_LIST) == bytes.fromhex("01005e000001")
    assert other.accepts(bytes.fromhex("01005e000001"))
    assert not other.accepts(bytes.fromhex("01005e000002"))


def test_a_saved_state_is_plain_data(guest: RndisGuest) -> None:
    json.dumps(guest.control.save(), default=bytes.hex)

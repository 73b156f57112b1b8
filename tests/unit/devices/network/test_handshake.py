"""NVSP's handshake as a script: this message in, this answer out."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from ringminus.devices.network import wire
from ringminus.devices.network.handshake import Handshake, OutOfOrder, Reply, State
from ringminus.devices.network.wire import Capability, MessageType, Status, Version
from ringminus.errors import GuestError
from ringminus.memory import KIB, MIB, PAGE_SIZE, GuestMemory
from ringminus.vmbus.gpa import GpaRange
from ringminus.wire import Struct

RECEIVE, SEND = 0x10, 0x11
BODIES: dict[int, Struct] = {
    MessageType.INIT: wire.Init(min_protocol_ver=Version.V61, max_protocol_ver=Version.V61),
    MessageType.SEND_NDIS_CONFIG: wire.SendNdisConfig(mtu=1514, capability=Capability.IEEE8021Q),
    MessageType.SEND_NDIS_VER: wire.SendNdisVersion(ndis_major_ver=6, ndis_minor_ver=30),
    MessageType.SEND_RECV_BUF: wire.SendReceiveBuffer(gpadl_handle=RECEIVE, id=0xCAFE),
    MessageType.REVOKE_RECV_BUF: wire.RevokeReceiveBuffer(id=0xCAFE),
    MessageType.SEND_SEND_BUF: wire.SendSendBuffer(gpadl_handle=SEND, id=0),
    MessageType.REVOKE_SEND_BUF: wire.RevokeSendBuffer(id=0),
    MessageType.SWITCH_DATA_PATH: wire.SwitchDataPath(active_datapath=1),
    MessageType.SUBCHANNEL: wire.SubchannelRequest(op=1, num_subchannels=3),
    MessageType.PD_API: wire.PdApiRequest(op=1),
}
SETTING_UP = (
    MessageType.SEND_NDIS_CONFIG,
    MessageType.SEND_NDIS_VER,
    MessageType.SEND_RECV_BUF,
    MessageType.SEND_SEND_BUF,
)
ALLOWED = {
    State.INIT: {MessageType.INIT},
    State.SETUP: {*SETTING_UP, MessageType.SWITCH_DATA_PATH},
    State.READY: {
        MessageType.REVOKE_RECV_BUF,
        MessageType.REVOKE_SEND_BUF,
        MessageType.SWITCH_DATA_PATH,
        MessageType.OID_QUERY_EX,
        MessageType.SUBCHANNEL,
        MessageType.PD_API,
    },
}


class Owner:
    """A channel with GPADLs: a receive buffer of 1 MiB, a send buffer of 128 KiB."""

    def __init__(self) -> None:
        self.memory = GuestMemory(4 * MIB)
        self.gpadls = {
            RECEIVE: [GpaRange(1 * MIB, 0, range(16, 16 + 256))],
            SEND: [GpaRange(128 * KIB, 0, range(512, 512 + 32))],
        }

    def gpadl(self, handle: int) -> Sequence[GpaRange]:
        if handle not in self.gpadls:
            raise GuestError(f"there is no GPADL {handle:#x}")
        return self.gpadls[handle]


OWNER = Owner()


def send(handshake: Handshake, kind: int, body: Struct | bytes | None = None) -> Reply:
    body = BODIES.get(kind, b"") if body is None else body
    packed = body if isinstance(body, bytes) else body.pack()
    payload = struct.pack("<I", kind) + packed
    return handshake.receive(OWNER, memoryview(payload.ljust(40, b"\0")))


def shaken(version: int = Version.V61, subchannels: int = 7) -> Handshake:
    """After INIT."""
    handshake = Handshake(subchannels)
    send(handshake, MessageType.INIT, wire.Init(min_protocol_ver=version, max_protocol_ver=version))
    return handshake


def ready(version: int = Version.V61, subchannels: int = 7) -> Handshake:
    handshake = shaken(version, subchannels)
    for kind in SETTING_UP[version == Version.V1 :]:
        send(handshake, kind)
    assert handshake.state is State.READY
    return handshake


def in_state(state: State) -> Handshake:
    if state is State.INIT:
        return Handshake(7)
    return shaken() if state is State.SETUP else ready()


@pytest.mark.parametrize("version", Version)
def test_a_guest_of_each_version_gets_through(version: Version) -> None:
    handshake = Handshake()
    asked = wire.Init(min_protocol_ver=version, max_protocol_ver=version)
    reply = send(handshake, MessageType.INIT, asked)
    assert len(reply.payload) == (40 if version == Version.V61 else 28)
    assert struct.unpack_from("<IIII", reply.payload) == (2, version, 34, Status.SUCCESS)
    if version > Version.V1:
        assert send(handshake, MessageType.SEND_NDIS_CONFIG) == Reply()
    assert send(handshake, MessageType.SEND_NDIS_VER) == Reply()
    assert handshake.state is State.SETUP
    assert send(handshake, MessageType.SEND_RECV_BUF).payload[:8] == struct.pack("<II", 102, 1)
    assert send(handshake, MessageType.SEND_SEND_BUF).payload[:12] == struct.pack("<III", 105, 1, 6144)
    assert (handshake.state, handshake.version) == (State.READY, version)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (0x60002, 0x70000, Status.PROTOCOL_TOO_NEW),
        (0, 1, Status.PROTOCOL_TOO_OLD),
        (0x30003, 0x30003, Status.PROTOCOL_UNSUPPORTED),
        (Version.V61, Version.V1, Status.PROTOCOL_UNSUPPORTED),
    ],
)
def test_other_versions_are_refused_and_the_guest_may_ask_for_the_next(
    low: int, high: int, status: Status
) -> None:
    handshake = Handshake()
    asked = wire.Init(min_protocol_ver=low, max_protocol_ver=high)
    assert wire.InitComplete.unpack(send(handshake, MessageType.INIT, asked).payload, 4).status == status
    assert handshake.state is State.INIT
    send(handshake, MessageType.INIT)
    assert handshake.version == Version.V61


def test_of_a_range_of_versions_the_newest_is_taken() -> None:
    handshake = Handshake()
    asked = wire.Init(min_protocol_ver=Version.V1, max_protocol_ver=0x5FFFF)
    answer = wire.InitComplete.unpack(send(handshake, MessageType.INIT, asked).payload, 4)
    assert answer.negotiated_protocol_ver == handshake.version == Version.V5


@pytest.mark.parametrize("state", State)
def test_what_a_state_does_not_allow_is_an_error_that_names_both(state: State) -> None:
    for kind in {*range(140)} - ALLOWED[state]:
        handshake = in_state(state)
        if state is State.SETUP and kind in (MessageType.REVOKE_RECV_BUF, MessageType.REVOKE_SEND_BUF):
            continue  # may be sent, when there is a buffer
        with pytest.raises(OutOfOrder, match=f"in state {state.name}") as caught:
            send(handshake, kind)
        named = MessageType(kind).name if kind in set(MessageType) else f"message {kind}"
        assert str(caught.value).startswith(named)
        assert handshake.state is state


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        (Version.V1, MessageType.SEND_NDIS_CONFIG),
        (Version.V2, MessageType.SWITCH_DATA_PATH),
        (Version.V4, MessageType.OID_QUERY_EX),
        (Version.V4, MessageType.SUBCHANNEL),
        (Version.V6, MessageType.PD_API),
    ],
)
def test_messages_of_later_versions_are_errors(version: Version, kind: MessageType) -> None:
    handshake = shaken(version) if kind == MessageType.SEND_NDIS_CONFIG else ready(version)
    with pytest.raises(OutOfOrder, match=f"{kind.name} in state .* of version {version:#x}"):
        send(handshake, kind)


@pytest.mark.parametrize("kind", SETTING_UP)
def test_nothing_is_set_up_twice(kind: MessageType) -> None:
    handshake = shaken()
    send(handshake, kind)
    with pytest.raises(OutOfOrder, match=f"{kind.name} in state SETUP: "):
        send(handshake, kind)


def test_a_message_cut_short_is_an_error() -> None:
    for kind, body in BODIES.items():
        handshake = shaken() if kind in SETTING_UP else ready()
        handshake = Handshake() if kind == MessageType.INIT else handshake
        for length in range(4 + body.SIZE):
            payload = (struct.pack("<I", kind) + body.pack())[:length]
            with pytest.raises(GuestError, match="bytes"):
                handshake.receive(OWNER, memoryview(payload))


@pytest.mark.parametrize("mtu", [0, 81, 65536, 0xFFFFFFFF])
def test_frames_that_no_network_has_are_refused(mtu: int) -> None:
    with pytest.raises(GuestError, match=f"frames of {mtu} bytes"):
        send(shaken(), MessageType.SEND_NDIS_CONFIG, wire.SendNdisConfig(mtu=mtu, capability=0))


@pytest.mark.parametrize(
    ("mtu", "size"), [(1514, 16 * KIB), (9014, 16 * KIB), (16200, 20 * KIB), (65535, 68 * KIB)]
)
def test_the_receive_buffer_is_one_section_of_pieces_that_take_a_frame(mtu: int, size: int) -> None:
    handshake = shaken()
    send(handshake, MessageType.SEND_NDIS_CONFIG, wire.SendNdisConfig(mtu=mtu, capability=0))
    reply = send(handshake, MessageType.SEND_RECV_BUF)
    answer = wire.SendReceiveBufferComplete.unpack(reply.payload, 4)
    section = wire.ReceiveBufferSection.unpack(answer.sections)
    count = 1 * MIB // size
    assert (answer.status, answer.num_sections) == (Status.SUCCESS, 1)
    assert section == wire.ReceiveBufferSection(
        offset=0, sub_alloc_size=size, num_sub_allocs=count, end_offset=count * size
    )


def test_a_buffer_that_holds_no_frame_is_refused_and_another_may_follow() -> None:
    handshake = shaken()
    OWNER.gpadls[0x20] = [GpaRange(PAGE_SIZE, 0, (20,))]
    small = wire.SendReceiveBuffer(gpadl_handle=0x20, id=1)
    reply = send(handshake, MessageType.SEND_RECV_BUF, small)
    answer = wire.SendReceiveBufferComplete.unpack(reply.payload, 4)
    assert (answer.status, answer.num_sections) == (Status.FAIL, 0)
    assert handshake.receive_buffer is None
    send(handshake, MessageType.SEND_RECV_BUF)


def test_a_buffer_is_one_range_of_a_gpadl_of_the_channel() -> None:
    OWNER.gpadls[0x21] = [GpaRange(PAGE_SIZE, 0, (20,)), GpaRange(PAGE_SIZE, 0, (22,))]
    for kind, structure in (
        (MessageType.SEND_RECV_BUF, wire.SendReceiveBuffer),
        (MessageType.SEND_SEND_BUF, wire.SendSendBuffer),
    ):
        with pytest.raises(GuestError, match="no GPADL 0x99"):
            send(shaken(), kind, structure(gpadl_handle=0x99, id=1))
        with pytest.raises(GuestError, match="a buffer of 2 ranges"):
            send(shaken(), kind, structure(gpadl_handle=0x21, id=1))


@pytest.mark.parametrize("kind", [MessageType.REVOKE_RECV_BUF, MessageType.REVOKE_SEND_BUF])
def test_a_revoked_buffer_closes_the_data_path_until_there_is_another(kind: MessageType) -> None:
    handshake = ready()
    assert send(handshake, kind) == Reply()
    assert handshake.state.name == "SETUP"
    with pytest.raises(GuestError, match="which is none"):
        send(handshake, kind)
    receive = kind is MessageType.REVOKE_RECV_BUF
    send(handshake, MessageType.SEND_RECV_BUF if receive else MessageType.SEND_SEND_BUF)
    assert handshake.state is State.READY


@pytest.mark.parametrize("kind", [MessageType.REVOKE_RECV_BUF, MessageType.REVOKE_SEND_BUF])
def test_only_what_was_given_can_be_revoked(kind: MessageType) -> None:
    handshake = ready()
    with pytest.raises(GuestError, match="0x7, which is none"):
        send(handshake, kind, wire.RevokeSendBuffer(id=7))
    with pytest.raises(GuestError, match="which is none"):
        send(shaken(), kind)
    assert handshake.state is State.READY


@pytest.mark.parametrize("handle", [RECEIVE, SEND])
def test_a_gpadl_that_is_torn_down_takes_its_buffer_along(handle: int) -> None:
    handshake = ready()
    assert not handshake.lose(0x99) and handshake.state.name == "READY"
    assert handshake.lose(handle) and handshake.state.name == "SETUP"
    assert (handshake.receive_buffer is None) == (handle == RECEIVE)
    assert (handshake.send_buffer is None) == (handle == SEND)
    assert not handshake.lose(handle)


def test_there_is_no_other_data_path() -> None:
    """The guest waits for an answer without a body, whatever it asked for."""
    assert send(ready(), MessageType.SWITCH_DATA_PATH) == Reply()
    assert send(ready(), MessageType.SWITCH_DATA_PATH, wire.SwitchDataPath(active_datapath=0)) == Reply()


def test_what_is_windows_alone_is_refused() -> None:
    oid = send(ready(), MessageType.OID_QUERY_EX, b"anything").payload
    assert struct.unpack_from("<III", oid) == (132, 0xC00000BB, 0)
    for operation in (1, 3, 99):
        packet_direct = send(ready(), MessageType.PD_API, wire.PdApiRequest(op=operation)).payload
        assert struct.unpack_from("<III", packet_direct) == (135, operation, 0xC00000BB)
        assert packet_direct[12:] == bytes(28)


def subchannels(handshake: Handshake, count: int, operation: int = 1) -> tuple[int, int, int]:
    asked = wire.SubchannelRequest(op=operation, num_subchannels=count)
    reply = send(handshake, MessageType.SUBCHANNEL, asked)
    answer = wire.SubchannelComplete.unpack(reply.payload, 4)
    assert reply.payload[:4] == struct.pack("<I", 133)
    return answer.status, answer.num_subchannels, reply.subchannels


def test_sub_channels_are_granted_once_and_up_to_the_limit() -> None:
    handshake = ready(subchannels=4)
    assert subchannels(handshake, 0) == (Status.FAIL, 0, 0)
    assert subchannels(handshake, 3, operation=2) == (Status.FAIL, 0, 0)
    assert subchannels(handshake, 3) == (Status.SUCCESS, 3, 3)
    assert subchannels(handshake, 1) == (Status.FAIL, 0, 0)
    assert handshake.subchannels == 3
    assert subchannels(ready(subchannels=4), 64) == (Status.SUCCESS, 4, 4)
    assert subchannels(ready(subchannels=0), 1) == (Status.FAIL, 0, 0)


@pytest.mark.parametrize(("version", "offset"), [(Version.V5, 28), (Version.V61, 40)])
def test_the_indirection_table_goes_round_the_channels(version: Version, offset: int) -> None:
    """Behind the message, where Linux looks for it in any version."""
    handshake = ready(version)
    subchannels(handshake, 2)
    message = handshake.indirection_table()
    assert struct.unpack_from("<III", message) == (134, 16, offset)
    assert struct.unpack_from("<16I", message, offset) == (0, 1, 2) * 5 + (0,)
    assert len(message) == offset + 64


@pytest.mark.parametrize("state", State)
def test_any_state_is_the_same_when_restored(state: State) -> None:
    handshake, again = in_state(state), Handshake(7)
    if state is State.READY:
        subchannels(handshake, 2)
    again.restore(handshake.save(), OWNER)
    assert again.save() == handshake.save()
    assert again.state is state
    assert (again.receive_buffer is None) == (handshake.receive_buffer is None)

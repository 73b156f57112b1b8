"""RNDIS's control channel as a state machine: a message of the guest in, messages for it out.

    UNINITIALIZED or HALTED --INIT--> INITIALIZED --QUERY, SET, SET_EX, RESET, KEEPALIVE--> INITIALIZED
    any state --HALT--> HALTED

A message that its state does not allow, or whose lengths and offsets lie, is an error. A query or set that
cannot be answered gets a status, and the guest goes on. What the objects mean is in `oids`.

Source: Microsoft's "Remote NDIS Specification"; Linux's drivers/net/hyperv/rndis_filter.c for what a guest
does with the answers."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from ringminus.devices.network import oids
from ringminus.devices.network.objects import Refused
from ringminus.devices.network.offloads import Offloads
from ringminus.devices.network.oid_wire import NUMBER, PacketFilter
from ringminus.devices.network.oids import Link, Statistics
from ringminus.devices.network.rndis_wire import (
    HEADER_SIZE,
    MAJOR_VERSION,
    IndicateStatus,
    InitializeComplete,
    InitializeRequest,
    KeepaliveComplete,
    KeepaliveRequest,
    MessageHeader,
    MessageType,
    QueryComplete,
    QueryRequest,
    ResetComplete,
    ResetRequest,
    SetComplete,
    SetExComplete,
    SetRequest,
    Status,
)
from ringminus.devices.network.rss import ReceiveSideScaling, RssSettings
from ringminus.errors import GuestError
from ringminus.switch.port import BROADCAST
from ringminus.wire import Struct

DEFAULT_MTU = 1500
MAX_PACKETS = 32
"""Packet messages that a guest may put into one buffer; Hyper-V says 8."""
MAX_TRANSFER = 0xEFFF_FFFF
"""Bytes of such a buffer, as Hyper-V says it: what bounds a guest is its send buffer's section."""
ALIGNMENT_FACTOR = 3
"""Each message in it begins at a multiple of 1 << 3 bytes."""
LARGEST_MESSAGE = 1024
"""Bytes of the largest message that `RndisControl` gives."""


class State(enum.Enum):
    """RNDIS's states of a device."""

    UNINITIALIZED = "uninitialized"
    INITIALIZED = "initialized"
    HALTED = "halted"


class OutOfOrder(GuestError):
    """A message that its state does not allow, or that no guest sends."""

    def __init__(self, state: State, kind: int) -> None:
        known = kind in MessageType.__members__.values()
        name = MessageType(kind).name if known else f"message type {kind:#x}"
        super().__init__(f"RNDIS {name} in state {state.name}")


def encode(kind: MessageType, body: Struct, info: bytes = b"") -> bytes:
    """A whole message."""
    packed = body.pack() + info
    return MessageHeader(ndis_msg_type=kind, msg_len=HEADER_SIZE + len(packed)).pack() + packed


def indication(status: Status, info: bytes = b"") -> bytes:
    """An INDICATE message."""
    offset = IndicateStatus.SIZE if info else 0
    body = IndicateStatus(status=status, status_buflen=len(info), status_buf_offset=offset)
    return encode(MessageType.INDICATE, body, info)


class RndisControl:
    """The adapter's RNDIS device. `address` is its MAC address, `title` the name that the guest sees,
    `largest_mtu` bounds what it may have, `subchannels` are those that the guest may ask for.

    For the data path: `state`, `packet_filter` and `multicast` (`accepts` has them together), `offloads`,
    `rss`, `address`. The adapter sets `mtu` and `ndis_version` from what NVSP says of them, and gives
    `on_address`, `on_filter` and `statistics`."""

    state: State
    address: bytes
    permanent_address: bytes
    mtu: int
    ndis_version: tuple[int, int]
    packet_filter: int
    multicast: frozenset[bytes]
    lookahead: int
    protocol_options: int
    link: Link
    offloads: Offloads
    rss_settings: RssSettings

    def __init__(self, address: bytes, title: str, *, largest_mtu: int, subchannels: int) -> None:
        self.permanent_address = self.address = bytes(address)
        self.title = title
        self.largest_mtu = largest_mtu
        self.link = Link(up=False, megabits=0)
        self.on_address: Callable[[bytes], None] = lambda _: None
        """The guest has given itself another MAC address."""
        self.on_filter: Callable[[int], None] = lambda _: None
        """The guest wants other frames: `packet_filter` or `multicast` is another one."""
        self.statistics: Callable[[], Statistics] = Statistics
        self.rss_settings = RssSettings(subchannels + 1)
        self.packet_filter = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew: the guest closed the channel. For a new MTU Linux does so too, and it does not say
        again which address it has; a driver that is loaded anew is back at the permanent one, and does not
        say that either. So both are the guest's until it sets one."""
        self.mtu = min(DEFAULT_MTU, self.largest_mtu)
        self.ndis_version = oids.NEWEST_NDIS
        self._stop(State.UNINITIALIZED)

    def _stop(self, state: State) -> None:
        """Forget what the guest has set."""
        self.state = state
        filtered, self.packet_filter = self.packet_filter, 0
        self.multicast = frozenset()
        self.lookahead = 0
        self.protocol_options = 0
        self.offloads = Offloads()
        self.rss_settings.reset()
        self._own: tuple[bytes, ...] = (self.address, self.permanent_address)
        if filtered:
            self.on_filter(0)

    @property
    def rss(self) -> ReceiveSideScaling | None:
        """Receive side scaling as the guest has set it; None while it is off."""
        return self.rss_settings.active

    def accepts(self, destination: bytes) -> bool:
        """Whether the guest wants a frame for this address."""
        wanted = self.packet_filter
        if wanted & _PROMISCUOUS:
            return True
        if destination in self._own:
            return bool(wanted & _DIRECTED)
        if destination == BROADCAST:
            return bool(wanted & _BROADCAST)
        if not destination or not destination[0] & 1:
            return False
        return bool(wanted & _ALL_MULTICAST or (wanted & _MULTICAST and destination in self.multicast))

    def take_address(self, address: bytes) -> None:
        """The guest sets its address."""
        self._own = (address,)
        if address != self.address:
            self.address = address
            self.on_address(address)

    def receive(self, message: memoryview | bytes) -> list[bytes]:
        """Take one whole control message; returns the messages for the guest, in order. Raises
        `GuestError`."""
        data = bytes(message)
        header = MessageHeader.unpack(data)
        if not HEADER_SIZE <= header.msg_len <= len(data):
            raise GuestError(
                f"an RNDIS message says that it has {header.msg_len} bytes, {len(data)} are there"
            )
        step = STEPS.get((self.state, header.ndis_msg_type))
        if step is None:
            raise OutOfOrder(self.state, header.ndis_msg_type)
        return step(self, data[HEADER_SIZE : header.msg_len])

    def _initialize(self, body: bytes) -> list[bytes]:
        request = InitializeRequest.unpack(body)
        status = Status.BAD_VERSION
        if request.major_ver == MAJOR_VERSION:
            status = Status.SUCCESS
            self.state = State.INITIALIZED
        answer = InitializeComplete(
            req_id=request.req_id,
            status=status,
            max_pkt_per_msg=MAX_PACKETS,
            max_xfer_size=MAX_TRANSFER,
            pkt_alignment_factor=ALIGNMENT_FACTOR,
        )
        return [encode(MessageType.INIT_C, answer)]

    def _halt(self, body: bytes) -> list[bytes]:
        self._stop(State.HALTED)
        return []

    def _query(self, body: bytes) -> list[bytes]:
        request = QueryRequest.unpack(body)
        info = _information(body, request)
        try:
            found, status = oids.query(self, request.oid, info), Status.SUCCESS
        except Refused as refused:
            found, status = b"", refused.status
        answer = QueryComplete(
            req_id=request.req_id, status=status, info_buflen=len(found), info_buf_offset=QueryComplete.SIZE
        )
        return [encode(MessageType.QUERY_C, answer, found)]

    def _set(self, body: bytes) -> list[bytes]:
        request = SetRequest.unpack(body)
        info = _information(body, request)
        before, status = self.offloads.save(), Status.SUCCESS
        try:
            oids.change(self, request.oid, info)
        except Refused as refused:
            status = refused.status
        answers = [encode(MessageType.SET_C, SetComplete(req_id=request.req_id, status=status))]
        if self.offloads.save() != before:
            current = self.offloads.describe(oids.offload_revision(self))
            answers.append(indication(Status.TASK_OFFLOAD_CURRENT_CONFIG, current))
        return answers

    def _set_ex(self, body: bytes) -> list[bytes]:
        """Sets that have an answer: those of Windows's, none of which we know."""
        request = SetRequest.unpack(body)
        _information(body, request)
        answer = SetExComplete(
            req_id=request.req_id,
            status=Status.NOT_SUPPORTED,
            info_buflen=0,
            info_buf_offset=SetExComplete.SIZE,
        )
        return [encode(MessageType.SET_EX_C, answer)]

    def _reset(self, body: bytes) -> list[bytes]:
        """Nothing is outstanding here and no hardware may hang, so there is nothing to do, and what the guest
        has set holds."""
        ResetRequest.unpack(body)
        return [encode(MessageType.RESET_C, ResetComplete(status=Status.SUCCESS, addressing_reset=0))]

    def _keepalive(self, body: bytes) -> list[bytes]:
        request = KeepaliveRequest.unpack(body)
        answer = KeepaliveComplete(req_id=request.req_id, status=Status.SUCCESS)
        return [encode(MessageType.KEEPALIVE_C, answer)]

    def link_messages(self, up: bool, megabits: int) -> list[bytes]:
        """The link is like this now; returns what the guest is to be told. The speed comes first, so that it
        is known when the link comes up."""
        before, self.link = self.link, Link(up, megabits)
        if self.state is not State.INITIALIZED:
            return []
        messages = []
        if megabits != before.megabits:
            speed = NUMBER.pack(self.link.hundreds_of_bits)
            messages.append(indication(Status.LINK_SPEED_CHANGE, speed))
        if up != before.up:
            messages.append(indication(Status.MEDIA_CONNECT if up else Status.MEDIA_DISCONNECT))
        return messages

    def save(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "state": self.state.name,
            "address": self.address,
            "own": list(self._own),
            "mtu": self.mtu,
            "ndis_version": list(self.ndis_version),
            "packet_filter": self.packet_filter,
            "multicast": sorted(self.multicast),
            "lookahead": self.lookahead,
            "protocol_options": self.protocol_options,
            "link": [self.link.up, self.link.megabits],
            "offloads": self.offloads.save(),
            "rss": self.rss_settings.save(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave. No callback is called."""
        self.state = State[state["state"]]
        self.address = state["address"]
        self._own = tuple(state["own"])
        self.mtu = state["mtu"]
        major, minor = state["ndis_version"]
        self.ndis_version = (major, minor)
        self.packet_filter = state["packet_filter"]
        self.multicast = frozenset(state["multicast"])
        self.lookahead = state["lookahead"]
        self.protocol_options = state["protocol_options"]
        self.link = Link(*state["link"])
        self.offloads.restore(state["offloads"])
        self.rss_settings.restore(state["rss"])


_DIRECTED, _MULTICAST = int(PacketFilter.DIRECTED), int(PacketFilter.MULTICAST)
_ALL_MULTICAST, _BROADCAST = int(PacketFilter.ALL_MULTICAST), int(PacketFilter.BROADCAST)
_PROMISCUOUS = int(PacketFilter.PROMISCUOUS)


def _information(body: bytes, request: QueryRequest | SetRequest) -> bytes:
    """The information buffer of a request; raises `GuestError`."""
    length, offset = request.info_buflen, request.info_buf_offset
    if not length:
        return b""
    if offset < request.SIZE or offset + length > len(body):
        raise GuestError(
            f"an information buffer of {length} bytes at {offset} of an RNDIS message's {len(body)} bytes"
        )
    return body[offset : offset + length]


STEPS: dict[tuple[State, int], Callable[[RndisControl, bytes], list[bytes]]] = {
    (State.UNINITIALIZED, MessageType.INIT): RndisControl._initialize,
    (State.HALTED, MessageType.INIT): RndisControl._initialize,
    (State.UNINITIALIZED, MessageType.HALT): RndisControl._halt,
    (State.INITIALIZED, MessageType.HALT): RndisControl._halt,
    (State.HALTED, MessageType.HALT): RndisControl._halt,
    (State.INITIALIZED, MessageType.QUERY): RndisControl._query,
    (State.INITIALIZED, MessageType.SET): RndisControl._set,
    (State.INITIALIZED, MessageType.SET_EX): RndisControl._set_ex,
    (State.INITIALIZED, MessageType.RESET): RndisControl._reset,
    (State.INITIALIZED, MessageType.KEEPALIVE): RndisControl._keepalive,
}

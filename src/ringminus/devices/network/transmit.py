"""From a guest's RNDIS messages to frames.

A packet of the guest carries RNDIS packet messages one after another; each has a frame, and per-packet infos
that say what the guest has left for the adapter to do. What is left undone stays so in the `Frame`, except
what a frame's maker has to do: IP lengths and the IPv4 header's checksum.

What comes in here was copied out of guest memory before, once, so that it does not change while it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ringminus.devices.network import rndis_wire
from ringminus.devices.network.counters import AdapterCounters
from ringminus.devices.network.rndis_wire import (
    HEADER_SIZE,
    INFO_HEADER,
    INFO_WORD,
    InfoType,
    LargeSend,
    MessageType,
    TransmitChecksum,
)
from ringminus.errors import GuestError
from ringminus.switch import wire as frame_wire
from ringminus.switch.checksum import ipv4_header
from ringminus.switch.frame import LARGEST_FRAME, Checksum, Frame
from ringminus.switch.headers import NETWORK, UNKNOWN, parse
from ringminus.switch.segmentation import SMALLEST_SEGMENT
from ringminus.switch.wire import EthernetHeader, EtherType, IpProtocol

TOO_SHORT, TOO_LONG = "too short", "too long"
BAD_OFFLOAD = "bad offload"
MALFORMED = (TOO_SHORT, TOO_LONG, BAD_OFFLOAD)
"""Why frames of the guest are not sent whose fault they are."""

_PACKET = int(MessageType.PACKET)
_UNPACK = rndis_wire.HOT_PACKET.unpack_from
_PUT_U16 = frame_wire.HOT_U16.pack_into
_HEADER_SIZE = rndis_wire.PACKET_SIZE
_BODY_SIZE = rndis_wire.Packet.SIZE
_CHECKSUM, _LARGE_SEND, _VLAN = int(InfoType.CHECKSUM), int(InfoType.LARGE_SEND), int(InfoType.VLAN)
_TCP_FLAG, _UDP_FLAG = int(TransmitChecksum.TCP), int(TransmitChecksum.UDP)
_ANY_CHECKSUM = _TCP_FLAG | _UDP_FLAG
_IP_HEADER_FLAG, _IPV6_FLAG = int(TransmitChecksum.IP_HEADER), int(TransmitChecksum.IPV6)
_LARGE_IPV6 = int(LargeSend.IPV6)
_TCP, _UDP = int(IpProtocol.TCP), int(IpProtocol.UDP)
_MISSING, _UNKNOWN = Checksum.MISSING, Checksum.UNKNOWN

_TYPE = EthernetHeader.offset_of("type")
_IPV4, _IPV6 = (int(kind).to_bytes(2, "big") for kind in (EtherType.IPV4, EtherType.IPV6))
_TAGGED = int(EtherType.VLAN).to_bytes(2, "big")
_TAG_FIRST = _TAGGED[0]
_TAG_SIZE = frame_wire.VlanTag.SIZE
_V4_PROTOCOL = NETWORK + frame_wire.Ipv4Header.offset_of("protocol")
_V4_LENGTH = NETWORK + frame_wire.Ipv4Header.offset_of("total_length")
_V4_CHECKSUM = NETWORK + frame_wire.Ipv4Header.offset_of("checksum")
_V6_PROTOCOL = NETWORK + frame_wire.Ipv6Header.offset_of("next_header")
_V6_LENGTH = NETWORK + frame_wire.Ipv6Header.offset_of("payload_length")
_V6_PAYLOAD = NETWORK + frame_wire.Ipv6Header.SIZE
_PLAIN: dict[int, tuple[bytes, int, int]] = {
    TransmitChecksum.IPV4 | TransmitChecksum.TCP: (_IPV4, _V4_PROTOCOL, _TCP),
    TransmitChecksum.IPV4 | TransmitChecksum.UDP: (_IPV4, _V4_PROTOCOL, _UDP),
    TransmitChecksum.IPV6 | TransmitChecksum.TCP: (_IPV6, _V6_PROTOCOL, _TCP),
    TransmitChecksum.IPV6 | TransmitChecksum.UDP: (_IPV6, _V6_PROTOCOL, _UDP),
}
_CHECKSUM_FLAGS = int(sum(TransmitChecksum))
_LARGEST_HEADERS = NETWORK + 60 + 60
_SHORTEST_OFFLOADED = NETWORK + frame_wire.Ipv4Header.SIZE + frame_wire.UdpHeader.SIZE


class Infos(NamedTuple):
    """The per-packet infos that an adapter heeds: words as they came, 0 where there is none. `plain` is what
    a frame with this `checksum` looks like mostly: its EtherType, and where it has which protocol."""

    tci: int | None = None
    checksum: int = 0
    large_send: int = 0
    plain: tuple[bytes, int, int] | None = None


NO_INFOS = Infos()


class BadMessage(GuestError):
    """An RNDIS message whose lengths or offsets cannot be, or of a type that does not belong there."""


@lru_cache(maxsize=1024)
def parse_infos(block: bytes) -> Infos:
    """The infos of a packet; those of a stream are the same in most of its packets. Raises `BadMessage`."""
    position, end = 0, len(block)
    tci, checksum, large_send, _ = NO_INFOS
    while position < end:
        if position + INFO_HEADER.size > end:
            raise BadMessage(f"{end - position} bytes after the last per-packet info")
        size, kind, offset = INFO_HEADER.unpack_from(block, position)
        if size < INFO_HEADER.size or size > end - position:
            raise BadMessage(f"a per-packet info of {size} bytes, {end - position} are there")
        if kind in (_CHECKSUM, _LARGE_SEND, _VLAN):
            if offset < INFO_HEADER.size or offset + INFO_WORD.size > size:
                raise BadMessage(f"a per-packet info of {size} bytes with its value at {offset}")
            (word,) = INFO_WORD.unpack_from(block, position + offset)
            if kind == _CHECKSUM:
                checksum = word
            elif kind == _LARGE_SEND:
                large_send = word
            else:
                tci = rndis_wire.vlan_tci(word)
        position += size
    return Infos(tci, checksum, large_send, _PLAIN.get(checksum & _CHECKSUM_FLAGS))


def frames(data: bytes, largest: int, counters: AdapterCounters) -> list[Frame]:
    """The frames of a packet's messages. `largest` counts the bytes of one that is not large. Those that
    cannot be sent are counted and left out; raises `BadMessage`."""
    found: list[Frame] = []
    begin, end = 0, len(data)
    while begin < end:
        if end - begin < _HEADER_SIZE:
            raise BadMessage(f"an RNDIS packet of {end - begin} bytes")
        kind, length, offset, size, infos_at, infos_size = _UNPACK(data, begin)
        body = begin + HEADER_SIZE
        if kind != _PACKET:
            raise BadMessage(f"an RNDIS message of type {kind:#x} among data")
        if length < _HEADER_SIZE or length > end - begin:
            raise BadMessage(f"an RNDIS packet of {length} bytes, {end - begin} are there")
        begin += length
        if offset < _BODY_SIZE or body + offset + size > begin:
            raise BadMessage(f"a frame of {size} bytes at {offset} in an RNDIS packet of {length}")
        infos = NO_INFOS
        if infos_size:
            if infos_at < _BODY_SIZE or body + infos_at + infos_size > begin:
                raise BadMessage(f"infos of {infos_size} bytes at {infos_at} in an RNDIS packet of {length}")
            infos = parse_infos(data[body + infos_at : body + infos_at + infos_size])
        frame: Frame | None
        if infos.large_send:
            view = memoryview(data)[body + offset : body + offset + size]
            frame = _large(view, infos)
            reason = BAD_OFFLOAD
        else:
            whole = data[body + offset : body + offset + size]
            tci, checksum, _, plain = infos
            if size < NETWORK or size > largest or whole[_TYPE] == _TAG_FIRST:
                whole, tci, reason = _unusual(whole, tci, largest)
                if reason:
                    counters.drop_sent(reason)
                    continue
            if not checksum:
                found.append(Frame(whole, tci))
                continue
            if (
                plain is not None
                and len(whole) >= _SHORTEST_OFFLOADED
                and whole[_TYPE:NETWORK] == plain[0]
                and whole[plain[1]] == plain[2]
            ):
                found.append(Frame(whole, tci, _MISSING))
                continue
            frame = _offloaded(whole, tci, checksum)
            reason = BAD_OFFLOAD
        if frame is None:
            counters.drop_sent(reason)
        else:
            found.append(frame)
    return found


def _unusual(data: bytes, tci: int | None, largest: int) -> tuple[bytes, int | None, str]:
    """A frame of an unusual size, or perhaps with a tag in it, which goes where tags are here; the last is
    why it cannot be sent."""
    if tci is None and data[_TYPE : _TYPE + 2] == _TAGGED and len(data) >= NETWORK + _TAG_SIZE:
        tci = frame_wire.VlanTag.unpack(data, NETWORK).tci
        data = data[:_TYPE] + data[_TYPE + _TAG_SIZE :]
    if len(data) < NETWORK:
        return data, tci, TOO_SHORT
    return data, tci, TOO_LONG if len(data) > largest else ""


def _offloaded(data: bytes, tci: int | None, word: int) -> Frame | None:
    """A frame with checksums that are left to the adapter; None if it is not what the guest says."""
    state = _UNKNOWN
    if word & _ANY_CHECKSUM:
        protocol = _TCP if word & _TCP_FLAG else _UDP
        if not _carries(data, protocol, bool(word & _IPV6_FLAG)):
            return None
        state = _MISSING
    if word & _IP_HEADER_FLAG:
        headers = parse(data)
        if headers is None or headers.version != 4:
            return None
        end = NETWORK + (data[NETWORK] & 15) * 4
        checksum = ipv4_header(data[NETWORK:end]).to_bytes(2, "big")
        data = data[:_V4_CHECKSUM] + checksum + data[_V4_CHECKSUM + 2 :]
    return Frame(data, tci, state)


def _carries(data: bytes, protocol: int, ipv6: bool) -> bool:
    """Whether it is an IP packet with that protocol."""
    headers = parse(data)
    return headers is not None and headers.protocol == protocol and (headers.version == 6) == ipv6


def _large(data: memoryview, infos: Infos) -> Frame | None:
    """A large TCP frame, its IP length and header checksum filled in; None if it is none."""
    segment_size, transport = rndis_wire.large_send(infos.large_send)
    size = len(data)
    if not _V6_PAYLOAD <= size <= LARGEST_FRAME or segment_size < SMALLEST_SEGMENT:
        return None
    head = bytearray(data[:_LARGEST_HEADERS])
    if infos.large_send & _LARGE_IPV6:
        if size - _V6_PAYLOAD > 0xFFFF:
            return None
        _PUT_U16(head, _V6_LENGTH, size - _V6_PAYLOAD)
    else:
        _PUT_U16(head, _V4_LENGTH, size - NETWORK)
        end = NETWORK + (head[NETWORK] & 15) * 4
        _PUT_U16(head, _V4_CHECKSUM, ipv4_header(head[NETWORK:end]))
    whole = b"".join((head, data[_LARGEST_HEADERS:]))
    headers = parse(whole)
    if (
        headers is None
        or headers.version != (6 if infos.large_send & _LARGE_IPV6 else 4)
        or headers.protocol != _TCP
        or headers.payload == UNKNOWN
        or headers.fragment
        or transport not in (0, headers.transport)
    ):
        return None
    if headers.end - headers.payload <= segment_size:
        segment_size = 0
    return Frame(whole, infos.tci, _MISSING, segment_size)


def control_messages(data: bytes) -> Sequence[memoryview]:
    """The RNDIS messages of a control packet; raises `BadMessage`."""
    found, begin, end = [], 0, len(data)
    view = memoryview(data)
    while begin < end:
        if end - begin < HEADER_SIZE:
            raise BadMessage(f"an RNDIS message of {end - begin} bytes")
        kind, length = rndis_wire.HEADER.unpack_from(data, begin)
        if length < HEADER_SIZE or length > end - begin:
            raise BadMessage(f"an RNDIS message of {length} bytes, {end - begin} are there")
        if kind == _PACKET:
            raise BadMessage("an RNDIS packet among control messages")
        found.append(view[begin : begin + length])
        begin += length
    return found

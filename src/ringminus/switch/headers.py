"""Where things are in a frame.

Nothing here believes what a frame says of itself: a header counts when it lies whole within the IP packet,
and the packet within the frame."""

from __future__ import annotations

from typing import NamedTuple

from ringminus.switch import wire
from ringminus.switch.wire import EthernetHeader, EtherType, IpProtocol, Ipv4Fragment

UNKNOWN = -1
"""What `Headers` says of what it does not know."""

NETWORK = EthernetHeader.SIZE
_IPV4, _IPV6 = int(EtherType.IPV4), int(EtherType.IPV6)
_TCP, _UDP = int(IpProtocol.TCP), int(IpProtocol.UDP)
_FRAGMENT, _ROUTING = int(IpProtocol.FRAGMENT), int(IpProtocol.ROUTING)
_AUTHENTICATION = int(IpProtocol.AUTHENTICATION)
_EXTENSIONS = frozenset(
    (int(IpProtocol.HOP_BY_HOP), int(IpProtocol.DESTINATION_OPTIONS), _ROUTING, _FRAGMENT, _AUTHENTICATION)
)
_MORE_OR_OFFSET = Ipv4Fragment.MORE | Ipv4Fragment.OFFSET
_OFFSET = int(Ipv4Fragment.OFFSET)
_IPV4_SIZE, _IPV6_SIZE = wire.Ipv4Header.SIZE, wire.Ipv6Header.SIZE
_IPV6_PAYLOAD = NETWORK + _IPV6_SIZE
_TCP_SIZE, _UDP_SIZE = wire.TcpHeader.SIZE, wire.UdpHeader.SIZE
_TCP_OFFSET = wire.TcpHeader.offset_of("offset_and_flags")
_UNIT = 8  # of an IPv6 extension header's length
_SHORTEST = wire.HOT_IPV4.size


class Headers(NamedTuple):
    """Offsets are in bytes from the frame's begin; what is not known is `UNKNOWN`.

    `version` is 4 or 6, `network` the offset of the IP header. `protocol` is what the packet carries behind
    IPv6's extension headers, `transport` the offset of that; both are unknown where the packet is cut off,
    in every fragment but the first, and where an IPv6 routing header names further destinations. `payload`
    is the offset of what TCP or UDP carries. `end` is where the IP packet ends, which may be before the
    frame's end. `fragment` says that other parts of the packet are in other frames."""

    version: int
    network: int
    protocol: int
    transport: int
    payload: int
    end: int
    fragment: bool


def parse(data: bytes) -> Headers | None:
    """The headers of a frame without an 802.1Q tag; None for what is no IPv4 or IPv6. Raises nothing."""
    size = len(data)
    if size < _SHORTEST:
        return None
    kind, first, total, fragment, protocol = wire.HOT_IPV4.unpack_from(data)
    if kind != _IPV4:
        return _parse_ipv6(data) if kind == _IPV6 else None
    transport = NETWORK + (first & 15) * 4
    end = NETWORK + total
    if first >> 4 != 4 or first & 15 < 5:
        return None
    if transport > end or end > size:
        return Headers(4, NETWORK, UNKNOWN, UNKNOWN, UNKNOWN, min(end, size), False)
    if fragment & _MORE_OR_OFFSET:
        if fragment & _OFFSET:
            return Headers(4, NETWORK, UNKNOWN, UNKNOWN, UNKNOWN, end, True)
        return Headers(4, NETWORK, protocol, transport, _payload(data, protocol, transport, end), end, True)
    return Headers(4, NETWORK, protocol, transport, _payload(data, protocol, transport, end), end, False)


def _payload(data: bytes, protocol: int, transport: int, end: int) -> int:
    if protocol == _TCP:
        if transport + _TCP_SIZE <= end:
            size = (data[transport + _TCP_OFFSET] >> 4) * 4
            if size >= _TCP_SIZE and transport + size <= end:
                return transport + size
    elif protocol == _UDP and transport + _UDP_SIZE <= end:
        return transport + _UDP_SIZE
    return UNKNOWN


def _parse_ipv6(data: bytes) -> Headers | None:
    size = len(data)
    if size < _IPV6_PAYLOAD:
        return None
    first, length, protocol = wire.HOT_IPV6.unpack_from(data)
    if first >> 4 != 6:
        return None
    end = _IPV6_PAYLOAD + length
    if end > size:
        return Headers(6, NETWORK, UNKNOWN, UNKNOWN, UNKNOWN, size, False)
    transport, fragment = _IPV6_PAYLOAD, False
    if protocol in _EXTENSIONS:
        protocol, transport, fragment = _skip_extensions(data, protocol, transport, end)
        if protocol == UNKNOWN:
            return Headers(6, NETWORK, UNKNOWN, UNKNOWN, UNKNOWN, end, fragment)
    payload = _payload(data, protocol, transport, end)
    return Headers(6, NETWORK, protocol, transport, payload, end, fragment)


def _skip_extensions(data: bytes, protocol: int, offset: int, end: int) -> tuple[int, int, bool]:
    """What follows IPv6's extension headers, where, and whether the packet is a fragment."""
    fragment = False
    while protocol in _EXTENSIONS:
        if offset + _UNIT > end:
            return UNKNOWN, UNKNOWN, fragment
        extension = wire.Ipv6Extension.unpack(data, offset)
        if protocol == _FRAGMENT:
            place = wire.Ipv6FragmentHeader.unpack(data, offset).offset
            fragment = fragment or bool(place & ~0b110)
            if place >> 3:
                return UNKNOWN, UNKNOWN, True
            offset += wire.Ipv6FragmentHeader.SIZE
        elif protocol == _AUTHENTICATION:
            offset += (extension.length + 2) * 4
        else:
            if protocol == _ROUTING and wire.Ipv6RoutingHeader.unpack(data, offset).segments_left:
                return UNKNOWN, UNKNOWN, fragment
            offset += (extension.length + 1) * _UNIT
        protocol = extension.next_header
    if offset > end:
        return UNKNOWN, UNKNOWN, fragment
    return protocol, offset, fragment

"""What a guest behind a guarded port may not send: Hyper-V's DHCP guard and router guard.

A guard looks at a frame as the receiver's stack would: through 802.1Q and 802.1ad tags, 802.3 with LLC and
SNAP (RFC 1042), IP options and IPv6 extension headers. Of a fragmented packet the first fragment decides, and
the others pass: without the first, no receiver puts them together, and none of them can write over what was
looked at (RFC 5722). What should show the header in question and does not is dropped too (RFC 7113, 7112)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from ringminus.switch import wire
from ringminus.switch.drops import Drop
from ringminus.switch.headers import UNKNOWN, Headers, parse
from ringminus.switch.port import PortSettings
from ringminus.switch.vlans import TYPE
from ringminus.switch.wire import EthernetHeader, EtherType, IpProtocol, VlanTag
from ringminus.wire import ShortBuffer

Guard = Callable[[bytes], Drop | None]
"""Takes a frame's data; says why it must not pass."""


class ServerPort(IntEnum):
    """UDP source ports of DHCP servers and relays (RFC 2131, RFC 8415)."""

    DHCP = 67
    DHCPV6 = 547


class IcmpType(IntEnum):
    """ICMP for IPv4 (RFC 792, RFC 1256)."""

    REDIRECT = 5
    ROUTER_ADVERTISEMENT = 9


class Icmpv6Type(IntEnum):
    """ICMPv6 (RFC 4861)."""

    ROUTER_ADVERTISEMENT = 134
    REDIRECT = 137


_SERVICE_TAG = 0x88A8  # 802.1ad
_TAGS = (EtherType.VLAN.to_bytes(2, "big"), _SERVICE_TAG.to_bytes(2, "big"))
_LARGEST_LENGTH = 1500  # of 802.3: above, the field is a type
_SNAP = bytes.fromhex("aaaa03000000")
_RFC1042 = slice(EthernetHeader.SIZE, EthernetHeader.SIZE + len(_SNAP))
_IP = (EtherType.IPV4.to_bytes(2, "big"), EtherType.IPV6.to_bytes(2, "big"))
_LAYERS = 8
"""Encapsulations that are looked through; a frame with more is dropped."""


def guard(settings: PortSettings) -> Guard | None:
    """What these settings ask for; None for nothing."""
    if not (settings.dhcp_guard or settings.router_guard):
        return None
    dhcp, router = settings.dhcp_guard, settings.router_guard
    opaque = Drop.DHCP_GUARD if dhcp else Drop.ROUTER_GUARD

    def check(data: bytes) -> Drop | None:
        plain = data if data[TYPE] in _IP else unwrap(data)
        if plain is None:
            return opaque
        headers = parse(plain)
        if headers is None:
            # no IP, or so broken that no receiver takes it
            return None if plain[TYPE] not in _IP else opaque
        protocol = headers.protocol
        if protocol == IpProtocol.TCP:
            return None
        if protocol == UNKNOWN:
            return None if _later_fragment(plain, headers) else opaque
        if dhcp and protocol == IpProtocol.UDP:
            return _check_udp(plain, headers)
        if router and protocol in (IpProtocol.ICMP, IpProtocol.ICMPV6):
            return _check_icmp(plain, headers)
        return None

    return check


def unwrap(data: bytes) -> bytes | None:
    """The frame without tags and without LLC and SNAP, as an Ethernet frame; None if that has no end."""
    for _ in range(_LAYERS):
        kind = data[TYPE]
        if kind in _TAGS:
            # the tag's own type takes the place of the one that announced it
            data = data[: TYPE.start] + data[TYPE.start + VlanTag.SIZE :]
        elif int.from_bytes(kind, "big") <= _LARGEST_LENGTH and data[_RFC1042] == _SNAP:
            data = data[: TYPE.start] + data[_RFC1042.stop :]
        else:
            return data
    return None


def _check_udp(data: bytes, headers: Headers) -> Drop | None:
    server = ServerPort.DHCP if headers.version == 4 else ServerPort.DHCPV6
    if headers.payload == UNKNOWN:
        return Drop.DHCP_GUARD  # no whole UDP header where one begins
    (source,) = wire.HOT_U16.unpack_from(data, headers.transport)
    return Drop.DHCP_GUARD if source == server else None


def _check_icmp(data: bytes, headers: Headers) -> Drop | None:
    if headers.transport >= headers.end:
        return Drop.ROUTER_GUARD
    kind = data[headers.transport]
    if headers.protocol == IpProtocol.ICMP:
        refused = headers.version == 4 and kind in (IcmpType.REDIRECT, IcmpType.ROUTER_ADVERTISEMENT)
    else:
        refused = headers.version == 6 and kind in (Icmpv6Type.REDIRECT, Icmpv6Type.ROUTER_ADVERTISEMENT)
    return Drop.ROUTER_GUARD if refused else None


def _later_fragment(data: bytes, headers: Headers) -> bool:
    """Whether what a packet carries is unknown only because it is a fragment, and not the first."""
    if headers.version == 4 or not headers.fragment:
        return headers.fragment
    protocol = wire.Ipv6Header.unpack(data, headers.network).next_header
    offset = headers.network + wire.Ipv6Header.SIZE
    try:
        while protocol != IpProtocol.FRAGMENT:
            extension = wire.Ipv6Extension.unpack(data, offset)
            protocol = extension.next_header
            offset += (extension.length + 1) * 8
        return wire.Ipv6FragmentHeader.unpack(data, offset).offset >> 3 > 0
    except ShortBuffer:
        return False

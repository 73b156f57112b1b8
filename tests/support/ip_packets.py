"""IP packets in Ethernet frames, put together by hand: what is said of lengths is right unless a test says
otherwise, checksums are zero."""

from __future__ import annotations

from ringminus.switch.wire import (
    EthernetHeader,
    EtherType,
    IpProtocol,
    Ipv4Header,
    Ipv6FragmentHeader,
    Ipv6Header,
    UdpHeader,
)
from support.endpoints import mac

SOURCE_V4, DESTINATION_V4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
SOURCE_V6 = bytes.fromhex("fe8000000000000002155dfffe000001")
DESTINATION_V6 = bytes.fromhex("ff020000000000000000000000000001")
MORE = 0x2000


def ethernet(payload: bytes, kind: int, destination: bytes = mac(2), source: bytes = mac(1)) -> bytes:
    return EthernetHeader(destination=destination, source=source, type=kind).pack() + payload


def udp(source: int, destination: int, payload: bytes = b"") -> bytes:
    header = UdpHeader(source_port=source, destination_port=destination, length=UdpHeader.SIZE + len(payload))
    return header.pack() + payload


def icmp(kind: int, payload: bytes = bytes(12)) -> bytes:
    """ICMP or ICMPv6: type, code, checksum."""
    return bytes((kind, 0, 0, 0)) + payload


def ipv4(
    payload: bytes, protocol: int, *, options: bytes = b"", fragment: int = 0, length: int | None = None
) -> bytes:
    """A frame; `options` is a multiple of 4 bytes, `fragment` flags and offset as in the header."""
    header = Ipv4Header(
        version_and_length=0x45 + len(options) // 4,
        total_length=Ipv4Header.SIZE + len(options) + len(payload) if length is None else length,
        fragment=fragment,
        protocol=protocol,
        source=SOURCE_V4,
        destination=DESTINATION_V4,
    )
    return ethernet(header.pack() + options + payload, EtherType.IPV4)


def ipv6(payload: bytes, next_header: int) -> bytes:
    """A frame; extension headers are the begin of `payload`."""
    header = Ipv6Header(
        version_class_flow=6 << 28,
        payload_length=len(payload),
        next_header=next_header,
        source=SOURCE_V6,
        destination=DESTINATION_V6,
    )
    return ethernet(header.pack() + payload, EtherType.IPV6)


def extension(next_header: int, units: int = 0) -> bytes:
    """Hop-by-hop or destination options that hold padding: 8 bytes and `units` times 8."""
    return bytes((next_header, units, 1, 4 + 8 * units if units < 31 else 0)) + bytes(4 + 8 * units)


def fragment(next_header: int, offset: int = 0, *, more: bool = False) -> bytes:
    """An IPv6 fragment header; `offset` is in bytes."""
    return Ipv6FragmentHeader(next_header=next_header, offset=offset | more, id=7).pack()


def tagged(data: bytes, tci: int, kind: int = EtherType.VLAN) -> bytes:
    """The frame with a tag within."""
    return data[:12] + kind.to_bytes(2, "big") + tci.to_bytes(2, "big") + data[12:]


def snap(data: bytes) -> bytes:
    """The frame as 802.3 with LLC and SNAP."""
    payload = bytes.fromhex("aaaa03000000") + data[12:]
    return data[:12] + len(payload).to_bytes(2, "big") + payload


DHCP_OFFER = ipv4(udp(67, 68, bytes(240)), IpProtocol.UDP)
DHCPV6_ADVERTISE = ipv6(udp(547, 546, bytes(40)), IpProtocol.UDP)
ROUTER_ADVERTISEMENT = ipv6(icmp(134), IpProtocol.ICMPV6)
"""What each guard is for, in its plainest form."""

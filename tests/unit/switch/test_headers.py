"""Where things are in a frame, and what is not believed."""

from __future__ import annotations

import pytest

from ringminus.switch.headers import UNKNOWN, Headers, parse
from support.packets import ICMP, TCP, UDP, Packet, number

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
OPTIONS = bytes([0, 0]) + bytes(6)
LONG_OPTIONS = bytes([0, 2]) + bytes(22)
AUTHENTICATED = bytes([0, 4]) + bytes(22)  # counts units of 4, less 2
MORE = 0x2000


def routing(left: int) -> bytes:
    return bytes([0, 2, 2, left]) + bytes(20)


def fragment(offset: int, more: bool) -> bytes:
    return bytes([0, 0]) + number(offset << 3 | more) + number(99, 4)


def parsed(data: bytes) -> Headers:
    headers = parse(data)
    assert headers is not None
    return headers


@pytest.mark.parametrize(
    "packet",
    [
        Packet(4, TCP, b"data"),
        Packet(4, TCP, b"data", options=bytes(40), ip_options=bytes(40)),
        Packet(4, UDP, b"data"),
        Packet(6, TCP, b"data", options=bytes(12)),
        Packet(6, UDP, b"data"),
        Packet(6, UDP, b"", extensions=((HOP_BY_HOP, OPTIONS),)),
        Packet(6, TCP, b"d", extensions=((HOP_BY_HOP, OPTIONS), (DESTINATION, LONG_OPTIONS))),
        Packet(6, TCP, b"d", extensions=((ROUTING, routing(0)), (AUTHENTICATION, AUTHENTICATED))),
        Packet(6, UDP, b"d", extensions=((FRAGMENT, fragment(0, False)),)),
    ],
    ids=repr,
)
def test_a_whole_packet(packet: Packet) -> None:
    assert parsed(packet.data) == Headers(
        packet.version, 14, packet.protocol, packet.transport, packet.payload_at, packet.end, False
    )


@pytest.mark.parametrize("version", [4, 6])
def test_the_packet_may_end_before_the_frame(version: int) -> None:
    packet = Packet(version, UDP, b"x", padding=bytes(17))
    assert parsed(packet.data).end == packet.end == len(packet.data) - 17


@pytest.mark.parametrize("version", [4, 6])
def test_another_protocol_has_a_place_but_no_payload(version: int) -> None:
    packet = Packet(version, ICMP, b"echo")
    headers = parsed(packet.data)
    assert (headers.protocol, headers.transport, headers.payload) == (ICMP, packet.transport, UNKNOWN)


@pytest.mark.parametrize("packet", [Packet(4, UDP, bytes(50)), Packet(6, UDP, bytes(50))], ids=repr)
def test_a_packet_that_is_cut_off_carries_nothing_that_is_known(packet: Packet) -> None:
    headers = parsed(packet.data[:-1])
    assert headers.protocol == headers.transport == headers.payload == UNKNOWN
    assert headers.end == len(packet.data) - 1


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (Packet(4, TCP, b"d", fragment=MORE), Packet(4, TCP, b"d", fragment=MORE | 20)),
        (Packet(4, TCP, b"d", fragment=MORE), Packet(4, TCP, b"d", fragment=20)),
        (
            Packet(6, TCP, b"d", extensions=((FRAGMENT, fragment(0, True)),)),
            Packet(6, TCP, b"d", extensions=((FRAGMENT, fragment(9, False)),)),
        ),
    ],
    ids=["IPv4", "IPv4's last", "IPv6"],
)
def test_only_the_first_fragment_has_a_transport_header(first: Packet, later: Packet) -> None:
    headers = parsed(first.data)
    assert (headers.fragment, headers.transport) == (True, first.transport)
    headers = parsed(later.data)
    assert (headers.fragment, headers.protocol, headers.transport) == (True, UNKNOWN, UNKNOWN)


def test_a_packet_for_further_destinations_is_not_looked_into() -> None:
    """Its checksum counts the last destination, which is not the header's."""
    headers = parsed(Packet(6, TCP, b"d", extensions=((ROUTING, routing(1)),)).data)
    assert (headers.protocol, headers.transport) == (UNKNOWN, UNKNOWN)


@pytest.mark.parametrize(
    "extensions",
    [
        ((HOP_BY_HOP, bytes([0, 255]) + bytes(6)),),
        ((AUTHENTICATION, bytes([0, 200]) + bytes(6)),),
        ((HOP_BY_HOP, bytes(4)),),
    ],
    ids=["options", "authentication", "half of one"],
)
def test_an_extension_header_that_leaves_its_packet(extensions: tuple[tuple[int, bytes], ...]) -> None:
    headers = parsed(Packet(6, ICMP, b"", extensions=extensions).data)
    assert (headers.protocol, headers.transport, headers.payload) == (UNKNOWN, UNKNOWN, UNKNOWN)


@pytest.mark.parametrize("words", [0, 4, 15])
def test_a_tcp_header_that_leaves_its_packet(words: int) -> None:
    packet = Packet(4, TCP, b"data")
    data = bytearray(packet.data)
    data[packet.transport + 12] = words << 4
    headers = parsed(bytes(data))
    assert (headers.protocol, headers.payload) == (TCP, UNKNOWN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        Packet(4, TCP).data[:33],
        Packet(6, TCP).data[:53],
        bytes(60),
        Packet(4).data[:14] + b"\x44" + Packet(4).data[15:],
        Packet(4).data[:14] + b"\x65" + Packet(4).data[15:],
        Packet(6).data[:14] + b"\x40" + Packet(6).data[15:],
        Packet(4).data[:12] + b"\x08\x06" + Packet(4).data[14:],
    ],
    ids=["nothing", "short IPv4", "short IPv6", "zeros", "short header", "6 in IPv4", "4 in IPv6", "ARP"],
)
def test_what_is_no_ip_packet(data: bytes) -> None:
    assert parse(data) is None


def test_an_ipv4_packet_shorter_than_its_header() -> None:
    data = bytearray(Packet(4, TCP).data)
    data[16:18] = number(10)
    assert parsed(bytes(data))[2:5] == (UNKNOWN, UNKNOWN, UNKNOWN)

"""A guest's datagrams in fragments."""

from __future__ import annotations

import itertools
import socket

import pytest

from ringminus.clock import REFERENCE_HZ
from ringminus.switch.nat.fragments import Fragmenter
from ringminus.switch.nat.reassembly import MOST, Reassembler
from support.nat_guest import ADDRESS, ADDRESS6, HOST, HOST6, Guest, icmp, icmpv6, ip_frame
from support.packets import TCP, UDP, Packet, ones_complement_sum

MTU = 1280


class Bed:
    """A reassembler, its time, and how many fragments it lost."""

    def __init__(self) -> None:
        self.time = self.lost = 0
        self.reassembler = Reassembler(lambda: self.time, self._lose)

    def _lose(self, fragments: int) -> None:
        self.lost += fragments

    def take(self, data: bytes) -> bytes | None:
        is_ipv4 = data[12:14] == b"\x08\0"
        return self.reassembler.take_ipv4(data) if is_ipv4 else self.reassembler.take_ipv6(data)


def whole(version: int, size: int = 3000, identification: int = 7) -> bytes:
    return Packet(version, UDP, bytes(range(251)) * (size // 251 + 1), identification=identification).right[
        : (42 if version == 4 else 62) + size
    ]


def cut(data: bytes, version: int) -> list[bytes]:
    if version == 4:  # what was cut off makes the header's length wrong
        data = data[:16] + (len(data) - 14).to_bytes(2, "big") + data[18:]
    return list(Fragmenter(MTU).cut(data, version))


def same(one: bytes | None, other: bytes, version: int) -> bool:
    """But for IPv4's length and checksum, which stand in the header."""
    if one is None:
        return False
    if version == 4:
        assert ones_complement_sum(one[14:34]) == 0xFFFF
        return one[34:] == other[34:] and int.from_bytes(one[16:18], "big") == len(one) - 14
    return one[54:] == other[54:] and int.from_bytes(one[18:20], "big") == len(one) - 54


@pytest.mark.parametrize("version", [4, 6])
def test_in_any_order_they_are_the_datagram(version: int) -> None:
    data = whole(version)
    parts = cut(data, version)
    assert len(parts) == 3
    for order in itertools.permutations(parts):
        bed = Bed()
        results = [bed.take(part) for part in order]
        assert results[:-1] == [None, None]
        assert same(results[-1], data, version)
        assert bed.lost == 0


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_between_each_other(version: int) -> None:
    bed = Bed()
    fragmenter = Fragmenter(MTU)
    several = [whole(version, identification=number) for number in range(5)]
    parts = [list(fragmenter.cut(data, version)) for data in several]
    for index in range(2):
        for one in parts:
            assert bed.take(one[index]) is None
    for one in parts:
        assert bed.take(one[2]) is not None


@pytest.mark.parametrize("version", [4, 6])
def test_the_same_fragment_again_is_no_harm(version: int) -> None:
    data = whole(version)
    parts = cut(data, version)
    bed = Bed()
    assert [bed.take(part) for part in (parts[0], parts[0], parts[2], parts[2])] == [None] * 4
    assert same(bed.take(parts[1]), data, version)
    assert bed.lost == 2


def test_fragments_that_lie_over_each_other_lose_their_datagram() -> None:
    for places in (
        [(0, 1480, True), (1472, 1480, True), (2952, 100, False)],  # the second begins within the first
        [(0, 1480, True), (0, 800, True)],
        [(80, 80, False), (160, 80, False)],  # two ends
        [(160, 80, True), (80, 80, False)],  # one beyond the end
    ):
        bed = Bed()
        for at, size, more in places:
            fragment = at // 8 | (0x2000 if more else 0)
            assert bed.take(Packet(4, 99, bytes(size), fragment=fragment).data) is None
        assert bed.lost >= 1
        assert bed.take(Packet(4, 99, bytes(80), fragment=0x2000).data) is None


@pytest.mark.parametrize(
    "packet",
    [
        Packet(4, 99, bytes(81), fragment=0x2000),  # no multiple of 8, and not the last
        Packet(4, 99, bytes(80), fragment=0x3FFF),  # beyond the largest datagram
        Packet(4, 99, b"", fragment=0x2000),
    ],
)
def test_fragments_that_cannot_be(packet: Packet) -> None:
    bed = Bed()
    assert bed.take(packet.data) is None
    assert bed.lost == 1


def test_headers_that_lie() -> None:
    data = Packet(4, 99, bytes(80), fragment=0x2000).data
    for first, length in ((0x4F, 30), (0x44, 100), (0x45, 101), (0x45, 20)):
        bed = Bed()
        assert bed.take(data[:14] + bytes((first, 0)) + length.to_bytes(2, "big") + data[18:]) is None
        assert bed.lost == 1
    data = next(iter(Fragmenter(MTU).cut(whole(6), 6)))
    for length in (0, 8, len(data) - 53):
        bed = Bed()
        assert bed.take(data[:18] + length.to_bytes(2, "big") + data[20:]) is None
        assert bed.lost == 1


def test_options_of_the_first_stay() -> None:
    bed = Bed()
    first = Packet(4, 99, bytes(80), ip_options=b"\1\1\1\0", fragment=0x2000)
    last = Packet(4, 99, b"end", fragment=10)
    assert bed.take(last.data) is None
    assert bed.take(first.data) == Packet(4, 99, bytes(80) + b"end", ip_options=b"\1\1\1\0").data


def test_what_is_not_complete_in_time_is_lost() -> None:
    bed = Bed()
    parts = cut(whole(4), 4)
    bed.take(parts[0])
    bed.take(parts[1])
    bed.time = 31 * REFERENCE_HZ
    assert bed.take(parts[2]) is None
    assert bed.lost == 2


def test_there_is_room_for_so_many() -> None:
    bed = Bed()
    for number in range(MOST + 5):
        bed.take(Packet(4, 99, bytes(80), identification=number, fragment=0x2000).data)
    assert len(bed.reassembler._datagrams) == MOST
    assert bed.lost == 5


def test_bytes_of_one_datagram_are_bounded() -> None:
    bed = Bed()
    for at in range(200):
        bed.take(Packet(4, 99, bytes(40_000), fragment=0x2000 | at).data)
        assert sum(one.size for one in bed.reassembler._datagrams.values()) <= 65535


@pytest.mark.parametrize("version", [4, 6])
def test_a_large_echo_comes_back(guest: Guest, version: int) -> None:
    """In IPv4 and IPv6; libslirp takes no fragments of IPv6."""
    body = b"\0\1\0\1" + bytes(range(256)) * 30
    if version == 4:
        guest.arp(HOST)
        data = ip_frame(ADDRESS, HOST, 1, icmp(8, body))
    else:
        guest.advertise(ADDRESS6, HOST6)
        data = ip_frame(ADDRESS6, HOST6, 58, icmpv6(128, body, ADDRESS6, HOST6))
    guest.frames.clear()
    for part in reversed(list(Fragmenter(1500).cut(data, version))):
        guest.deliver(part)
    bed = Bed()
    answers = [answer for frame in guest.frames if (answer := bed.take(frame.data)) is not None]
    assert [answer[(38 if version == 4 else 58) :] for answer in answers] == [body]


def test_a_large_datagram_of_ipv6_arrives(guest: Guest) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::1", 0))
        server.settimeout(10)
        packet = Packet(6, UDP, bytes(range(256)) * 35)
        body = (40000).to_bytes(2, "big") + server.getsockname()[1].to_bytes(2, "big") + packet.right[58:]
        body = body[:6] + b"\0\0" + body[8:]
        pseudo = ADDRESS6 + HOST6 + len(body).to_bytes(4, "big") + bytes((0, 0, 0, UDP))
        body = body[:6] + (0xFFFF - ones_complement_sum(pseudo + body)).to_bytes(2, "big") + body[8:]
        for part in Fragmenter(1500).cut(ip_frame(ADDRESS6, HOST6, UDP, body), 6):
            guest.deliver(part)
        assert server.recv(65536) == packet.payload


def test_fragments_within_fragments_and_of_tcp_are_not_for_us(guest: Guest) -> None:
    nested = bytes((44, 0, 0, 0, 0, 0, 0, 1)) * 3000
    guest.deliver(ip_frame(ADDRESS6, HOST6, 44, nested[:16000]))
    assert guest.nat.dropped == {"fragment": 1}
    guest.deliver(ip_frame(ADDRESS6, HOST6, 44, bytes((TCP, 0, 0, 0, 0, 0, 0, 1)) + bytes(40)))
    assert guest.nat.dropped == {"fragment": 1, "fragment of tcp": 1}
    guest.deliver(ip_frame(ADDRESS6, HOST6, 44, bytes(7)))
    assert guest.nat.dropped == {"fragment": 1, "fragment of tcp": 1, "short frame": 1}


def test_a_lone_fragment_out_of_order_is_no_danger(guest: Guest) -> None:
    """libslirp 4.7.0, as Debian 12 has it, crashes at it."""
    for number in range(50):
        guest.deliver(ip_frame(ADDRESS, HOST, UDP, bytes(8), fragment=1, id=number))
    assert guest.nat.describe()["dropped"] == {}
    guest.arp(HOST)
    assert guest.frames

"""What a guest finds behind NAT besides TCP: addresses, neighbours, datagrams, echoes."""

from __future__ import annotations

import socket
import struct

import pytest

from ringminus.switch.checksum import verify
from ringminus.switch.frame import Checksum
from ringminus.switch.headers import parse
from ringminus.switch.wire import IpProtocol, UdpHeader
from support.nat_guest import ADDRESS, ADDRESS6, DNS, HOST, HOST6, MAC, Guest, icmp, icmpv6, ip_frame

from .conftest import MakeGuest

LINK_LOCAL = bytes.fromhex("fe80000000000000") + bytes.fromhex("02155dfffe000001")
ALL_ROUTERS = bytes.fromhex("ff02") + bytes(13) + b"\2"
COOKIE = bytes.fromhex("63825363")
MESSAGE_TYPE, ROUTER, NAME_SERVER, MASK, REQUESTED, SERVER = 53, 3, 6, 1, 50, 54
DISCOVER, OFFER, REQUEST, ACKNOWLEDGE = 1, 2, 3, 5


def dhcp(guest: Guest, kind: int, mac: bytes = MAC, options: bytes = b"") -> tuple[bytes, dict[int, bytes]]:
    """Ask for an address; gives the one that is answered and the options."""
    body = struct.pack(">BBBB4s20x6s202x", 1, 1, 6, 0, b"\1\2\3\4", mac) + COOKIE
    body += bytes((MESSAGE_TYPE, 1, kind)) + options + b"\xff"
    header = UdpHeader(source_port=68, destination_port=67, length=UdpHeader.SIZE + len(body))
    before = len(guest.heard)
    guest.send_ip(bytes(4), b"\xff" * 4, IpProtocol.UDP, header.pack() + body)
    [(source, _, port, answer)] = guest.heard[before:]
    assert (source, port, answer[4:8]) == (HOST, 68, b"\1\2\3\4")
    found, at = {}, 240
    while answer[at] != 255:
        found[answer[at]] = answer[at + 2 : at + 2 + answer[at + 1]]
        at += 2 + answer[at + 1]
    return answer[16:20], found


def test_the_gateway_and_the_name_server_answer_arp(guest: Guest) -> None:
    for address in (HOST, DNS):
        guest.arp(address)
        assert guest.frames[-1].data[20:22] == b"\0\2"
        assert guest.frames[-1].data[28:32] == address
    guest.arp(bytes((10, 0, 2, 99)))
    assert len(guest.frames) == 2


def test_dhcp_gives_the_first_address_its_gateway_and_its_name_server(guest: Guest) -> None:
    address, options = dhcp(guest, DISCOVER)
    assert options[MESSAGE_TYPE] == bytes((OFFER,))
    assert address == ADDRESS
    assert options[ROUTER] == HOST
    assert options[NAME_SERVER] == DNS
    assert options[MASK] == bytes((255, 255, 255, 0))
    request = bytes((REQUESTED, 4)) + address + bytes((SERVER, 4)) + HOST
    address, options = dhcp(guest, REQUEST, options=request)
    assert (address, options[MESSAGE_TYPE]) == (ADDRESS, bytes((ACKNOWLEDGE,)))


def test_another_guest_gets_another_address(guest: Guest) -> None:
    assert dhcp(guest, DISCOVER)[0] == ADDRESS
    assert dhcp(guest, DISCOVER, bytes.fromhex("00155d000002"))[0] == bytes((10, 0, 2, 16))
    assert dhcp(guest, DISCOVER)[0] == ADDRESS


def test_the_network_is_a_choice(make_guest: MakeGuest) -> None:
    from ipaddress import IPv4Network

    guest = make_guest(network=IPv4Network("172.16.8.0/24"))
    guest.arp(bytes((172, 16, 8, 2)))
    assert guest.frames


@pytest.mark.parametrize("size", [0, 1, 1400, 9000])
@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_go_both_ways(guest: Guest, version: int, size: int) -> None:
    family, loopback, host = {
        4: (socket.AF_INET, "127.0.0.1", HOST),
        6: (socket.AF_INET6, "::1", HOST6),
    }[version]
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((loopback, 0))
        server.settimeout(10)
        port = server.getsockname()[1]
        data = bytes(range(256)) * 40
        guest.send_udp(host, port, data[:size])
        got, peer = server.recvfrom(65536)
        assert got == data[:size]
        server.sendto(got[:1200][::-1], peer)
        guest.until(lambda: guest.heard)
        assert guest.heard == [(host, port, 40000, got[:1200][::-1])]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1473, 9000, 60000])
def test_a_datagram_that_is_larger_than_the_guest_s_mtu_comes_in_fragments(
    guest: Guest, version: int, size: int
) -> None:
    family, loopback, host = {
        4: (socket.AF_INET, "127.0.0.1", HOST),
        6: (socket.AF_INET6, "::1", HOST6),
    }[version]
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((loopback, 0))
        server.settimeout(10)
        guest.send_udp(host, server.getsockname()[1], b"?")
        data = bytes(range(256)) * 300
        _, peer = server.recvfrom(1)
        server.sendto(data[:size], peer)
        assert reassembled(guest, version, 8 + size)[8:] == data[:size]
        assert all(len(frame.data) <= 1514 for frame in guest.frames)
        assert all(frame.checksum is Checksum.UNKNOWN for frame in guest.frames)


def reassembled(guest: Guest, version: int, size: int) -> bytes:
    """The packet whose fragments come, as a receiver puts it together."""
    found = bytearray(size)
    missing = set(range(0, size, 8))
    at, seen, last = (20, 0, False) if version == 4 else (62, 0, False)
    guest.until(lambda: sum(len(frame.data) for frame in guest.frames) > size)
    while missing or not last:
        data = guest.frames[seen].data
        seen += 1
        headers = parse(data)
        if headers is None or not headers.fragment:
            continue  # it asks for the guest's address
        (place,) = struct.unpack_from(">H", data, at if version == 4 else 56)
        offset, more = ((place & 0x1FFF) * 8, place & 0x2000) if version == 4 else (place & 0xFFF8, place & 1)
        piece = data[34 if version == 4 else 62 : headers.end]
        found[offset : offset + len(piece)] = piece
        missing -= set(range(offset, offset + len(piece), 8))
        last = last or not more
    return bytes(found)


def test_datagrams_in_fragments_arrive_whole(guest: Guest) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        data = bytes(range(256)) * 10
        header = UdpHeader(
            source_port=40000, destination_port=server.getsockname()[1], length=UdpHeader.SIZE + len(data)
        )
        packet = header.pack() + data  # its checksum is 0: there is none
        guest.deliver(ip_frame(ADDRESS, HOST, IpProtocol.UDP, packet[:1480], fragment=0x2000))
        guest.deliver(ip_frame(ADDRESS, HOST, IpProtocol.UDP, packet[1480:], fragment=1480 // 8))
        assert server.recv(65536) == data


def test_a_datagram_after_an_hour_of_silence_is_answered(guest: Guest) -> None:
    """libslirp's time moves on only when it polls; a socket must not be too old when it is made."""
    guest.advance(3_600_000)
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        guest.send_udp(HOST, server.getsockname()[1], b"?")
        _, peer = server.recvfrom(1)
        guest.advance(1000)
        server.sendto(b"!", peer)
        guest.until(lambda: guest.heard)


def test_a_socket_that_is_not_used_is_given_back(guest: Guest) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        guest.send_udp(HOST, server.getsockname()[1], b"?")
    assert guest.nat.describe()["sockets"]["open"] == 1  # type: ignore[index]
    guest.advance(5 * 60_000)
    assert guest.nat.describe()["sockets"]["open"] == 0  # type: ignore[index]


def test_the_gateway_answers_an_echo(guest: Guest) -> None:
    guest.arp(HOST)
    guest.send_ip(ADDRESS, HOST, IpProtocol.ICMP, icmp(8, b"\0\1\0\1hello"))
    answer = guest.frames[-1].data
    assert answer[26:30] == HOST
    assert answer[34] == 0
    assert answer[38:47] == b"\0\1\0\1hello"


def test_the_gateway_answers_an_echo_in_ipv6(guest: Guest) -> None:
    body = b"\0\1\0\1hello"
    guest.send_ip(ADDRESS6, HOST6, IpProtocol.ICMPV6, icmpv6(128, body, ADDRESS6, HOST6))
    guest.nat.flush()
    answers = [frame.data for frame in guest.frames if frame.data[54] == 129]
    assert [answer[58:67] for answer in answers] == [body]


def test_a_router_solicitation_is_answered_with_the_prefix(guest: Guest) -> None:
    body = icmpv6(133, bytes(4), LINK_LOCAL, ALL_ROUTERS)
    guest.send_ip(LINK_LOCAL, ALL_ROUTERS, IpProtocol.ICMPV6, body)
    [advertisement] = [frame.data for frame in guest.frames if frame.data[54] == 134]
    prefix = advertisement[advertisement.index(b"\3\4") :]  # the option Prefix Information
    assert prefix[2] == 64
    assert prefix[16:32] == bytes.fromhex("fec0") + bytes(14)


def test_routers_are_advertised_again_and_again(guest: Guest) -> None:
    guest.advance(3 * 600_000)
    advertisements = [frame for frame in guest.frames if frame.data[54] == 134]
    assert 3 <= len(advertisements) <= 9
    assert guest.flushes >= len(advertisements)


def test_without_ipv6_nothing_of_it_is_said(make_guest: MakeGuest) -> None:
    guest = make_guest(ipv6=None)
    guest.send_ip(LINK_LOCAL, ALL_ROUTERS, IpProtocol.ICMPV6, icmpv6(133, bytes(4), LINK_LOCAL, ALL_ROUTERS))
    guest.advance(3 * 600_000)
    assert guest.frames == []


def test_a_nat_with_nothing_to_do_asks_for_no_time(make_guest: MakeGuest) -> None:
    guest = make_guest(ipv6=None)
    guest.arp(HOST)
    guest.advance(2000)
    assert guest.timers.next_deadline() == (1 << 64) - 1


def test_checksums_that_are_wrong_are_not_made_right(guest: Guest) -> None:
    """Only what a frame says is missing is computed."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        packet = UdpHeader(source_port=1, destination_port=server.getsockname()[1], length=9, checksum=1)
        data = ip_frame(ADDRESS, HOST, IpProtocol.UDP, packet.pack() + b"x")
        assert verify(data) is False
        guest.deliver(data)
        with pytest.raises(BlockingIOError):
            server.recv(1)

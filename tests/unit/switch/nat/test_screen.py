"""What a guest cannot do by way of NAT."""

from __future__ import annotations

import socket

import pytest

from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.wire import EtherType, IpProtocol
from support.nat_guest import (
    ACK,
    ADDRESS,
    ADDRESS6,
    HOST,
    MAC,
    PSH,
    ROUTER,
    SYN,
    Connection,
    Guest,
    icmp,
    ip_frame,
    mss_option,
)

from .conftest import MakeGuest

BIT = 1 << 12  # the lowest of a TCP header's size in `offset_and_flags`


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_the_host_s_loopback_is_reached_at_the_gateway_only(guest: Guest, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    with socket.create_server(("127.0.0.1", 0)) as server:
        guest.connect(packed, server.getsockname()[1])
        guest.send_udp(packed, server.getsockname()[1], b"x")
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    assert guest.nat.dropped == {"loopback address": 2}
    assert guest.nat.describe()["sockets"]["open"] == 0  # type: ignore[index]


def test_host_loopback_off_closes_the_gateway_too(make_guest: MakeGuest) -> None:
    guest = make_guest(host_loopback=False)
    guest.arp(HOST)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = guest.connect(HOST, server.getsockname()[1])
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        assert not connection.established
    unreachable = [frame for frame in guest.frames if frame.data[23] == IpProtocol.ICMP]
    assert [frame.data[34] for frame in unreachable] == [3]


def test_restrict_leaves_dhcp_and_forwards(make_guest: MakeGuest, free_port: int) -> None:
    from ringminus.switch.nat.forwards import parse

    guest = make_guest(restrict=True, forwards=(parse(f"tcp:{free_port}:22"),))
    guest.listen(22)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = guest.connect(HOST, server.getsockname()[1])
        guest.arp(HOST)
        guest.until(lambda: connection.reset)
        guest.send_udp(HOST, server.getsockname()[1], b"x")
    assert guest.nat.describe()["sockets"]["open"] == 0  # type: ignore[index]
    with socket.create_connection(("127.0.0.1", free_port), 10):
        guest.until(lambda: any(one.established for one in guest.connections.values()))


def test_a_frame_of_a_vlan_is_not_for_us_one_with_a_priority_is(guest: Guest) -> None:
    guest.nat.deliver(Frame(ip_frame(ADDRESS, HOST, IpProtocol.ICMP, icmp(8, bytes(8))), tci=0x0005))
    assert guest.nat.dropped == {"vlan": 1}
    guest.arp(HOST)
    before = len(guest.frames)
    guest.nat.deliver(Frame(ip_frame(ADDRESS, HOST, IpProtocol.ICMP, icmp(8, bytes(8))), tci=0xE000))
    assert len(guest.frames) == before + 1


@pytest.mark.parametrize("size", [0, 1, 13, 14, 33])
def test_short_frames(guest: Guest, size: int) -> None:
    guest.deliver(ip_frame(ADDRESS, HOST, IpProtocol.ICMP, b"")[:size])
    assert guest.nat.dropped == {"short frame": 1}


@pytest.mark.parametrize("kind", [EtherType.VLAN, 0x88F8, 0x0600, 60])
def test_only_ip_and_arp(guest: Guest, kind: int) -> None:
    guest.deliver(ROUTER + MAC + kind.to_bytes(2, "big") + bytes(100))
    assert guest.nat.dropped == {"not IP or ARP": 1}


def test_no_fragments_of_tcp(guest: Guest) -> None:
    for fragment in (0x2000, 0x0001, 0x2001):
        guest.deliver(ip_frame(ADDRESS, HOST, IpProtocol.TCP, bytes(40), fragment=fragment))
    assert guest.nat.dropped == {"fragment of tcp": 3}


def test_a_syn_that_is_cut_off(guest: Guest) -> None:
    header = bytes(12) + bytes((0x60, SYN)) + bytes(6)  # says that there are 4 bytes of options
    guest.deliver(ip_frame(ADDRESS, HOST, IpProtocol.TCP, header))
    assert guest.nat.dropped == {"short frame": 1}


def test_what_is_too_large_for_ipv6_and_cannot_be_cut(guest: Guest) -> None:
    guest.deliver(ip_frame(ADDRESS6, ADDRESS6, 99, bytes(30_000)))
    assert guest.nat.dropped == {"too large": 1}


def test_guests_open_no_more_sockets_than_they_may(make_guest: MakeGuest) -> None:
    guest = make_guest(sockets=3)
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        port = server.getsockname()[1]
        for source_port in range(40000, 40005):
            guest.send_udp(HOST, port, b"%d" % source_port, source_port)
        assert [server.recv(100) for _ in range(3)] == [b"40000", b"40001", b"40002"]
        assert guest.nat.dropped == {"too many sockets": 2}
        guest.send_udp(HOST, port, b"again", 40001)  # this one is open
        assert server.recv(100) == b"again"
        guest.connect(HOST, port)
        guest.send_ip(ADDRESS, bytes((192, 0, 2, 1)), IpProtocol.ICMP, icmp(8, bytes(8)))
        assert guest.nat.dropped == {"too many sockets": 4}
        guest.arp(HOST)
        before = len(guest.frames)
        guest.send_ip(ADDRESS, HOST, IpProtocol.ICMP, icmp(8, bytes(8)))  # needs none
        assert len(guest.frames) == before + 1
        guest.advance(5 * 60_000)  # they are given back
        guest.send_udp(HOST, port, b"new", 40009)
        assert server.recv(100) == b"new"


def test_an_established_connection_goes_on_when_there_are_too_many(make_guest: MakeGuest) -> None:
    guest = make_guest(sockets=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        connection = guest.connect(HOST, server.getsockname()[1])
        guest.establish(connection)
        with server.accept()[0] as end:
            second = guest.connect(HOST, server.getsockname()[1], source_port=50001)
            connection.send(ACK | PSH, b"on")
            assert end.recv(10) == b"on"
            assert not second.established


def test_what_a_guest_says_of_a_connection_that_is_none_is_answered_with_a_reset(guest: Guest) -> None:
    guest.arp(HOST)
    stray = Connection(guest, ADDRESS, 1, HOST, 1, mss_option(1460))
    guest.connections[HOST, 1, 1] = stray
    stray.send(ACK | PSH, b"x")
    assert stray.reset


def test_a_priority_tag_is_no_reason_to_forget_a_checksum(guest: Guest) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        port = server.getsockname()[1].to_bytes(2, "big")
        data = ip_frame(ADDRESS, HOST, IpProtocol.UDP, b"\0\1" + port + b"\0\x09\xde\xadx")
        guest.nat.deliver(Frame(data, 0xE000, Checksum.MISSING))
        assert server.recv(10) == b"x"

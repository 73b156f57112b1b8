"""A frame in a line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringminus.switch import wire
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.summary import summary
from ringminus.switch.wire import EtherType, IpProtocol, TcpFlag
from support.endpoints import frame, mac

ENDS = f"{mac(1).hex(':')} > {mac(2).hex(':')}, "
HERE, THERE = IPv4Address("10.0.0.1").packed, IPv4Address("10.0.0.2").packed
HERE6, THERE6 = IPv6Address("fe80::1").packed, IPv6Address("fe80::2").packed


def ipv4(protocol: int, rest: bytes, fragment: int = 0) -> bytes:
    return (
        wire.Ipv4Header(
            version_and_length=0x45,
            total_length=20 + len(rest),
            protocol=protocol,
            source=HERE,
            destination=THERE,
            fragment=fragment,
        ).pack()
        + rest
    )


def ipv6(protocol: int, rest: bytes) -> bytes:
    return (
        wire.Ipv6Header(
            version_class_flow=6 << 28,
            payload_length=len(rest),
            next_header=protocol,
            source=HERE6,
            destination=THERE6,
        ).pack()
        + rest
    )


TCP = wire.TcpHeader(
    source_port=5555,
    destination_port=80,
    sequence=7,
    acknowledgment=9,
    offset_and_flags=0x5000 | TcpFlag.SYN | TcpFlag.ACK,
).pack()
UDP = wire.UdpHeader(source_port=68, destination_port=67, length=12).pack() + b"data"


@pytest.mark.parametrize(
    ("kind", "packet", "said"),
    [
        (
            EtherType.ARP,
            wire.ArpPacket(operation=1, sender_address=mac(1), sender_ip=HERE, target_ip=THERE).pack(),
            "ARP who has 10.0.0.2? tell 10.0.0.1, 42 bytes",
        ),
        (
            EtherType.ARP,
            wire.ArpPacket(operation=2, sender_address=mac(1), sender_ip=HERE, target_ip=THERE).pack(),
            f"ARP 10.0.0.1 is at {mac(1).hex(':')}, 42 bytes",
        ),
        (EtherType.ARP, b"short", "ARP, cut off, 19 bytes"),
        (
            EtherType.IPV4,
            ipv4(IpProtocol.TCP, TCP + b"hello"),
            "10.0.0.1:5555 > 10.0.0.2:80, TCP SYN ACK of 5, seq 7, ack 9, 59 bytes",
        ),
        (
            EtherType.IPV6,
            ipv6(IpProtocol.TCP, TCP),
            "[fe80::1]:5555 > [fe80::2]:80, TCP SYN ACK of 0, seq 7, ack 9, 74 bytes",
        ),
        (EtherType.IPV4, ipv4(IpProtocol.UDP, UDP), "10.0.0.1:68 > 10.0.0.2:67, UDP of 4, 46 bytes"),
        (EtherType.IPV4, ipv4(IpProtocol.ICMP, b"ping"), "10.0.0.1 > 10.0.0.2, ICMP, 38 bytes"),
        (EtherType.IPV4, ipv4(47, b"gre"), "10.0.0.1 > 10.0.0.2, IP protocol 47, 37 bytes"),
        (EtherType.IPV4, ipv4(IpProtocol.UDP, UDP, 5), "10.0.0.1 > 10.0.0.2, IPv4 fragment, 46 bytes"),
        (EtherType.IPV4, ipv4(IpProtocol.UDP, UDP)[:-4], "10.0.0.1 > 10.0.0.2, IPv4 cut off, 42 bytes"),
        (0x88CC, b"lldp", "type 0x88cc, 18 bytes"),
        (0x0010, bytes(16), "802.3 of 16 bytes, 30 bytes"),
    ],
)
def test_packets(kind: int, packet: bytes, said: str) -> None:
    assert summary(frame(mac(2), mac(1), packet, kind=kind)) == ENDS + said


def test_what_is_left_undone_is_said() -> None:
    large = frame(mac(2), mac(1), bytes(3000), tci=0x2005, checksum=Checksum.MISSING, segment_size=1448)
    assert summary(large) == (
        f"{ENDS}VLAN 5, type 0x88b5, 3014 bytes in segments of 1448, checksum left to whom it leaves"
    )


def test_a_frame_that_is_none() -> None:
    assert summary(Frame(b"short")) == "5 bytes, too short for a frame"


@given(
    st.one_of(
        st.binary(max_size=100),
        st.builds(
            lambda kind, rest: mac(1) + mac(2) + kind + rest,
            st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]),
            st.one_of(
                st.binary(max_size=90), st.binary(max_size=90).map(lambda rest: b"\x45\0\0\x28" + rest)
            ),
        ),
        st.builds(
            lambda make, protocol, rest: mac(1) + mac(2) + make(protocol, rest),
            st.sampled_from([lambda p, r: b"\x08\x00" + ipv4(p, r), lambda p, r: b"\x86\xdd" + ipv6(p, r)]),
            st.sampled_from([*IpProtocol, 99]),
            st.binary(max_size=60),
        ),
    )
)
def test_any_bytes_are_one_printable_line(data: bytes) -> None:
    assert summary(Frame(data)).isprintable()

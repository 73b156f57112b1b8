"""What frames carry is shown down to the headers of TCP and UDP, and further where switches take part."""

from __future__ import annotations

import ringminus.switch.protocol  # noqa: F401
from ringminus.lens.decode import flat
from ringminus.protocol import PADDING, PROTOCOLS, REST, Layer, dissect
from ringminus.switch.datagram_wire import DhcpMessage
from ringminus.switch.wire import (
    ArpPacket,
    EthernetHeader,
    EtherType,
    IpProtocol,
    Ipv4Header,
    Ipv6Header,
    TcpHeader,
    UdpHeader,
    VlanTag,
)

HERE, THERE = bytes.fromhex("00155d000001"), bytes.fromhex("525500000202")
NEAR, FAR = bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2))
ROUTER = bytes.fromhex("fe80000000000000000000000000000002")[:15] + b"\2"
GROUP = bytes.fromhex("ff0200000000000000000001ff000001")


def frame(kind: int, payload: bytes) -> Layer:
    header = EthernetHeader(destination=THERE, source=HERE, type=kind)
    return dissect(PROTOCOLS["ethernet"], header.pack() + payload)


def ipv4(protocol: int, payload: bytes, *, fragment: int = 0, options: bytes = b"") -> bytes:
    return (
        Ipv4Header(
            version_and_length=0x45 + len(options) // 4,
            total_length=20 + len(options) + len(payload),
            fragment=fragment,
            protocol=protocol,
            source=NEAR,
            destination=FAR,
        ).pack()
        + options
        + payload
    )


def ipv6(protocol: int, payload: bytes) -> bytes:
    header = Ipv6Header(
        version_class_flow=6 << 28,
        payload_length=len(payload),
        next_header=protocol,
        source=ROUTER,
        destination=GROUP,
    )
    return header.pack() + payload


def tcp(flags: int, options: bytes, payload: bytes) -> bytes:
    offset_and_flags = (20 + len(options)) // 4 << 12 | flags
    header = TcpHeader(source_port=40000, destination_port=22, sequence=7, offset_and_flags=offset_and_flags)
    return header.pack() + options + payload


def udp(port: int, payload: bytes) -> bytes:
    length = 8 + len(payload)
    return UdpHeader(source_port=68, destination_port=port, length=length).pack() + payload


def names(layer: Layer) -> list[str]:
    return [f"{one.protocol} {one.message}" for one in flat([layer])]


def texts(layer: Layer) -> dict[str, str]:
    return {one.name: one.text for one in layer.values}


def last(layer: Layer) -> Layer:
    *_, found = flat([layer])
    assert not any(one.missing for one in flat([layer]))
    assert not any(value.name == REST for one in flat([layer]) for value in one.values)
    return found


def test_tcp_has_its_ports_flags_options_and_payload() -> None:
    layer = frame(EtherType.IPV4, ipv4(IpProtocol.TCP, tcp(0x12, b"\2\4\5\xb4", b"hello")))
    assert names(layer) == ["ethernet IPV4", "ipv4 TCP", "tcp SEGMENT"]
    segment = last(layer)
    assert (segment.get("destination_port"), segment.get("syn"), segment.get("fin")) == (22, 1, 0)
    assert texts(segment)["flags"] == "SYN|ACK"
    assert (segment.get("options"), segment.get("payload")) == (b"\2\4\5\xb4", b"hello")
    assert texts(layer)["source"] == "00:15:5d:00:00:01"
    assert texts(layer.inner[0])["source"] == "10.0.2.15"


def test_only_a_packets_first_fragment_has_a_header() -> None:
    first = ipv4(IpProtocol.TCP, tcp(0x10, b"", b"x"), fragment=0x2000)
    assert names(frame(EtherType.IPV4, first))[-1] == "tcp SEGMENT"
    later = frame(EtherType.IPV4, ipv4(IpProtocol.TCP, b"more", fragment=0x2005))
    assert names(later)[-1] == "ipv4 TCP" and last(later).get("payload") == b"more"
    assert last(later).get("fragment.offset") == 5 and last(later).get("fragment.more") == 1


def test_options_of_ipv4_are_before_what_it_carries() -> None:
    layer = frame(EtherType.IPV4, ipv4(IpProtocol.UDP, udp(9, b"data"), options=bytes(8)))
    assert layer.inner[0].get("options") == bytes(8) and last(layer).get("payload") == b"data"
    assert names(layer)[-1] == "udp DATAGRAM"


def test_a_short_frames_padding_is_no_payload() -> None:
    layer = frame(EtherType.IPV4, ipv4(IpProtocol.TCP, tcp(0x10, b"", b"")) + bytes(6))
    assert last(layer).get("payload") is None
    assert layer.inner[0].get(PADDING) == bytes(6)


def test_arp_shows_who_asks_for_whom() -> None:
    asked = ArpPacket(operation=1, sender_address=HERE, sender_ip=NEAR, target_ip=FAR).pack()
    layer = frame(EtherType.ARP, asked + bytes(22))
    assert names(layer)[-1] == "arp REQUEST"
    assert texts(last(layer))["target_ip"] == "10.0.2.2"


def test_tags_are_shown_with_their_vlan() -> None:
    tagged = VlanTag(tci=0x600A, type=EtherType.IPV4).pack() + ipv4(IpProtocol.UDP, udp(53, b"?"))
    layer = frame(EtherType.VLAN, tagged)
    assert names(layer) == ["ethernet VLAN", "vlan IPV4", "ipv4 UDP", "udp DNS"]
    assert (layer.inner[0].get("id"), layer.inner[0].get("priority")) == (10, 3)


def test_dhcp_has_its_fixed_part() -> None:
    asked = bytes.fromhex("010106000000abcd00000000") + NEAR + bytes(12) + HERE + bytes(10 + 64 + 128)
    asked += bytes.fromhex("63825363350101ff")
    assert len(asked) == DhcpMessage.SIZE + 4
    message = last(frame(EtherType.IPV4, ipv4(IpProtocol.UDP, udp(67, asked))))
    assert (message.protocol, message.message) == ("dhcp", "REQUEST")
    told = texts(message)
    assert (told["client_address"], told["client_ip"]) == ("00:15:5d:00:00:01", "10.0.2.15")
    assert (told["transaction_id"], told["options"]) == ("0xabcd", "350101ff")


def test_extension_headers_lead_to_what_ipv6_carries() -> None:
    report = bytes.fromhex("8f0000000000000104000001") + GROUP + ROUTER
    hops = bytes((IpProtocol.ICMPV6, 0)) + bytes.fromhex("050200000100")
    layer = frame(EtherType.IPV6, ipv6(IpProtocol.HOP_BY_HOP, hops + report))
    assert names(layer)[1:] == [
        *("ipv6 HOP_BY_HOP", "ipv6_extension ICMPV6", "icmpv6 LISTENER_REPORT_2", "mld_record GROUP")
    ]
    told = texts(last(layer))
    assert (told["group"], told["from"]) == ("ff02::1:ff00:1", "fe80::2")


def test_neighbours_have_their_options() -> None:
    advertisement = bytes.fromhex("86000000 40800708 00000000 00000000".replace(" ", ""))
    prefix = bytes.fromhex("030440c0 00015180 00003840 00000000".replace(" ", "")) + ROUTER
    layer = frame(
        EtherType.IPV6,
        ipv6(IpProtocol.ICMPV6, advertisement + b"\1\1" + HERE + prefix + bytes.fromhex("05010000000005dc")),
    )
    *_, message, address, net, mtu = flat([layer])
    last(layer)
    assert [one.message for one in (message, address, net, mtu)] == [
        *("ROUTER_ADVERTISEMENT", "SOURCE_ADDRESS", "PREFIX", "MTU")
    ]
    assert texts(address)["address"] == "00:15:5d:00:00:01" and mtu.get("mtu") == 1500
    assert (net.get("prefix_length"), texts(net)["prefix"]) == (64, "fe80::2")


def test_an_error_quotes_a_packet_that_may_be_cut() -> None:
    quoted = ipv4(IpProtocol.UDP, udp(9, bytes(100)))[:28]
    layer = frame(EtherType.IPV4, ipv4(IpProtocol.ICMP, bytes.fromhex("0303000000000000") + quoted))
    assert names(layer)[2:] == ["icmp UNREACHABLE", "ipv4 UDP", "udp DATAGRAM"]
    last(layer)


def test_fragments_of_ipv6_like_those_of_ipv4() -> None:
    head = bytes((IpProtocol.UDP, 0))
    first = frame(
        EtherType.IPV6, ipv6(IpProtocol.FRAGMENT, head + bytes.fromhex("000100000007") + udp(53, b""))
    )
    later = frame(EtherType.IPV6, ipv6(IpProtocol.FRAGMENT, head + bytes.fromhex("0fa800000007") + b"more"))
    assert names(first)[-1] == "udp DNS" and names(later)[-1] == "ipv6_fragment UDP"
    assert last(later).get("offset.offset") == 0xFA8 >> 3 and last(later).get("payload") == b"more"


def test_what_is_not_known_is_payload() -> None:
    layer = frame(0x88CC, b"whatever")
    assert names(layer) == ["ethernet 0x88cc"] and last(layer).get("payload") == b"whatever"
    layer = frame(EtherType.IPV4, ipv4(99, b"whatever"))
    assert names(layer)[-1] == "ipv4 0x63" and last(layer).get("payload") == b"whatever"

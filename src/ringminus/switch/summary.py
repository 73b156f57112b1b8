"""A frame in a line of text, for a person who looks on."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from ringminus.switch import wire
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import UNKNOWN, Headers, parse
from ringminus.switch.wire import EthernetHeader, EtherType, IpProtocol, TcpFlag
from ringminus.wire import ShortBuffer

_NAMES = {
    IpProtocol.ICMP: "ICMP",
    IpProtocol.ICMPV6: "ICMPv6",
    IpProtocol.TCP: "TCP",
    IpProtocol.UDP: "UDP",
}
_FLAGS = {
    TcpFlag.SYN: "SYN",
    TcpFlag.FIN: "FIN",
    TcpFlag.RST: "RST",
    TcpFlag.PSH: "PSH",
    TcpFlag.ACK: "ACK",
    TcpFlag.URG: "URG",
}
_VLAN_ID = 0xFFF


def summary(frame: Frame) -> str:
    """Who sends what to whom, and how long the frame is. Any bytes may be in it."""
    data = frame.data
    try:
        ethernet = EthernetHeader.unpack(data)
    except ShortBuffer:
        return f"{len(data)} bytes, too short for a frame"
    tag = f"VLAN {frame.tci & _VLAN_ID}, " if frame.tci is not None else ""
    what = _packet(data, ethernet)
    return f"{ethernet.source.hex(':')} > {ethernet.destination.hex(':')}, {tag}{what}{_undone(frame)}"


def _undone(frame: Frame) -> str:
    words = f", {len(frame)} bytes"
    if frame.segment_size:
        words += f" in segments of {frame.segment_size}"
    if frame.checksum is Checksum.MISSING:
        words += ", checksum left to whom it leaves"
    return words


def _packet(data: bytes, ethernet: EthernetHeader) -> str:
    if ethernet.type == EtherType.ARP:
        return _arp(data)
    headers = parse(data)
    if headers is not None:
        return _ip(data, headers)
    if ethernet.type < 0x600:
        return f"802.3 of {ethernet.type} bytes"
    return f"type {ethernet.type:#06x}"


def _arp(data: bytes) -> str:
    try:
        arp = wire.ArpPacket.unpack(data, EthernetHeader.SIZE)
    except ShortBuffer:
        return "ARP, cut off"
    sender, target = IPv4Address(arp.sender_ip), IPv4Address(arp.target_ip)
    if arp.operation == 1:
        return f"ARP who has {target}? tell {sender}"
    if arp.operation == 2:
        return f"ARP {sender} is at {arp.sender_address.hex(':')}"
    return f"ARP operation {arp.operation}"


def _ip(data: bytes, headers: Headers) -> str:
    if headers.version == 4:
        ipv4 = wire.Ipv4Header.unpack(data, headers.network)
        source, destination = str(IPv4Address(ipv4.source)), str(IPv4Address(ipv4.destination))
    else:
        ipv6 = wire.Ipv6Header.unpack(data, headers.network)
        source, destination = str(IPv6Address(ipv6.source)), str(IPv6Address(ipv6.destination))
    if headers.transport == UNKNOWN:
        what = "fragment" if headers.fragment else "cut off"
        return f"{source} > {destination}, IPv{headers.version} {what}"
    name = _NAMES.get(IpProtocol(headers.protocol)) if headers.protocol in set(IpProtocol) else None
    name = name or f"IP protocol {headers.protocol}"
    if headers.payload == UNKNOWN:
        return f"{source} > {destination}, {name}"
    size = headers.end - headers.payload
    if headers.protocol == IpProtocol.UDP:
        udp = wire.UdpHeader.unpack(data, headers.transport)
        return f"{_at(source, udp.source_port)} > {_at(destination, udp.destination_port)}, UDP of {size}"
    tcp = wire.TcpHeader.unpack(data, headers.transport)
    flags = " ".join(text for flag, text in _FLAGS.items() if tcp.offset_and_flags & flag)
    ends = f"{_at(source, tcp.source_port)} > {_at(destination, tcp.destination_port)}"
    return f"{ends}, TCP {flags or 'no flags'} of {size}, seq {tcp.sequence}, ack {tcp.acknowledgment}"


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

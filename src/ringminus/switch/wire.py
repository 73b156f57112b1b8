"""Headers of the packets in a frame: Ethernet (IEEE 802.3, 802.1Q), ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC
8200), TCP (RFC 9293), UDP (RFC 768), ICMPv6 (RFC 4443, 4861). Names as in Linux's struct ethhdr, iphdr, ….
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated

from ringminus.wire import U8, U16, U32, Bytes, Struct


class EtherType(IntEnum):
    """`EthernetHeader.type`; below 0x600 it is a length (802.3)."""

    IPV4 = 0x0800
    ARP = 0x0806
    VLAN = 0x8100
    IPV6 = 0x86DD


class IpProtocol(IntEnum):
    """What an IP packet carries, and IPv6's extension headers."""

    HOP_BY_HOP = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ROUTING = 43
    FRAGMENT = 44
    AUTHENTICATION = 51
    ICMPV6 = 58
    DESTINATION_OPTIONS = 60


class TcpFlag(IntEnum):
    """The low byte of `TcpHeader.offset_and_flags`."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


class TcpOption(IntEnum):
    """Kinds of TCP's options; each but the first two has its size in bytes behind its kind."""

    END = 0
    NOP = 1
    MSS = 2


class EthernetHeader(Struct, big_endian=True):
    """ethhdr."""

    destination: Annotated[bytes, Bytes(6)]
    source: Annotated[bytes, Bytes(6)]
    type: U16


class VlanTag(Struct, big_endian=True):
    """vlan_hdr: what follows the EtherType 0x8100. `tci` is priority << 13 | DEI << 12 | VLAN id."""

    tci: U16
    type: U16


class ArpPacket(Struct, big_endian=True):
    """arphdr of Ethernet and IPv4, with the addresses that follow it (RFC 826). `operation` is 1 of a request
    and 2 of a reply."""

    hardware_type: U16 = 1
    protocol_type: U16 = EtherType.IPV4
    hardware_size: U8 = 6
    protocol_size: U8 = 4
    operation: U16
    sender_address: Annotated[bytes, Bytes(6)]
    sender_ip: Annotated[bytes, Bytes(4)]
    target_address: Annotated[bytes, Bytes(6)] = b""
    target_ip: Annotated[bytes, Bytes(4)]


class Ipv4Fragment(IntEnum):
    """Bits of `Ipv4Header.fragment`."""

    DONT_FRAGMENT = 0x4000
    MORE = 0x2000
    OFFSET = 0x1FFF


class Ipv4Header(Struct, big_endian=True):
    """iphdr, before its options; the low four bits of `version_and_length` count words of 4 bytes.
    `fragment` is flags << 13 | offset in units of 8 bytes."""

    version_and_length: U8
    tos: U8 = 0
    total_length: U16
    id: U16 = 0
    fragment: U16 = 0
    ttl: U8 = 64
    protocol: U8
    checksum: U16 = 0
    source: Annotated[bytes, Bytes(4)]
    destination: Annotated[bytes, Bytes(4)]


class Ipv6Header(Struct, big_endian=True):
    """ipv6hdr; `payload_length` counts what follows it."""

    version_class_flow: U32
    payload_length: U16
    next_header: U8
    hop_limit: U8 = 64
    source: Annotated[bytes, Bytes(16)]
    destination: Annotated[bytes, Bytes(16)]


class Ipv6Extension(Struct, big_endian=True):
    """ipv6_opt_hdr: how hop-by-hop options, destination options and a routing header begin. `length` counts
    units of 8 bytes after the first; an authentication header's units of 4 after the second."""

    next_header: U8
    length: U8


class Ipv6RoutingHeader(Struct, big_endian=True):
    """ipv6_rt_hdr; addresses follow. With `segments_left` the packet's destination is not its last one."""

    next_header: U8
    length: U8
    type: U8
    segments_left: U8


class Ipv6FragmentHeader(Struct, big_endian=True):
    """frag_hdr; `offset` is in bytes in its high 13 bits, its lowest bit says that more fragments follow."""

    next_header: U8
    reserved: U8 = 0
    offset: U16
    id: U32


class TcpHeader(Struct, big_endian=True):
    """tcphdr, before its options; the high four bits of `offset_and_flags` count words of 4 bytes."""

    source_port: U16
    destination_port: U16
    sequence: U32
    acknowledgment: U32 = 0
    offset_and_flags: U16
    window: U16 = 0
    checksum: U16 = 0
    urgent: U16 = 0


class UdpHeader(Struct, big_endian=True):
    """udphdr."""

    source_port: U16
    destination_port: U16
    length: U16
    checksum: U16 = 0


HOT_IPV4 = struct.Struct(">12xHBxHxxHxB10x")
"""An Ethernet header's `type`, and an IPv4 header's `version_and_length`, `total_length`, `fragment` and
`protocol`, of a frame that holds both whole."""
HOT_IPV6 = struct.Struct(">14xBxxxHB33x")
"""The first byte of an IPv6 header behind an Ethernet header, `payload_length` and `next_header`."""
HOT_U16 = struct.Struct(">H")
HOT_U32 = struct.Struct(">I")

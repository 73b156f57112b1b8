"""ICMP (RFC 792), ICMPv6 with neighbour discovery and multicast listeners (RFC 4443, 4861, 3810), and DHCP
(RFC 2131), as far as they are shown: nothing here takes part in switching.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from ringminus.wire import U8, U16, U32, Bytes, Struct


class IcmpType(IntEnum):
    """`IcmpHeader.type`."""

    ECHO_REPLY = 0
    UNREACHABLE = 3
    SOURCE_QUENCH = 4
    REDIRECT = 5
    ECHO = 8
    ROUTER_ADVERTISEMENT = 9
    ROUTER_SOLICITATION = 10
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    TIMESTAMP = 13
    TIMESTAMP_REPLY = 14


class Icmpv6Type(IntEnum):
    """The same of ICMPv6."""

    UNREACHABLE = 1
    PACKET_TOO_BIG = 2
    TIME_EXCEEDED = 3
    PARAMETER_PROBLEM = 4
    ECHO = 128
    ECHO_REPLY = 129
    LISTENER_QUERY = 130
    LISTENER_REPORT = 131
    LISTENER_DONE = 132
    ROUTER_SOLICITATION = 133
    ROUTER_ADVERTISEMENT = 134
    NEIGHBOR_SOLICITATION = 135
    NEIGHBOR_ADVERTISEMENT = 136
    REDIRECT = 137
    LISTENER_REPORT_2 = 143


class IcmpHeader(Struct, big_endian=True):
    """icmphdr, before what depends on the type, and icmp6hdr likewise."""

    type: U8
    code: U8
    checksum: U16


class Echo(Struct, big_endian=True):
    """Of an echo request or reply."""

    id: U16
    sequence: U16


class IcmpError(Struct, big_endian=True):
    """Of an error, before the packet that it is about; `mtu` is the next hop's where that is the reason."""

    reserved: U16
    mtu: U16


class Icmpv6Error(Struct, big_endian=True):
    """The same of ICMPv6: `information` is an MTU, or where in the packet the problem is."""

    information: U32


class RouterSolicitation(Struct, big_endian=True):
    """rs_msg, before its options."""

    reserved: U32


class RouterAdvertisement(Struct, big_endian=True):
    """ra_msg, before its options; `flags` are managed (bit 7) and other (bit 6) configuration. Times are in
    s, and in ms."""

    hop_limit: U8
    flags: U8
    lifetime: U16
    reachable_ms: U32
    retransmit_ms: U32


class NeighborFlag(IntFlag):
    """`Neighbor.flags` of an advertisement."""

    ROUTER = 1 << 31
    SOLICITED = 1 << 30
    OVERRIDE = 1 << 29


class Neighbor(Struct, big_endian=True):
    """nd_msg, before its options."""

    flags: U32
    target: Annotated[bytes, Bytes(16)]


class NeighborOption(IntEnum):
    """`NeighborOptionHeader.type`."""

    SOURCE_ADDRESS = 1
    TARGET_ADDRESS = 2
    PREFIX = 3
    REDIRECTED = 4
    MTU = 5
    NONCE = 14
    NAME_SERVERS = 25
    DOMAINS = 31


class NeighborOptionHeader(Struct, big_endian=True):
    """nd_opt_hdr; `length` is in units of 8 bytes, this header included."""

    type: U8
    length: U8


class PrefixOption(Struct, big_endian=True):
    """prefix_info; `flags` are on-link (bit 7) and autonomous (bit 6), times in s."""

    type: U8
    length: U8
    prefix_length: U8
    flags: U8
    valid: U32
    preferred: U32
    reserved: U32
    prefix: Annotated[bytes, Bytes(16)]


class MtuOption(Struct, big_endian=True):
    """An MTU, behind the option's header."""

    reserved: U16
    mtu: U32


class LifetimeOption(Struct, big_endian=True):
    """Name servers' or domains' lifetime in s, behind the option's header and before them."""

    reserved: U16
    lifetime: U32


class ListenerReport(Struct, big_endian=True):
    """mld2_report, before its records."""

    reserved: U16
    records: U16


class ListenerRecord(Struct, big_endian=True):
    """mld2_grec, before its sources and `auxiliary` words of 4 bytes."""

    type: U8
    auxiliary: U8
    sources: U16
    group: Annotated[bytes, Bytes(16)]


class Listener(Struct, big_endian=True):
    """mld_msg: a query, a report or a departure of the first version."""

    maximum_delay: U16
    reserved: U16
    group: Annotated[bytes, Bytes(16)]


class DhcpOperation(IntEnum):
    """`DhcpMessage.operation`."""

    REQUEST = 1
    REPLY = 2


class DhcpMessage(Struct, big_endian=True):
    """bootp_pkt's fixed part (RFC 2131, figure 1), with the magic number before its options."""

    operation: U8
    hardware_type: U8
    hardware_size: U8
    hops: U8
    transaction_id: U32
    seconds: U16
    flags: U16
    client_ip: Annotated[bytes, Bytes(4)]
    your_ip: Annotated[bytes, Bytes(4)]
    server_ip: Annotated[bytes, Bytes(4)]
    relay_ip: Annotated[bytes, Bytes(4)]
    client_address: Annotated[bytes, Bytes(6)]
    padding: Annotated[bytes, Bytes(10)]
    server_name: Annotated[bytes, Bytes(64)]
    file: Annotated[bytes, Bytes(128)]
    magic: U32

"""What frames carry, declared for who shows them: enough for filters and lines, down to TCP's and UDP's
headers. What programs say to each other is `payload`.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from ringminus.protocol import Bits, Form, Part, Protocol, Show, Told, declare
from ringminus.switch import datagram_wire as datagram
from ringminus.switch.wire import (
    ArpPacket,
    EthernetHeader,
    EtherType,
    IpProtocol,
    Ipv4Header,
    Ipv6Extension,
    Ipv6FragmentHeader,
    Ipv6Header,
    TcpFlag,
    TcpHeader,
    UdpHeader,
    VlanTag,
)
from ringminus.wire import Struct

PAYLOAD = Part("payload")
SHORTEST_PAYLOAD = 50
"""Of an Ethernet frame of 64 bytes; who counts no checksum into them pads shorter ones to 60."""
_MAC_TYPES = {
    EtherType.IPV4: "ipv4",
    EtherType.ARP: "arp",
    EtherType.IPV6: "ipv6",
    EtherType.VLAN: "vlan",
}


class ArpOperation(IntEnum):
    """`ArpPacket.operation`."""

    REQUEST = 1
    REPLY = 2


class UdpPort(IntEnum):
    """Ports whose datagrams are taken apart, and others that have a name."""

    DNS = 53
    DHCP_SERVER = 67
    DHCP_CLIENT = 68
    NTP = 123
    DHCPV6_CLIENT = 546
    DHCPV6_SERVER = 547
    MDNS = 5353


TcpFlags = IntFlag("TcpFlags", {one.name: one.value for one in TcpFlag})  # type: ignore[misc]


def _alone(name: str, shift: int, width: int = 1) -> Bits:
    return Bits(name, shift, width, alone=True)


def _within(protocol: str) -> tuple[Part, ...]:
    """One message of that protocol, to the end."""
    return (Part("payload", protocol, count=1),)


def _link(name: str, title: str, header: type[Struct]) -> Protocol:
    forms: dict[int, Form | tuple[Form, ...]] = {
        kind: Form(kind.name, parts=_within(within)) for kind, within in _MAC_TYPES.items()
    }
    return Protocol(
        name,
        title,
        header,
        "type",
        forms,
        {"type": EtherType},
        words={"tci": (_alone("priority", 13, 3), _alone("dei", 12), _alone("id", 0, 12))},
        shows={"destination": Show.MAC, "source": Show.MAC, "type": Show.HEX},
        otherwise=Form("", parts=(PAYLOAD,)),
    )


ETHERNET = declare(_link("ethernet", "Ethernet", EthernetHeader))
VLAN = declare(_link("vlan", "802.1Q", VlanTag))
ARP = declare(
    Protocol(
        "arp",
        "Address Resolution Protocol",
        ArpPacket,
        "operation",
        {one: Form(one.name) for one in ArpOperation},
        {"operation": ArpOperation, "protocol_type": EtherType},
        shows={
            **dict.fromkeys(("sender_address", "target_address"), Show.MAC),
            **dict.fromkeys(("sender_ip", "target_ip"), Show.IPV4),
        },
        padded=SHORTEST_PAYLOAD,
    )
)

# ---------------------------------------------------------------- IP

_TRANSPORTS = {IpProtocol.TCP: "tcp", IpProtocol.UDP: "udp"}
_CARRIED_4 = {**_TRANSPORTS, IpProtocol.ICMP: "icmp"}
_CARRIED_6 = {
    **_TRANSPORTS,
    IpProtocol.ICMPV6: "icmpv6",
    IpProtocol.HOP_BY_HOP: "ipv6_extension",
    IpProtocol.ROUTING: "ipv6_extension",
    IpProtocol.DESTINATION_OPTIONS: "ipv6_extension",
    IpProtocol.FRAGMENT: "ipv6_fragment",
}
_OPTIONS_4 = Part("options", size=Told("header_length", 4, -Ipv4Header.SIZE))
_OPTIONS_6 = Part("options", size=Told("length", 8, 8 - Ipv6Extension.SIZE))
_FIRST = {"fragment.offset": 0}

IPV4 = declare(
    Protocol(
        "ipv4",
        "Internet Protocol version 4",
        Ipv4Header,
        "protocol",
        {
            kind: (
                Form(kind.name, parts=(_OPTIONS_4, *_within(within)), when=_FIRST),
                Form(kind.name, parts=(_OPTIONS_4, PAYLOAD)),
            )
            for kind, within in _CARRIED_4.items()
        },
        {"protocol": IpProtocol},
        words={
            "version_and_length": (_alone("version", 4, 4), _alone("header_length", 0, 4)),
            "tos": (_alone("dscp", 2, 6), _alone("ecn", 0, 2)),
            "fragment": (Bits("dont", 14), Bits("more", 13), Bits("offset", 0, 13)),
        },
        shows={
            "source": Show.IPV4,
            "destination": Show.IPV4,
            **dict.fromkeys(("version_and_length", "tos", "id", "fragment", "checksum"), Show.HEX),
        },
        otherwise=Form("", parts=(_OPTIONS_4, PAYLOAD)),
        size="total_length",
        padded=SHORTEST_PAYLOAD,
    )
)
IPV6 = declare(
    Protocol(
        "ipv6",
        "Internet Protocol version 6",
        Ipv6Header,
        "next_header",
        {kind: Form(kind.name, parts=_within(within)) for kind, within in _CARRIED_6.items()},
        {"next_header": IpProtocol},
        words={
            "version_class_flow": (
                _alone("version", 28, 4),
                _alone("traffic_class", 20, 8),
                Bits("flow", 0, 20, show=Show.HEX, alone=True),
            )
        },
        shows={"source": Show.IPV6, "destination": Show.IPV6, "version_class_flow": Show.HEX},
        otherwise=Form("", parts=(PAYLOAD,)),
        size=Told("payload_length", plus=Ipv6Header.SIZE),
    )
)
IPV6_EXTENSION = declare(
    Protocol(
        "ipv6_extension",
        "Extension header of IPv6",
        Ipv6Extension,
        "next_header",
        {kind: Form(kind.name, parts=(_OPTIONS_6, *_within(within))) for kind, within in _CARRIED_6.items()},
        {"next_header": IpProtocol},
        otherwise=Form("", parts=(_OPTIONS_6, PAYLOAD)),
    )
)
IPV6_FRAGMENT = declare(
    Protocol(
        "ipv6_fragment",
        "Fragment header of IPv6",
        Ipv6FragmentHeader,
        "next_header",
        {
            kind: (
                Form(kind.name, parts=_within(within), when={"offset.offset": 0}),
                Form(kind.name, parts=(PAYLOAD,)),
            )
            for kind, within in _CARRIED_6.items()
        },
        {"next_header": IpProtocol},
        words={"offset": (Bits("offset", 3, 13), Bits("more", 0))},
        shows={"offset": Show.HEX, "id": Show.HEX},
        otherwise=Form("", parts=(PAYLOAD,)),
    )
)

# ---------------------------------------------------------------- what IP carries

TCP = declare(
    Protocol(
        "tcp",
        "Transmission Control Protocol",
        TcpHeader,
        "",
        {
            0: Form(
                "SEGMENT",
                parts=(
                    Part("options", size=Told("header_length", 4, -TcpHeader.SIZE)),
                    PAYLOAD,
                ),
            )
        },
        words={
            "offset_and_flags": (
                _alone("header_length", 12, 4),
                Bits("flags", 0, 8, TcpFlags, alone=True),
                *(_alone(one.name.lower(), one.value.bit_length() - 1) for one in TcpFlag),
            )
        },
        shows={"offset_and_flags": Show.HEX, "checksum": Show.HEX},
    )
)
_DHCP_PORTS = (UdpPort.DHCP_SERVER, UdpPort.DHCP_CLIENT)
UDP = declare(
    Protocol(
        "udp",
        "User Datagram Protocol",
        UdpHeader,
        "destination_port",
        {
            port: Form(port.name, parts=_within("dhcp") if port in _DHCP_PORTS else (PAYLOAD,))
            for port in UdpPort
        },
        {"source_port": UdpPort, "destination_port": UdpPort},
        shows={"checksum": Show.HEX},
        otherwise=Form("DATAGRAM", parts=(PAYLOAD,)),
    )
)
DHCP = declare(
    Protocol(
        "dhcp",
        "Dynamic Host Configuration Protocol",
        datagram.DhcpMessage,
        "operation",
        {one: Form(one.name, parts=(Part("options"),)) for one in datagram.DhcpOperation},
        {"operation": datagram.DhcpOperation},
        shows={
            **dict.fromkeys(("client_ip", "your_ip", "server_ip", "relay_ip"), Show.IPV4),
            **dict.fromkeys(("transaction_id", "flags", "magic"), Show.HEX),
            "client_address": Show.MAC,
            "server_name": Show.TEXT,
            "file": Show.TEXT,
        },
    )
)

# ---------------------------------------------------------------- ICMP

_ECHOES = ("ECHO", "ECHO_REPLY")
_ERRORS = ("UNREACHABLE", "TIME_EXCEEDED", "PARAMETER_PROBLEM", "SOURCE_QUENCH", "REDIRECT")


def _icmp_form(kind: datagram.IcmpType) -> Form:
    if kind.name in _ECHOES:
        return Form(kind.name, datagram.Echo, parts=(PAYLOAD,))
    if kind.name in _ERRORS:
        return Form(kind.name, datagram.IcmpError, parts=(Part("about", "ipv4", count=1, continued=True),))
    return Form(kind.name, parts=(PAYLOAD,))


ICMP = declare(
    Protocol(
        "icmp",
        "Internet Control Message Protocol",
        datagram.IcmpHeader,
        "type",
        {one: _icmp_form(one) for one in datagram.IcmpType},
        {"type": datagram.IcmpType},
        shows={"checksum": Show.HEX, "id": Show.HEX},
        otherwise=Form("", parts=(PAYLOAD,)),
    )
)
_OPTION = (Part("options", "nd_option"),)
_ABOUT = (Part("about", "ipv6", count=1, continued=True),)
_T = datagram.Icmpv6Type
_SHAPED: dict[datagram.Icmpv6Type, tuple[type[Struct], tuple[Part, ...]]] = {
    _T.UNREACHABLE: (datagram.Icmpv6Error, _ABOUT),
    _T.PACKET_TOO_BIG: (datagram.Icmpv6Error, _ABOUT),
    _T.TIME_EXCEEDED: (datagram.Icmpv6Error, _ABOUT),
    _T.PARAMETER_PROBLEM: (datagram.Icmpv6Error, _ABOUT),
    _T.ECHO: (datagram.Echo, (PAYLOAD,)),
    _T.ECHO_REPLY: (datagram.Echo, (PAYLOAD,)),
    _T.ROUTER_SOLICITATION: (datagram.RouterSolicitation, _OPTION),
    _T.ROUTER_ADVERTISEMENT: (datagram.RouterAdvertisement, _OPTION),
    _T.NEIGHBOR_SOLICITATION: (datagram.Neighbor, _OPTION),
    _T.NEIGHBOR_ADVERTISEMENT: (datagram.Neighbor, _OPTION),
    _T.LISTENER_QUERY: (datagram.Listener, (PAYLOAD,)),
    _T.LISTENER_REPORT: (datagram.Listener, ()),
    _T.LISTENER_DONE: (datagram.Listener, ()),
    _T.LISTENER_REPORT_2: (datagram.ListenerReport, (Part("groups", "mld_record", count="records"),)),
}
ICMPV6 = declare(
    Protocol(
        "icmpv6",
        "Internet Control Message Protocol for IPv6",
        datagram.IcmpHeader,
        "type",
        {
            one: Form(one.name, *_SHAPED[one][:1], parts=_SHAPED[one][1])
            if one in _SHAPED
            else Form(one.name, parts=(PAYLOAD,))
            for one in datagram.Icmpv6Type
        },
        {"type": datagram.Icmpv6Type, "flags": datagram.NeighborFlag},
        shows={"checksum": Show.HEX, "id": Show.HEX, "target": Show.IPV6, "group": Show.IPV6},
        otherwise=Form("", parts=(PAYLOAD,)),
    )
)
_O = datagram.NeighborOption
ND_OPTION = declare(
    Protocol(
        "nd_option",
        "Option of neighbour discovery",
        datagram.NeighborOptionHeader,
        "type",
        {
            _O.SOURCE_ADDRESS: Form("SOURCE_ADDRESS", parts=(Part("address"),)),
            _O.TARGET_ADDRESS: Form("TARGET_ADDRESS", parts=(Part("address"),)),
            _O.PREFIX: Form("PREFIX", datagram.PrefixOption, whole=True),
            _O.MTU: Form("MTU", datagram.MtuOption),
            _O.NONCE: Form("NONCE", parts=(PAYLOAD,)),
            _O.REDIRECTED: Form("REDIRECTED", parts=(PAYLOAD,)),
            _O.NAME_SERVERS: Form("NAME_SERVERS", datagram.LifetimeOption, parts=(Part("servers"),)),
            _O.DOMAINS: Form("DOMAINS", datagram.LifetimeOption, parts=(PAYLOAD,)),
        },
        {"type": datagram.NeighborOption},
        shows={"address": Show.MAC, "prefix": Show.IPV6, "servers": Show.IPV6, "flags": Show.HEX},
        otherwise=Form("", parts=(PAYLOAD,)),
        size=Told("length", 8),
    )
)
MLD_RECORD = declare(
    Protocol(
        "mld_record",
        "Group of a multicast listener",
        datagram.ListenerRecord,
        "",
        {
            0: Form(
                "GROUP",
                parts=(
                    Part("from", size=Told("sources", 16)),
                    Part("auxiliary_data", size=Told("auxiliary", 4)),
                ),
            )
        },
        shows={"group": Show.IPV6, "from": Show.IPV6},
    )
)

"""Packets' headers, the TAP driver's, and the kernel's."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.switch import datagram_wire, pcap_wire, tap_wire, wire
from ringminus.wire import Struct
from support.kernel_types import VMLINUX

_TCP_FLAGS = ("res1", "doff", "fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
_PORTS = {"source_port": "source", "destination_port": "dest", "checksum": "check"}
_BEHIND = "Linux's begins with icmphdr or icmp6hdr"
_AFTER_ARPHDR = "the addresses' sizes are in arphdr, so that they are behind it"

SAME = (
    Same(
        wire.EthernetHeader,
        "ethhdr",
        VMLINUX,
        renamed={"destination": "h_dest", "source": "h_source", "type": "h_proto"},
    ),
    Same(
        wire.VlanTag,
        "vlan_hdr",
        VMLINUX,
        renamed={"tci": "h_vlan_TCI", "type": "h_vlan_encapsulated_proto"},
    ),
    Same(
        wire.ArpPacket,
        "arphdr",
        VMLINUX,
        renamed={
            "hardware_type": "ar_hrd",
            "protocol_type": "ar_pro",
            "hardware_size": "ar_hln",
            "protocol_size": "ar_pln",
            "operation": "ar_op",
        },
        beyond=dict.fromkeys(("sender_address", "sender_ip", "target_address", "target_ip"), _AFTER_ARPHDR),
    ),
    Same(
        wire.Ipv4Header,
        "iphdr",
        VMLINUX,
        merged={"version_and_length": ("ihl", "version")},
        renamed={
            "total_length": "tot_len",
            "fragment": "frag_off",
            "checksum": "check",
            "source": "saddr",
            "destination": "daddr",
        },
    ),
    Same(
        wire.Ipv6Header,
        "ipv6hdr",
        VMLINUX,
        merged={"version_class_flow": ("priority", "version", "flow_lbl")},
        renamed={
            "payload_length": "payload_len",
            "next_header": "nexthdr",
            "source": "u6_addr8",
            "destination": "u6_addr8",
        },
    ),
    Same(
        wire.Ipv6Extension,
        "ipv6_opt_hdr",
        VMLINUX,
        renamed={"next_header": "nexthdr", "length": "hdrlen"},
    ),
    Same(
        wire.Ipv6RoutingHeader,
        "ipv6_rt_hdr",
        VMLINUX,
        renamed={"next_header": "nexthdr", "length": "hdrlen"},
    ),
    Same(
        wire.Ipv6FragmentHeader,
        "frag_hdr",
        VMLINUX,
        renamed={"next_header": "nexthdr", "offset": "frag_off", "id": "identification"},
    ),
    Same(
        wire.TcpHeader,
        "tcphdr",
        VMLINUX,
        merged={"offset_and_flags": _TCP_FLAGS},
        renamed={**_PORTS, "sequence": "seq", "acknowledgment": "ack_seq", "urgent": "urg_ptr"},
    ),
    Same(wire.UdpHeader, "udphdr", VMLINUX, renamed={**_PORTS, "length": "len"}),
    Same(datagram_wire.IcmpHeader, "icmphdr", VMLINUX, until="un"),
    Same(
        datagram_wire.NeighborOptionHeader,
        "nd_opt_hdr",
        VMLINUX,
        renamed={"type": "nd_opt_type", "length": "nd_opt_len"},
    ),
    Same(
        datagram_wire.ListenerRecord,
        "mld2_grec",
        VMLINUX,
        renamed={
            "type": "grec_type",
            "auxiliary": "grec_auxwords",
            "sources": "grec_nsrcs",
            "group": "u6_addr8",
        },
        until="grec_src",
    ),
    Same(tap_wire.VnetHeader, "virtio_net_hdr", VMLINUX),
    Same(
        tap_wire.InterfaceRequest,
        "ifreq",
        VMLINUX,
        renamed={"name": "ifrn_name", "flags": "ifru_flags"},
        until="sa_data",
    ),
)

NUMBERS: tuple[SameNumbers, ...] = ()
BITS: tuple[SameBits, ...] = ()

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    pcap_wire: "a file format of libpcap's",
    datagram_wire.Echo: _BEHIND,
    datagram_wire.IcmpError: _BEHIND,
    datagram_wire.Icmpv6Error: _BEHIND,
    datagram_wire.RouterSolicitation: _BEHIND,
    datagram_wire.RouterAdvertisement: _BEHIND,
    datagram_wire.Neighbor: _BEHIND,
    datagram_wire.ListenerReport: _BEHIND,
    datagram_wire.Listener: _BEHIND,
    datagram_wire.PrefixOption: "its flags are fields of bits in Linux's",
    datagram_wire.MtuOption: "Linux has a number in its place",
    datagram_wire.LifetimeOption: "Linux hands it to programs as bytes",
    datagram_wire.DhcpMessage: "Linux has it only when it can ask for an address itself",
}

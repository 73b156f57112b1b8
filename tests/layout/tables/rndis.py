"""RNDIS's and NDIS's structures and the kernel's."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.devices.network import ndis_wire, oid_wire, rndis_wire
from ringminus.devices.network.rndis_wire import ReceiveChecksum, TransmitChecksum
from ringminus.wire import Struct

_NETVSC = "hv_netvsc"

SAME = (
    Same(rndis_wire.MessageHeader, "rndis_message", _NETVSC, until="msg"),
    Same(rndis_wire.InitializeRequest, "rndis_initialize_request", _NETVSC),
    Same(rndis_wire.InitializeComplete, "rndis_initialize_complete", _NETVSC),
    Same(rndis_wire.HaltRequest, "rndis_halt_request", _NETVSC),
    Same(rndis_wire.QueryRequest, "rndis_query_request", _NETVSC),
    Same(rndis_wire.QueryComplete, "rndis_query_complete", _NETVSC),
    Same(rndis_wire.SetRequest, "rndis_set_request", _NETVSC),
    Same(rndis_wire.SetComplete, "rndis_set_complete", _NETVSC),
    Same(rndis_wire.ResetRequest, "rndis_reset_request", _NETVSC),
    Same(rndis_wire.ResetComplete, "rndis_reset_complete", _NETVSC),
    Same(rndis_wire.IndicateStatus, "rndis_indicate_status", _NETVSC),
    Same(rndis_wire.KeepaliveRequest, "rndis_keepalive_request", _NETVSC),
    Same(rndis_wire.KeepaliveComplete, "rndis_keepalive_complete", _NETVSC),
    Same(rndis_wire.Packet, "rndis_packet", _NETVSC),
    Same(rndis_wire.PacketInfo, "rndis_per_packet_info", _NETVSC, merged={"type": ("type", "internal")}),
    Same(rndis_wire.PacketId, "rndis_pktinfo_id", _NETVSC),
    Same(ndis_wire.ObjectHeader, "ndis_object_header", _NETVSC),
    Same(ndis_wire.ChecksumOffload, "ndis_csum_offload", _NETVSC),
    Same(ndis_wire.LsoV1Offload, "ndis_lsov1_offload", _NETVSC),
    Same(ndis_wire.IpsecV1Offload, "ndis_ipsecv1_offload", _NETVSC),
    Same(ndis_wire.LsoV2Offload, "ndis_lsov2_offload", _NETVSC),
    Same(ndis_wire.IpsecV2Offload, "ndis_ipsecv2_offload", _NETVSC),
    Same(ndis_wire.RscOffload, "ndis_rsc_offload", _NETVSC),
    Same(ndis_wire.EncapOffload, "ndis_encap_offload", _NETVSC),
    Same(ndis_wire.Offload, "ndis_offload", _NETVSC, split={"padding": "ipsecv2"}),
    Same(ndis_wire.OffloadParameters, "ndis_offload_params", _NETVSC),
    Same(
        ndis_wire.RssCapabilities,
        "ndis_recv_scale_cap",
        _NETVSC,
        renamed={"header": "hdr", "revision": "rev"},
    ),
    Same(
        ndis_wire.RssParameters,
        "ndis_recv_scale_param",
        _NETVSC,
        renamed={"header": "hdr", "revision": "rev"},
    ),
    Same(oid_wire.ConfigParameterInfo, "rndis_config_parameter_info", _NETVSC),
)

NUMBERS = (
    SameNumbers(
        "InfoType",
        {kind.name: kind for kind in rndis_wire.InfoType if kind < rndis_wire.INTERNAL},
        "ndis_per_pkt_info_type",
        "",
        _NETVSC,
        renamed={
            "CHECKSUM": "TCPIP_CHKSUM_PKTINFO",
            "LARGE_SEND": "TCP_LARGESEND_PKTINFO",
            "VLAN": "IEEE_8021Q_INFO",
            "HASH_VALUE": "NBL_HASH_VALUE",
        },
        beyond={"HASH_INFO": "Linux has only its place, under an older name"},
    ),
)

BITS = (
    SameBits(
        "TransmitChecksum",
        {
            "transmit.is_ipv4": TransmitChecksum.IPV4,
            "transmit.is_ipv6": TransmitChecksum.IPV6,
            "transmit.tcp_checksum": TransmitChecksum.TCP,
            "transmit.udp_checksum": TransmitChecksum.UDP,
            "transmit.ip_header_checksum": TransmitChecksum.IP_HEADER,
            "transmit.tcp_header_offset": rndis_wire.checksum_word(0, -1),
        },
        "ndis_tcp_ip_checksum_info",
        _NETVSC,
    ),
    SameBits(
        "ReceiveChecksum",
        {
            "receive.tcp_checksum_failed": ReceiveChecksum.TCP_FAILED,
            "receive.udp_checksum_failed": ReceiveChecksum.UDP_FAILED,
            "receive.ip_checksum_failed": ReceiveChecksum.IP_FAILED,
            "receive.tcp_checksum_succeeded": ReceiveChecksum.TCP_SUCCEEDED,
            "receive.udp_checksum_succeeded": ReceiveChecksum.UDP_SUCCEEDED,
            "receive.ip_checksum_succeeded": ReceiveChecksum.IP_SUCCEEDED,
            "receive.loopback": ReceiveChecksum.LOOPBACK,
            "receive.tcp_checksum_value_invalid": ReceiveChecksum.TCP_VALUE_INVALID,
            "receive.ip_checksum_value_invalid": ReceiveChecksum.IP_VALUE_INVALID,
        },
        "ndis_tcp_ip_checksum_info",
        _NETVSC,
    ),
    SameBits(
        "LargeSend",
        {
            "lso_v2_transmit.mss": rndis_wire.large_send_word(0, -1, 0),
            "lso_v2_transmit.tcp_header_offset": rndis_wire.large_send_word(0, 0, -1),
            "lso_v2_transmit.type": rndis_wire.LargeSend.VERSION_2,
            "lso_v2_transmit.ip_version": rndis_wire.LargeSend.IPV6,
        },
        "ndis_tcp_lso_info",
        _NETVSC,
    ),
    SameBits(
        "VLAN word",
        {
            "pri": rndis_wire.vlan_word(0xE000),
            "cfi": rndis_wire.vlan_word(0x1000),
            "vlanid": rndis_wire.vlan_word(0x0FFF),
        },
        "ndis_pkt_8021q_info",
        _NETVSC,
    ),
)

_NDIS = "Linux does not use this object of NDIS's"

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    rndis_wire.SetExComplete: "Linux does not send SET_EX",
    ndis_wire.OffloadEncapsulation: _NDIS,
    oid_wire.LinkState: _NDIS,
    oid_wire.LinkSpeed: _NDIS,
    oid_wire.StatisticsInfo: _NDIS,
}

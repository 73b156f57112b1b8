"""The network adapter's messages, declared for who shows them: NVSP, and RNDIS with its packets' infos.

Objects that RNDIS's queries and sets carry are in `oid_protocol`, frames in the switch's declarations.
"""

from __future__ import annotations

from ringminus.devices.network import oid_protocol as oid_protocol
from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.network.oid_wire import Oid
from ringminus.devices.network.rndis_wire import HEADER_SIZE as BODY
from ringminus.devices.network.rndis_wire import (
    DeviceFlag,
    Fragment,
    HaltRequest,
    IndicateStatus,
    InfoType,
    InitializeComplete,
    InitializeRequest,
    KeepaliveComplete,
    KeepaliveRequest,
    Medium,
    MessageHeader,
    MessageType,
    Packet,
    PacketId,
    PacketInfo,
    QueryComplete,
    QueryRequest,
    ReceiveChecksum,
    ResetComplete,
    ResetRequest,
    SetComplete,
    SetExComplete,
    SetRequest,
    Status,
    TransmitChecksum,
)
from ringminus.devices.network.wire import (
    MESSAGE_SIZE,
    Capability,
    ChannelType,
    DataPath,
    Init,
    InitComplete,
    OidQueryExComplete,
    PdApiComplete,
    PdApiRequest,
    ReceiveBufferSection,
    RevokeReceiveBuffer,
    RevokeSendBuffer,
    SendIndirectionTable,
    SendNdisConfig,
    SendNdisVersion,
    SendReceiveBuffer,
    SendReceiveBufferComplete,
    SendRndisPacket,
    SendRndisPacketComplete,
    SendSendBuffer,
    SendSendBufferComplete,
    SubchannelComplete,
    SubchannelOperation,
    SubchannelRequest,
    SwitchDataPath,
    Version,
)
from ringminus.devices.network.wire import MessageHeader as NvspHeader
from ringminus.devices.network.wire import MessageType as NvspType
from ringminus.devices.network.wire import Status as NvspStatus
from ringminus.protocol import Bits, Form, Part, Protocol, Show, Told, declare, word
from ringminus.wire import Int, Struct

U32 = Int("I")

# ---------------------------------------------------------------- NVSP

SECTION = declare(
    Protocol("receive_section", "Section of a receive buffer", ReceiveBufferSection, "", {0: Form("SECTION")})
)

_NVSP: dict[NvspType, type[Struct]] = {
    NvspType.INIT: Init,
    NvspType.INIT_COMPLETE: InitComplete,
    NvspType.SEND_NDIS_VER: SendNdisVersion,
    NvspType.SEND_RECV_BUF: SendReceiveBuffer,
    NvspType.REVOKE_RECV_BUF: RevokeReceiveBuffer,
    NvspType.SEND_SEND_BUF: SendSendBuffer,
    NvspType.SEND_SEND_BUF_COMPLETE: SendSendBufferComplete,
    NvspType.REVOKE_SEND_BUF: RevokeSendBuffer,
    NvspType.SEND_RNDIS_PKT: SendRndisPacket,
    NvspType.SEND_RNDIS_PKT_COMPLETE: SendRndisPacketComplete,
    NvspType.SEND_NDIS_CONFIG: SendNdisConfig,
    NvspType.SWITCH_DATA_PATH: SwitchDataPath,
}
_NDIS_STATUS = {"status": Status}

NVSP = declare(
    Protocol(
        "nvsp",
        "Network adapter (NVSP)",
        NvspHeader,
        "msg_type",
        {
            **{one: Form(one.name, _NVSP.get(one)) for one in NvspType},
            NvspType.SEND_RECV_BUF_COMPLETE: Form(
                "SEND_RECV_BUF_COMPLETE", SendReceiveBufferComplete, inner={"sections": SECTION.name}
            ),
            NvspType.OID_QUERY_EX_COMP: Form(
                "OID_QUERY_EX_COMP",
                OidQueryExComplete,
                parts=(Part("value", size="bytes"),),
                labels=_NDIS_STATUS,
            ),
            NvspType.SUBCHANNEL: (
                Form("SUBCHANNEL", SubchannelRequest, to_guest=False),
                Form("SUBCHANNEL", SubchannelComplete, to_guest=True),
            ),
            NvspType.SEND_INDIRECTION_TABLE: Form(
                "SEND_INDIRECTION_TABLE",
                SendIndirectionTable,
                parts=(Part("table", U32, at="offset", count="count"),),
            ),
            NvspType.PD_API: (
                Form("PD_API", PdApiRequest, to_guest=False),
                Form("PD_API", PdApiComplete, to_guest=True, labels=_NDIS_STATUS),
            ),
        },
        {
            "msg_type": NvspType,
            "status": NvspStatus,
            "min_protocol_ver": Version,
            "max_protocol_ver": Version,
            "negotiated_protocol_ver": Version,
            "capability": Capability,
            "channel_type": ChannelType,
            "active_datapath": DataPath,
            "op": SubchannelOperation,
        },
        (SyntheticNic.interface,),
        shows={
            **dict.fromkeys(("min_protocol_ver", "max_protocol_ver", "negotiated_protocol_ver"), Show.HEX),
            **dict.fromkeys(("gpadl_handle", "id", "send_buf_section_index"), Show.HEX),
        },
        padded=MESSAGE_SIZE,
    )
)

# ---------------------------------------------------------------- RNDIS

_PLACED = {"ppi_offset": PacketInfo.SIZE}
_CHECKSUM = (
    Bits("ipv4", 0),
    Bits("ipv6", 1),
    Bits("tcp", 2),
    Bits("udp", 3),
    Bits("ip_header", 4),
    Bits("header_offset", 16, 10),
)
_LARGE_SEND = (
    Bits("segment_size", 0, 20),
    Bits("header_offset", 20, 10),
    Bits("version_2", 30),
    Bits("ipv6", 31),
)
_VLAN = (Bits("priority", 0, 3), Bits("dei", 3), Bits("id", 4, 12))
_FRAGMENT = (Bits("sub_allocation", 0), Bits("first", 1), Bits("last", 2))


def _info(name: str, structure: type[Struct], to_guest: bool | None = None) -> Form:
    return Form(name, structure, to_guest=to_guest, when=_PLACED)


def _elsewhere(name: str) -> Form:
    """Its value is not right behind the header."""
    return Form(name, parts=(Part("value", at="ppi_offset"),))


INFO = declare(
    Protocol(
        "rndis_info",
        "Information about a packet",
        PacketInfo,
        "type",
        {
            InfoType.CHECKSUM: (
                _info("CHECKSUM", word("transmit_checksum"), False),
                _info("CHECKSUM", word("receive_checksum"), True),
                _elsewhere("CHECKSUM"),
            ),
            InfoType.LARGE_SEND: (_info("LARGE_SEND", word("large_send")), _elsewhere("LARGE_SEND")),
            InfoType.VLAN: (_info("VLAN", word("vlan")), _elsewhere("VLAN")),
            InfoType.HASH_INFO: (_info("HASH_INFO", word("hash_info")), _elsewhere("HASH_INFO")),
            InfoType.HASH_VALUE: (_info("HASH_VALUE", word("hash_value")), _elsewhere("HASH_VALUE")),
            InfoType.PACKET_ID: (_info("PACKET_ID", PacketId), _elsewhere("PACKET_ID")),
        },
        {
            "type": InfoType,
            "transmit_checksum": TransmitChecksum,
            "receive_checksum": ReceiveChecksum,
            "flag": Fragment,
        },
        words={
            "transmit_checksum": _CHECKSUM,
            "large_send": _LARGE_SEND,
            "vlan": _VLAN,
            "flag": _FRAGMENT,
        },
        shows={**dict.fromkeys(("type", "hash_value", "hash_info", "large_send", "vlan"), Show.HEX)},
        otherwise=Form("", parts=(Part("value", at="ppi_offset"),)),
        size="size",
    )
)


def _at(field: str) -> Told:
    """Offsets count from the body's first byte."""
    return Told(field, plus=BODY)


def _buffer(protocol: str, number: str, field: str = "info_buf") -> tuple[Part, ...]:
    """The information buffer: an object whose number `number` is."""
    place = _at(f"{field}_offset")
    return (Part("object", protocol, at=place, size=f"{field}len", count=1, number=number),)


# a piece of a large frame that is not its first has no headers
_LATER = {"infos.flag.first": 0}
_PACKET = (
    Part("infos", INFO.name, at=_at("per_pkt_info_offset"), size="per_pkt_info_len"),
    Part("oob_data", at=_at("oob_data_offset"), size="oob_data_len"),
    Part("frame", "ethernet", at=_at("data_offset"), size="data_len", count=1, unless=_LATER),
    Part("fragment", at=_at("data_offset"), size="data_len", when=_LATER),
)
_OBJECT = _buffer("oid", "oid")
_RNDIS: dict[MessageType, tuple[type[Struct], tuple[Part, ...]]] = {
    MessageType.PACKET: (Packet, _PACKET),
    MessageType.INIT: (InitializeRequest, ()),
    MessageType.HALT: (HaltRequest, ()),
    MessageType.QUERY: (QueryRequest, _OBJECT),
    MessageType.SET: (SetRequest, _OBJECT),
    MessageType.RESET: (ResetRequest, ()),
    MessageType.INDICATE: (IndicateStatus, _buffer("rndis_indication", "status", "status_buf")),
    MessageType.KEEPALIVE: (KeepaliveRequest, ()),
    MessageType.SET_EX: (SetRequest, _OBJECT),
    MessageType.INIT_C: (InitializeComplete, ()),
    MessageType.QUERY_C: (QueryComplete, _OBJECT),
    MessageType.SET_C: (SetComplete, ()),
    MessageType.RESET_C: (ResetComplete, ()),
    MessageType.KEEPALIVE_C: (KeepaliveComplete, ()),
    MessageType.SET_EX_C: (SetExComplete, _OBJECT),
}

RNDIS = declare(
    Protocol(
        "rndis",
        "Remote NDIS",
        MessageHeader,
        "ndis_msg_type",
        {kind: Form(kind.name, structure, parts=parts) for kind, (structure, parts) in _RNDIS.items()},
        {
            "ndis_msg_type": MessageType,
            "status": Status,
            "oid": Oid,
            "dev_flags": DeviceFlag,
            "medium": Medium,
        },
        shows=dict.fromkeys(("ndis_msg_type", "oid", "status", "req_id", "max_xfer_size"), Show.HEX),
        size="msg_len",
    )
)

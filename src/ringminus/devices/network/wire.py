"""NVSP, the protocol between a guest's netvsc and the host.

Names as in Linux's drivers/net/hyperv/hyperv_net.h; what that leaves open is as OpenVMM's netvsp has it. Most
messages come from the guest as in-band packets, and our answers are completions; frames and RNDIS messages
travel in both directions with `SendRndisPacket`. A message is its type and a body, and is padded to
`message_size`.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Annotated

from ringminus.wire import U16, U32, U64, Array, Bytes, Struct

RECEIVE_BUFFER_ID = 0xCAFE
"""What Linux calls its receive buffer; the guest chooses."""
SEND_TABLE_SIZE = 16
NO_SECTION = 0xFFFF_FFFF
"""`SendRndisPacket.send_buf_section_index` when the send buffer takes no part."""
MAX_MDL_CHAIN_LENGTH = 34
MAX_RANGES = 375
"""Ranges of a packet to the guest (NVSP_MAX_PACKETS_PER_RECEIVE)."""


class Version(IntEnum):
    """NVSP_PROTOCOL_VERSION_…: major << 16 | minor."""

    V1 = 0x00002
    V2 = 0x30002
    V4 = 0x40000
    V5 = 0x50000
    V6 = 0x60000
    V61 = 0x60001


class MessageType(IntEnum):
    """NVSP_MSG…_TYPE_…. 109 to 124, 126 and 127 are the TCP chimney's and old, and nobody sends them to
    a host that offers none."""

    NONE = 0
    INIT = 1
    INIT_COMPLETE = 2
    SEND_NDIS_VER = 100
    SEND_RECV_BUF = 101
    SEND_RECV_BUF_COMPLETE = 102
    REVOKE_RECV_BUF = 103
    SEND_SEND_BUF = 104
    SEND_SEND_BUF_COMPLETE = 105
    REVOKE_SEND_BUF = 106
    SEND_RNDIS_PKT = 107
    SEND_RNDIS_PKT_COMPLETE = 108
    SEND_CHIMNEY_DELEGATED_BUF = 109
    SEND_CHIMNEY_DELEGATED_BUF_COMP = 110
    REVOKE_CHIMNEY_DELEGATED_BUF = 111
    RESUME_CHIMNEY_RX_INDICATION = 112
    TERMINATE_CHIMNEY = 113
    TERMINATE_CHIMNEY_COMP = 114
    INDICATE_CHIMNEY_EVENT = 115
    SEND_CHIMNEY_PKT = 116
    SEND_CHIMNEY_PKT_COMP = 117
    POST_CHIMNEY_RECV_REQ = 118
    POST_CHIMNEY_RECV_REQ_COMP = 119
    ALLOC_RXBUF = 120
    ALLOC_RXBUF_COMP = 121
    FREE_RXBUF = 122
    SEND_VMQ_RNDIS_PKT = 123
    SEND_VMQ_RNDIS_PKT_COMP = 124
    SEND_NDIS_CONFIG = 125
    ALLOC_CHIMNEY_HANDLE = 126
    ALLOC_CHIMNEY_HANDLE_COMP = 127
    SEND_VF_ASSOCIATION = 128
    SWITCH_DATA_PATH = 129
    UPLINK_CONNECT_STATE_DEPRECATED = 130
    OID_QUERY_EX = 131
    OID_QUERY_EX_COMP = 132
    SUBCHANNEL = 133
    SEND_INDIRECTION_TABLE = 134
    PD_API = 135
    PD_POST_BATCH = 136


class Status(IntEnum):
    """NVSP_STAT_…."""

    NONE = 0
    SUCCESS = 1
    FAIL = 2
    PROTOCOL_TOO_NEW = 3
    PROTOCOL_TOO_OLD = 4
    INVALID_RNDIS_PKT = 5
    BUSY = 6
    PROTOCOL_UNSUPPORTED = 7


class ChannelType(IntEnum):
    """`SendRndisPacket.channel_type`: RNDIS's two ways of communication, which share a channel here."""

    DATA = 0
    CONTROL = 1


class Capability(IntFlag):
    """`SendNdisConfig.capability` (nvsp_2_vsc_capability): what the guest can do."""

    VMQ = 1 << 0
    CHIMNEY = 1 << 1
    SRIOV = 1 << 2
    IEEE8021Q = 1 << 3
    CORRELATION_ID = 1 << 4
    TEAMING = 1 << 5
    VSUBNETID = 1 << 6
    RSC = 1 << 7


class DataPath(IntEnum):
    """nvsp_vm_datapath."""

    SYNTHETIC = 0
    VF = 1


class SubchannelOperation(IntEnum):
    """nvsp_subchannel_operation."""

    NONE = 0
    ALLOCATE = 1


class MessageHeader(Struct):
    """nvsp_message_header, before each body."""

    msg_type: U32


class Init(Struct):
    """nvsp_message_init: the versions that the guest speaks; Linux names one."""

    min_protocol_ver: U32
    max_protocol_ver: U32


class InitComplete(Struct):
    """nvsp_message_init_complete."""

    negotiated_protocol_ver: U32
    max_mdl_chain_len: U32 = MAX_MDL_CHAIN_LENGTH
    status: U32


class SendNdisVersion(Struct):
    """nvsp_1_message_send_ndis_version."""

    ndis_major_ver: U32
    ndis_minor_ver: U32


class SendReceiveBuffer(Struct):
    """nvsp_1_message_send_receive_buffer."""

    gpadl_handle: U32
    id: U16


class ReceiveBufferSection(Struct):
    """nvsp_1_receive_buffer_section: `num_sub_allocs` pieces of `sub_alloc_size` bytes from `offset` on."""

    offset: U32
    sub_alloc_size: U32
    num_sub_allocs: U32
    end_offset: U32


class SendReceiveBufferComplete(Struct):
    """nvsp_1_message_send_receive_buffer_complete; guests accept one `ReceiveBufferSection` only."""

    status: U32
    num_sections: U32
    sections: Annotated[bytes, Bytes(ReceiveBufferSection.SIZE)]


class RevokeReceiveBuffer(Struct):
    """nvsp_1_message_revoke_receive_buffer."""

    id: U16


class SendSendBuffer(Struct):
    """nvsp_1_message_send_send_buffer."""

    gpadl_handle: U32
    id: U16


class SendSendBufferComplete(Struct):
    """nvsp_1_message_send_send_buffer_complete."""

    status: U32
    section_size: U32


class RevokeSendBuffer(Struct):
    """nvsp_1_message_revoke_send_buffer."""

    id: U16


class SendRndisPacket(Struct):
    """nvsp_1_message_send_rndis_packet: RNDIS messages, from a section of the send buffer (its first
    `send_buf_section_size` bytes) or from the packet's ranges, or begun in the one and continued in the
    other."""

    channel_type: U32
    send_buf_section_index: U32
    send_buf_section_size: U32


class SendRndisPacketComplete(Struct):
    """nvsp_1_message_send_rndis_packet_complete."""

    status: U32


class SendNdisConfig(Struct):
    """nvsp_2_send_ndis_config. `mtu` counts the Ethernet header, too."""

    mtu: U32
    reserved: U32 = 0
    capability: U64


class SwitchDataPath(Struct):
    """nvsp_4_sw_datapath."""

    active_datapath: U32


class OidQueryExComplete(Struct):
    """NVSP_5_MESSAGE_OID_QUERY_EX_COMPLETE: an NDIS status and the number of bytes that follow."""

    status: U32
    bytes: U32 = 0


class SubchannelRequest(Struct):
    """nvsp_5_subchannel_request."""

    op: U32
    num_subchannels: U32


class SubchannelComplete(Struct):
    """nvsp_5_subchannel_complete."""

    status: U32
    num_subchannels: U32


class SendIndirectionTable(Struct):
    """nvsp_5_send_indirect_table: `offset`, from the message's first byte on, is where `count` numbers of
    channels are: the guest sends what hashes to an entry on that channel."""

    count: U32
    offset: U32


class SendTable(Struct):
    """The table of `SendIndirectionTable`."""

    channels: Annotated[tuple[int, ...], Array("I", SEND_TABLE_SIZE)]


class PdApiRequest(Struct):
    """nvsp_6_pd_api_req, as far as it matters here."""

    op: U32


class PdApiComplete(Struct):
    """nvsp_6_pd_api_comp, before what depends on the operation; `status` is an NT status."""

    op: U32
    status: U32


MESSAGE_SIZE, LEGACY_MESSAGE_SIZE = 40, 28


def message_size(version: int) -> int:
    """Bytes of a message in that version."""
    return MESSAGE_SIZE if version >= Version.V61 else LEGACY_MESSAGE_SIZE


def message(kind: int, body: Struct, version: int) -> bytes:
    """A whole message."""
    return (MessageHeader(msg_type=kind).pack() + body.pack()).ljust(message_size(version), b"\0")


# The hot path's: MessageHeader with SendRndisPacket, and with SendRndisPacketComplete
HOT_SEND = struct.Struct("<IIII")
HOT_COMPLETE = struct.Struct("<II")

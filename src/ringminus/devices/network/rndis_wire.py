"""RNDIS, the messages between a guest's netvsc and its adapter.

Names as in Linux's drivers/net/hyperv/hyperv_net.h; the numbers that Linux leaves out are those of
Microsoft's "Remote NDIS Specification" and of OpenVMM's rndisprot. A message is a `MessageHeader` and a body
by type; every offset in a body counts from the body's first byte, which is byte 8 of the message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum, IntFlag
from functools import cache
from typing import Any

from ringminus.wire import U8, U16, U32, Struct

MAJOR_VERSION, MINOR_VERSION = 1, 0
COMPLETION = 0x8000_0000
"""What a completion's type has besides that of its request."""


class MessageType(IntEnum):
    """`MessageHeader.ndis_msg_type`; SET_EX is Windows's and OpenVMM's."""

    PACKET = 1
    INIT = 2
    HALT = 3
    QUERY = 4
    SET = 5
    RESET = 6
    INDICATE = 7
    KEEPALIVE = 8
    SET_EX = 9
    INIT_C = COMPLETION | 2
    QUERY_C = COMPLETION | 4
    SET_C = COMPLETION | 5
    RESET_C = COMPLETION | 6
    KEEPALIVE_C = COMPLETION | 8
    SET_EX_C = COMPLETION | 9


class Status(IntEnum):
    """The status of a completion or of an indication (NDIS_STATUS), as far as they are used here."""

    SUCCESS = 0
    PENDING = 0x0000_0103
    NOT_ACCEPTED = 0x0001_0003
    MEDIA_CONNECT = 0x4001_000B
    MEDIA_DISCONNECT = 0x4001_000C
    LINK_SPEED_CHANGE = 0x4001_0013
    NETWORK_CHANGE = 0x4001_0018
    TASK_OFFLOAD_CURRENT_CONFIG = 0x4002_0006
    BUFFER_OVERFLOW = 0x8000_0005
    FAILURE = 0xC000_0001
    RESOURCES = 0xC000_009A
    NOT_SUPPORTED = 0xC000_00BB
    BAD_VERSION = 0xC001_0004
    MULTICAST_FULL = 0xC001_0009
    MULTICAST_EXISTS = 0xC001_000A
    MULTICAST_NOT_FOUND = 0xC001_000B
    ADAPTER_NOT_READY = 0xC001_0011
    INVALID_LENGTH = 0xC001_0014
    INVALID_DATA = 0xC001_0015
    BUFFER_TOO_SHORT = 0xC001_0016
    INVALID_OID = 0xC001_0017


class DeviceFlag(IntFlag):
    """`InitializeComplete.dev_flags`."""

    CONNECTIONLESS = 1
    CONNECTION_ORIENTED = 2


class Medium(IntEnum):
    """`InitializeComplete.medium` and what the media OIDs answer."""

    ETHERNET = 0


class MessageHeader(Struct):
    """The first two fields of rndis_message. `msg_len` counts the whole message, this header included."""

    ndis_msg_type: U32
    msg_len: U32


class InitializeRequest(Struct):
    """rndis_initialize_request."""

    req_id: U32
    major_ver: U32 = MAJOR_VERSION
    minor_ver: U32 = MINOR_VERSION
    max_xfer_size: U32


class InitializeComplete(Struct):
    """rndis_initialize_complete: how much the guest may put into one message buffer. `max_pkt_per_msg` is
    the number of packet messages, `max_xfer_size` their bytes, and each begins at a multiple of
    1 << `pkt_alignment_factor` bytes. The address families are for connection-oriented devices only."""

    req_id: U32
    status: U32
    major_ver: U32 = MAJOR_VERSION
    minor_ver: U32 = MINOR_VERSION
    dev_flags: U32 = DeviceFlag.CONNECTIONLESS
    medium: U32 = Medium.ETHERNET
    max_pkt_per_msg: U32
    max_xfer_size: U32
    pkt_alignment_factor: U32
    af_list_offset: U32 = 0
    af_list_size: U32 = 0


class HaltRequest(Struct):
    """rndis_halt_request. It has no answer."""

    req_id: U32


class QueryRequest(Struct):
    """rndis_query_request. What is in the information buffer depends on the OID; often it is empty."""

    req_id: U32
    oid: U32
    info_buflen: U32
    info_buf_offset: U32
    dev_vc_handle: U32 = 0


class QueryComplete(Struct):
    """rndis_query_complete."""

    req_id: U32
    status: U32
    info_buflen: U32
    info_buf_offset: U32


class SetRequest(Struct):
    """rndis_set_request."""

    req_id: U32
    oid: U32
    info_buflen: U32
    info_buf_offset: U32
    dev_vc_handle: U32 = 0


class SetComplete(Struct):
    """rndis_set_complete."""

    req_id: U32
    status: U32


class SetExComplete(Struct):
    """RNDIS_SET_EX_COMPLETE: the answer to SET_EX, whose request is a `SetRequest`."""

    req_id: U32
    status: U32
    info_buflen: U32
    info_buf_offset: U32


class ResetRequest(Struct):
    """rndis_reset_request."""

    reserved: U32 = 0


class ResetComplete(Struct):
    """rndis_reset_complete. `addressing_reset` of 1 asks the guest to set its filters and lists again."""

    status: U32
    addressing_reset: U32


class IndicateStatus(Struct):
    """rndis_indicate_status."""

    status: U32
    status_buflen: U32
    status_buf_offset: U32


class KeepaliveRequest(Struct):
    """rndis_keepalive_request."""

    req_id: U32


class KeepaliveComplete(Struct):
    """rndis_keepalive_complete."""

    req_id: U32
    status: U32


class Packet(Struct):
    """rndis_packet: a frame, and what is known of it in a list of `PacketInfo`. The frame is an Ethernet
    frame without 802.1Q tag."""

    data_offset: U32
    data_len: U32
    oob_data_offset: U32 = 0
    oob_data_len: U32 = 0
    num_oob_data_elements: U32 = 0
    per_pkt_info_offset: U32 = 0
    per_pkt_info_len: U32 = 0
    vc_handle: U32 = 0
    reserved: U32 = 0


class PacketInfo(Struct):
    """rndis_per_packet_info: `size` counts this header, what lies between, and the info that begins
    `ppi_offset` bytes into it. The high bit of `type` is `INTERNAL`."""

    size: U32
    type: U32
    ppi_offset: U32


class PacketId(Struct):
    """rndis_pktinfo_id: the info `PACKET_ID`. `flag` is a `Fragment`."""

    ver: U8 = 1
    flag: U8
    pkt_id: U16 = 0


HEADER_SIZE = MessageHeader.SIZE
"""Where a message's body begins, from which its offsets count."""

INTERNAL = 0x8000_0000


class InfoType(IntEnum):
    """`PacketInfo.type` (ndis_per_pkt_info_type); each info is one word of 32 bits here."""

    CHECKSUM = 0
    LARGE_SEND = 2
    VLAN = 6
    HASH_INFO = 7
    """Declared by NDIS only (NetBufferListHashInfo): the function and type of the hash."""
    HASH_VALUE = 8
    PACKET_ID = INTERNAL | 1


class Fragment(IntFlag):
    """`PacketId.flag`: the packet is one of several messages in one transfer that make one large frame. The
    headers of the frame are in the first one only."""

    SUB_ALLOCATION = 1
    FIRST = 2
    LAST = 4


class TransmitChecksum(IntFlag):
    """The info `CHECKSUM` of a packet from the guest (ndis_tcp_ip_checksum_info.transmit): what the adapter
    is to compute. See also `checksum_offset`."""

    IPV4 = 1 << 0
    IPV6 = 1 << 1
    TCP = 1 << 2
    UDP = 1 << 3
    IP_HEADER = 1 << 4


class ReceiveChecksum(IntFlag):
    """The info `CHECKSUM` of a packet to the guest (ndis_tcp_ip_checksum_info.receive): what the adapter
    has found out."""

    TCP_FAILED = 1 << 0
    UDP_FAILED = 1 << 1
    IP_FAILED = 1 << 2
    TCP_SUCCEEDED = 1 << 3
    UDP_SUCCEEDED = 1 << 4
    IP_SUCCEEDED = 1 << 5
    LOOPBACK = 1 << 6
    TCP_VALUE_INVALID = 1 << 7
    """The field in the frame holds nothing of use, although the checksum counts as right."""
    IP_VALUE_INVALID = 1 << 8


def checksum_offset(word: int) -> int:
    """Where the guest says that the TCP header begins in the frame; 0 when it does not say."""
    return word >> 16 & 0x3FF


def checksum_word(flags: int, tcp_header_offset: int) -> int:
    """The info `CHECKSUM` as a guest sends it."""
    return flags | (tcp_header_offset & 0x3FF) << 16


class LargeSend(IntFlag):
    """Bits of the info `LARGE_SEND` (ndis_tcp_lso_info): version 2 has `IPV6` by IP version; version 1
    leaves it clear and is IPv4 only."""

    VERSION_2 = 1 << 30
    IPV6 = 1 << 31


def large_send(word: int) -> tuple[int, int]:
    """Of the info `LARGE_SEND`: the TCP payload bytes of a segment and where the TCP header begins."""
    return word & 0xF_FFFF, word >> 20 & 0x3FF


def large_send_word(flags: int, segment_size: int, tcp_header_offset: int) -> int:
    """The info `LARGE_SEND` as a guest sends it."""
    return flags | (tcp_header_offset & 0x3FF) << 20 | segment_size & 0xF_FFFF


def vlan_tci(word: int) -> int:
    """The info `VLAN` (ndis_pkt_8021q_info) as 802.1Q's tag control information."""
    return (word & 7) << 13 | (word & 8) << 9 | word >> 4 & 0xFFF


def vlan_word(tci: int) -> int:
    """The info `VLAN` for a tag control information."""
    return tci >> 13 | tci >> 9 & 8 | (tci & 0xFFF) << 4


def packet_id_word(flags: int, packet_id: int = 0) -> int:
    """The info `PACKET_ID`: `PacketId` as a word."""
    return 1 | flags << 8 | packet_id << 16


HEADER = struct.Struct("<II")  # MessageHeader
PACKET = struct.Struct("<11I")  # MessageHeader, Packet
HOT_PACKET = struct.Struct("<4I12x2I8x")  # the same, without what frames of a guest make no use of
PACKET_SIZE = PACKET.size
INFO = struct.Struct("<IIII")  # PacketInfo and the word that follows it when `ppi_offset` is 12
INFO_HEADER = struct.Struct("<III")  # PacketInfo
INFO_WORD = struct.Struct("<I")
INFO_SIZE = INFO.size


class PacketHeader:
    """All that stands before the frame in a packet message with the infos `types`, in this order.

    `size` is the bytes of it. `pack(length, *words)` gives them, for a frame of `length` bytes and one word
    for each info; `pack_into(buffer, offset, length, *words)` writes them there. The functions are compiled
    for their infos, as they are on the way of every received frame."""

    __slots__ = ("pack", "pack_into", "size")

    pack: Callable[..., bytes]
    pack_into: Callable[..., None]

    def __init__(self, types: tuple[int, ...]) -> None:
        infos = INFO_SIZE * len(types)
        self.size = PACKET_SIZE + infos
        body = PACKET_SIZE - HEADER_SIZE
        fixed = struct.pack("<7I", 0, 0, 0, body if types else 0, infos, 0, 0)
        names: dict[str, Any] = {}
        layout, values = "<4I", [str(int(MessageType.PACKET)), f"{self.size} + length"]
        values += [str(body + infos), "length"]
        for number, kind in enumerate(types):
            names[f"fixed{number}"] = fixed + INFO_HEADER.pack(INFO_SIZE, kind, INFO_HEADER.size)
            layout += f"{len(names[f'fixed{number}'])}sI"
            values += [f"fixed{number}", f"word{number}"]
            fixed = b""
        if fixed:
            names["fixed"] = fixed
            layout += f"{len(fixed)}s"
            values.append("fixed")
        codec = struct.Struct(layout)
        names |= {"_pack": codec.pack, "_pack_into": codec.pack_into}
        words = "".join(f", word{number}" for number in range(len(types)))
        exec(
            f"def pack(length{words}):\n    return _pack({', '.join(values)})\n"
            f"def pack_into(buffer, offset, length{words}):\n"
            f"    _pack_into(buffer, offset, {', '.join(values)})\n",
            names,
        )
        self.pack = names["pack"]
        self.pack_into = names["pack_into"]


@cache
def packet_header(*types: int) -> PacketHeader:
    """The `PacketHeader` for these infos."""
    return PacketHeader(types)

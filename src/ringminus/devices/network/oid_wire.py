"""Object identifiers, and what queries and sets of them carry, offloads and receive side scaling apart.

Names as in Linux's include/linux/rndis.h and in Microsoft's ntddndis.h.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

from ringminus.devices.network.ndis_wire import ObjectHeader
from ringminus.wire import U32, U64, Struct


class Oid(IntEnum):
    """Object identifiers, OID_…, that are answered. The second byte from below tells a mandatory one (1)
    from an optional one (2), the second from above an operational one (1) from a statistic (2)."""

    GEN_SUPPORTED_LIST = 0x0001_0101
    GEN_HARDWARE_STATUS = 0x0001_0102
    GEN_MEDIA_SUPPORTED = 0x0001_0103
    GEN_MEDIA_IN_USE = 0x0001_0104
    GEN_MAXIMUM_LOOKAHEAD = 0x0001_0105
    GEN_MAXIMUM_FRAME_SIZE = 0x0001_0106
    GEN_LINK_SPEED = 0x0001_0107
    GEN_TRANSMIT_BUFFER_SPACE = 0x0001_0108
    GEN_RECEIVE_BUFFER_SPACE = 0x0001_0109
    GEN_TRANSMIT_BLOCK_SIZE = 0x0001_010A
    GEN_RECEIVE_BLOCK_SIZE = 0x0001_010B
    GEN_VENDOR_ID = 0x0001_010C
    GEN_VENDOR_DESCRIPTION = 0x0001_010D
    GEN_CURRENT_PACKET_FILTER = 0x0001_010E
    GEN_CURRENT_LOOKAHEAD = 0x0001_010F
    GEN_DRIVER_VERSION = 0x0001_0110
    GEN_MAXIMUM_TOTAL_SIZE = 0x0001_0111
    GEN_PROTOCOL_OPTIONS = 0x0001_0112
    GEN_MAC_OPTIONS = 0x0001_0113
    GEN_MEDIA_CONNECT_STATUS = 0x0001_0114
    GEN_MAXIMUM_SEND_PACKETS = 0x0001_0115
    GEN_VENDOR_DRIVER_VERSION = 0x0001_0116
    GEN_NETWORK_LAYER_ADDRESSES = 0x0001_0118
    GEN_PHYSICAL_MEDIUM = 0x0001_0202
    GEN_RECEIVE_SCALE_CAPABILITIES = 0x0001_0203
    GEN_RECEIVE_SCALE_PARAMETERS = 0x0001_0204
    GEN_MAX_LINK_SPEED = 0x0001_0206
    GEN_LINK_STATE = 0x0001_0207
    GEN_RNDIS_CONFIG_PARAMETER = 0x0001_021B
    GEN_XMIT_OK = 0x0002_0101
    GEN_RCV_OK = 0x0002_0102
    GEN_XMIT_ERROR = 0x0002_0103
    GEN_RCV_ERROR = 0x0002_0104
    GEN_RCV_NO_BUFFER = 0x0002_0105
    GEN_STATISTICS = 0x0002_0106
    GEN_RCV_CRC_ERROR = 0x0002_020D
    GEN_FRIENDLY_NAME = 0x0002_0216
    GEN_BYTES_RCV = 0x0002_0219
    GEN_BYTES_XMIT = 0x0002_021A
    GEN_RCV_DISCARDS = 0x0002_021B
    GEN_XMIT_DISCARDS = 0x0002_021C
    E802_3_PERMANENT_ADDRESS = 0x0101_0101
    E802_3_CURRENT_ADDRESS = 0x0101_0102
    E802_3_MULTICAST_LIST = 0x0101_0103
    E802_3_MAXIMUM_LIST_SIZE = 0x0101_0104
    E802_3_MAC_OPTIONS = 0x0101_0105
    OFFLOAD_ENCAPSULATION = 0x0101_010A
    E802_3_ADD_MULTICAST_ADDRESS = 0x0101_0208
    E802_3_DELETE_MULTICAST_ADDRESS = 0x0101_0209
    E802_3_RCV_ERROR_ALIGNMENT = 0x0102_0101
    E802_3_XMIT_ONE_COLLISION = 0x0102_0102
    E802_3_XMIT_MORE_COLLISIONS = 0x0102_0103
    TCP_OFFLOAD_CURRENT_CONFIG = 0xFC01_020B
    TCP_OFFLOAD_PARAMETERS = 0xFC01_020C
    TCP_OFFLOAD_HARDWARE_CAPABILITIES = 0xFC01_020D


class PacketFilter(IntFlag):
    """NDIS_PACKET_TYPE_…: which frames the guest wants. 0 is none at all."""

    DIRECTED = 0x01
    MULTICAST = 0x02
    """Those of the multicast list."""
    ALL_MULTICAST = 0x04
    BROADCAST = 0x08
    PROMISCUOUS = 0x20
    ALL_LOCAL = 0x80


class MacOption(IntFlag):
    """NDIS_MAC_OPTION_…."""

    COPY_LOOKAHEAD_DATA = 0x001
    TRANSFERS_NOT_PEND = 0x004
    NO_LOOPBACK = 0x008
    FULL_DUPLEX = 0x010
    P8021P_PRIORITY = 0x040
    SUPPORTS_MAC_ADDRESS_OVERWRITE = 0x080
    P8021Q_VLAN = 0x200


class MediaState(IntEnum):
    """What GEN_MEDIA_CONNECT_STATUS answers (NdisMediaState…)."""

    CONNECTED = 0
    DISCONNECTED = 1


class MediaConnectState(IntEnum):
    """`LinkState.media_connect_state`."""

    UNKNOWN = 0
    CONNECTED = 1
    DISCONNECTED = 2


class MediaDuplexState(IntEnum):
    """`LinkState.media_duplex_state`."""

    UNKNOWN = 0
    HALF = 1
    FULL = 2


class LinkState(Struct):
    """NDIS_LINK_STATE; speeds are bits per second."""

    header: ObjectHeader
    media_connect_state: U32
    media_duplex_state: U32
    padding: U32 = 0
    xmit_link_speed: U64
    rcv_link_speed: U64
    pause_functions: U32 = 0
    auto_negotiation_flags: U32 = 0


class LinkSpeed(Struct):
    """NDIS_LINK_SPEED: bits per second."""

    xmit_link_speed: U64
    rcv_link_speed: U64


class ValidStatistics(IntFlag):
    """`StatisticsInfo.supported_statistics` (NDIS_STATISTICS_FLAGS_VALID_…): which fields count."""

    BYTES_RCV = 0x0008
    RCV_DISCARDS = 0x0010
    RCV_ERROR = 0x0020
    BYTES_XMIT = 0x0200
    XMIT_ERROR = 0x0400
    XMIT_DISCARDS = 0x8000


class StatisticsInfo(Struct):
    """NDIS_STATISTICS_INFO; `hc` is for high capacity, that is 64 bits."""

    header: ObjectHeader
    supported_statistics: U32
    in_discards: U64
    in_errors: U64
    hc_in_octets: U64
    hc_in_ucast_pkts: U64 = 0
    hc_in_multicast_pkts: U64 = 0
    hc_in_broadcast_pkts: U64 = 0
    hc_out_octets: U64
    hc_out_ucast_pkts: U64 = 0
    hc_out_multicast_pkts: U64 = 0
    hc_out_broadcast_pkts: U64 = 0
    out_errors: U64
    out_discards: U64
    hc_in_ucast_octets: U64 = 0
    hc_in_multicast_octets: U64 = 0
    hc_in_broadcast_octets: U64 = 0
    hc_out_ucast_octets: U64 = 0
    hc_out_multicast_octets: U64 = 0
    hc_out_broadcast_octets: U64 = 0


class ParameterType(IntEnum):
    """`ConfigParameterInfo.parameter_type` (RNDIS_CONFIG_PARAM_TYPE_…)."""

    INTEGER = 0
    STRING = 2


class ConfigParameterInfo(Struct):
    """rndis_config_parameter_info: a driver's setting by its name in Windows's registry, in UTF-16. Offsets
    count from its first byte, lengths are bytes."""

    parameter_name_offset: U32
    parameter_name_length: U32
    parameter_type: U32
    parameter_value_offset: U32
    parameter_value_length: U32


FRIENDLY_NAME_SIZE = 512
"""Bytes of the answer to GEN_FRIENDLY_NAME: UTF-16 and zeros, at least one."""

NUMBER = struct.Struct("<I")  # most answers
NUMBER_64 = struct.Struct("<Q")
VERSION = struct.Struct("<BB")  # GEN_DRIVER_VERSION: minor, major

"""NDIS's objects of offloads and receive side scaling, as RNDIS's queries and sets carry them.

Names as in Linux's include/linux/rndis.h and drivers/net/hyperv/hyperv_net.h; what those leave out is as in
Microsoft's ntddndis.h. An object begins with an `ObjectHeader`; a later revision of it has more fields at its
end.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

from ringminus.wire import U8, U16, U32, Struct

ENCAPSULATION_8023 = 2
"""NDIS_OFFLOAD_ENCAP_8023: frames begin with an Ethernet header."""


class ObjectType(IntEnum):
    """`ObjectHeader.type` (NDIS_OBJECT_TYPE_…)."""

    DEFAULT = 0x80
    RSS_CAPABILITIES = 0x88
    RSS_PARAMETERS = 0x89
    OFFLOAD = 0xA7
    OFFLOAD_ENCAPSULATION = 0xA8


class ObjectHeader(Struct):
    """ndis_object_header; `size` counts the object with this header."""

    type: U8
    revision: U8
    size: U16


# Offloads


class ChecksumCapability4(IntFlag):
    """What of IPv4 is computed or verified (NDIS_TXCSUM_CAP_…4, NDIS_RXCSUM_CAP_…4); each a field of two
    bits, of which 1 is "supported"."""

    IP_OPTIONS = 0x001
    TCP_OPTIONS = 0x004
    TCP = 0x010
    UDP = 0x040
    IP = 0x100


class ChecksumCapability6(IntFlag):
    """The same of IPv6."""

    IP_EXTENSIONS = 0x001
    TCP_OPTIONS = 0x004
    TCP = 0x010
    UDP = 0x040


class ChecksumOffload(Struct):
    """ndis_csum_offload."""

    ip4_txenc: U32 = 0
    ip4_txcsum: U32 = 0
    ip4_rxenc: U32 = 0
    ip4_rxcsum: U32 = 0
    ip6_txenc: U32 = 0
    ip6_txcsum: U32 = 0
    ip6_rxenc: U32 = 0
    ip6_rxcsum: U32 = 0


class LsoV1Offload(Struct):
    """ndis_lsov1_offload."""

    encap: U32 = 0
    maxsize: U32 = 0
    minsegs: U32 = 0
    opts: U32 = 0


class IpsecV1Offload(Struct):
    """ndis_ipsecv1_offload."""

    encap: U32 = 0
    ah_esp: U32 = 0
    xport_tun: U32 = 0
    ip4_opts: U32 = 0
    flags: U32 = 0
    ip4_ah: U32 = 0
    ip4_esp: U32 = 0


class LsoV2Capability6(IntFlag):
    """`LsoV2Offload.ip6_opts` (NDIS_LSOV2_CAP_…)."""

    IP_EXTENSIONS = 0x001
    TCP_OPTIONS = 0x004


class LsoV2Offload(Struct):
    """ndis_lsov2_offload; `maxsz` is bytes of TCP payload, `minsg` segments."""

    ip4_encap: U32 = 0
    ip4_maxsz: U32 = 0
    ip4_minsg: U32 = 0
    ip6_encap: U32 = 0
    ip6_maxsz: U32 = 0
    ip6_minsg: U32 = 0
    ip6_opts: U32 = 0


class IpsecV2Offload(Struct):
    """ndis_ipsecv2_offload."""

    encap: U32 = 0
    ip6: U8 = 0
    ip4opt: U8 = 0
    ip6ext: U8 = 0
    ah: U8 = 0
    esp: U8 = 0
    ah_esp: U8 = 0
    xport: U8 = 0
    tun: U8 = 0
    xport_tun: U8 = 0
    lso: U8 = 0
    extseq: U8 = 0
    padding: U8 = 0
    udp_esp: U32 = 0
    auth: U32 = 0
    crypto: U32 = 0
    sa_caps: U32 = 0


class RscOffload(Struct):
    """ndis_rsc_offload."""

    ip4: U8 = 0
    ip6: U8 = 0


class EncapOffload(Struct):
    """ndis_encap_offload: NVGRE."""

    flags: U32 = 0
    maxhdr: U32 = 0


class Offload(Struct):
    """ndis_offload, revision 3."""

    header: ObjectHeader
    csum: ChecksumOffload
    lsov1: LsoV1Offload
    ipsecv1: IpsecV1Offload
    lsov2: LsoV2Offload
    flags: U32 = 0
    ipsecv2: IpsecV2Offload
    rsc: RscOffload
    reserved: U16 = 0
    encap_gre: EncapOffload


OFFLOAD_SIZES = {1: Offload.offset_of("ipsecv2"), 2: Offload.offset_of("rsc"), 3: Offload.SIZE}
"""Bytes of `Offload` by revision: NDIS 6.0, 6.1 and 6.30."""


class ChecksumSetting(IntEnum):
    """A checksum's field of `OffloadParameters` (NDIS_OFFLOAD_PARAMETERS_…); transmit is the guest's."""

    NO_CHANGE = 0
    TX_RX_DISABLED = 1
    TX_ENABLED_RX_DISABLED = 2
    RX_ENABLED_TX_DISABLED = 3
    TX_RX_ENABLED = 4


class Setting(IntEnum):
    """Another field of `OffloadParameters`."""

    NO_CHANGE = 0
    DISABLED = 1
    ENABLED = 2


class OffloadParameters(Struct):
    """ndis_offload_params, revision 3."""

    header: ObjectHeader
    ip_v4_csum: U8 = 0
    tcp_ip_v4_csum: U8 = 0
    udp_ip_v4_csum: U8 = 0
    tcp_ip_v6_csum: U8 = 0
    udp_ip_v6_csum: U8 = 0
    lso_v1: U8 = 0
    ip_sec_v1: U8 = 0
    lso_v2_ipv4: U8 = 0
    lso_v2_ipv6: U8 = 0
    tcp_connection_ip_v4: U8 = 0
    tcp_connection_ip_v6: U8 = 0
    padding: U8 = 0
    flags: U32 = 0
    ip_sec_v2: U8 = 0
    ip_sec_v2_ip_v4: U8 = 0
    rsc_ip_v4: U8 = 0
    rsc_ip_v6: U8 = 0
    encapsulated_packet_task_offload: U8 = 0
    encapsulation_types: U8 = 0
    padding2: U16 = 0


SMALLEST_OFFLOAD_PARAMETERS = OffloadParameters.offset_of("ip_sec_v2")
"""Bytes of revision 1."""


class EncapsulationSetting(IntEnum):
    """`OffloadEncapsulation.ip4_enabled` and `ip6_enabled` in a set; a query is answered with SUPPORTED."""

    NO_CHANGE = 0
    ON = 1
    OFF = 2


OFFLOAD_SUPPORTED = 1


class OffloadEncapsulation(Struct):
    """NDIS_OFFLOAD_ENCAPSULATION."""

    header: ObjectHeader
    ip4_enabled: U32
    ip4_encapsulation_type: U32
    ip4_header_size: U32
    ip6_enabled: U32
    ip6_encapsulation_type: U32
    ip6_header_size: U32


# Receive side scaling

HASH_KEY_SIZE = 40
SMALLEST_INDIRECTION_TABLE, LARGEST_INDIRECTION_TABLE = 16, 128
"""Entries."""
HASH_FUNCTION_MASK = 0xFF
HASH_FUNCTION_TOEPLITZ = 1


class HashType(IntFlag):
    """`RssParameters.hashinfo` (NDIS_HASH_…) above the function: what is hashed. The EX types take the
    addresses out of mobile IPv6's extension headers, where a packet has them."""

    IPV4 = 0x0000_0100
    TCP_IPV4 = 0x0000_0200
    IPV6 = 0x0000_0400
    IPV6_EX = 0x0000_0800
    TCP_IPV6 = 0x0000_1000
    TCP_IPV6_EX = 0x0000_2000
    UDP_IPV4 = 0x0000_4000
    UDP_IPV6 = 0x0000_8000
    UDP_IPV6_EX = 0x0001_0000


class RssCapability(IntFlag):
    """`RssCapabilities.cap_flag` (NDIS_RSS_CAPS_…) beside `HASH_FUNCTION_TOEPLITZ`."""

    HASH_TYPE_TCP_IPV4 = 0x0100
    HASH_TYPE_TCP_IPV6 = 0x0200
    HASH_TYPE_UDP_IPV4 = 0x0800
    HASH_TYPE_UDP_IPV6 = 0x1000


class RssCapabilities(Struct):
    """ndis_recv_scale_cap, revision 2; revision 1 ends before the table's entries."""

    header: ObjectHeader
    cap_flag: U32
    num_int_msg: U32
    num_recv_que: U32
    num_indirect_tabent: U16


RSS_CAPABILITIES_SIZES = {1: RssCapabilities.offset_of("num_indirect_tabent"), 2: RssCapabilities.SIZE}
"""Bytes of `RssCapabilities` by revision."""


class RssFlag(IntFlag):
    """`RssParameters.flag` (NDIS_RSS_PARAM_FLAG_…)."""

    BASE_CPU_UNCHANGED = 0x01
    HASH_INFO_UNCHANGED = 0x02
    ITABLE_UNCHANGED = 0x04
    HASH_KEY_UNCHANGED = 0x08
    DISABLE_RSS = 0x10


class RssParameters(Struct):
    """ndis_recv_scale_param, revision 2. Offsets count from its first byte, sizes are bytes. An entry of the
    indirection table is 4 bytes: the number of a queue, that is of a channel."""

    header: ObjectHeader
    flag: U16
    base_cpu_number: U16
    hashinfo: U32
    indirect_tabsize: U16
    padding: U16 = 0
    indirect_taboffset: U32
    hashkey_size: U16
    padding2: U16 = 0
    hashkey_offset: U32
    processor_masks_offset: U32 = 0
    num_processor_masks: U32 = 0
    processor_masks_entry_size: U32 = 0


RSS_PARAMETERS_SIZES = {1: RssParameters.offset_of("processor_masks_offset"), 2: RssParameters.SIZE}
"""Bytes of `RssParameters` by revision. What is read of it is in both."""
TABLE_ENTRY = struct.Struct("<I")  # of an indirection table
HOT_FLOW4 = struct.Struct(">12xHB5xHxB2x12s")
"""Of a frame without an 802.1Q tag: the Ethernet header's `type`, the IPv4 header's `version_and_length`,
`fragment` and `protocol`, and what is hashed: both addresses, and both ports where a header of 20 bytes has
them behind it."""
HOT_FLOW6 = struct.Struct(">12xHB5xBx36s")
"""The same of IPv6: `type`, the header's first byte, `next_header`, addresses and ports."""

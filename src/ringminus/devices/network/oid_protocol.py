"""What RNDIS's queries, sets and indications carry, declared for who shows it: an object for each OID."""

from __future__ import annotations

from ringminus.devices.network.ndis_wire import (
    HASH_FUNCTION_MASK,
    SMALLEST_OFFLOAD_PARAMETERS,
    ChecksumCapability4,
    ChecksumCapability6,
    ChecksumSetting,
    EncapsulationSetting,
    HashType,
    LsoV2Capability6,
    ObjectHeader,
    ObjectType,
    Offload,
    OffloadEncapsulation,
    OffloadParameters,
    RssCapabilities,
    RssCapability,
    RssFlag,
    RssParameters,
    Setting,
)
from ringminus.devices.network.oid_wire import (
    ConfigParameterInfo,
    LinkSpeed,
    LinkState,
    MacOption,
    MediaConnectState,
    MediaDuplexState,
    MediaState,
    Oid,
    PacketFilter,
    ParameterType,
    StatisticsInfo,
    ValidStatistics,
)
from ringminus.devices.network.rndis_wire import Medium, Status
from ringminus.protocol import Bits, Form, Labels, Part, Protocol, Show, declare, word
from ringminus.wire import Bytes, Int

U32 = Int("I")

STATISTIC = 2
"""What the second byte from above of an OID says."""
_CHECKSUMS = ("ip_v4_csum", "tcp_ip_v4_csum", "udp_ip_v4_csum", "tcp_ip_v6_csum", "udp_ip_v6_csum")
_SETTINGS = (
    *("lso_v1", "ip_sec_v1", "lso_v2_ipv4", "lso_v2_ipv6", "tcp_connection_ip_v4", "tcp_connection_ip_v6"),
    *("ip_sec_v2", "ip_sec_v2_ip_v4", "rsc_ip_v4", "rsc_ip_v6", "encapsulated_packet_task_offload"),
)
LABELS: Labels = {
    "oids": Oid,
    "current_packet_filter": PacketFilter,
    "mac_options": MacOption,
    "media_connect_status": MediaState,
    "media_supported": Medium,
    "media_in_use": Medium,
    "type": ObjectType,
    "media_connect_state": MediaConnectState,
    "media_duplex_state": MediaDuplexState,
    "supported_statistics": ValidStatistics,
    "parameter_type": ParameterType,
    "cap_flag": RssCapability,
    "flag": RssFlag,
    "ip4_txcsum": ChecksumCapability4,
    "ip4_rxcsum": ChecksumCapability4,
    "ip6_txcsum": ChecksumCapability6,
    "ip6_rxcsum": ChecksumCapability6,
    "ip6_opts": LsoV2Capability6,
    "ip4_enabled": EncapsulationSetting,
    "ip6_enabled": EncapsulationSetting,
    **dict.fromkeys(_CHECKSUMS, ChecksumSetting),
    **dict.fromkeys(_SETTINGS, Setting),
}
_SHOWS = {
    "permanent_address": Show.MAC,
    "current_address": Show.MAC,
    "addresses": Show.MAC,
    "vendor_description": Show.TEXT,
    "friendly_name": Show.UTF16,
    "name": Show.UTF16,
    "text": Show.UTF16,
    "hashinfo": Show.HEX,
    "vendor_driver_version": Show.HEX,
    "protocol_options": Show.HEX,
}
_HASH = (
    Bits("function", 0, HASH_FUNCTION_MASK.bit_length()),
    Bits("types", 0, 32, HashType),
)
_STRING = {"parameter_type": int(ParameterType.STRING)}
_INTEGER = {"parameter_type": int(ParameterType.INTEGER)}
_HEADER = ObjectHeader.SIZE


def _name(oid: Oid) -> str:
    return oid.name.removeprefix("GEN_").removeprefix("E802_3_").lower()


def _number(oid: Oid) -> Form | tuple[Form, ...]:
    """A number of 32 bits; statistics have 64 where there is room."""
    narrow = Form(oid.name, word(_name(oid), U32))
    if oid >> 16 & 0xF != STATISTIC:
        return narrow
    return Form(oid.name, word(_name(oid), Int("Q"))), narrow


def _address(oid: Oid) -> Form:
    return Form(oid.name, word(_name(oid), Bytes(6)))


_OBJECTS: dict[int, Form] = {
    Oid.GEN_SUPPORTED_LIST: Form("GEN_SUPPORTED_LIST", parts=(Part("oids", U32),)),
    Oid.GEN_VENDOR_ID: Form("GEN_VENDOR_ID", word("vendor_id", Bytes(4))),
    Oid.GEN_VENDOR_DESCRIPTION: Form("GEN_VENDOR_DESCRIPTION", parts=(Part("vendor_description"),)),
    Oid.GEN_DRIVER_VERSION: Form("GEN_DRIVER_VERSION", word("driver_version", Int("H"))),
    Oid.GEN_FRIENDLY_NAME: Form("GEN_FRIENDLY_NAME", parts=(Part("friendly_name"),)),
    Oid.GEN_NETWORK_LAYER_ADDRESSES: Form("GEN_NETWORK_LAYER_ADDRESSES", parts=(Part("network_addresses"),)),
    Oid.GEN_MAX_LINK_SPEED: Form("GEN_MAX_LINK_SPEED", LinkSpeed),
    Oid.GEN_LINK_STATE: Form("GEN_LINK_STATE", LinkState),
    Oid.GEN_STATISTICS: Form("GEN_STATISTICS", StatisticsInfo),
    Oid.GEN_RECEIVE_SCALE_CAPABILITIES: Form(
        "GEN_RECEIVE_SCALE_CAPABILITIES", RssCapabilities, least=_HEADER
    ),
    Oid.GEN_RECEIVE_SCALE_PARAMETERS: Form(
        "GEN_RECEIVE_SCALE_PARAMETERS",
        RssParameters,
        least=RssParameters.offset_of("processor_masks_offset"),
        parts=(
            Part("indirection_table", U32, at="indirect_taboffset", size="indirect_tabsize"),
            Part("hash_key", at="hashkey_offset", size="hashkey_size"),
        ),
    ),
    Oid.GEN_RNDIS_CONFIG_PARAMETER: Form(
        "GEN_RNDIS_CONFIG_PARAMETER",
        ConfigParameterInfo,
        parts=(
            Part("name", at="parameter_name_offset", size="parameter_name_length"),
            Part("text", at="parameter_value_offset", size="parameter_value_length", when=_STRING),
            Part("value", U32, at="parameter_value_offset", size="parameter_value_length", when=_INTEGER),
        ),
    ),
    Oid.E802_3_PERMANENT_ADDRESS: _address(Oid.E802_3_PERMANENT_ADDRESS),
    Oid.E802_3_CURRENT_ADDRESS: _address(Oid.E802_3_CURRENT_ADDRESS),
    **{
        oid: Form(oid.name, parts=(Part("addresses"),))
        for oid in (
            Oid.E802_3_MULTICAST_LIST,
            Oid.E802_3_ADD_MULTICAST_ADDRESS,
            Oid.E802_3_DELETE_MULTICAST_ADDRESS,
        )
    },
    Oid.OFFLOAD_ENCAPSULATION: Form("OFFLOAD_ENCAPSULATION", OffloadEncapsulation, least=_HEADER),
    Oid.TCP_OFFLOAD_CURRENT_CONFIG: Form("TCP_OFFLOAD_CURRENT_CONFIG", Offload, least=_HEADER),
    Oid.TCP_OFFLOAD_HARDWARE_CAPABILITIES: Form("TCP_OFFLOAD_HARDWARE_CAPABILITIES", Offload, least=_HEADER),
    Oid.TCP_OFFLOAD_PARAMETERS: Form(
        "TCP_OFFLOAD_PARAMETERS", OffloadParameters, least=SMALLEST_OFFLOAD_PARAMETERS
    ),
}
_WORDS = {"hashinfo": _HASH}

OID = declare(
    Protocol(
        "oid",
        "Object of an adapter",
        None,
        "oid",
        {oid: _OBJECTS.get(oid) or _number(oid) for oid in Oid},
        {"oid": Oid, **LABELS},
        words=_WORDS,
        shows=_SHOWS,
        otherwise=Form("", parts=(Part("value"),)),
    )
)
INDICATION = declare(
    Protocol(
        "rndis_indication",
        "What an adapter's status brings",
        None,
        "status",
        {
            Status.LINK_SPEED_CHANGE: Form("LINK_SPEED_CHANGE", word("link_speed", U32)),
            Status.TASK_OFFLOAD_CURRENT_CONFIG: Form("TASK_OFFLOAD_CURRENT_CONFIG", Offload, least=_HEADER),
        },
        {"status": Status, **LABELS},
        shows=_SHOWS,
        otherwise=Form("", parts=(Part("value"),)),
    )
)

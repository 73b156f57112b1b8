"""What a guest may query and set of its adapter, as a table: object identifier, query, set.

A handler takes the control channel's state and the request's information buffer, and raises `Refused`.
Source: Microsoft's reference of NDIS's OIDs; what Linux asks for is in rndis_filter.c, what Windows does in
OpenVMM's netvsp."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ringminus.devices.network.ndis_wire import OFFLOAD_SIZES, ObjectHeader, ObjectType
from ringminus.devices.network.objects import Refused, asked_revision, read_number, read_structure
from ringminus.devices.network.offloads import OFFERED, describe_encapsulation
from ringminus.devices.network.oid_wire import (
    FRIENDLY_NAME_SIZE,
    NUMBER,
    NUMBER_64,
    VERSION,
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
from ringminus.switch.port import ADDRESS_SIZE
from ringminus.switch.wire import EthernetHeader

if TYPE_CHECKING:
    from ringminus.devices.network.control import RndisControl

NEWEST_NDIS = (6, 30)
LONGEST_MULTICAST_LIST = 64
BUFFER_SPACE = 256 * 1024
"""Bytes that the buffer space OIDs answer, as Hyper-V does; a virtual adapter has no such buffers."""
VENDOR_ID = b"\x00\x15\x5d\x00"
"""Microsoft's organizationally unique identifier, and a number of theirs for the adapter."""
VENDOR_DESCRIPTION = b"Microsoft Corporation\0"
VENDOR_DRIVER_VERSION = 1 << 16
"""Major << 16 | minor."""
_MAC_OPTIONS = (
    MacOption.COPY_LOOKAHEAD_DATA
    | MacOption.TRANSFERS_NOT_PEND
    | MacOption.NO_LOOPBACK
    | MacOption.FULL_DUPLEX
    | MacOption.P8021P_PRIORITY
    | MacOption.P8021Q_VLAN
)
_LARGEST_NUMBER = 0xFFFF_FFFF
_ADDRESS_TEXT = re.compile(r"[0-9A-Fa-f]{12}|(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}", re.ASCII)
_LONGEST_NAME = 255  # bytes of a setting's name, and of its value
_MULTICAST = 1  # in an address's first byte


class Link(NamedTuple):
    """The adapter's link."""

    up: bool
    megabits: int

    @property
    def hundreds_of_bits(self) -> int:
        """The speed in units of 100 bit/s, in 32 bits."""
        return min(self.megabits * 10_000, _LARGEST_NUMBER)

    @property
    def bits(self) -> int:
        """The speed in bit/s."""
        return self.megabits * 1_000_000


@dataclass(frozen=True, slots=True)
class Statistics:
    """What passed the adapter, seen from the guest: `sent` is what it sent. `discards` are good frames that
    had to be dropped, `errors` such as were wrong, `received_no_buffer` those for which the guest had no
    room."""

    sent_frames: int = 0
    sent_bytes: int = 0
    sent_errors: int = 0
    sent_discards: int = 0
    received_frames: int = 0
    received_bytes: int = 0
    received_errors: int = 0
    received_discards: int = 0
    received_no_buffer: int = 0


Query = Callable[["RndisControl", bytes], bytes]
Change = Callable[["RndisControl", bytes], None]


def query(control: RndisControl, oid: int, info: bytes) -> bytes:
    """The answer to a query; raises `Refused`."""
    handler = TABLE.get(oid, _UNKNOWN)[0]
    if handler is None:
        raise Refused(Status.NOT_SUPPORTED, f"query of OID {oid:#x}")
    return handler(control, info)


def change(control: RndisControl, oid: int, info: bytes) -> None:
    """Take over what the guest sets; raises `Refused`."""
    handler = TABLE.get(oid, _UNKNOWN)[1]
    if handler is None:
        raise Refused(Status.NOT_SUPPORTED, f"set of OID {oid:#x}")
    handler(control, info)


def offload_revision(control: RndisControl) -> int:
    """The revision of NDIS_OFFLOAD for the guest's NDIS version."""
    if control.ndis_version >= NEWEST_NDIS:
        return 3
    return 2 if control.ndis_version >= (6, 1) else 1


def _number(value: Callable[[RndisControl], int]) -> Query:
    return lambda control, info: NUMBER.pack(value(control))


def _constant(value: int) -> Query:
    packed = NUMBER.pack(value)
    return lambda control, info: packed


def _raw(value: Callable[[RndisControl], bytes]) -> Query:
    return lambda control, info: value(control)


def _counter(name: str) -> Query:
    """A statistic: 64 bits for a guest that has room for them, else the low 32."""

    def query(control: RndisControl, info: bytes) -> bytes:
        value: int = getattr(control.statistics(), name)
        if len(info) >= NUMBER_64.size:
            return NUMBER_64.pack(value)
        return NUMBER.pack(value & _LARGEST_NUMBER)

    return query


def _wide_counter(name: str) -> Query:
    return lambda control, info: NUMBER_64.pack(getattr(control.statistics(), name))


def _statistics(control: RndisControl) -> bytes:
    now = control.statistics()
    header = ObjectHeader(type=ObjectType.DEFAULT, revision=1, size=StatisticsInfo.SIZE)
    return StatisticsInfo(
        header=header,
        supported_statistics=sum(ValidStatistics),
        in_discards=now.received_discards,
        in_errors=now.received_errors,
        hc_in_octets=now.received_bytes,
        hc_out_octets=now.sent_bytes,
        out_errors=now.sent_errors,
        out_discards=now.sent_discards,
    ).pack()


def _supported(control: RndisControl) -> bytes:
    return b"".join(NUMBER.pack(oid) for oid in TABLE)


def _frame_size(control: RndisControl) -> int:
    return min(control.mtu, control.largest_mtu)


def _whole_frame_size(control: RndisControl) -> int:
    return _frame_size(control) + EthernetHeader.SIZE


def _connection(control: RndisControl) -> int:
    return MediaState.CONNECTED if control.link.up else MediaState.DISCONNECTED


def _driver_version(control: RndisControl) -> bytes:
    major, minor = control.ndis_version
    return VERSION.pack(minor & 0xFF, major & 0xFF)


def _friendly_name(control: RndisControl) -> bytes:
    encoded = control.title.encode("utf-16-le", "replace")[: FRIENDLY_NAME_SIZE - 2]
    whole = encoded.decode("utf-16-le", "ignore").encode("utf-16-le")  # no half of a surrogate pair
    return whole.ljust(FRIENDLY_NAME_SIZE, b"\0")


def _link_state(control: RndisControl) -> bytes:
    speed = control.link.bits
    up = control.link.up
    return LinkState(
        header=ObjectHeader(type=ObjectType.DEFAULT, revision=1, size=LinkState.SIZE),
        media_connect_state=MediaConnectState.CONNECTED if up else MediaConnectState.DISCONNECTED,
        media_duplex_state=MediaDuplexState.FULL,
        xmit_link_speed=speed,
        rcv_link_speed=speed,
    ).pack()


def _link_speed(control: RndisControl) -> bytes:
    return LinkSpeed(xmit_link_speed=control.link.bits, rcv_link_speed=control.link.bits).pack()


def _set_packet_filter(control: RndisControl, info: bytes) -> None:
    wanted = read_number(info)
    if wanted & ~sum(PacketFilter):
        raise Refused(Status.NOT_SUPPORTED, f"packet filter {wanted:#x}")
    if wanted != control.packet_filter:
        control.packet_filter = wanted
        control.on_filter(wanted)


def _set_lookahead(control: RndisControl, info: bytes) -> None:
    asked = read_number(info)
    if asked > _frame_size(control):
        raise Refused(Status.INVALID_DATA, f"a lookahead of {asked} bytes")
    control.lookahead = asked


def _set_protocol_options(control: RndisControl, info: bytes) -> None:
    control.protocol_options = read_number(info)


def _set_network_addresses(control: RndisControl, info: bytes) -> None:
    """A guest's IP addresses, for adapters to which they matter; to this one they do not."""


def _read_addresses(info: bytes) -> list[bytes]:
    """A list of multicast addresses; raises `Refused`."""
    if len(info) % ADDRESS_SIZE:
        raise Refused(Status.INVALID_LENGTH, f"{len(info)} bytes of addresses")
    addresses = [info[at : at + ADDRESS_SIZE] for at in range(0, len(info), ADDRESS_SIZE)]
    if not all(address[0] & _MULTICAST for address in addresses):
        raise Refused(Status.INVALID_DATA, "a multicast list with another address")
    return addresses


def _set_multicast(control: RndisControl, addresses: frozenset[bytes]) -> None:
    if len(addresses) > LONGEST_MULTICAST_LIST:
        raise Refused(Status.MULTICAST_FULL, f"{len(addresses)} multicast addresses")
    if addresses != control.multicast:
        control.multicast = addresses
        control.on_filter(control.packet_filter)


def _set_multicast_list(control: RndisControl, info: bytes) -> None:
    _set_multicast(control, frozenset(_read_addresses(info)))


def _add_multicast(control: RndisControl, info: bytes) -> None:
    added = frozenset(_read_addresses(info))
    if added & control.multicast:
        raise Refused(Status.MULTICAST_EXISTS, "it is in the list")
    _set_multicast(control, control.multicast | added)


def _delete_multicast(control: RndisControl, info: bytes) -> None:
    deleted = frozenset(_read_addresses(info))
    if deleted - control.multicast:
        raise Refused(Status.MULTICAST_NOT_FOUND, "it is not in the list")
    _set_multicast(control, control.multicast - deleted)


def _capabilities(control: RndisControl, info: bytes) -> bytes:
    default = offload_revision(control)
    return OFFERED.describe(asked_revision(info, ObjectType.OFFLOAD, OFFLOAD_SIZES, default))


def _current_offloads(control: RndisControl, info: bytes) -> bytes:
    default = offload_revision(control)
    return control.offloads.describe(asked_revision(info, ObjectType.OFFLOAD, OFFLOAD_SIZES, default))


def _text(info: bytes, offset: int, length: int) -> str:
    if length > _LONGEST_NAME or offset + length > len(info):
        raise Refused(Status.INVALID_LENGTH, f"{length} bytes of text at {offset} of {len(info)}")
    try:
        return info[offset : offset + length].decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError:
        raise Refused(Status.INVALID_DATA, "text that is not UTF-16") from None


def _set_parameter(control: RndisControl, info: bytes) -> None:
    """A setting by name. Those that we do not know are the business of a driver's own, and count as set."""
    asked = read_structure(ConfigParameterInfo, info, ConfigParameterInfo.SIZE)
    name = _text(info, asked.parameter_name_offset, asked.parameter_name_length)
    at, length = asked.parameter_value_offset, asked.parameter_value_length
    text, value = "", None
    if asked.parameter_type == ParameterType.STRING:
        text = _text(info, at, length)
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    elif asked.parameter_type == ParameterType.INTEGER:
        if length != NUMBER.size or at + length > len(info):
            raise Refused(Status.INVALID_LENGTH, f"an integer of {length} bytes at {at}")
        value = read_number(info[at : at + length])
    if name == "NetworkAddress":
        _set_address(control, text)
    else:
        control.offloads.set_by_name(name, value)


def _set_address(control: RndisControl, text: str) -> None:
    """Linux sends twelve digits; a person in Windows may write hyphens."""
    if _ADDRESS_TEXT.fullmatch(text) is None:
        raise Refused(Status.INVALID_DATA, f"{text!r} is no MAC address")
    address = bytes.fromhex(text.replace("-", ""))
    if address[0] & _MULTICAST or not any(address):
        raise Refused(Status.INVALID_DATA, f"{text} cannot be an adapter's address")
    control.take_address(address)


_UNKNOWN: tuple[Query | None, Change | None] = (None, None)
_NONE = _constant(0)

TABLE: dict[int, tuple[Query | None, Change | None]] = {
    Oid.GEN_SUPPORTED_LIST: (_raw(_supported), None),
    Oid.GEN_HARDWARE_STATUS: (_constant(0), None),  # NdisHardwareStatusReady
    Oid.GEN_MEDIA_SUPPORTED: (_constant(Medium.ETHERNET), None),
    Oid.GEN_MEDIA_IN_USE: (_constant(Medium.ETHERNET), None),
    Oid.GEN_MAXIMUM_LOOKAHEAD: (_number(_frame_size), None),
    Oid.GEN_MAXIMUM_FRAME_SIZE: (_number(_frame_size), None),
    Oid.GEN_LINK_SPEED: (_number(lambda control: control.link.hundreds_of_bits), None),
    Oid.GEN_TRANSMIT_BUFFER_SPACE: (_constant(BUFFER_SPACE), None),
    Oid.GEN_RECEIVE_BUFFER_SPACE: (_constant(BUFFER_SPACE), None),
    Oid.GEN_TRANSMIT_BLOCK_SIZE: (_number(_whole_frame_size), None),
    Oid.GEN_RECEIVE_BLOCK_SIZE: (_number(_whole_frame_size), None),
    Oid.GEN_VENDOR_ID: (_raw(lambda control: VENDOR_ID), None),
    Oid.GEN_VENDOR_DESCRIPTION: (_raw(lambda control: VENDOR_DESCRIPTION), None),
    Oid.GEN_CURRENT_PACKET_FILTER: (_number(lambda control: control.packet_filter), _set_packet_filter),
    Oid.GEN_CURRENT_LOOKAHEAD: (
        _number(lambda control: control.lookahead or _frame_size(control)),
        _set_lookahead,
    ),
    Oid.GEN_DRIVER_VERSION: (_raw(_driver_version), None),
    Oid.GEN_MAXIMUM_TOTAL_SIZE: (_number(_whole_frame_size), None),
    Oid.GEN_PROTOCOL_OPTIONS: (_number(lambda control: control.protocol_options), _set_protocol_options),
    Oid.GEN_MAC_OPTIONS: (_constant(_MAC_OPTIONS), None),
    Oid.GEN_MEDIA_CONNECT_STATUS: (_number(_connection), None),
    Oid.GEN_MAXIMUM_SEND_PACKETS: (_constant(_LARGEST_NUMBER), None),  # no bound, as Hyper-V says it
    Oid.GEN_VENDOR_DRIVER_VERSION: (_constant(VENDOR_DRIVER_VERSION), None),
    Oid.GEN_NETWORK_LAYER_ADDRESSES: (None, _set_network_addresses),
    Oid.GEN_PHYSICAL_MEDIUM: (_constant(0), None),  # NdisPhysicalMediumUnspecified
    Oid.GEN_RECEIVE_SCALE_CAPABILITIES: (
        lambda control, info: control.rss_settings.capabilities(info),
        None,
    ),
    Oid.GEN_RECEIVE_SCALE_PARAMETERS: (
        lambda control, info: control.rss_settings.parameters(),
        lambda control, info: control.rss_settings.set(info),
    ),
    Oid.GEN_MAX_LINK_SPEED: (_raw(_link_speed), None),
    Oid.GEN_LINK_STATE: (_raw(_link_state), None),
    Oid.GEN_RNDIS_CONFIG_PARAMETER: (None, _set_parameter),
    Oid.GEN_XMIT_OK: (_counter("sent_frames"), None),
    Oid.GEN_RCV_OK: (_counter("received_frames"), None),
    Oid.GEN_XMIT_ERROR: (_counter("sent_errors"), None),
    Oid.GEN_RCV_ERROR: (_counter("received_errors"), None),
    Oid.GEN_RCV_NO_BUFFER: (_counter("received_no_buffer"), None),
    Oid.GEN_STATISTICS: (_raw(_statistics), None),
    Oid.GEN_RCV_CRC_ERROR: (_NONE, None),  # there is no wire
    Oid.GEN_FRIENDLY_NAME: (_raw(_friendly_name), None),
    Oid.GEN_BYTES_RCV: (_wide_counter("received_bytes"), None),
    Oid.GEN_BYTES_XMIT: (_wide_counter("sent_bytes"), None),
    Oid.GEN_RCV_DISCARDS: (_wide_counter("received_discards"), None),
    Oid.GEN_XMIT_DISCARDS: (_wide_counter("sent_discards"), None),
    Oid.E802_3_PERMANENT_ADDRESS: (_raw(lambda control: control.permanent_address), None),
    Oid.E802_3_CURRENT_ADDRESS: (_raw(lambda control: control.address), None),
    Oid.E802_3_MULTICAST_LIST: (
        _raw(lambda control: b"".join(sorted(control.multicast))),
        _set_multicast_list,
    ),
    Oid.E802_3_MAXIMUM_LIST_SIZE: (_constant(LONGEST_MULTICAST_LIST), None),
    Oid.E802_3_MAC_OPTIONS: (_NONE, None),
    Oid.OFFLOAD_ENCAPSULATION: (
        lambda control, info: describe_encapsulation(),
        lambda control, info: control.offloads.set_encapsulation(info),
    ),
    Oid.E802_3_ADD_MULTICAST_ADDRESS: (None, _add_multicast),
    Oid.E802_3_DELETE_MULTICAST_ADDRESS: (None, _delete_multicast),
    Oid.E802_3_RCV_ERROR_ALIGNMENT: (_NONE, None),
    Oid.E802_3_XMIT_ONE_COLLISION: (_NONE, None),
    Oid.E802_3_XMIT_MORE_COLLISIONS: (_NONE, None),
    Oid.TCP_OFFLOAD_CURRENT_CONFIG: (_current_offloads, None),
    Oid.TCP_OFFLOAD_PARAMETERS: (None, lambda control, info: control.offloads.set(info)),
    Oid.TCP_OFFLOAD_HARDWARE_CAPABILITIES: (_capabilities, None),
}

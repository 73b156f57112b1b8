"""Offloads: what an adapter takes off its guest, and which of it the guest has asked for.

Everything is offered at once and nothing is in force until the guest sets it. A guest sets them with
TCP_OFFLOAD_PARAMETERS, in which 0 leaves a setting as it is (Linux, Windows), or by the names of Windows's
registry (`by_name`). Source: Microsoft's NDIS_OFFLOAD and NDIS_OFFLOAD_PARAMETERS."""

from __future__ import annotations

from ringminus.devices.network.ndis_wire import (
    ENCAPSULATION_8023,
    OFFLOAD_SIZES,
    OFFLOAD_SUPPORTED,
    SMALLEST_OFFLOAD_PARAMETERS,
    ChecksumCapability4,
    ChecksumCapability6,
    ChecksumOffload,
    ChecksumSetting,
    EncapOffload,
    EncapsulationSetting,
    IpsecV1Offload,
    IpsecV2Offload,
    LsoV1Offload,
    LsoV2Capability6,
    LsoV2Offload,
    ObjectHeader,
    ObjectType,
    Offload,
    OffloadEncapsulation,
    OffloadParameters,
    RscOffload,
    Setting,
)
from ringminus.devices.network.objects import Refused, read_object
from ringminus.devices.network.rndis_wire import Status
from ringminus.switch.wire import EthernetHeader

LARGEST_PAYLOAD = 0xF53C
"""TCP payload bytes of a large frame, as Hyper-V has it: with any headers it is a valid IP packet."""
FEWEST_SEGMENTS = 2

_CHECKSUMS = {
    "ip_v4_csum": "ip4",
    "tcp_ip_v4_csum": "tcp4",
    "udp_ip_v4_csum": "udp4",
    "tcp_ip_v6_csum": "tcp6",
    "udp_ip_v6_csum": "udp6",
}
_SWITCHES = {"lso_v2_ipv4": "lso4", "lso_v2_ipv6": "lso6", "rsc_ip_v4": "rsc4", "rsc_ip_v6": "rsc6"}
_NOT_OFFERED = (
    "lso_v1",
    "ip_sec_v1",
    "tcp_connection_ip_v4",
    "tcp_connection_ip_v6",
    "ip_sec_v2",
    "ip_sec_v2_ip_v4",
    "encapsulated_packet_task_offload",
)
_NAMES = {
    "*IPChecksumOffloadIPv4": "ip4",
    "*TCPChecksumOffloadIPv4": "tcp4",
    "*UDPChecksumOffloadIPv4": "udp4",
    "*TCPChecksumOffloadIPv6": "tcp6",
    "*UDPChecksumOffloadIPv6": "udp6",
    "*LsoV2IPv4": "lso4",
    "*LsoV2IPv6": "lso6",
    "*RscIPv4": "rsc4",
    "*RscIPv6": "rsc6",
}
_TRANSMITTED = {ChecksumSetting.TX_ENABLED_RX_DISABLED, ChecksumSetting.TX_RX_ENABLED}
_RECEIVED = {ChecksumSetting.RX_ENABLED_TX_DISABLED, ChecksumSetting.TX_RX_ENABLED}


class Offloads:
    """Offloads in force. `transmit_…` are checksums that the adapter computes for frames of the guest,
    `receive_…` such that it vouches for in frames to the guest; `ip4` is IPv4's header. `lso4` and `lso6`
    are large frames from the guest, `rsc4` and `rsc6` large frames to it."""

    __slots__ = (
        "lso4",
        "lso6",
        "receive_ip4",
        "receive_tcp4",
        "receive_tcp6",
        "receive_udp4",
        "receive_udp6",
        "rsc4",
        "rsc6",
        "transmit_ip4",
        "transmit_tcp4",
        "transmit_tcp6",
        "transmit_udp4",
        "transmit_udp6",
    )

    def __init__(self, on: bool = False) -> None:
        self.transmit_ip4 = self.transmit_tcp4 = self.transmit_udp4 = on
        self.transmit_tcp6 = self.transmit_udp6 = on
        self.receive_ip4 = self.receive_tcp4 = self.receive_udp4 = on
        self.receive_tcp6 = self.receive_udp6 = on
        self.lso4 = self.lso6 = on
        self.rsc4 = self.rsc6 = on

    def describe(self, revision: int) -> bytes:
        """NDIS_OFFLOAD in a revision of `OFFLOAD_SIZES`."""
        size = OFFLOAD_SIZES[revision]
        offload = Offload(
            header=ObjectHeader(type=ObjectType.OFFLOAD, revision=revision, size=size),
            csum=self._checksums(),
            lsov1=LsoV1Offload(),
            ipsecv1=IpsecV1Offload(),
            lsov2=self._large_sends(),
            ipsecv2=IpsecV2Offload(),
            rsc=RscOffload(ip4=self.rsc4, ip6=self.rsc6),
            encap_gre=EncapOffload(),
        )
        return offload.pack()[:size]

    def _checksums(self) -> ChecksumOffload:
        transmit4 = _capability4(self.transmit_ip4, self.transmit_tcp4, self.transmit_udp4)
        receive4 = _capability4(self.receive_ip4, self.receive_tcp4, self.receive_udp4)
        transmit6 = _capability6(self.transmit_tcp6, self.transmit_udp6)
        receive6 = _capability6(self.receive_tcp6, self.receive_udp6)
        return ChecksumOffload(
            ip4_txenc=_encapsulation(transmit4),
            ip4_txcsum=transmit4,
            ip4_rxenc=_encapsulation(receive4),
            ip4_rxcsum=receive4,
            ip6_txenc=_encapsulation(transmit6),
            ip6_txcsum=transmit6,
            ip6_rxenc=_encapsulation(receive6),
            ip6_rxcsum=receive6,
        )

    def _large_sends(self) -> LsoV2Offload:
        offload = LsoV2Offload()
        if self.lso4:
            offload.ip4_encap = ENCAPSULATION_8023
            offload.ip4_maxsz, offload.ip4_minsg = LARGEST_PAYLOAD, FEWEST_SEGMENTS
        if self.lso6:
            offload.ip6_encap = ENCAPSULATION_8023
            offload.ip6_maxsz, offload.ip6_minsg = LARGEST_PAYLOAD, FEWEST_SEGMENTS
            offload.ip6_opts = LsoV2Capability6.IP_EXTENSIONS | LsoV2Capability6.TCP_OPTIONS
        return offload

    def set(self, info: bytes) -> None:
        """Take over NDIS_OFFLOAD_PARAMETERS, all of it or nothing; raises `Refused`."""
        asked = read_object(OffloadParameters, info, SMALLEST_OFFLOAD_PARAMETERS)
        if asked.header.type != ObjectType.DEFAULT or not asked.header.revision:
            raise Refused(Status.INVALID_DATA, f"offload parameters of type {asked.header.type:#x}")
        for name in _NOT_OFFERED:
            if getattr(asked, name) not in (Setting.NO_CHANGE, Setting.DISABLED):
                raise Refused(Status.NOT_SUPPORTED, name)
        for names, settings in ((_CHECKSUMS, ChecksumSetting), (_SWITCHES, Setting)):
            for name in names:
                if getattr(asked, name) not in settings.__members__.values():
                    raise Refused(Status.INVALID_DATA, f"{name} of {getattr(asked, name)}")
        for name, ours in _CHECKSUMS.items():
            setting = getattr(asked, name)
            if setting != ChecksumSetting.NO_CHANGE:
                self._set_checksum(ours, setting in _TRANSMITTED, setting in _RECEIVED)
        for name, ours in _SWITCHES.items():
            setting = getattr(asked, name)
            if setting != Setting.NO_CHANGE:
                setattr(self, ours, setting == Setting.ENABLED)

    def set_by_name(self, name: str, value: int | None) -> bool:
        """Take over a setting of a driver in Windows, by its name in the registry; False if it is none of
        these. A checksum's values are 1 for transmit and 2 for receive, or both. Raises `Refused`."""
        ours = _NAMES.get(name)
        if ours is None:
            return False
        checksum = ours in _CHECKSUMS.values()
        if value is None or not 0 <= value <= (3 if checksum else 1):
            raise Refused(Status.INVALID_DATA, f"{name} of {value}")
        if checksum:
            self._set_checksum(ours, bool(value & 1), bool(value & 2))
        else:
            setattr(self, ours, bool(value))
        return True

    def _set_checksum(self, name: str, transmit: bool, receive: bool) -> None:
        setattr(self, f"transmit_{name}", transmit)
        setattr(self, f"receive_{name}", receive)

    def set_encapsulation(self, info: bytes) -> None:
        """Take over NDIS_OFFLOAD_ENCAPSULATION: frames are Ethernet's, or an IP version has no offloads.
        Raises `Refused`."""
        asked = read_object(OffloadEncapsulation, info, OffloadEncapsulation.SIZE)
        if asked.header.type != ObjectType.OFFLOAD_ENCAPSULATION:
            raise Refused(Status.INVALID_DATA, f"offload encapsulation of type {asked.header.type:#x}")
        off = []
        for version, enabled, kind, size in (
            ("4", asked.ip4_enabled, asked.ip4_encapsulation_type, asked.ip4_header_size),
            ("6", asked.ip6_enabled, asked.ip6_encapsulation_type, asked.ip6_header_size),
        ):
            if enabled not in EncapsulationSetting.__members__.values():
                raise Refused(Status.INVALID_DATA, f"encapsulation setting {enabled} for IPv{version}")
            if enabled == EncapsulationSetting.ON and (kind, size) != (
                ENCAPSULATION_8023,
                EthernetHeader.SIZE,
            ):
                raise Refused(Status.NOT_SUPPORTED, f"encapsulation {kind:#x}, header of {size} bytes")
            if enabled == EncapsulationSetting.OFF:
                off.append(version)
        for name in self.__slots__:
            if name[-1] in off:
                setattr(self, name, False)

    def save(self) -> dict[str, bool]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    def restore(self, state: dict[str, bool]) -> None:
        """What `save` gave."""
        for name in self.__slots__:
            setattr(self, name, state[name])


OFFERED = Offloads(on=True)


def _encapsulation(capability: int) -> int:
    return ENCAPSULATION_8023 if capability else 0


def _capability4(ip: bool, tcp: bool, udp: bool) -> int:
    flags = ChecksumCapability4.IP * ip | ChecksumCapability4.TCP * tcp | ChecksumCapability4.UDP * udp
    if tcp:
        flags |= ChecksumCapability4.TCP_OPTIONS
    if flags:
        flags |= ChecksumCapability4.IP_OPTIONS
    return flags


def _capability6(tcp: bool, udp: bool) -> int:
    flags = ChecksumCapability6.TCP * tcp | ChecksumCapability6.UDP * udp
    if tcp:
        flags |= ChecksumCapability6.TCP_OPTIONS
    if flags:
        flags |= ChecksumCapability6.IP_EXTENSIONS
    return flags


def describe_encapsulation() -> bytes:
    """The answer to a query of OFFLOAD_ENCAPSULATION."""
    size = OffloadEncapsulation.SIZE
    return OffloadEncapsulation(
        header=ObjectHeader(type=ObjectType.OFFLOAD_ENCAPSULATION, revision=1, size=size),
        ip4_enabled=OFFLOAD_SUPPORTED,
        ip4_encapsulation_type=ENCAPSULATION_8023,
        ip4_header_size=EthernetHeader.SIZE,
        ip6_enabled=OFFLOAD_SUPPORTED,
        ip6_encapsulation_type=ENCAPSULATION_8023,
        ip6_header_size=EthernetHeader.SIZE,
    ).pack()

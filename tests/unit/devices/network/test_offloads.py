"""Offloads: what is offered, what is in force, what a guest may say."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ringminus.devices.network.ndis_wire import (
    OFFLOAD_SIZES,
    ChecksumSetting,
    ObjectHeader,
    ObjectType,
    Offload,
    OffloadEncapsulation,
    OffloadParameters,
    Setting,
)
from ringminus.devices.network.oid_wire import ConfigParameterInfo, Oid
from ringminus.devices.network.rndis_wire import Status
from support.rndis import RndisGuest

CAPABILITIES, CURRENT = Oid.TCP_OFFLOAD_HARDWARE_CAPABILITIES, Oid.TCP_OFFLOAD_CURRENT_CONFIG
BOTH = ChecksumSetting.TX_RX_ENABLED
LINUX = {
    "ip_v4_csum": ChecksumSetting.TX_RX_DISABLED,
    "tcp_ip_v4_csum": BOTH,
    "udp_ip_v4_csum": BOTH,
    "tcp_ip_v6_csum": BOTH,
    "udp_ip_v6_csum": BOTH,
    "lso_v2_ipv4": Setting.ENABLED,
    "lso_v2_ipv6": Setting.ENABLED,
    "rsc_ip_v4": Setting.ENABLED,
    "rsc_ip_v6": Setting.ENABLED,
}
"""What Linux 6 sets of what it is offered."""


@pytest.fixture
def guest() -> RndisGuest:
    guest = RndisGuest()
    guest.initialize()
    return guest


def header(kind: int, revision: int, size: int) -> bytes:
    return ObjectHeader(type=kind, revision=revision, size=size).pack()


def asked(revision: int, size: int) -> bytes:
    """How Linux asks: an object of zeros."""
    return header(ObjectType.OFFLOAD, revision, size).ljust(size, b"\0")


def parameters(size: int = 28, revision: int = 3, kind: int = ObjectType.DEFAULT, **fields: int) -> bytes:
    told = ObjectHeader(type=kind, revision=revision, size=size)
    return OffloadParameters(header=told, **fields).pack()[:size]


def in_force(guest: RndisGuest) -> set[str]:
    return {name for name, on in guest.control.offloads.save().items() if on}


# ------------------------------------------------------------------ what is offered


@pytest.mark.parametrize(("revision", "size"), sorted(OFFLOAD_SIZES.items()))
def test_capabilities_have_the_revision_and_size_that_the_guest_asks_with(
    revision: int, size: int, guest: RndisGuest
) -> None:
    found = guest.ask(CAPABILITIES, asked(revision, size))
    assert len(found) == size
    assert ObjectHeader.unpack(found) == ObjectHeader(type=ObjectType.OFFLOAD, revision=revision, size=size)


@pytest.mark.parametrize(
    ("info", "revision"),
    [
        (asked(5, 200), 3),
        (asked(3, 155), 2),
        (asked(3, 112), 1),
        (asked(2, 156), 2),
        (asked(3, 111), 3),
        (asked(0, 156), 3),
        (header(ObjectType.DEFAULT, 1, 112), 3),
        (b"\xa7\1\x70", 3),
        (b"", 3),
    ],
)
def test_a_guest_that_asks_otherwise_gets_what_fits_or_what_its_ndis_has(
    info: bytes, revision: int, guest: RndisGuest
) -> None:
    assert ObjectHeader.unpack(guest.ask(CAPABILITIES, info)).revision == revision


@pytest.mark.parametrize(("version", "revision"), [((6, 0), 1), ((6, 1), 2), ((6, 20), 2), ((6, 30), 3)])
def test_without_a_header_the_ndis_version_counts(
    version: tuple[int, int], revision: int, guest: RndisGuest
) -> None:
    guest.control.ndis_version = version
    assert ObjectHeader.unpack(guest.ask(CAPABILITIES)).revision == revision
    assert ObjectHeader.unpack(guest.ask(CURRENT)).revision == revision


def test_linux_finds_every_offload_that_it_looks_for(guest: RndisGuest) -> None:
    """The conditions of rndis_netdev_set_hwcaps."""
    caps = Offload.unpack(guest.ask(CAPABILITIES, asked(3, 156)))
    assert caps.csum.ip4_txcsum & 0x14 == 0x14 and caps.csum.ip4_txcsum & 0x40
    assert caps.csum.ip6_txcsum & 0x15 == 0x15 and caps.csum.ip6_txcsum & 0x40
    assert caps.lsov2.ip4_encap & 2 and caps.lsov2.ip6_encap & 2
    assert caps.lsov2.ip6_opts & 5 == 5
    assert caps.rsc.ip4 and caps.rsc.ip6


def test_a_large_frame_is_a_valid_ip_packet_with_any_headers(guest: RndisGuest) -> None:
    caps = Offload.unpack(guest.ask(CAPABILITIES, asked(3, 156)))
    for size in (caps.lsov2.ip4_maxsz, caps.lsov2.ip6_maxsz):
        assert 0x8000 < size <= 0xFFFF - 60 - 60
    assert caps.lsov2.ip4_minsg == caps.lsov2.ip6_minsg == 2


def test_what_is_not_done_is_not_offered(guest: RndisGuest) -> None:
    caps = Offload.unpack(guest.ask(CAPABILITIES, asked(3, 156)))
    for part in (caps.lsov1, caps.ipsecv1, caps.ipsecv2, caps.encap_gre):
        assert not any(part.pack())


# ------------------------------------------------------------------ what is in force


def test_nothing_is_in_force_before_the_guest_sets_it(guest: RndisGuest) -> None:
    assert in_force(guest) == set()
    current = guest.ask(CURRENT, asked(3, 156))
    assert not any(current[ObjectHeader.SIZE :])


def test_linux_sets_what_it_was_offered(guest: RndisGuest) -> None:
    assert guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**LINUX)) is Status.SUCCESS
    every = set(guest.control.offloads.save())
    assert in_force(guest) == every - {"transmit_ip4", "receive_ip4"}


def test_current_settings_are_told_when_they_change(guest: RndisGuest) -> None:
    guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**LINUX))
    ((status, info),) = guest.indications
    assert status is Status.TASK_OFFLOAD_CURRENT_CONFIG
    assert info == guest.ask(CURRENT, asked(3, 156))
    told = Offload.unpack(info)
    assert told.csum.ip4_txcsum & 0x100 == 0 and told.csum.ip4_txcsum & 0x10
    guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**LINUX))
    assert len(guest.indications) == 1


def test_zero_is_no_change(guest: RndisGuest) -> None:
    """Linux switches RSC alone, with zeros for all else (ethtool -K eth0 lro off)."""
    guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**LINUX))
    before = in_force(guest)
    off = parameters(rsc_ip_v4=Setting.DISABLED, rsc_ip_v6=Setting.DISABLED)
    assert guest.set(Oid.TCP_OFFLOAD_PARAMETERS, off) is Status.SUCCESS
    assert in_force(guest) == before - {"rsc4", "rsc6"}


@pytest.mark.parametrize(
    ("setting", "transmit", "receive"),
    [
        (ChecksumSetting.TX_RX_DISABLED, False, False),
        (ChecksumSetting.TX_ENABLED_RX_DISABLED, True, False),
        (ChecksumSetting.RX_ENABLED_TX_DISABLED, False, True),
        (ChecksumSetting.TX_RX_ENABLED, True, True),
    ],
)
@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("ip_v4_csum", "ip4"),
        ("tcp_ip_v4_csum", "tcp4"),
        ("udp_ip_v4_csum", "udp4"),
        ("tcp_ip_v6_csum", "tcp6"),
        ("udp_ip_v6_csum", "udp6"),
    ],
)
def test_a_checksum_has_two_directions(
    field: str, name: str, setting: int, transmit: bool, receive: bool, guest: RndisGuest
) -> None:
    every = dict.fromkeys(LINUX, BOTH) | dict.fromkeys(
        ("lso_v2_ipv4", "lso_v2_ipv6", "rsc_ip_v4", "rsc_ip_v6"), Setting.ENABLED
    )
    guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**every))
    all_on = in_force(guest)
    guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**{field: setting}))
    off = {f"transmit_{name}": not transmit, f"receive_{name}": not receive}
    assert all_on - in_force(guest) == {one for one, is_off in off.items() if is_off}


@pytest.mark.parametrize("size", [20, 22, 26, 28])
def test_each_revision_of_the_parameters_is_understood(size: int, guest: RndisGuest) -> None:
    """Up to NVSP 4 Linux sends 22 bytes and says revision 3; fields that are missing stay as they are."""
    info = parameters(size, **LINUX)
    assert len(info) == size
    assert guest.set(Oid.TCP_OFFLOAD_PARAMETERS, info) is Status.SUCCESS
    assert ("rsc4" in in_force(guest)) is (size >= 24)
    assert "lso6" in in_force(guest)


@pytest.mark.parametrize(
    ("info", "status"),
    [
        (b"", Status.INVALID_LENGTH),
        (b"\x80\3\x1c", Status.INVALID_LENGTH),
        (parameters(19), Status.INVALID_LENGTH),
        (parameters(28)[:27], Status.INVALID_LENGTH),
        (parameters(revision=0), Status.INVALID_DATA),
        (parameters(kind=ObjectType.OFFLOAD), Status.INVALID_DATA),
        (parameters(tcp_ip_v4_csum=BOTH, udp_ip_v6_csum=5), Status.INVALID_DATA),
        (parameters(tcp_ip_v4_csum=BOTH, lso_v2_ipv4=3), Status.INVALID_DATA),
        (parameters(tcp_ip_v4_csum=BOTH, rsc_ip_v6=255), Status.INVALID_DATA),
        (parameters(tcp_ip_v4_csum=BOTH, lso_v1=2), Status.NOT_SUPPORTED),
        (parameters(tcp_ip_v4_csum=BOTH, ip_sec_v2=2), Status.NOT_SUPPORTED),
        (parameters(tcp_ip_v4_csum=BOTH, encapsulated_packet_task_offload=2), Status.NOT_SUPPORTED),
    ],
)
def test_parameters_that_cannot_be_change_nothing(info: bytes, status: Status, guest: RndisGuest) -> None:
    assert guest.set(Oid.TCP_OFFLOAD_PARAMETERS, info) is status
    assert in_force(guest) == set() and guest.indications == []


def test_what_is_not_offered_may_be_switched_off(guest: RndisGuest) -> None:
    off = parameters(lso_v1=1, ip_sec_v1=1, tcp_connection_ip_v4=1, ip_sec_v2=1)
    assert guest.set(Oid.TCP_OFFLOAD_PARAMETERS, off) is Status.SUCCESS


# ------------------------------------------------------------------ settings of Windows's registry


def parameter(name: str, value: str) -> bytes:
    encoded, text = name.encode("utf-16-le"), value.encode("utf-16-le")
    fixed = ConfigParameterInfo.SIZE
    return struct.pack("<5I", fixed, len(encoded), 2, fixed + len(encoded), len(text)) + encoded + text


@pytest.mark.parametrize(
    ("name", "value", "on"),
    [
        ("*IPChecksumOffloadIPv4", "3", {"transmit_ip4", "receive_ip4"}),
        ("*TCPChecksumOffloadIPv4", "1", {"transmit_tcp4"}),
        ("*UDPChecksumOffloadIPv6", "2", {"receive_udp6"}),
        ("*LsoV2IPv4", "1", {"lso4"}),
        ("*LsoV2IPv6", "0", set()),
        ("*RscIPv6", "1", {"rsc6"}),
    ],
)
def test_offloads_are_set_by_name(name: str, value: str, on: set[str], guest: RndisGuest) -> None:
    assert guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, parameter(name, value)) is Status.SUCCESS
    assert in_force(guest) == on


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("*TCPChecksumOffloadIPv4", "4"),
        ("*TCPChecksumOffloadIPv4", ""),
        ("*TCPChecksumOffloadIPv4", "on"),
        ("*LsoV2IPv4", "2"),
        ("*LsoV2IPv4", "-1"),
        ("*RscIPv4", "99999999999999999999"),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused(name: str, value: str, guest: RndisGuest) -> None:
    assert guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, parameter(name, value)) is Status.INVALID_DATA
    assert in_force(guest) == set()


# ------------------------------------------------------------------ encapsulation


def encapsulation(ip4: tuple[int, int, int], ip6: tuple[int, int, int], **changes: Any) -> bytes:
    told = {"type": ObjectType.OFFLOAD_ENCAPSULATION, "revision": 1, "size": OffloadEncapsulation.SIZE}
    return OffloadEncapsulation(
        header=ObjectHeader(**(told | changes)),
        ip4_enabled=ip4[0],
        ip4_encapsulation_type=ip4[1],
        ip4_header_size=ip4[2],
        ip6_enabled=ip6[0],
        ip6_encapsulation_type=ip6[1],
        ip6_header_size=ip6[2],
    ).pack()


ON, OFF, SAME = (1, 2, 14), (2, 0, 0), (0, 0, 0)


def test_frames_are_ethernets(guest: RndisGuest) -> None:
    found = OffloadEncapsulation.unpack(guest.ask(Oid.OFFLOAD_ENCAPSULATION))
    assert found.pack() == encapsulation(ON, ON)
    assert guest.set(Oid.OFFLOAD_ENCAPSULATION, encapsulation(ON, ON)) is Status.SUCCESS


def test_an_ip_version_without_encapsulation_has_no_offloads(guest: RndisGuest) -> None:
    guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**LINUX))
    assert guest.set(Oid.OFFLOAD_ENCAPSULATION, encapsulation(OFF, SAME)) is Status.SUCCESS
    assert in_force(guest) == {
        "transmit_tcp6", "transmit_udp6", "receive_tcp6", "receive_udp6", "lso6", "rsc6",
    }  # fmt: skip
    assert len(guest.indications) == 2


@pytest.mark.parametrize(
    ("info", "status"),
    [
        (encapsulation((1, 4, 14), ON), Status.NOT_SUPPORTED),
        (encapsulation(ON, (1, 2, 18)), Status.NOT_SUPPORTED),
        (encapsulation((3, 2, 14), ON), Status.INVALID_DATA),
        (encapsulation(ON, ON, type=0x80), Status.INVALID_DATA),
        (encapsulation(ON, ON, size=29), Status.INVALID_LENGTH),
        (encapsulation(ON, ON)[:27], Status.INVALID_LENGTH),
    ],
)
def test_another_encapsulation_is_refused(info: bytes, status: Status, guest: RndisGuest) -> None:
    guest.set(Oid.TCP_OFFLOAD_PARAMETERS, parameters(**LINUX))
    before = in_force(guest)
    assert guest.set(Oid.OFFLOAD_ENCAPSULATION, info) is status
    assert in_force(guest) == before

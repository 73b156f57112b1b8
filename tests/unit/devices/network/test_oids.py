"""What a guest may query and set of its adapter."""

from __future__ import annotations

import pytest

from ringminus.devices.network.control import RndisControl
from ringminus.devices.network.oid_wire import (
    ConfigParameterInfo,
    LinkSpeed,
    LinkState,
    MacOption,
    MediaConnectState,
    MediaDuplexState,
    Oid,
    PacketFilter,
    ParameterType,
    StatisticsInfo,
    ValidStatistics,
)
from ringminus.devices.network.oids import LONGEST_MULTICAST_LIST, TABLE, Statistics
from ringminus.devices.network.rndis_wire import Status
from support.rndis import ADDRESS, RndisGuest

SET_ONLY = {
    Oid.GEN_NETWORK_LAYER_ADDRESSES,
    Oid.GEN_RNDIS_CONFIG_PARAMETER,
    Oid.E802_3_ADD_MULTICAST_ADDRESS,
    Oid.E802_3_DELETE_MULTICAST_ADDRESS,
    Oid.TCP_OFFLOAD_PARAMETERS,
}
MULTICAST = bytes.fromhex("01005e00000a")
OTHER_MULTICAST = bytes.fromhex("333300000001")
BROADCAST = b"\xff" * 6


@pytest.fixture
def guest() -> RndisGuest:
    guest = RndisGuest()
    guest.initialize()
    return guest


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def parameter(name: str, value: str | int, kind: int | None = None) -> bytes:
    """A setting by name, laid out as Linux does it."""
    encoded = name.encode("utf-16-le")
    if isinstance(value, str):
        raw, told = value.encode("utf-16-le"), ParameterType.STRING
    else:
        raw, told = number(value), ParameterType.INTEGER
    info = ConfigParameterInfo(
        parameter_name_offset=ConfigParameterInfo.SIZE,
        parameter_name_length=len(encoded),
        parameter_type=told if kind is None else kind,
        parameter_value_offset=ConfigParameterInfo.SIZE + len(encoded),
        parameter_value_length=len(raw),
    )
    return info.pack() + encoded + raw


# ------------------------------------------------------------------ the table


def test_every_identifier_has_an_answer_and_is_in_the_list(guest: RndisGuest) -> None:
    listed = guest.ask(Oid.GEN_SUPPORTED_LIST)
    numbers = [int.from_bytes(listed[at : at + 4], "little") for at in range(0, len(listed), 4)]
    assert sorted(numbers) == sorted(Oid) == sorted(TABLE)
    for oid in Oid:
        status, _ = guest.query(oid)
        assert status is (Status.NOT_SUPPORTED if oid in SET_ONLY else Status.SUCCESS)


@pytest.mark.parametrize(
    "oid",
    [
        0xFD010101,  # PNP_SET_POWER
        0xFD010100,  # PNP_CAPABILITIES
        0xFC01020E,  # TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG
        0x0001021C,  # GEN_VLAN_ID
        0,
        0xFFFFFFFF,
    ],
)
def test_what_is_not_in_the_table_is_not_supported(oid: int, guest: RndisGuest) -> None:
    assert guest.query(oid) == (Status.NOT_SUPPORTED, b"")
    assert guest.set(oid, number(1)) is Status.NOT_SUPPORTED


def test_what_can_only_be_queried_is_not_set(guest: RndisGuest) -> None:
    assert guest.set(Oid.GEN_LINK_SPEED, number(1)) is Status.NOT_SUPPORTED
    assert guest.set(Oid.E802_3_CURRENT_ADDRESS, bytes(6)) is Status.NOT_SUPPORTED


# ------------------------------------------------------------------ what it is


def test_sizes_follow_the_mtu(guest: RndisGuest) -> None:
    assert guest.number(Oid.GEN_MAXIMUM_FRAME_SIZE) == 1500
    guest.control.mtu = 9000
    for oid in (Oid.GEN_MAXIMUM_FRAME_SIZE, Oid.GEN_MAXIMUM_LOOKAHEAD, Oid.GEN_CURRENT_LOOKAHEAD):
        assert guest.number(oid) == 9000
    for oid in (Oid.GEN_MAXIMUM_TOTAL_SIZE, Oid.GEN_TRANSMIT_BLOCK_SIZE, Oid.GEN_RECEIVE_BLOCK_SIZE):
        assert guest.number(oid) == 9014


def test_the_mtu_has_an_end() -> None:
    """A guest that asks for more is told what it gets."""
    guest = RndisGuest(RndisControl(ADDRESS, "x", largest_mtu=9000, subchannels=0))
    guest.initialize()
    guest.control.mtu = 65521
    assert guest.number(Oid.GEN_MAXIMUM_FRAME_SIZE) == 9000


def test_an_adapter_is_an_ethernet_adapter_that_is_ready(guest: RndisGuest) -> None:
    for oid in (Oid.GEN_HARDWARE_STATUS, Oid.GEN_MEDIA_SUPPORTED, Oid.GEN_MEDIA_IN_USE):
        assert guest.number(oid) == 0
    options = guest.number(Oid.GEN_MAC_OPTIONS)
    assert options & MacOption.NO_LOOPBACK and options & MacOption.P8021Q_VLAN


def test_versions(guest: RndisGuest) -> None:
    assert guest.ask(Oid.GEN_DRIVER_VERSION) == bytes((30, 6))
    guest.control.ndis_version = (6, 1)
    assert guest.ask(Oid.GEN_DRIVER_VERSION) == bytes((1, 6))
    assert guest.number(Oid.GEN_VENDOR_DRIVER_VERSION) >> 16 == 1
    assert guest.ask(Oid.GEN_VENDOR_DESCRIPTION).endswith(b"\0")


def test_the_title_is_what_the_guest_sees_as_its_name(guest: RndisGuest) -> None:
    """Linux makes it the interface's alias; it takes 512 bytes at most."""
    found = guest.ask(Oid.GEN_FRIENDLY_NAME)
    assert len(found) == 512
    assert found.decode("utf-16-le").rstrip("\0") == "Network Adapter 1"


@pytest.mark.parametrize("title", ["x" * 400, "x" + "😀" * 200, "\ud800", ""])
def test_a_name_of_any_kind_fits(title: str) -> None:
    guest = RndisGuest(RndisControl(ADDRESS, title, largest_mtu=1500, subchannels=0))
    guest.initialize()
    found = guest.ask(Oid.GEN_FRIENDLY_NAME)
    assert len(found) == 512 and found.endswith(b"\0\0")
    name = found.decode("utf-16-le").rstrip("\0")
    assert title.startswith(name) or name == "?"


def test_the_link_of_ndis_6(guest: RndisGuest) -> None:
    guest.control.link_messages(True, 10_000)
    state = LinkState.unpack(guest.ask(Oid.GEN_LINK_STATE))
    assert (state.header.size, state.media_connect_state) == (LinkState.SIZE, MediaConnectState.CONNECTED)
    assert state.media_duplex_state == MediaDuplexState.FULL
    assert state.xmit_link_speed == state.rcv_link_speed == 10_000_000_000
    assert LinkSpeed.unpack(guest.ask(Oid.GEN_MAX_LINK_SPEED)).xmit_link_speed == 10_000_000_000
    guest.control.link_messages(False, 10_000)
    state = LinkState.unpack(guest.ask(Oid.GEN_LINK_STATE))
    assert state.media_connect_state == MediaConnectState.DISCONNECTED


# ------------------------------------------------------------------ statistics

COUNTED = Statistics(
    sent_frames=(7 << 32) + 1,
    sent_bytes=(7 << 32) + 2,
    sent_errors=3,
    sent_discards=4,
    received_frames=(7 << 32) + 5,
    received_bytes=(7 << 32) + 6,
    received_errors=7,
    received_discards=8,
    received_no_buffer=9,
)


@pytest.mark.parametrize(
    ("oid", "low"),
    [
        (Oid.GEN_XMIT_OK, 1),
        (Oid.GEN_RCV_OK, 5),
        (Oid.GEN_XMIT_ERROR, 3),
        (Oid.GEN_RCV_ERROR, 7),
        (Oid.GEN_RCV_NO_BUFFER, 9),
        (Oid.GEN_RCV_CRC_ERROR, 0),
    ],
)
def test_a_counter_has_32_bits(oid: int, low: int, guest: RndisGuest) -> None:
    guest.control.statistics = lambda: COUNTED
    assert guest.number(oid) == low


def test_a_guest_with_room_for_64_bits_gets_them(guest: RndisGuest) -> None:
    guest.control.statistics = lambda: COUNTED
    assert guest.ask(Oid.GEN_XMIT_OK, bytes(8)) == COUNTED.sent_frames.to_bytes(8, "little")
    assert guest.ask(Oid.GEN_BYTES_XMIT) == COUNTED.sent_bytes.to_bytes(8, "little")
    assert guest.ask(Oid.GEN_BYTES_RCV) == COUNTED.received_bytes.to_bytes(8, "little")
    assert guest.ask(Oid.GEN_RCV_DISCARDS) == (8).to_bytes(8, "little")
    assert guest.ask(Oid.GEN_XMIT_DISCARDS) == (4).to_bytes(8, "little")


def test_all_statistics_at_once_say_which_of_them_count(guest: RndisGuest) -> None:
    guest.control.statistics = lambda: COUNTED
    found = StatisticsInfo.unpack(guest.ask(Oid.GEN_STATISTICS))
    assert found.supported_statistics == sum(ValidStatistics)
    assert (found.hc_out_octets, found.hc_in_octets) == (COUNTED.sent_bytes, COUNTED.received_bytes)
    assert (found.out_errors, found.out_discards) == (3, 4)
    assert (found.in_errors, found.in_discards) == (7, 8)


# ------------------------------------------------------------------ which frames the guest wants


def test_a_filter_is_taken_and_told_once(guest: RndisGuest) -> None:
    wanted = number(PacketFilter.DIRECTED | PacketFilter.BROADCAST | PacketFilter.ALL_MULTICAST)
    assert guest.set(Oid.GEN_CURRENT_PACKET_FILTER, wanted) is Status.SUCCESS
    assert guest.set(Oid.GEN_CURRENT_PACKET_FILTER, wanted) is Status.SUCCESS
    assert guest.control.packet_filter == guest.number(Oid.GEN_CURRENT_PACKET_FILTER) == 0xD
    assert guest.filters == [0xD]


@pytest.mark.parametrize(
    ("info", "status"),
    [
        (b"\1\0\0", Status.INVALID_LENGTH),
        (b"", Status.INVALID_LENGTH),
        (number(0x8000_0001), Status.NOT_SUPPORTED),
        (number(0x10), Status.NOT_SUPPORTED),
    ],
)
def test_a_filter_that_cannot_be_is_refused(info: bytes, status: Status, guest: RndisGuest) -> None:
    assert guest.set(Oid.GEN_CURRENT_PACKET_FILTER, info) is status
    assert guest.control.packet_filter == 0 and guest.filters == []


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        (0, set()),
        (PacketFilter.DIRECTED, {ADDRESS}),
        (PacketFilter.BROADCAST, {BROADCAST}),
        (PacketFilter.MULTICAST, {MULTICAST}),
        (PacketFilter.ALL_MULTICAST, {MULTICAST, OTHER_MULTICAST}),
        (PacketFilter.PROMISCUOUS, {ADDRESS, BROADCAST, MULTICAST, OTHER_MULTICAST, b"\2" + bytes(5)}),
    ],
)
def test_what_a_filter_lets_through(wanted: int, accepted: set[bytes], guest: RndisGuest) -> None:
    guest.set(Oid.E802_3_MULTICAST_LIST, MULTICAST)
    guest.set(Oid.GEN_CURRENT_PACKET_FILTER, number(wanted))
    every = (ADDRESS, BROADCAST, MULTICAST, OTHER_MULTICAST, b"\2" + bytes(5))
    assert {address for address in every if guest.control.accepts(address)} == accepted


def test_half_an_address_is_nobodys(guest: RndisGuest) -> None:
    guest.set(Oid.GEN_CURRENT_PACKET_FILTER, number(PacketFilter.DIRECTED | PacketFilter.BROADCAST))
    assert not guest.control.accepts(b"") and not guest.control.accepts(BROADCAST[:3])


def test_a_multicast_list_is_taken_as_a_whole(guest: RndisGuest) -> None:
    assert guest.set(Oid.E802_3_MULTICAST_LIST, OTHER_MULTICAST + MULTICAST) is Status.SUCCESS
    assert guest.ask(Oid.E802_3_MULTICAST_LIST) == MULTICAST + OTHER_MULTICAST
    assert guest.set(Oid.E802_3_MULTICAST_LIST, MULTICAST) is Status.SUCCESS
    assert guest.ask(Oid.E802_3_MULTICAST_LIST) == MULTICAST
    assert guest.set(Oid.E802_3_MULTICAST_LIST, b"") is Status.SUCCESS
    assert guest.ask(Oid.E802_3_MULTICAST_LIST) == b""
    assert guest.filters == [0, 0, 0]


def test_a_multicast_list_that_cannot_be_is_refused(guest: RndisGuest) -> None:
    longest = guest.number(Oid.E802_3_MAXIMUM_LIST_SIZE)
    assert longest == LONGEST_MULTICAST_LIST
    many = b"".join(MULTICAST[:4] + at.to_bytes(2, "big") for at in range(longest + 1))
    assert guest.set(Oid.E802_3_MULTICAST_LIST, many) is Status.MULTICAST_FULL
    assert guest.set(Oid.E802_3_MULTICAST_LIST, MULTICAST[:5]) is Status.INVALID_LENGTH
    assert guest.set(Oid.E802_3_MULTICAST_LIST, MULTICAST + ADDRESS) is Status.INVALID_DATA
    assert guest.control.multicast == frozenset()
    assert guest.set(Oid.E802_3_MULTICAST_LIST, many[6:]) is Status.SUCCESS


def test_multicast_addresses_one_by_one(guest: RndisGuest) -> None:
    assert guest.set(Oid.E802_3_ADD_MULTICAST_ADDRESS, MULTICAST) is Status.SUCCESS
    assert guest.set(Oid.E802_3_ADD_MULTICAST_ADDRESS, MULTICAST) is Status.MULTICAST_EXISTS
    assert guest.set(Oid.E802_3_DELETE_MULTICAST_ADDRESS, OTHER_MULTICAST) is Status.MULTICAST_NOT_FOUND
    assert guest.control.multicast == {MULTICAST}
    assert guest.set(Oid.E802_3_DELETE_MULTICAST_ADDRESS, MULTICAST) is Status.SUCCESS
    assert guest.control.multicast == frozenset()


def test_a_lookahead_is_kept_up_to_a_frame(guest: RndisGuest) -> None:
    assert guest.set(Oid.GEN_CURRENT_LOOKAHEAD, number(256)) is Status.SUCCESS
    assert guest.number(Oid.GEN_CURRENT_LOOKAHEAD) == 256
    assert guest.set(Oid.GEN_CURRENT_LOOKAHEAD, number(1501)) is Status.INVALID_DATA
    assert guest.number(Oid.GEN_CURRENT_LOOKAHEAD) == 256


def test_protocol_options_are_kept(guest: RndisGuest) -> None:
    assert guest.set(Oid.GEN_PROTOCOL_OPTIONS, number(3)) is Status.SUCCESS
    assert guest.number(Oid.GEN_PROTOCOL_OPTIONS) == 3


def test_the_guests_ip_addresses_are_no_business_of_ours(guest: RndisGuest) -> None:
    assert guest.set(Oid.GEN_NETWORK_LAYER_ADDRESSES, bytes(28)) is Status.SUCCESS


# ------------------------------------------------------------------ the address


@pytest.mark.parametrize("text", ["02aabbccddee", "02AABBCCDDEE", "02-AA-bb-cc-DD-ee", "02aabbccddee\0"])
def test_a_guest_changes_its_address(text: str, guest: RndisGuest) -> None:
    new = bytes.fromhex("02aabbccddee")
    status = guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, parameter("NetworkAddress", text))
    assert status is Status.SUCCESS
    assert guest.addresses == [new]
    assert guest.ask(Oid.E802_3_CURRENT_ADDRESS) == guest.control.address == new
    assert guest.ask(Oid.E802_3_PERMANENT_ADDRESS) == ADDRESS


def test_frames_for_the_new_address_come_also_after_a_change_of_the_mtu(guest: RndisGuest) -> None:
    """For which Linux closes the channel, and does not say again which address it has; and a driver that is
    loaded anew is back at the permanent one, and does not say that either."""
    guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, parameter("NetworkAddress", "02aabbccddee"))
    guest.halt()
    guest.control.reset()
    guest.initialize()
    guest.set(Oid.GEN_CURRENT_PACKET_FILTER, number(PacketFilter.DIRECTED))
    assert guest.control.accepts(bytes.fromhex("02aabbccddee"))
    assert guest.control.accepts(ADDRESS)
    assert not guest.control.accepts(bytes.fromhex("02aabbccddef"))
    guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, parameter("NetworkAddress", "02aabbccddee"))
    assert not guest.control.accepts(ADDRESS)
    assert guest.addresses == [bytes.fromhex("02aabbccddee")]


def test_the_same_address_is_no_change(guest: RndisGuest) -> None:
    info = parameter("NetworkAddress", ADDRESS.hex())
    assert guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, info) is Status.SUCCESS
    assert guest.addresses == []


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "02aabbccdde",
        "02aabbccddeeff",
        "02aabbccddeg",
        "02:aa:bb:cc:dd:ee",
        "02-aabbccddee",
        "٠2aabbccddee",
        "01aabbccddee",
        "ffffffffffff",
        "000000000000",
        5,
    ],
)
def test_what_is_no_address_of_an_adapter_is_refused(value: str | int, guest: RndisGuest) -> None:
    info = parameter("NetworkAddress", value)
    assert guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, info) is Status.INVALID_DATA
    assert guest.control.address == ADDRESS and guest.addresses == []


def broken(**fields: int) -> bytes:
    info = parameter("NetworkAddress", "02aabbccddee")
    head = ConfigParameterInfo.unpack(info)
    for name, value in fields.items():
        setattr(head, name, value)
    return head.pack() + info[ConfigParameterInfo.SIZE :]


@pytest.mark.parametrize(
    ("info", "status"),
    [
        (bytes(ConfigParameterInfo.SIZE - 1), Status.INVALID_LENGTH),
        (broken(parameter_name_offset=0xFFFF_FFFF), Status.INVALID_LENGTH),
        (broken(parameter_name_length=0xFFFF_FFFF), Status.INVALID_LENGTH),
        (broken(parameter_name_length=200), Status.INVALID_LENGTH),
        (broken(parameter_value_offset=0xFFFF_FFF0), Status.INVALID_LENGTH),
        (broken(parameter_value_length=25), Status.INVALID_LENGTH),
        (broken(parameter_value_length=23), Status.INVALID_DATA),
        (broken(parameter_type=ParameterType.INTEGER), Status.INVALID_LENGTH),
        (broken(parameter_type=4), Status.INVALID_DATA),
        (broken(parameter_name_length=27), Status.INVALID_DATA),
    ],
)
def test_a_setting_whose_parts_lie_is_refused(info: bytes, status: Status, guest: RndisGuest) -> None:
    found = guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, info)
    assert found is status
    assert guest.control.address == ADDRESS


def test_settings_of_a_driver_that_we_do_not_know_count_as_set(guest: RndisGuest) -> None:
    for value in ("1514", 7):
        info = parameter("*JumboPacket", value)
        assert guest.set(Oid.GEN_RNDIS_CONFIG_PARAMETER, info) is Status.SUCCESS

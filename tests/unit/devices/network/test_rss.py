"""Receive side scaling: hashes, queues, what a guest may set."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from ringminus.devices.network.ndis_wire import (
    HashType,
    ObjectHeader,
    ObjectType,
    RssCapabilities,
    RssFlag,
    RssParameters,
)
from ringminus.devices.network.oid_wire import Oid
from ringminus.devices.network.rndis_wire import Status
from ringminus.devices.network.rss import ReceiveSideScaling
from ringminus.switch.wire import (
    EthernetHeader,
    EtherType,
    IpProtocol,
    Ipv4Header,
    Ipv6Header,
)
from support.rndis import RndisGuest

CAPABILITIES, PARAMETERS = Oid.GEN_RECEIVE_SCALE_CAPABILITIES, Oid.GEN_RECEIVE_SCALE_PARAMETERS
KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
"""The key of Microsoft's "Verifying the RSS Hash Calculation", from which the vectors below are."""
VECTORS = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    (
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        "fe80::200:f8ff:fe21:67cf",
        38024,
        0x4B61E985,
        0x02D1FEEF,
    ),
]
ADDRESSES = HashType.IPV4 | HashType.IPV6
TCP = HashType.TCP_IPV4 | HashType.TCP_IPV6
UDP = HashType.UDP_IPV4 | HashType.UDP_IPV6
LINUX = ADDRESSES | TCP
TABLE = tuple(range(16))


def frame(
    source: str,
    source_port: int,
    destination: str,
    destination_port: int,
    protocol: int = IpProtocol.TCP,
    *,
    options: bytes = b"",
    fragment: int = 0,
) -> bytes:
    """A TCP or UDP packet; `options` are IPv4's, or whole extension headers of IPv6, the last of which leads
    to `protocol` and the first of which is of destination options."""
    ports = struct.pack(">HH", source_port, destination_port)
    payload = ports + (
        b"\0" * 8 + b"\x50" + b"\0" * 7 if protocol == IpProtocol.TCP else b"\0\x0c" + b"\0" * 6
    )
    a, b = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    if len(a) == 4:
        kind = EtherType.IPV4
        size = Ipv4Header.SIZE + len(options)
        ip = Ipv4Header(
            version_and_length=0x40 | size // 4,
            total_length=size + len(payload),
            fragment=fragment,
            protocol=protocol,
            source=a,
            destination=b,
        ).pack()
    else:
        kind = EtherType.IPV6
        ip = Ipv6Header(
            version_class_flow=6 << 28,
            payload_length=len(options) + len(payload),
            next_header=IpProtocol.DESTINATION_OPTIONS if options else protocol,
            source=a,
            destination=b,
        ).pack()
    ethernet = EthernetHeader(destination=bytes(6), source=bytes(6), type=kind).pack()
    return ethernet + ip + options + payload


def scaling(types: int = LINUX, table: tuple[int, ...] = TABLE, key: bytes = KEY) -> ReceiveSideScaling:
    return ReceiveSideScaling(key, types, table)


# ------------------------------------------------------------------ the hash


@pytest.mark.parametrize(("a", "a_port", "b", "b_port", "addresses", "ports"), VECTORS)
def test_microsofts_vectors(a: str, a_port: int, b: str, b_port: int, addresses: int, ports: int) -> None:
    data = frame(a, a_port, b, b_port)
    v4 = "." in a
    assert scaling(ADDRESSES).hash(data) == (addresses, HashType.IPV4 if v4 else HashType.IPV6)
    assert scaling(LINUX).hash(data) == (ports, HashType.TCP_IPV4 if v4 else HashType.TCP_IPV6)


@pytest.mark.parametrize(("a", "a_port", "b", "b_port", "addresses", "ports"), VECTORS)
def test_udp_is_hashed_with_ports_only_if_the_guest_wants_that(
    a: str, a_port: int, b: str, b_port: int, addresses: int, ports: int
) -> None:
    data = frame(a, a_port, b, b_port, IpProtocol.UDP)
    assert scaling(LINUX).hash(data)[0] == addresses
    assert scaling(LINUX | UDP).hash(data) == (
        ports,
        HashType.UDP_IPV4 if "." in a else HashType.UDP_IPV6,
    )


def by_the_definition(key: bytes, data: bytes) -> int:
    """The key, as a window of 32 bits, is added at each bit of the input that is set."""
    bits = int.from_bytes(key, "big")
    value = 0
    for position in range(8 * len(data)):
        if data[position // 8] >> 7 - position % 8 & 1:
            value ^= bits >> 8 * len(key) - 32 - position & 0xFFFF_FFFF
    return value


@pytest.mark.parametrize("key", [bytes(40), b"\xff" * 40, bytes(range(40)), b"\x6d\x5a" * 20])
def test_any_key_gives_what_the_definition_says(key: bytes) -> None:
    for source, destination in (("10.1.2.3", "10.255.0.9"), ("fe80::1", "2001:db8::ffff:2")):
        data = frame(source, 0x1234, destination, 0xFEDC)
        flow = b"".join(ipaddress.ip_address(one).packed for one in (source, destination))
        flow += b"\x12\x34\xfe\xdc"
        assert scaling(key=key).hash(data)[0] == by_the_definition(key, flow)


@pytest.mark.parametrize("options", [b"\1\1\1\0", b"\1" * 40])
def test_ports_behind_ip_options_are_found(options: bytes) -> None:
    a, a_port, b, b_port, _, ports = VECTORS[0]
    data = frame(a, a_port, b, b_port, options=options)
    assert scaling().hash(data) == (ports, HashType.TCP_IPV4)


def test_ports_behind_extension_headers_are_found() -> None:
    a, a_port, b, b_port, _, ports = VECTORS[5]
    extension = bytes((IpProtocol.TCP, 1)) + bytes(14)
    data = frame(a, a_port, b, b_port, options=extension)
    assert scaling().hash(data) == (ports, HashType.TCP_IPV6)


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x2005])
def test_fragments_are_hashed_by_their_addresses(fragment: int) -> None:
    """All of a packet's have to come on one channel, and only the first has ports."""
    a, a_port, b, b_port, addresses, _ = VECTORS[0]
    data = frame(a, a_port, b, b_port, fragment=fragment)
    assert scaling().hash(data) == (addresses, HashType.IPV4)


def test_a_packet_that_may_not_be_fragmented_is_none() -> None:
    a, a_port, b, b_port, _, ports = VECTORS[0]
    assert scaling().hash(frame(a, a_port, b, b_port, fragment=0x4000))[0] == ports


@pytest.mark.parametrize(
    "types", [HashType.IPV6_EX | HashType.TCP_IPV6_EX, HashType.IPV6 | HashType.TCP_IPV6]
)
def test_mobile_ipv6s_types_hash_other_packets_the_same_way(types: int) -> None:
    a, a_port, b, b_port, addresses, ports = VECTORS[5]
    assert scaling(types).hash(frame(a, a_port, b, b_port))[0] == ports
    assert scaling(types).hash(frame(a, a_port, b, b_port, IpProtocol.UDP))[0] == addresses


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(14),
        bytes(12) + b"\x08\x06" + bytes(46),
        bytes(12) + b"\x08\x00",
        bytes(12) + b"\x08\x00\x45" + bytes(5),
        bytes(12) + b"\x86\xdd\x60" + bytes(30),
        bytes(12) + b"\x08\x00\x65" + bytes(60),
        bytes(12) + b"\x86\xdd\x45" + bytes(60),
    ],
)
def test_what_is_no_ip_packet_has_no_hash_and_comes_on_the_primary_channel(data: bytes) -> None:
    one = scaling(table=(1,) * 16)
    assert one.hash(data) == (0, 0)
    assert one.queue(data) == 0


def test_a_type_that_the_guest_does_not_want_is_not_hashed() -> None:
    four, six = frame(*VECTORS[0][:4]), frame(*VECTORS[5][:4])
    assert scaling(HashType.TCP_IPV6).hash(four) == (0, 0)
    assert scaling(HashType.TCP_IPV4).hash(six) == (0, 0)
    assert scaling(HashType.UDP_IPV4).hash(four) == (0, 0)


# ------------------------------------------------------------------ the queue


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_the_low_bits_of_the_hash_choose_the_entry(size: int) -> None:
    table = tuple((7 * entry) % 4 for entry in range(size))
    for a, a_port, b, b_port, _, ports in VECTORS:
        assert scaling(table=table).queue(frame(a, a_port, b, b_port)) == table[ports % size]


def test_more_flows_than_are_remembered_are_hashed_all_the_same() -> None:
    one = scaling()
    for port in range(5000):
        one.hash(frame("10.0.0.1", port, "10.0.0.2", 80))
    assert one.hash(frame(*VECTORS[0][:4]))[0] == VECTORS[0][5]
    assert len(one._remembered) <= 4096


# ------------------------------------------------------------------ what a guest sets


@pytest.fixture
def guest() -> RndisGuest:
    guest = RndisGuest(subchannels=3)
    guest.initialize()
    return guest


def capabilities(revision: int, size: int) -> bytes:
    return (
        ObjectHeader(type=ObjectType.RSS_CAPABILITIES, revision=revision, size=size).pack().ljust(size, b"\0")
    )


def settings(table: tuple[int, ...] = (0, 1, 2, 3) * 32, key: bytes = KEY, **changes: int) -> bytes:
    """As Linux lays them out."""
    fields = {
        "flag": 0,
        "base_cpu_number": 0,
        "hashinfo": 1 | LINUX,
        "indirect_tabsize": 4 * len(table),
        "indirect_taboffset": RssParameters.SIZE,
        "hashkey_size": len(key),
        "hashkey_offset": RssParameters.SIZE + 4 * len(table),
    }
    header = ObjectHeader(type=ObjectType.RSS_PARAMETERS, revision=2, size=RssParameters.SIZE)
    fixed = RssParameters(header=header, **(fields | changes)).pack()
    return fixed + struct.pack(f"<{len(table)}I", *table) + key


def test_capabilities_say_how_many_channels_there_can_be(guest: RndisGuest) -> None:
    """Linux takes 18 bytes and not more, and does without RSS where there are fewer than two queues."""
    found = guest.ask(CAPABILITIES, capabilities(2, 18))
    assert len(found) == 18
    caps = RssCapabilities.unpack(found)
    assert (caps.header.revision, caps.header.size) == (2, 18)
    assert (caps.num_recv_que, caps.num_indirect_tabent) == (4, 128)
    assert caps.cap_flag & 0x301 == 0x301


@pytest.mark.parametrize(("info", "size"), [(b"", 18), (capabilities(1, 16), 16), (capabilities(3, 24), 18)])
def test_other_revisions_of_the_capabilities(info: bytes, size: int, guest: RndisGuest) -> None:
    found = guest.ask(CAPABILITIES, info)
    assert len(found) == ObjectHeader.unpack(found).size == size


def test_linux_switches_it_off_and_on_with_new_settings(guest: RndisGuest) -> None:
    assert guest.set(PARAMETERS, settings(flag=RssFlag.DISABLE_RSS)) is Status.SUCCESS
    assert guest.control.rss is None
    table = tuple(entry % 4 for entry in range(128))
    assert guest.set(PARAMETERS, settings(table)) is Status.SUCCESS
    rss = guest.control.rss
    assert rss is not None
    assert (rss.key, rss.types, rss.table) == (KEY, LINUX, table)
    assert guest.set(PARAMETERS, settings(flag=RssFlag.DISABLE_RSS)) is Status.SUCCESS
    assert guest.control.rss is None


def test_no_hash_function_switches_it_off_too(guest: RndisGuest) -> None:
    guest.set(PARAMETERS, settings())
    assert guest.set(PARAMETERS, settings(hashinfo=0)) is Status.SUCCESS
    assert guest.control.rss is None


def test_what_is_flagged_unchanged_stays_also_while_it_is_off(guest: RndisGuest) -> None:
    guest.set(PARAMETERS, settings())
    guest.set(PARAMETERS, settings(flag=RssFlag.DISABLE_RSS))
    other = settings(
        table=(3,) * 16,
        key=b"\1" * 40,
        hashinfo=0,
        flag=RssFlag.HASH_KEY_UNCHANGED | RssFlag.HASH_INFO_UNCHANGED,
    )
    assert guest.set(PARAMETERS, other) is Status.SUCCESS
    rss = guest.control.rss
    assert rss is not None
    assert (rss.key, rss.types, rss.table) == (KEY, LINUX, (3,) * 16)
    assert guest.set(PARAMETERS, settings(key=b"\2" * 40, flag=RssFlag.ITABLE_UNCHANGED)) is Status.SUCCESS
    rss = guest.control.rss
    assert rss is not None
    assert (rss.key, rss.table) == (b"\2" * 40, (3,) * 16)


@pytest.mark.parametrize(
    "flag", [RssFlag.HASH_KEY_UNCHANGED, RssFlag.HASH_INFO_UNCHANGED, RssFlag.ITABLE_UNCHANGED]
)
def test_what_was_never_set_cannot_stay_as_it_is(flag: int, guest: RndisGuest) -> None:
    assert guest.set(PARAMETERS, settings(flag=flag)) is Status.INVALID_DATA
    assert guest.control.rss is None


@pytest.mark.parametrize(
    ("info", "status"),
    [
        (b"", Status.INVALID_LENGTH),
        (settings()[:27], Status.INVALID_LENGTH),
        (settings()[:-1], Status.INVALID_LENGTH),
        (settings(indirect_taboffset=0xFFFF_FFFF), Status.INVALID_LENGTH),
        (settings(hashkey_offset=0xFFFF_FFF0), Status.INVALID_LENGTH),
        (settings(hashkey_size=0), Status.INVALID_DATA),
        (settings(hashkey_size=39), Status.INVALID_DATA),
        (settings(hashkey_size=41), Status.INVALID_DATA),
        (settings(table=()), Status.INVALID_DATA),
        (settings(table=(0,) * 8), Status.INVALID_DATA),
        (settings(table=(0,) * 48), Status.INVALID_DATA),
        (settings(table=(0,) * 256), Status.INVALID_DATA),
        (settings(indirect_tabsize=66), Status.INVALID_DATA),
        (settings(table=(0, 4) * 8), Status.INVALID_DATA),
        (settings(table=(0, 0xFFFF_FFFF) * 8), Status.INVALID_DATA),
        (settings(hashinfo=2 | LINUX), Status.NOT_SUPPORTED),
        (settings(hashinfo=1 | LINUX | 1 << 20), Status.NOT_SUPPORTED),
        (settings(hashinfo=1), Status.SUCCESS),
    ],
)
def test_settings_that_cannot_be_change_nothing(info: bytes, status: Status, guest: RndisGuest) -> None:
    guest.set(PARAMETERS, settings(table=(1,) * 16))
    before = guest.control.rss
    assert guest.set(PARAMETERS, info) is status
    if status is not Status.SUCCESS:
        assert guest.control.rss is before


def test_a_table_in_front_of_the_fixed_part_is_still_in_the_message(guest: RndisGuest) -> None:
    """A guest may let its table and its key overlap with anything of its own; it reads what it wrote."""
    info = settings(table=(0,) * 16, indirect_taboffset=0, indirect_tabsize=64)
    assert guest.set(PARAMETERS, info) is Status.INVALID_DATA  # its header is no queue


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_parameters_can_be_queried(size: int, guest: RndisGuest) -> None:
    table = tuple(at % 3 for at in range(size))
    info = settings(table=table, base_cpu_number=5)
    assert guest.set(PARAMETERS, info) is Status.SUCCESS
    assert guest.ask(PARAMETERS) == info


def test_parameters_before_any_were_set(guest: RndisGuest) -> None:
    found = RssParameters.unpack(guest.ask(PARAMETERS))
    assert found.flag == RssFlag.DISABLE_RSS
    assert (found.indirect_tabsize, found.hashkey_size) == (0, 0)


@pytest.mark.parametrize("on", [True, False])
def test_a_saved_adapter_hashes_as_before(on: bool, guest: RndisGuest) -> None:
    guest.set(PARAMETERS, settings())
    if not on:
        guest.set(PARAMETERS, settings(flag=RssFlag.DISABLE_RSS))
    other = RndisGuest(subchannels=3)
    other.control.restore(guest.control.save())
    assert other.ask(PARAMETERS) == guest.ask(PARAMETERS)
    data = frame(*VECTORS[0][:4])
    if on:
        assert guest.control.rss is not None and other.control.rss is not None
        assert other.control.rss.queue(data) == guest.control.rss.queue(data)
    else:
        assert other.control.rss is None

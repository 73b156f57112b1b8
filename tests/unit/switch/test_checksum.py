"""Checksums computed where a frame leaves our care, and looked at where it comes."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator

import pytest

from ringminus.switch import checksum
from ringminus.switch.checksum import complete, ipv4_header, ones_sum, sum_in_pieces, verify
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import parse
from support.packets import ICMP, TCP, UDP, Packet, number, ones_complement_sum

PAYLOAD = random.Random(1).randbytes
PACKETS = [
    Packet(version, protocol, PAYLOAD(size), options=options)
    for version in (4, 6)
    for protocol, options in ((TCP, b""), (TCP, bytes(12)), (UDP, b""))
    for size in (0, 1, 2, 1447, 1448, 9001, 60000)
] + [
    Packet(4, TCP, b"odd", ip_options=bytes(8)),
    Packet(6, UDP, b"behind an extension", extensions=((0, bytes(8)),)),
    Packet(4, UDP, b"padded", padding=b"no zeros"),
]
MORE = 0x2000


def label(packet: Packet) -> str:
    return f"IPv{packet.version} {packet.protocol} {len(packet.payload)} {len(packet.options)}"


@pytest.fixture(params=["libgmp", "Python"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways to sum a large frame."""
    checksum._large_sum.cache_clear()
    if request.param == "Python":
        monkeypatch.setattr(ctypes, "CDLL", _no_library)
    elif checksum._large_sum() is sum_in_pieces:
        pytest.skip("there is no libgmp")
    yield request.param
    checksum._large_sum.cache_clear()


def _no_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1024, 1025, 1026, 1031, 4097, 65535, 70000])
def test_a_sum_is_that_of_the_words(way: str, size: int) -> None:
    data = PAYLOAD(size)
    swapped = ones_sum(data) * 256 % 0xFFFF
    assert swapped == ones_complement_sum(data) % 0xFFFF
    assert sum_in_pieces(data) == ones_sum(data)


def test_without_the_library_python_sums(way: str) -> None:
    assert (checksum._large_sum() is sum_in_pieces) == (way == "Python")


@pytest.mark.parametrize("packet", PACKETS, ids=label)
def test_a_missing_checksum_is_completed(way: str, packet: Packet) -> None:
    done = complete(Frame(packet.data, 5, Checksum.MISSING, 1448))
    assert done.data == packet.right
    assert (done.tci, done.checksum, done.segment_size) == (5, Checksum.VALID, 1448)


@pytest.mark.parametrize("packet", PACKETS, ids=label)
def test_a_right_checksum_verifies_and_another_does_not(way: str, packet: Packet) -> None:
    assert verify(packet.right) is True
    assert verify(packet.data) is False
    damaged = bytearray(packet.right)
    damaged[packet.end - 1] ^= 0x10
    assert verify(bytes(damaged)) is False


@pytest.mark.parametrize("state", [Checksum.UNKNOWN, Checksum.VALID])
def test_only_a_missing_checksum_is_written(state: Checksum) -> None:
    frame = Frame(Packet().data, None, state)
    assert complete(frame) is frame


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_checksum_of_zero_is_written_as_the_protocol_does(version: int, protocol: int) -> None:
    """UDP's field of zero means that there is none."""
    without = Packet(version, protocol, b"\0\0", field=b"\0\0")
    balance = int.from_bytes(without.checksum, "big")
    packet = Packet(version, protocol, number(balance), field=b"\0\0")
    done = complete(Frame(packet.data, None, Checksum.MISSING)).data
    assert done[packet.field_at : packet.field_at + 2] == (b"\0\0" if protocol == TCP else b"\xff\xff")
    assert verify(done) is True


def test_udp_without_a_checksum_is_legal_in_ipv4_only() -> None:
    assert verify(Packet(4, UDP, b"x", field=b"\0\0").data) is None
    assert verify(Packet(6, UDP, b"x", field=b"\0\0").data) is False


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(60),
        Packet(4, ICMP, b"echo").data,
        Packet(4, TCP, b"part", fragment=MORE).data,
        Packet(4, TCP, bytes(100)).data[:-1],
        Packet(4, UDP, b"x").data[:38] + b"\0\7" + Packet(4, UDP, b"x").data[40:],
        Packet(4, UDP, b"x").data[:38] + b"\0\xff" + Packet(4, UDP, b"x").data[40:],
    ],
    ids=["nothing", "zeros", "ICMP", "fragment", "cut off", "UDP length 7", "UDP length 255"],
)
def test_what_has_no_checksum_stays_as_it_is(data: bytes) -> None:
    assert verify(data) is None
    done = complete(Frame(data, None, Checksum.MISSING))
    assert (done.data, done.checksum) == (data, Checksum.UNKNOWN)


def test_udp_counts_its_own_length() -> None:
    """What follows within the IP packet is not covered."""
    short = Packet(4, UDP, b"1234", field=b"\0\0")
    data = bytearray(Packet(4, UDP, b"1234tail").data)
    data[38:40] = short.data[38:40]
    done = complete(Frame(bytes(data), None, Checksum.MISSING)).data
    assert done[short.field_at : short.field_at + 2] == short.checksum
    assert done.endswith(b"1234tail")


@pytest.mark.parametrize("options", [b"", bytes(40)])
def test_an_ipv4_header(options: bytes) -> None:
    header = Packet(4, ip_options=options, identification=12345).ip_header
    right = int.from_bytes(header[10:12], "big")
    assert ipv4_header(header) == right
    assert ipv4_header(header[:10] + b"\xab\xcd" + header[12:]) == right


@pytest.mark.parametrize("packet", PACKETS, ids=label)
def test_the_sum_of_a_pseudo_header_is_what_the_rest_lacks(packet: Packet) -> None:
    data = packet.data
    headers = parse(data)
    assert headers is not None
    partial = checksum.pseudo_header_sum(data, headers).to_bytes(2, "little")
    data = data[: packet.field_at] + partial + data[packet.field_at + 2 : packet.end]
    total = ones_complement_sum(data[packet.transport :])
    assert number(0xFFFF - total) == packet.checksum or {packet.checksum, number(0xFFFF - total)} == {
        b"\0\0",
        b"\xff\xff",
    }

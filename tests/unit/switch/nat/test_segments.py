"""The MSS in a guest's SYN, and the frames that it matters for."""

from __future__ import annotations

import pytest

from ringminus.switch.checksum import verify
from ringminus.switch.nat import segments as segments_module
from ringminus.switch.nat.fragments import Fragmenter
from ringminus.switch.nat.segments import RAISED_MSS, Segments
from support.packets import ACK, ADDRESSES, SYN, TCP, UDP, Packet, number, ones_complement_sum

URG = 32
NOP, END = b"\1", b"\0"


def option(mss: int) -> bytes:
    return b"\2\4" + number(mss)


def syn(options: bytes, version: int = 4, flags: int = SYN) -> Packet:
    return Packet(version, TCP, flags=flags, options=options)


def answer(version: int, size: int) -> bytes:
    """A frame of that connection to the guest."""
    packet = Packet(version, TCP, bytes(size))
    data = bytearray(packet.right)
    source, destination = ADDRESSES[version]
    at, width = (26, 4) if version == 4 else (22, 16)
    data[at : at + 2 * width] = destination + source
    ports = data[packet.transport : packet.transport + 4]
    data[packet.transport : packet.transport + 4] = ports[2:] + ports[:2]
    return bytes(data)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK])
@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b""), (NOP, NOP * 3), (b"\3\3\7" + NOP, b""), (b"\4\2", b"\x08\x0a" + bytes(8))],
)
def test_the_option_is_raised_wherever_it_is(version: int, flags: int, before: bytes, after: bytes) -> None:
    options = before + option(1460) + after
    options += END * (-len(options) % 4)
    packet = syn(options, version, flags)
    segments = Segments()
    raised = segments.from_guest(packet.right)
    assert raised is not None
    assert raised == syn(options.replace(option(1460), option(RAISED_MSS)), version, flags).right or (
        verify(raised) is True
    )
    assert option(RAISED_MSS) in raised[packet.payload_at - len(options) :]
    assert segments.to_guest(answer(version, 1460), version) == 0
    assert segments.to_guest(answer(version, 1461), version) == 1460


def test_a_wrong_checksum_stays_wrong() -> None:
    raised = Segments().from_guest(syn(option(1460)).data)
    assert raised is not None
    assert verify(raised) is False


@pytest.mark.parametrize("mss", [RAISED_MSS, 65495])
def test_a_larger_one_stays(mss: int) -> None:
    packet = syn(option(mss))
    segments = Segments()
    assert segments.from_guest(packet.right) == packet.right
    assert segments.to_guest(answer(4, RAISED_MSS), 4) == 0


@pytest.mark.parametrize("mss", [0, 1, 31])
def test_none_is_smaller_than_libslirp_s_smallest(mss: int) -> None:
    segments = Segments()
    segments.from_guest(syn(option(mss)).right)
    assert segments.to_guest(answer(4, 1000), 4) == 32


@pytest.mark.parametrize(
    "options",
    [
        b"",
        NOP * 4,
        END + b"\2\4\5",
        b"\2\0\5\xb4",
        b"\2\1\5\xb4",
        b"\2\3\5\0",
        b"\2\x05\5\xb4\0\0\0\0",
        b"\3\xff\0\0",
    ],
)
def test_a_syn_without_one_that_can_be_read_is_as_it_was(options: bytes) -> None:
    packet = syn(options)
    segments = Segments()
    assert segments.from_guest(packet.right) == packet.right
    assert segments.to_guest(answer(4, 537), 4) == 536
    assert segments.to_guest(answer(4, 536), 4) == 0


def test_an_unknown_connection_of_ipv6_has_that_of_the_smallest_mtu() -> None:
    assert Segments().to_guest(answer(6, 1221), 6) == 1220
    assert Segments().to_guest(answer(6, 1220), 6) == 0


def test_urg_is_taken_away_and_the_checksum_follows() -> None:
    packet = Packet(4, TCP, b"data", flags=ACK | URG)
    urgent = bytearray(packet.right)
    urgent[packet.transport + 18 : packet.transport + 20] = b"\0\7"
    right = bytearray(Segments().from_guest(bytes(urgent)) or b"")
    # the urgent pointer was put in behind the checksum's back: what is wrong stays so by as much
    assert right[packet.transport + 13] == ACK
    assert right[packet.transport + 18 : packet.transport + 20] == b"\0\0"
    assert verify(bytes(right)) is False
    plain = Segments().from_guest(packet.right)
    assert plain is not None
    assert verify(plain) is True


def test_the_oldest_connections_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "CONNECTIONS", 16)
    segments = Segments()
    packet = syn(option(1460))
    for port in range(17):
        data = bytearray(packet.right)
        data[packet.transport : packet.transport + 2] = number(port)
        segments.from_guest(bytes(data))
    assert len(segments._mss) == 16


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1473, 1480, 2960, 2961, 30000])
def test_fragments_are_the_packet_again(version: int, size: int) -> None:
    packet = Packet(version, UDP, bytes(range(256)) * 120)
    data = packet.right[: packet.transport + size]
    parts = list(Fragmenter(1500).cut(data, version))
    header = 34 if version == 4 else 62
    assert b"".join(part[header:] for part in parts) == data[packet.transport :]
    assert all(len(part) <= 1514 for part in parts)
    assert all((len(part) - header) % 8 == 0 for part in parts[:-1])
    at = 0
    for part in parts:
        more = part is not parts[-1]
        if version == 4:
            assert int.from_bytes(part[20:22], "big") == at // 8 | (0x2000 if more else 0)
            assert ones_complement_sum(part[14:34]) == 0xFFFF
            assert int.from_bytes(part[16:18], "big") == len(part) - 14
        else:
            assert part[20] == 44
            assert part[54:56] == bytes((UDP, 0))
            assert int.from_bytes(part[56:58], "big") == at | more
            assert int.from_bytes(part[18:20], "big") == len(part) - 54
        at += len(part) - header


def test_a_fragment_is_cut_into_fragments() -> None:
    for fragment, last in ((0x2000 | 370, 0x2000), (370, 0)):
        packet = Packet(4, 99, bytes(3000), fragment=fragment)
        parts = list(Fragmenter(1500).cut(packet.data, 4))
        places = [int.from_bytes(part[20:22], "big") for part in parts]
        assert places == [0x2000 | 370, 0x2000 | 370 + 185, last | 370 + 370]


def test_packets_of_ipv6_have_ids_of_their_own() -> None:
    fragmenter = Fragmenter(1500)
    packet = Packet(6, UDP, bytes(3000)).right
    ids = [{part[58:62] for part in fragmenter.cut(packet, 6)} for _ in range(3)]
    assert [len(one) for one in ids] == [1, 1, 1]
    assert len(set.union(*ids)) == 3

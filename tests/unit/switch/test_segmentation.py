"""A large TCP frame and those that it stands for."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ringminus.switch.checksum import complete, verify
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.segmentation import SMALLEST_SEGMENT, segments
from support.packets import ACK, CWR, FIN, PSH, TCP, UDP, Packet

PAYLOAD = random.Random(2).randbytes(10_000)
SIZE = 1448
LARGE = Packet(4, TCP, PAYLOAD, ACK | PSH, options=bytes(range(1, 13)))


def cut(packet: Packet, size: int = SIZE, state: Checksum = Checksum.MISSING) -> list[Frame]:
    return list(segments(Frame(packet.data, 9, state, size)))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("ip_options", [b"", bytes(8)])
@pytest.mark.parametrize("size", [8, 100, 1448, 5000, 9999])
def test_each_segment_is_a_packet_of_its_own(version: int, ip_options: bytes, size: int) -> None:
    """Lengths, the IPv4 header's checksum, sequence numbers, ids and options are as the sender would have
    them, who sent them one by one."""
    extensions = ((60, bytes(8)),) if ip_options else ()
    large = replace(LARGE, version=version, ip_options=ip_options, extensions=extensions, flags=ACK)
    expected = [
        replace(
            large,
            payload=PAYLOAD[at : at + size],
            sequence=large.sequence + at,
            identification=large.identification + at // size,
        )
        for at in range(0, len(PAYLOAD), size)
    ]
    found = cut(large, size)
    assert [frame.data for frame in found] == [packet.data for packet in expected]
    assert {(frame.tci, frame.checksum, frame.segment_size) for frame in found} == {(9, Checksum.MISSING, 0)}
    assert all(verify(complete(frame).data) for frame in found)


def test_the_first_and_the_last_have_flags_of_their_own() -> None:
    flags = [
        frame.data[LARGE.transport + 13] for frame in cut(replace(LARGE, flags=ACK | PSH | FIN | CWR), 3000)
    ]
    assert flags == [ACK | CWR, ACK, ACK, ACK | PSH | FIN]


@pytest.mark.parametrize("flags", [ACK | PSH | FIN | CWR, ACK])
def test_a_frame_of_one_segment_keeps_its_flags(flags: int) -> None:
    packet = replace(LARGE, payload=b"x" * SIZE, flags=flags)
    (frame,) = cut(packet)
    assert (frame.data, frame.segment_size) == (packet.data, 0)


def test_numbers_go_round() -> None:
    large = replace(LARGE, sequence=(1 << 32) - 1000, identification=0xFFFF)
    first, second, *_ = cut(large)
    after = replace(large, payload=PAYLOAD[SIZE : 2 * SIZE], sequence=SIZE - 1000, identification=0)
    assert second.data == replace(after, flags=ACK).data
    assert first.data[18:20] == b"\xff\xff"


def test_another_size_may_be_asked_for() -> None:
    found = list(segments(Frame(LARGE.data, None, Checksum.VALID, SIZE), 500))
    assert [len(frame) for frame in found] == [LARGE.payload_at + 500] * 20


def test_what_follows_the_packet_is_left_out() -> None:
    assert cut(replace(LARGE, padding=b"padding"))[-1].data == cut(LARGE)[-1].data


@pytest.mark.parametrize("state", [Checksum.VALID, Checksum.MISSING])
def test_checksums_are_left_to_who_lets_the_segments_out(state: Checksum) -> None:
    assert {frame.checksum for frame in cut(LARGE, state=state)} == {Checksum.MISSING}


def test_a_checksum_that_nobody_looked_at_is_looked_at() -> None:
    right = Frame(LARGE.right, None, Checksum.UNKNOWN, SIZE)
    assert {frame.checksum for frame in segments(right)} == {Checksum.MISSING}


def test_damage_is_not_made_good() -> None:
    """Otherwise the receiver would take for right what was not."""
    found = cut(LARGE, state=Checksum.UNKNOWN)
    assert {frame.checksum for frame in found} == {Checksum.UNKNOWN}
    assert not any(verify(frame.data) for frame in found)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", SIZE),
        (bytes(3000), SIZE),
        (Packet(4, UDP, PAYLOAD).data, SIZE),
        (replace(LARGE, fragment=0x2000).data, SIZE),
        (LARGE.data[:-1], SIZE),
        (LARGE.data[: LARGE.transport + 12] + b"\xff" + LARGE.data[LARGE.transport + 13 : -30], SIZE),
        (LARGE.data, SMALLEST_SEGMENT - 1),
        (LARGE.data, 0),
    ],
    ids=["nothing", "no IP", "UDP", "fragment", "cut off", "header", "too small a size", "not large"],
)
def test_what_cannot_be_cut_comes_out_as_it_is(data: bytes, size: int) -> None:
    frame = Frame(data, None, Checksum.MISSING, size)
    assert list(segments(frame)) == [frame]

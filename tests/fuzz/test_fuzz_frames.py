"""Frames that lie about themselves: nothing raises, nothing is read beyond the frame, what is completed is
right, and what is cut is whole when it is put together again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from ringminus.switch.checksum import complete, ones_sum, sum_in_pieces, verify
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import UNKNOWN, Headers, parse
from ringminus.switch.segmentation import SMALLEST_SEGMENT, segments
from ringminus.switch.tap import _encode
from ringminus.switch.tap_wire import VNET
from support.effort import examples
from support.packets import CWR, FIN, PSH, TCP, UDP, Packet, number, ones_complement_sum

MANY = settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ------------------------------------------------------------ what may come


def _words(most: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, most).flatmap(lambda count: st.binary(min_size=4 * count, max_size=4 * count))


def _extension(kind: int, units: int, content: bytes) -> tuple[int, bytes]:
    """A well-formed extension header."""
    if kind == 44:
        return kind, b"\0\0" + number(content[0] & 1 if content else 0) + b"\0\0\0\1"
    if kind == 51:
        return kind, bytes([0, units * 2]) + content.ljust(8 * units + 6, b"\0")[: 8 * units + 6]
    if kind == 43:
        return kind, bytes([0, units, 2, 0]) + content.ljust(8 * units + 4, b"\0")[: 8 * units + 4]
    return kind, bytes([0, units]) + content.ljust(8 * units + 6, b"\0")[: 8 * units + 6]


extensions = st.lists(
    st.builds(_extension, st.sampled_from((0, 43, 44, 51, 60)), st.integers(0, 3), st.binary(max_size=30)),
    max_size=3,
).map(tuple)
payloads = st.binary(max_size=200) | st.builds(
    lambda piece, count: piece * count, st.binary(min_size=1, max_size=50), st.integers(0, 400)
)
packets = st.builds(
    Packet,
    version=st.sampled_from((4, 6)),
    protocol=st.sampled_from((TCP, TCP, TCP, UDP, UDP, 1, 58)),
    payload=payloads,
    flags=st.integers(0, 255),
    sequence=st.integers(0, (1 << 32) - 1),
    options=_words(10),
    ip_options=_words(10),
    extensions=extensions,
    identification=st.integers(0, 65535),
    fragment=st.sampled_from((0, 0, 0, 0x4000, 0x4000, 0x4000, 0x2000, 1, 0x3FFF)),
    field=st.binary(min_size=2, max_size=2),
    padding=st.binary(max_size=20),
)


def _damage(data: bytes, changes: list[tuple[int, int]], length: int | None) -> bytes:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(data)] = value
    return bytes(damaged[:length])


# most of what is read is at the begin
places = st.integers(12, 80) | st.integers(0, 70_000)
frames_data = (
    st.binary(max_size=100)
    | packets.map(lambda packet: packet.data)
    | st.builds(
        _damage,
        packets.map(lambda packet: packet.data),
        st.lists(st.tuples(places, st.integers(0, 255)), max_size=4),
        st.none() | st.integers(0, 120),
    )
)
frames = st.builds(
    Frame,
    frames_data,
    st.none() | st.integers(0, 65535),
    st.sampled_from(Checksum),
    st.sampled_from((0, 1, 8, 40, 536, 1448)) | st.integers(0, 65535),
)


# ------------------------------------------------------------ headers


@MANY
@given(frames_data)
def test_headers_lie_within_their_frame(data: bytes) -> None:
    headers = parse(data)
    if headers is None:
        return
    assert headers.version in (4, 6) and headers.network == 14
    assert headers.network < headers.end <= len(data) or headers.protocol == UNKNOWN
    if headers.transport != UNKNOWN:
        assert headers.network + 20 <= headers.transport <= headers.end
        assert headers.protocol != UNKNOWN
    if headers.payload != UNKNOWN:
        assert headers.transport + 8 <= headers.payload <= headers.end


@MANY
@given(packets)
def test_what_is_well_formed_is_found(packet: Packet) -> None:
    headers = parse(packet.data)
    assert headers is not None
    if packet.version == 4 and packet.fragment & 0x1FFF:
        assert headers.fragment and headers.transport == UNKNOWN
        return
    carries = packet.payload_at if packet.protocol in (TCP, UDP) else UNKNOWN
    fragment = bool(packet.version == 4 and packet.fragment & 0x2000) or (
        packet.version == 6 and any(kind == 44 and one[3] & 1 for kind, one in packet.extensions)
    )
    assert headers == Headers(
        packet.version, 14, packet.protocol, packet.transport, carries, packet.end, fragment
    )


# ------------------------------------------------------------ checksums


@MANY
@given(st.binary(max_size=3000), st.integers(0, 30))
def test_sums_are_those_of_the_words(piece: bytes, times: int) -> None:
    data = piece * times
    assert ones_sum(data) == sum_in_pieces(data)
    assert ones_sum(data) * 256 % 65535 == ones_complement_sum(data) % 65535


@MANY
@given(packets)
def test_a_completed_checksum_is_the_reference_s(packet: Packet) -> None:
    headers = parse(packet.data)
    assert headers is not None
    done = complete(Frame(packet.data, None, Checksum.MISSING))
    if headers.payload == UNKNOWN or headers.fragment:
        assert (done.data, done.checksum) == (packet.data, Checksum.UNKNOWN)
    else:
        assert (done.data, done.checksum) == (packet.right, Checksum.VALID)
        assert verify(packet.right) is True


@MANY
@given(frames)
def test_completing_changes_the_field_alone_and_makes_it_right(frame: Frame) -> None:
    done = complete(frame)
    assert (done.tci, done.segment_size, len(done)) == (frame.tci, frame.segment_size, len(frame))
    if frame.checksum is Checksum.MISSING and done.checksum is Checksum.VALID:
        assert verify(done.data) is True
        changed = [at for at in range(len(frame)) if done.data[at] != frame.data[at]]
        assert not changed or changed[-1] - changed[0] < 2
    else:
        assert done.data == frame.data
        assert done.checksum is (Checksum.UNKNOWN if frame.checksum is Checksum.MISSING else frame.checksum)
    assert verify(frame.data) in (True, False, None)


# ------------------------------------------------------------ segments


@MANY
@given(packets, st.integers(SMALLEST_SEGMENT, 2000), st.sampled_from((Checksum.VALID, Checksum.MISSING)))
def test_segments_put_together_are_the_frame(packet: Packet, size: int, state: Checksum) -> None:
    frame = Frame(packet.data, None, state, size)
    cut = list(segments(frame))
    headers = parse(packet.data)
    assert headers is not None
    if packet.protocol != TCP or headers.payload == UNKNOWN or headers.fragment:
        assert cut == [frame]
        return
    count = max(1, -(-len(packet.payload) // size))
    assert len(cut) == count
    payload = b""
    for position, one in enumerate(cut):
        data = one.data if count > 1 else one.data[: packet.end]
        piece = packet.payload[position * size : (position + 1) * size]
        flags = packet.flags
        if position:
            flags &= ~CWR
        if position < count - 1:
            flags &= ~(FIN | PSH)
        expected = replace(
            packet,
            payload=piece,
            flags=flags & 255,
            sequence=(packet.sequence + position * size) & 0xFFFFFFFF,
            identification=(packet.identification + position) & 0xFFFF,
            padding=b"",
        )
        assert _with(data, expected) == expected.data
        assert one.segment_size == 0
        if state is Checksum.MISSING:
            assert verify(complete(one).data) is True
        payload += data[packet.payload_at :]
    assert payload == packet.payload


def _with(data: bytes, packet: Packet) -> bytes:
    """The header checksums 0 and 0xFFFF are one number."""
    if packet.version == 4 and {data[24:26], packet.data[24:26]} == {b"\0\0", b"\xff\xff"}:
        return data[:24] + packet.data[24:26] + data[26:]
    return data


@MANY
@given(frames)
def test_cutting_ends_and_bounds_its_work(frame: Frame) -> None:
    cut = list(segments(frame))
    assert 1 <= len(cut) <= 1 + len(frame) // SMALLEST_SEGMENT
    if len(cut) > 1:
        assert all(len(one) <= len(frame) for one in cut)


# ------------------------------------------------------------ the host's device


@MANY
@given(frames)
def test_the_kernel_is_told_nothing_beyond_the_frame(frame: Frame) -> None:
    header, *parts = _encode(frame)
    flags, gso, header_size, size, start, offset = VNET.unpack(header)
    written = b"".join(parts)
    tag = 0 if frame.tci is None else 4
    assert len(written) <= len(frame) + tag
    if len(frame) < 14:
        return  # refused by the kernel
    assert written[:12] == frame.data[:12]
    assert tag == 0 or written[12:16] == b"\x81\0" + number(frame.tci or 0)
    assert header_size <= len(written)
    assert bool(size) == bool(gso) == bool(header_size)
    if flags:
        assert start + offset + 2 <= len(written)
        # what a device does with it
        value = number(0xFFFF - ones_complement_sum(written[start:]))
        done = written[: start + offset] + value + written[start + offset + 2 :]
        right = complete(Frame(frame.data, None, Checksum.MISSING)).data[: len(written) - tag]
        assert done[:12] + done[12 + tag :] == right or value in (b"\0\0", b"\xff\xff")


# ------------------------------------------------------------ the strategies reach it


@pytest.mark.parametrize(
    "reached",
    [
        lambda frame: verify(frame.data) is False,
        lambda frame: parse(frame.data) is None and len(frame) > 60,
        lambda frame: (parse(frame.data) or [0] * 6)[5] < len(frame) - 5,
        lambda frame: len(list(segments(frame))) > 2,
        lambda frame: VNET.unpack(_encode(frame)[0])[1] & 0x80 and frame.tci is not None,
        lambda frame: (found := parse(frame.data)) and found.version == 6 and found.fragment,
        lambda frame: complete(frame).checksum is Checksum.VALID and frame.checksum is Checksum.MISSING,
    ],
    ids=["wrong", "no IP", "padded", "cut", "CWR and tag", "IPv6 fragment", "completed"],
)
def test_the_cases_are_among_them(reached: Callable[[Frame], object]) -> None:
    find(
        frames,
        lambda frame: bool(reached(frame)),
        settings=settings(max_examples=20_000, phases=[Phase.generate], deadline=None),
    )

"""What a guest may not put into a ring: it fails the channel, and the device does not see it."""

from __future__ import annotations

import struct

import pytest

from ringminus.memory import PAGE_SIZE
from support.bus_bed import Bed
from support.guest_ring import READ_INDEX, WRITE_INDEX


@pytest.fixture
def bed() -> Bed:
    return Bed()


def described(kind: int, offset8: int, len8: int, body: bytes = bytes(48)) -> bytes:
    """A packet of 64 bytes (with another body, more or less) that says of itself what it likes."""
    return struct.pack("<HHHHQ", kind, offset8, len8, 0, 1) + body


def ranges(count: int, *words: int) -> bytes:
    """The header of a GPA-direct packet: a count, and then words of 8 bytes."""
    return struct.pack(f"<II{len(words)}Q", 0, count, *words)


PAGE = PAGE_SIZE  # a range's first word: byte_count in its low half
LIES = {
    "no length": described(6, 2, 0),
    "shorter than a descriptor": described(6, 2, 1),
    "a header shorter than a descriptor": described(6, 1, 8),
    "a header longer than the packet": described(6, 9, 8),
    "a unit longer than what is there": described(6, 2, 9),
    "longer than the ring": described(6, 2, 0xFFFF),
    "ranges without room for a count": described(9, 2, 8),
    "no range": described(9, 3, 3, ranges(0)),
    "more ranges than fit": described(9, 5, 5, ranges(2, PAGE, 1)),
    "more ranges than can be": described(9, 5, 5, ranges(0xFFFF_FFFF, PAGE, 1)),
    "a range without its pages": described(9, 4, 4, ranges(1, PAGE)),
    "fewer pages than bytes": described(9, 5, 5, ranges(1, PAGE + 1, 1)),
    "as many bytes as can be": described(9, 5, 5, ranges(1, 0xFFFF_FFFF, 1)),
    "an offset beyond the first page": described(9, 6, 6, ranges(1, PAGE << 32 | 1, 1, 2)),
    "transfer ranges without room for a count": described(7, 2, 8),
    "more transfer ranges than fit": described(7, 4, 4, struct.pack("<HBBIII", 1, 0, 0, 2, 9, 9)),
}


@pytest.mark.parametrize("packet", LIES.values(), ids=LIES)
def test_a_packet_that_cannot_be_fails_the_channel_unseen(bed: Bed, packet: bytes) -> None:
    channel = bed.open()
    channel.send(b"good", 1)
    channel.out.write_raw(packet)
    channel.signal()
    assert bed.device.history == ["opened 0", "closed 0"]
    assert [number for _, number, _ in bed.device.packets] == [1]


@pytest.mark.parametrize("index", [28, 0x7000, 0x7018, 0xFFFF_FFF8])
def test_an_index_that_cannot_be_fails_the_channel(bed: Bed, index: int) -> None:
    """Though a packet lies where it should."""
    channel = bed.open(8)
    channel.out.write(6, b"", 1)
    channel.out.set(WRITE_INDEX, index)
    channel.signal()
    assert bed.device.history == ["opened 0", "closed 0"] and not bed.device.packets


@pytest.mark.parametrize("index", [4, 0x7000, 0xFFFF_FFF8])
def test_a_read_index_that_cannot_be_fails_the_channel_when_something_is_sent(bed: Bed, index: int) -> None:
    channel = bed.open(8)
    channel.incoming.set(READ_INDEX, index)
    bed.device.channel.send(b"hello")
    assert bed.device.history == ["opened 0", "closed 0"]
    assert channel.incoming.get(WRITE_INDEX) == 0

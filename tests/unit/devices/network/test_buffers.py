"""The shared buffers: where their pieces are, and that each is accounted for."""

from __future__ import annotations

import pytest

from ringminus.devices.network.buffers import (
    BadBuffer,
    ReceiveBuffer,
    SendBuffer,
    sub_allocation_size,
)
from ringminus.memory import KIB, MIB, PAGE_SIZE, GuestMemory
from ringminus.vmbus.gpa import GpaRange

SIZE = 16 * KIB
NEIGHBOURS = tuple(range(32, 64))
SCATTERED = tuple(range(95, 31, -2))
MIXED = (*range(40, 46), *range(80, 85), *range(60, 80), 100)


def memory() -> GuestMemory:
    return GuestMemory(1 * MIB)


def range_of(pfns: tuple[int, ...], offset: int = 0) -> GpaRange:
    return GpaRange(len(pfns) * PAGE_SIZE - offset, offset, pfns)


def content(memory: GuestMemory, pages: GpaRange, offset: int, length: int) -> bytes:
    """What the guest sees there."""
    return b"".join(memory.read(gpa, size) for gpa, size in pages.extents(offset, length))


@pytest.mark.parametrize("pfns", [NEIGHBOURS, SCATTERED, MIXED])
@pytest.mark.parametrize("offset", [0, 8, 4095])
@pytest.mark.parametrize("length", [1, 1000, PAGE_SIZE, PAGE_SIZE + 1, SIZE - 1, SIZE])
def test_a_message_is_where_the_guest_looks_for_it(pfns: tuple[int, ...], offset: int, length: int) -> None:
    guest, pages = memory(), range_of(pfns, offset)
    buffer = ReceiveBuffer(1, 2, [pages], guest, SIZE)
    assert buffer.count == pages.byte_count // SIZE
    for index in range(buffer.count):
        data = bytes((index + place) % 255 + 1 for place in range(length))
        buffer.write(index, data)
        assert content(guest, pages, index * SIZE, length) == data
        after = content(guest, pages, index * SIZE + length, SIZE - length)
        assert after == bytes(len(after)), "nothing is written behind it"


@pytest.mark.parametrize("pfns", [NEIGHBOURS, SCATTERED, MIXED])
@pytest.mark.parametrize("offset", [0, 8, 4095])
def test_a_section_is_what_the_guest_put_there(pfns: tuple[int, ...], offset: int) -> None:
    guest, pages = memory(), range_of(pfns, offset)
    for number, (gpa, size) in enumerate(pages.extents()):
        guest.write(gpa, bytes((number * 31 + place) % 256 for place in range(size)))
    buffer = SendBuffer(1, 2, [pages], guest, 6144)
    for index in range(buffer.count):
        for length in (0, 1, 100, 2048, 2049, 4096, 6143, 6144):
            data = b"".join(buffer.views(index, length))
            assert data == content(guest, pages, index * 6144, length)


@pytest.mark.parametrize(("index", "size"), [(21, 1), (0xFFFFFFFE, 1), (0, 6145), (0, 0xFFFFFFFF), (21, 0)])
def test_a_section_that_is_not_there_is_an_error(index: int, size: int) -> None:
    buffer = SendBuffer(1, 2, [range_of(NEIGHBOURS)], memory(), 6144)
    assert buffer.count == 21
    with pytest.raises(BadBuffer, match=f"{size} bytes of section {index}: there are 21 of 6144 bytes"):
        buffer.views(index, size)


def test_every_sub_allocation_is_free_once() -> None:
    buffer = ReceiveBuffer(1, 2, [range_of(NEIGHBOURS)], memory(), SIZE)
    assert sorted(buffer.free) == list(range(8)) and buffer.in_use == 0
    taken = [buffer.free.pop() for _ in range(3)]
    assert taken == [0, 1, 2] and buffer.in_use == 3
    buffer.free += taken
    assert buffer.in_use == 0


def test_the_engine_hears_that_the_pages_are_ours() -> None:
    guest, told = memory(), []
    guest.code_pages = bytearray(b"\1" * (guest.size >> 12))
    guest.invalidate = lambda gpa, length: told.append((gpa, length))
    ReceiveBuffer(1, 2, [range_of((32, 33, 40))], guest, SIZE)
    assert told == [(32 * PAGE_SIZE, 2 * PAGE_SIZE), (40 * PAGE_SIZE, PAGE_SIZE)]


@pytest.mark.parametrize(("frame", "size"), [(82, 16), (1514, 16), (16128, 16), (16129, 20), (65535, 68)])
def test_a_sub_allocation_takes_a_frame_with_all_that_goes_before_it(frame: int, size: int) -> None:
    assert sub_allocation_size(frame) == size * KIB

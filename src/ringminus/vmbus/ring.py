"""Rings: packets in guest memory, read and written in place.

A ring is a control page and data. Its two indices are byte offsets into the data; equal indices mean that
it is empty, so a writer never fills it to the last byte. Each side signals the other only when it must:

- a writer, when the ring was empty before and the reader has not masked interrupts;
- a reader, when the writer waits for room (`pending_send_sz`) and this read has just made enough of it.

Both indices are in memory that the guest can change at any time: they are read once, checked, then used;
our own index is kept here and only published there. The rules are those of Linux's
drivers/hv/ring_buffer.c, seen from the other side.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringminus.errors import GuestError
from ringminus.memory import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, GuestMemory
from ringminus.vmbus.device import Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.ring_wire import (
    DESCRIPTOR,
    DESCRIPTOR_SIZE,
    FOOTER_SIZE,
    RANGE_COUNT,
    RANGE_HEADER,
    TRANSFER_HEADER,
    UNIT,
    ControlWord,
    GpaDirectHeader,
    PacketFlag,
    TransferPageHeader,
    page_numbers,
    whole_packet,
)
from ringminus.vmbus.wire import PacketType

WRITE_INDEX, READ_INDEX = int(ControlWord.WRITE_INDEX), int(ControlWord.READ_INDEX)
INTERRUPT_MASK, PENDING_SEND = int(ControlWord.INTERRUPT_MASK), int(ControlWord.PENDING_SEND_SIZE)
COMPLETION_REQUESTED = int(PacketFlag.COMPLETION_REQUESTED)
GPA_DIRECT, XFER_PAGES = PacketType.DATA_USING_GPA_DIRECT, PacketType.DATA_USING_XFER_PAGES
KINDS = {int(kind): kind for kind in PacketType}
RANGES_AT = GpaDirectHeader.SIZE
RANGE_COUNT_AT = GpaDirectHeader.offset_of("range_count")
RANGE_HEADER_SIZE = RANGE_HEADER.size
TRANSFERS_AT = TransferPageHeader.SIZE


class RingEmpty(Exception):
    """There is no packet."""


class RingFull(Exception):
    """There is no room now for a packet of `size` bytes, footer included."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no room for {size} bytes")
        self.size = size


class RingCorrupt(GuestError):
    """The guest put something into the ring that cannot be: an index, a length, an offset."""


class RingData:
    """The data part of a ring: `size` bytes, on pages that need not be neighbours.

    `whole` is one view where they are. Offsets wrap at the end.
    """

    __slots__ = ("_extents", "_views", "size", "whole")

    def __init__(self, memory: GuestMemory, extents: Sequence[tuple[int, int]]) -> None:
        self._extents = list(extents)
        self._views = [memory.view(gpa, size) for gpa, size in extents]
        self.size = sum(size for _, size in extents)
        self.whole: memoryview | None = self._views[0] if len(self._views) == 1 else None

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes from `offset` on: a view where they are together, else a copy."""
        if self.whole is not None and offset + length <= self.size:
            return self.whole[offset : offset + length]
        return memoryview(b"".join(self._pieces(offset, length)))

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`."""
        position = 0
        for piece in self._pieces(offset, len(data)):
            piece[:] = data[position : position + len(piece)]
            position += len(piece)

    def _pieces(self, offset: int, length: int) -> list[memoryview]:
        pieces = []
        while length:
            offset %= self.size
            start = 0
            for view in self._views:
                if offset < start + len(view):
                    pieces.append(view[offset - start : offset - start + length])
                    break
                start += len(view)
            offset, length = offset + len(pieces[-1]), length - len(pieces[-1])
        return pieces


class _Ring:
    """What both directions have."""

    __slots__ = ("_control", "_data", "size")

    def __init__(self, memory: GuestMemory, pages: GpaRange, first_page: int, page_count: int) -> None:
        """`page_count` pages of a GPADL from `first_page` on: a control page, then data."""
        if page_count < 2:
            raise RingCorrupt(f"a ring of {page_count} pages has no data")
        start = first_page * PAGE_SIZE
        ((control, _),) = pages.extents(start, PAGE_SIZE)
        extents = pages.extents(start + PAGE_SIZE, (page_count - 1) * PAGE_SIZE)
        self._control = memory.view(control, PAGE_SIZE).cast("I")
        self._data = RingData(memory, extents)
        self.size = self._data.size
        # what was translated from these pages is void now that we write them
        for gpa, size in ((control, PAGE_SIZE), *extents):
            memory.written(gpa, size)

    def used(self) -> int:
        """Bytes of packets in it, as both sides have published; 0 where the indices are none of the ring."""
        read, write = self._control[READ_INDEX], self._control[WRITE_INDEX]
        return (write - read) % self.size if read < self.size and write < self.size else 0

    def _guest_index(self, word: int) -> int:
        index = self._control[word]
        if index >= self.size or index % UNIT:
            raise RingCorrupt(f"{ControlWord(word).name} is {index} in a ring of {self.size} bytes")
        return index


class IncomingRing(_Ring):
    """The guest writes, we read. `read` takes packets; `publish` tells the guest that they are taken."""

    __slots__ = ("_marked", "_published", "_read")

    def __init__(self, memory: GuestMemory, pages: GpaRange, first_page: int, page_count: int) -> None:
        super().__init__(memory, pages, first_page, page_count)
        self._marked = -1  # where the packet that was read last began, if that is to be known
        self._read = self._published = self._guest_index(READ_INDEX)
        self._guest_index(WRITE_INDEX)

    def mask(self, masked: bool) -> None:
        """Tell the guest whether to signal what it writes."""
        self._control[INTERRUPT_MASK] = 1 if masked else 0

    def has_packet(self) -> bool:
        """Whether something is there to read; raises `RingCorrupt`."""
        return self._guest_index(WRITE_INDEX) != self._read

    def unpublished(self) -> int:
        """Bytes that were read and whose room the guest does not have back yet."""
        return (self._read - self._published) % self.size

    def read(self) -> Packet:
        """The next packet, whose payload is a view into the ring until `publish`; raises `RingEmpty` and
        `RingCorrupt`."""
        control, read, size = self._control, self._read, self.size
        write = control[WRITE_INDEX]
        if write == read:
            raise RingEmpty
        if write >= size or write % UNIT:
            raise RingCorrupt(f"WRITE_INDEX is {write} in a ring of {size} bytes")
        available = write - read if write > read else size - read + write
        data, base = self._data.whole, read
        if data is None or read + DESCRIPTOR_SIZE > size:
            data, base = self._data.read(read, DESCRIPTOR_SIZE), 0
        number, offset8, len8, flags, transaction_id = DESCRIPTOR.unpack_from(data, base)
        begin, end = offset8 * UNIT, len8 * UNIT
        if begin < DESCRIPTOR_SIZE or begin > end or end + FOOTER_SIZE > available:
            raise RingCorrupt(
                f"a packet of {end} bytes with a header of {begin}, {available} bytes are there"
            )
        if self._data.whole is None or read + end > size:
            data, base = self._data.read(read, end), 0
        kind = KINDS.get(number)
        if kind is None:
            raise RingCorrupt(f"a packet of type {number}")
        payload = data[base + begin : base + end]
        wants = bool(flags & COMPLETION_REQUESTED)
        packet = Packet(kind, transaction_id, wants, payload)
        if kind is GPA_DIRECT:
            packet.ranges = _gpa_ranges(data, base, begin)
        elif kind is XFER_PAGES:
            packet.pageset, packet.transfer = _transfer_ranges(data, base, begin)
        read += end + FOOTER_SIZE
        self._read = read if read < size else read - size
        return packet

    def read_marked(self) -> Packet:
        """The same, for who wants the packet's `header`, too."""
        self._marked = self._read
        return self.read()

    def header(self, packet: Packet) -> bytes:
        """What stands between descriptor and payload of the packet that was read last; empty if that was not
        marked."""
        start, self._marked = self._marked, -1
        size = (self._read - start) % self.size - DESCRIPTOR_SIZE - len(packet.payload) - FOOTER_SIZE
        if start < 0 or size <= 0:
            return b""
        return bytes(self._data.read((start + DESCRIPTOR_SIZE) % self.size, size))

    def publish(self) -> bool:
        """Give the guest the room of what was read; True when it waits for that and must be signalled."""
        control, size = self._control, self.size
        read = self._read
        if read == self._published:
            return False
        freed = (read - self._published) % size
        self._published = control[READ_INDEX] = read
        pending = control[PENDING_SEND]
        if not pending:
            return False
        write = control[WRITE_INDEX]
        room = size - (write - read) if write >= read else read - write
        return room - freed <= pending < room


def _gpa_ranges(data: memoryview, base: int, header: int) -> list[GpaRange]:
    """The ranges of a GPA-direct packet whose header has `header` bytes."""
    if header < RANGES_AT:
        raise RingCorrupt(f"a GPA-direct packet with a header of {header} bytes")
    (count,) = RANGE_COUNT.unpack_from(data, base + RANGE_COUNT_AT)
    position, end = base + RANGES_AT, base + header
    if not 0 < count <= (header - RANGES_AT) // RANGE_HEADER_SIZE:
        raise RingCorrupt(f"{count} ranges in a header of {header} bytes")
    ranges = []
    for _ in range(count):
        if position + RANGE_HEADER_SIZE > end:
            raise RingCorrupt(f"the range at byte {position - base} of a header of {header} bytes")
        length, offset = RANGE_HEADER.unpack_from(data, position)
        position += RANGE_HEADER_SIZE
        pages = offset + length + PAGE_MASK >> PAGE_SHIFT
        if offset > PAGE_MASK or position + 8 * pages > end:
            raise RingCorrupt(f"a range of {pages} pages from byte {offset} on in a header of {header} bytes")
        ranges.append(GpaRange(length, offset, page_numbers(pages).unpack_from(data, position)))
        position += 8 * pages
    return ranges


def _transfer_ranges(data: memoryview, base: int, header: int) -> tuple[int, list[tuple[int, int]]]:
    """The page set of a transfer-page packet, and its ranges as (bytes, offset)."""
    if header < TRANSFERS_AT:
        raise RingCorrupt(f"a transfer-page packet with a header of {header} bytes")
    pageset, _owns, _reserved, count = TRANSFER_HEADER.unpack_from(data, base + DESCRIPTOR_SIZE)
    if count > (header - TRANSFERS_AT) // RANGE_HEADER.size:
        raise RingCorrupt(f"{count} transfer ranges in a header of {header} bytes")
    first, step = base + TRANSFERS_AT, RANGE_HEADER.size
    ranges: list[tuple[int, int]] = [
        RANGE_HEADER.unpack_from(data, first + step * index) for index in range(count)
    ]
    return pageset, ranges


def packet_size(header: int, payload: int) -> int:
    """Bytes that a packet takes in a ring, its footer included."""
    return whole_packet(header, payload).size


class OutgoingRing(_Ring):
    """We write, the guest reads. `write` adds packets; `publish` shows them to the guest."""

    __slots__ = ("_published", "_write")

    def __init__(self, memory: GuestMemory, pages: GpaRange, first_page: int, page_count: int) -> None:
        super().__init__(memory, pages, first_page, page_count)
        self._write = self._published = self._guest_index(WRITE_INDEX)
        self._guest_index(READ_INDEX)

    def room(self) -> int:
        """Bytes free; a packet needs fewer than that. Raises `RingCorrupt`."""
        read, write = self._guest_index(READ_INDEX), self._write
        return self.size - (write - read) if write >= read else read - write

    def write(
        self,
        kind: int,
        transaction_id: int,
        payload: bytes,
        wants_completion: bool = False,
        header: bytes = b"",
    ) -> None:
        """Add a packet whose type has the further `header`; raises `RingFull` and `RingCorrupt`."""
        codec = whole_packet(len(header), len(payload))
        total, write, size = codec.size, self._write, self.size
        read = self._control[READ_INDEX]
        if read >= size or read % UNIT:
            raise RingCorrupt(f"READ_INDEX is {read} in a ring of {size} bytes")
        room = size - (write - read) if write >= read else read - write
        if room <= total:
            if total >= size:
                raise RingCorrupt(f"a packet of {total} bytes for a ring of {size}")
            raise RingFull(total)
        begin = DESCRIPTOR_SIZE + len(header)
        data = self._data.whole
        fields = (
            kind,
            begin // UNIT,
            (total - FOOTER_SIZE) // UNIT,
            COMPLETION_REQUESTED if wants_completion else 0,
            transaction_id,
            header,
            payload,
            0,
            write,
        )
        if data is not None and write + total <= size:
            codec.pack_into(data, write, *fields)
        else:
            self._data.write(write, codec.pack(*fields))
        write += total
        self._write = write if write < size else write - size

    def publish(self) -> bool:
        """Show what was written; True when the guest must be signalled."""
        control, before = self._control, self._published
        if self._write == before:
            return False
        self._published = control[WRITE_INDEX] = self._write
        return not control[INTERRUPT_MASK] and control[READ_INDEX] == before

    def wait_for(self, size: int) -> None:
        """Ask the guest to signal when a packet of `size` bytes has room; 0 takes that back."""
        self._control[PENDING_SEND] = size

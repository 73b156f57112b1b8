"""The guest's ends of a channel's rings, after Linux's drivers/hv/ring_buffer.c and independent of ours.

Both ends lie in guest memory, on pages that need not be neighbours: a control page, then data.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ringminus.memory import PAGE_SIZE, GuestMemory

WRITE_INDEX, READ_INDEX, INTERRUPT_MASK, PENDING_SEND_SIZE, FEATURES = 0, 4, 8, 12, 64
INBAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION = 6, 7, 9, 11
COMPLETION_REQUESTED = 1
DESCRIPTOR = struct.Struct("<HHHHQ")
TRAILER = 8


class GuestRingFull(Exception):
    """hv_ringbuffer_write gives EAGAIN."""


@dataclass(frozen=True)
class Received:
    """A packet from the host: `header` is what the type adds to the descriptor."""

    kind: int
    transaction_id: int
    wants_completion: bool
    header: bytes
    payload: bytes


class GuestRing:
    """What both directions have."""

    def __init__(self, memory: GuestMemory, pfns: Sequence[int]) -> None:
        self._memory = memory
        self._pages = [pfn * PAGE_SIZE for pfn in pfns]
        self.control = self._pages[0]
        self.size = (len(pfns) - 1) * PAGE_SIZE

    def clear(self) -> None:
        """As hv_ringbuffer_init does before the channel is opened."""
        self._memory.write(self.control, bytes(PAGE_SIZE))
        self.set(FEATURES, 1)

    def get(self, field: int) -> int:
        """A word of the control page."""
        return self._memory.read_u32(self.control + field)

    def set(self, field: int, value: int) -> None:
        """The same, written."""
        self._memory.write_u32(self.control + field, value)

    def copy_to(self, offset: int, data: bytes) -> int:
        """Put data into the ring; gives the offset after it."""
        for start in range(0, len(data), 8):  # packets are in units of 8 bytes, so none crosses a page
            part = data[start : start + 8]
            self._memory.write(self._address(offset + start), part)
        return (offset + len(data)) % self.size

    def copy_from(self, offset: int, length: int) -> bytes:
        """`length` bytes of the ring."""
        parts = (
            self._memory.read(self._address(offset + at), min(8, length - at)) for at in range(0, length, 8)
        )
        return b"".join(parts)

    def _address(self, offset: int) -> int:
        page, within = divmod(offset % self.size, PAGE_SIZE)
        return self._pages[1 + page] + within

    def bytes_to_write(self) -> int:
        """hv_get_bytes_to_write."""
        write, read = self.get(WRITE_INDEX), self.get(READ_INDEX)
        return self.size - (write - read) if write >= read else read - write


class GuestOutRing(GuestRing):
    """From the guest to the host. `full` counts writes that found no room."""

    full = 0

    def write(
        self, kind: int, payload: bytes, transaction_id: int, flags: int = 0, header: bytes = b""
    ) -> bool:
        """Add a packet and tell whether the host must be signalled; raises `GuestRingFull`."""
        begin = DESCRIPTOR.size + len(header)
        padded = payload + bytes(-len(payload) % 8)
        descriptor = DESCRIPTOR.pack(kind, begin // 8, (begin + len(padded)) // 8, flags, transaction_id)
        return self.write_raw(descriptor + header + padded)

    def write_raw(self, packet: bytes) -> bool:
        """The same with any bytes as packet."""
        if self.bytes_to_write() <= len(packet) + TRAILER:
            self.full += 1
            raise GuestRingFull
        old_write = self.get(WRITE_INDEX)
        after = self.copy_to(old_write, packet)
        after = self.copy_to(after, struct.pack("<Q", old_write << 32))
        self.set(WRITE_INDEX, after)
        return not self.get(INTERRUPT_MASK) and old_write == self.get(READ_INDEX)


class GuestInRing(GuestRing):
    """From the host to the guest; `_read` is Linux's priv_read_index."""

    _read = 0

    def start_at(self, offset: int) -> None:
        """Read from there on: both indices of the ring are there."""
        self._read = offset

    def next(self) -> Received | None:
        """hv_pkt_iter_first and __hv_pkt_iter_next: the host is trusted to write packets that are whole."""
        available = (self.get(WRITE_INDEX) - self._read) % self.size
        if available < DESCRIPTOR.size:
            return None
        kind, offset8, len8, flags, transaction_id = DESCRIPTOR.unpack(
            self.copy_from(self._read, DESCRIPTOR.size)
        )
        begin, end = offset8 * 8, len8 * 8
        assert DESCRIPTOR.size <= begin <= end <= available - TRAILER, (
            "the host wrote a packet that is not one"
        )
        packet = self.copy_from(self._read, end)
        trailer = self.copy_from(self._read + end, TRAILER)
        assert trailer == struct.pack("<II", 0, self._read), "the trailer tells where the packet began"
        self._read = (self._read + end + TRAILER) % self.size
        return Received(
            kind,
            transaction_id,
            bool(flags & COMPLETION_REQUESTED),
            packet[DESCRIPTOR.size : begin],
            packet[begin:],
        )

    def close(self) -> bool:
        """hv_pkt_iter_close: give the room back, and tell whether the host waits for it."""
        bytes_read = (self._read - self.get(READ_INDEX)) % self.size
        self.set(READ_INDEX, self._read)
        pending = self.get(PENDING_SEND_SIZE) if self.get(FEATURES) & 1 else 0
        if not pending:
            return False
        room = self.bytes_to_write()
        return room - bytes_read <= pending < room

    def begin_read(self) -> None:
        """hv_begin_read: the host need not signal."""
        self.set(INTERRUPT_MASK, 1)

    def end_read(self) -> int:
        """hv_end_read: signals again; gives the bytes that came meanwhile."""
        self.set(INTERRUPT_MASK, 0)
        return (self.get(WRITE_INDEX) - self._read) % self.size

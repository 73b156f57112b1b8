"""The two pieces of guest memory that a netvsc shares with the host.

The receive buffer is cut into sub-allocations, each of which holds one RNDIS message on its way to the guest;
it is ours until the guest completes the packet that names it. The send buffer is cut into sections, which
the guest fills as it likes. Both are GPADLs, and their pages need not be neighbours: where things are is
found out once for each piece, when it is first used.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringminus.devices.network.wire import ReceiveBufferSection
from ringminus.errors import GuestError
from ringminus.memory import KIB, PAGE_SIZE, GuestMemory
from ringminus.vmbus.gpa import GpaRange

LARGEST_HEADER = 256
"""Bytes that a message may have besides its frame."""
SMALLEST_SUB_ALLOCATION = 16 * KIB
"""Large frames come in as many messages as it takes: each costs the guest about as much as a frame."""
SECTION_SIZE = 6144
"""Of the send buffer, as on Hyper-V: Linux copies what is smaller, and names the pages of what is not."""


class BadBuffer(GuestError):
    """A buffer that is none, or a part of one that it does not have."""


def sub_allocation_size(largest_frame: int) -> int:
    """For frames of up to so many bytes: whole pages."""
    needed = largest_frame + LARGEST_HEADER
    return max(SMALLEST_SUB_ALLOCATION, -(-needed // PAGE_SIZE) * PAGE_SIZE)


class _Buffer:
    """A GPADL in pieces of `piece_size` bytes; what does not make a whole piece at the end is not used."""

    def __init__(
        self, handle: int, id: int, ranges: Sequence[GpaRange], memory: GuestMemory, piece_size: int
    ) -> None:
        if len(ranges) != 1:
            raise BadBuffer(f"a buffer of {len(ranges)} ranges")
        self.handle = handle
        self.id = id
        self.piece_size = piece_size
        self.count = ranges[0].byte_count // piece_size
        self._range = ranges[0]
        self._memory = memory
        self._views: list[list[memoryview] | None] = [None] * self.count
        self._first: list[memoryview | None] = [None] * self.count

    def _map(self, index: int) -> memoryview:
        """Find out where a piece is; gives its first part."""
        start = index * self.piece_size
        self._views[index] = views = self._range.views(self._memory, start, self.piece_size)
        self._first[index] = views[0]
        return views[0]


class ReceiveBuffer(_Buffer):
    """`free` are the numbers of the sub-allocations that are ours to use; the one given back last is used
    first, as it is in the processor's cache."""

    def __init__(
        self, handle: int, id: int, ranges: Sequence[GpaRange], memory: GuestMemory, piece_size: int
    ) -> None:
        super().__init__(handle, id, ranges, memory, piece_size)
        self.free = list(range(self.count - 1, -1, -1))
        # what was translated from these pages is void now that we write them
        for gpa, size in self._range.extents():
            memory.written(gpa, size)

    @property
    def in_use(self) -> int:
        """Sub-allocations that the guest has not given back."""
        return self.count - len(self.free)

    def section(self) -> ReceiveBufferSection:
        """What the guest is told."""
        return ReceiveBufferSection(
            offset=0,
            sub_alloc_size=self.piece_size,
            num_sub_allocs=self.count,
            end_offset=self.piece_size * self.count,
        )

    def write(self, index: int, data: bytes) -> None:
        """Put a message into a sub-allocation, which has to be large enough for it."""
        first = self._first[index] or self._map(index)
        size = len(data)
        if size <= len(first):
            first[:size] = data
            return
        rest, position = memoryview(data), 0
        for view in self._views[index] or ():
            part = rest[position : position + len(view)]
            view[: len(part)] = part
            position += len(part)


class SendBuffer(_Buffer):
    """The guest's sections."""

    def read(self, index: int, size: int) -> bytes:
        """A copy of the first `size` bytes of a section; raises `BadBuffer`."""
        if index < self.count and size <= self.piece_size:
            first = self._first[index] or self._map(index)
            if size <= len(first):
                return bytes(first[:size])
        return b"".join(self.views(index, size))

    def views(self, index: int, size: int) -> list[memoryview]:
        """The first `size` bytes of a section; raises `BadBuffer`."""
        if index >= self.count or size > self.piece_size:
            raise BadBuffer(
                f"{size} bytes of section {index}: there are {self.count} of {self.piece_size} bytes"
            )
        first = self._first[index] or self._map(index)
        if size <= len(first):
            return [first[:size]]
        found = []
        for view in self._views[index] or ():
            found.append(view[:size])
            size -= len(found[-1])
            if not size:
                break
        return found

"""Ranges of guest memory as the bus describes them: a first offset, a length and page numbers.

GPA-direct packets and GPADLs both carry such ranges. They are checked against the memory map once, here;
what comes out are views on guest RAM, with neighbouring pages joined.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringminus.errors import GuestError
from ringminus.memory import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, GuestMemory


class BadRange(GuestError):
    """A range whose pages do not hold what it says, or that are no RAM."""


class GpaRange:
    """`byte_count` bytes that begin `byte_offset` bytes into the first of the pages `pfns`."""

    __slots__ = ("byte_count", "byte_offset", "pfns")

    def __init__(self, byte_count: int, byte_offset: int, pfns: Sequence[int]) -> None:
        if byte_offset > PAGE_MASK or byte_offset + byte_count > len(pfns) << PAGE_SHIFT:
            raise BadRange(f"{byte_count} bytes at {byte_offset} in {len(pfns)} pages")
        self.byte_count = byte_count
        self.byte_offset = byte_offset
        self.pfns = pfns

    def extents(self, offset: int = 0, length: int | None = None) -> list[tuple[int, int]]:
        """(gpa, bytes) of the part from `offset` on, neighbouring pages joined; raises `BadRange`."""
        length = self.byte_count - offset if length is None else length
        if len(self.pfns) == 1 and not offset and 0 < length <= self.byte_count:
            return [((self.pfns[0] << PAGE_SHIFT) + self.byte_offset, length)]
        if offset < 0 or length < 0 or offset + length > self.byte_count:
            raise BadRange(f"{length} bytes at {offset} in a range of {self.byte_count}")
        position = self.byte_offset + offset
        index, within = position >> PAGE_SHIFT, position & PAGE_MASK
        found: list[tuple[int, int]] = []
        pfns = self.pfns
        while length:
            pfn = first = pfns[index]
            size = PAGE_SIZE - within
            while size < length and pfns[index + 1] == pfn + 1:
                index, pfn, size = index + 1, pfn + 1, size + PAGE_SIZE
            size = min(size, length)
            found.append(((first << PAGE_SHIFT) + within, size))
            index, within, length = index + 1, 0, length - size
        return found

    def views(self, memory: GuestMemory, offset: int = 0, length: int | None = None) -> list[memoryview]:
        """The same as views on guest RAM; raises `BadRange` and `BadGuestAddress`."""
        view = memory.view
        return [view(gpa, size) for gpa, size in self.extents(offset, length)]

    def written(self, memory: GuestMemory, length: int | None = None) -> None:
        """Tell the memory that we changed the first `length` bytes through views."""
        for gpa, size in self.extents(0, length):
            memory.written(gpa, size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GpaRange) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[int, int, tuple[int, ...]]:
        return self.byte_count, self.byte_offset, tuple(self.pfns)

    def __repr__(self) -> str:
        return f"GpaRange({self.byte_count} bytes at {self.byte_offset} in {len(self.pfns)} pages)"

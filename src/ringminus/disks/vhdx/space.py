"""Which parts of the file are free."""

from __future__ import annotations

from collections.abc import Iterable

from ringminus.disks.vhdx.wire import MIB


class Space:
    """Free ranges below `end`, where the file ends; all in bytes and whole MiB. Not safe between threads."""

    def __init__(self, used: Iterable[tuple[int, int]], end: int) -> None:
        """`used` are ranges (begin, end), sorted, and none of them overlapping; `end` is rounded up."""
        self.end = -(-end // MIB) * MIB
        self.gaps: list[tuple[int, int]] = []
        position = 0
        for start, stop in used:
            if start > position:
                self.gaps.append((position, start))
            position = max(position, -(-stop // MIB) * MIB)
        if self.end > position:
            self.gaps.append((position, self.end))
        self.end = max(self.end, position)

    @property
    def free(self) -> int:
        """Bytes in gaps."""
        return sum(stop - start for start, stop in self.gaps)

    @property
    def last_used(self) -> int:
        """Where the last used range ends."""
        return self.gaps[-1][0] if self.gaps and self.gaps[-1][1] == self.end else self.end

    def take(self, length: int, below: int | None = None) -> int | None:
        """Take a gap's beginning; None if there is no gap so long (that begins below `below`)."""
        for number, (start, stop) in enumerate(self.gaps):
            if below is not None and start >= below:
                return None
            if stop - start >= length:
                if stop - start == length:
                    del self.gaps[number]
                else:
                    self.gaps[number] = (start + length, stop)
                return start
        return None

    def append(self, length: int) -> int:
        """Take a range at the end; the caller makes the file longer."""
        start, self.end = self.end, self.end + length
        return start

    def give(self, start: int, length: int) -> None:
        """Give back a range."""
        stop = start + length
        low, high = 0, len(self.gaps)
        while low < high:
            middle = (low + high) // 2
            if self.gaps[middle][0] < start:
                low = middle + 1
            else:
                high = middle
        if low < len(self.gaps) and self.gaps[low][0] == stop:
            stop = self.gaps.pop(low)[1]
        if low and self.gaps[low - 1][1] == start:
            low -= 1
            start = self.gaps.pop(low)[0]
        self.gaps.insert(low, (start, stop))

    def cut(self) -> int:
        """Drop the free range at the end; returns the new end."""
        self.end = self.last_used
        if self.gaps and self.gaps[-1][0] == self.end:
            self.gaps.pop()
        return self.end

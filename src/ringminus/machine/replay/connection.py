"""One TCP connection of a recording, and the live one that stands for it: how far the live guest is.

A live guest cuts what it says into other segments, and acknowledges at other times. So the bytes are compared
where they lie in the stream, and an acknowledgment counts for all that it acknowledges. Positions count from
the first sequence number of the recording's guest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from ringminus.machine.replay.frames import FIN, RST, SEQUENCE, SYN, Segment

HALF = SEQUENCE // 2
MOST_REFUSED = 1000
"""Segments that are remembered as told already; a guest may go on for ever."""


class Verdict(NamedTuple):
    """What a live segment is. `place` is the recorded segment that it is compared with."""

    place: int = 0
    again: bool = False
    differs: bool = False


class Connection:
    """The recorded guest's side. `moved` is by how much the live guest's sequence numbers are higher, and
    `over` whether it has reset the connection, or closed it."""

    def __init__(self, first: int) -> None:
        self.moved = 0
        self.over = False
        self._first = first
        self._segments: list[tuple[int, Segment]] = []  # where each ends
        self._begins: list[int] = []  # of those that say something new
        self._indices: list[int] = []  # of the same
        self._resets = 0  # how many of them are resets
        self.begin_again()

    def begin_again(self) -> None:
        """Nothing has come."""
        self.over = False
        self._reached = 0  # the position up to which the live guest has spoken
        self._heard: int | None = None  # what it has acknowledged
        self._passed = 0
        self._refused: set[int] = set()
        self._room: int | None = None  # the sequence number of the host's up to which the guest takes bytes
        self._scale: int | None = None  # of the live guest's windows
        self._scaled = True  # whether the host takes them as scaled

    def add(self, segment: Segment) -> None:
        """The next one of the recording."""
        begin = self._place(segment.sequence)
        end = begin + segment.size
        said = self._begins[-1] + self._segments[self._indices[-1]][1].size if self._begins else 0
        if segment.size and begin == said:
            self._begins.append(begin)
            self._indices.append(len(self._segments))
        self._segments.append((min(end, said + segment.size), segment))
        self._resets += bool(segment.flags & RST)

    def begin(self, segment: Segment) -> None:
        """The live guest's first one."""
        self.begin_again()
        self.moved = (segment.sequence - self._first) % SEQUENCE

    def _place(self, sequence: int) -> int:
        """The position of a sequence number of the recorded guest."""
        return (sequence - self._first + HALF) % SEQUENCE - HALF

    def hear(self, segment: Segment) -> Verdict:
        """A segment of the live guest."""
        begin = self._place((segment.sequence - self.moved) % SEQUENCE)
        end = begin + segment.size
        if segment.acknowledges and (self._heard is None or _after(segment.acknowledgment, self._heard)):
            self._heard = segment.acknowledgment
        self._make_room(segment)
        if segment.flags & RST:
            self.over = True
            return Verdict(len(self._segments), differs=not self._resets)
        if end == begin:
            return Verdict()
        if end <= self._reached:
            return Verdict(self._index_at(begin), again=True)
        return self._compare(begin, end, segment)

    def _make_room(self, segment: Segment) -> None:
        if segment.flags & SYN:
            self._scale = segment.scale
        if segment.acknowledges:
            scale = self._scale if self._scale is not None and self._scaled else 0
            window = segment.window << (0 if segment.flags & SYN else scale)
            self._room = (segment.acknowledgment + window) % SEQUENCE

    def takes(self, segment: Segment) -> bool:
        """Whether the live guest has room for a segment of the host's, which would be lost otherwise."""
        if segment.flags & SYN:
            self._scaled = segment.scale is not None
        if self._room is None or not segment.payload:
            return True
        end = (segment.sequence + len(segment.payload)) % SEQUENCE
        # one that is larger than the window has to come some time
        is_next = segment.sequence == self._heard and self._room != self._heard
        return is_next or not _after(end, self._room)

    def _compare(self, begin: int, end: int, segment: Segment) -> Verdict:
        new = _bytes(segment)[max(self._reached - begin, 0) :]
        if begin <= self._reached and self._said(self._reached, end) == new:
            self._reached = end
            self.over = bool(segment.flags & FIN)
            return Verdict()
        index = self._index_at(self._reached)
        if segment.sequence in self._refused:
            return Verdict(index, again=True)
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        self._refused.add(segment.sequence)
        if index < len(self._segments) and begin <= self._reached:
            # it stands for the recorded one: what comes after it is where that one ends
            self._reached = max(self._segments[index][0], self._reached)
            self.moved = (self.moved + end - self._reached) % SEQUENCE
        return Verdict(index, differs=True)

    def _index_at(self, position: int) -> int:
        """The recorded segment that holds a position; how many there are, for none."""
        at = bisect_right(self._begins, position) - 1
        if at < 0 or position >= self._segments[self._indices[at]][0]:
            return len(self._segments)
        return self._indices[at]

    def _said(self, start: int, stop: int) -> list[int]:
        """What the recorded guest has said from one position to another, as `_bytes` gives it."""
        found: list[int] = []
        at = max(bisect_right(self._begins, start) - 1, 0)
        for begin, index in zip(self._begins[at:], self._indices[at:], strict=True):
            if begin >= stop:
                break
            found += _bytes(self._segments[index][1])[max(start - begin, 0) : stop - begin]
        return found

    def passed(self) -> Iterator[int]:
        """The recorded segments that what the live guest has said and acknowledged stands for."""
        while self._passed < len(self._segments):
            end, segment = self._segments[self._passed]
            if end > self._reached:
                return
            late = self._heard is None or _after(segment.acknowledgment, self._heard)
            if segment.acknowledges and late:
                return
            self._passed += 1
            yield self._passed - 1


def _after(one: int, other: int) -> bool:
    """Whether a sequence number is later than another."""
    return 0 < (one - other) % SEQUENCE < HALF


SYN_MARK, FIN_MARK = 256, 257
"""What takes a sequence number and is no byte."""


def _bytes(segment: Segment) -> list[int]:
    begin, end = [SYN_MARK] * bool(segment.flags & SYN), [FIN_MARK] * bool(segment.flags & FIN)
    return [*begin, *segment.payload, *end]

"""Events kept to be looked at in any order: millions of them, as compressed records.

A position counts events from 0 in the order in which they came. One thread adds, any thread reads.
"""

from __future__ import annotations

import struct
import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import pairwise

import lz4.block  # type: ignore[import-untyped]

from ringminus.lens.record import SCHEMA, decode, encode
from ringminus.tap import EVENTS, Event

EVENTS_IN_CHUNK = 512
BYTES_IN_CHUNK = 256 << 10
CACHED_CHUNKS = 16
MOST_HELD = 1 << 30
"""Bytes of compressed records; of more, the oldest are given up."""
NUMBER = struct.Struct("<Q")
MASK = (1 << 64) - 1
_KINDS = {kind.NAME: kind for kind in EVENTS}
POINTS = tuple(_KINDS[name].POINT for name, _ in SCHEMA)
"""The point of each kind of record."""


class Chunk:
    """Some events after one another. `data` is compressed; `ends` are where records end in what it was."""

    __slots__ = ("causes", "data", "ends", "kinds", "sequences")

    def __init__(self, records: list[bytes], sequences: array[int], causes: array[int]) -> None:
        ends, end = array("L"), 0
        for record in records:
            end += len(record)
            ends.append(end)
        self.data = lz4.block.compress(b"".join(records))
        self.ends = ends
        self.kinds = frozenset(record[0] for record in records)
        self.sequences = _span(sequences)
        self.causes = _span(causes)

    def records(self) -> list[bytes]:
        """Uncompressed."""
        data = lz4.block.decompress(self.data)
        return [data[start:end] for start, end in pairwise((0, *self.ends))]


def _span(numbers: array[int]) -> tuple[int, int]:
    known = [one for one in numbers if one]
    return (min(known), max(known)) if known else (1, 0)


class Store:
    """`first` is the position of the oldest event that is kept, `count` that of the next one that comes."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self.first = 0
        self.count = 0
        self.held = 0
        self._most = most
        self._lock = threading.Lock()
        self._starts: list[int] = []
        self._chunks: list[Chunk | None] = []
        self._oldest = 0
        self._sequences = bytearray()
        self._causes = bytearray()
        self._open: list[bytes] = []
        self._open_size = 0
        self._open_sequences, self._open_causes = array("Q"), array("Q")
        self._cache: OrderedDict[int, list[bytes]] = OrderedDict()

    def append(self, event: Event) -> int:
        """Keep one more; gives its position."""
        record, sequence, cause = encode(event), event.sequence & MASK, event.cause & MASK
        with self._lock:
            self._open.append(record)
            self._open_size += len(record)
            self._open_sequences.append(sequence)
            self._open_causes.append(cause)
            self._sequences += NUMBER.pack(sequence)
            self._causes += NUMBER.pack(cause)
            position = self.count
            if len(self._open) >= EVENTS_IN_CHUNK or self._open_size >= BYTES_IN_CHUNK:
                self._seal()
            self.count = position + 1
        return position

    def _seal(self) -> None:
        chunk = Chunk(self._open, self._open_sequences, self._open_causes)
        self._starts.append(self.count + 1 - len(self._open))
        self._chunks.append(chunk)
        self.held += len(chunk.data)
        self._open, self._open_size = [], 0
        self._open_sequences, self._open_causes = array("Q"), array("Q")
        while self.held > self._most and self._oldest < len(self._chunks) - 1:
            oldest = self._chunks[self._oldest]
            assert oldest is not None
            self.held -= len(oldest.data)
            self._chunks[self._oldest] = None
            self._oldest += 1
            self.first = self._starts[self._oldest]

    # ------------------------------------------------------------ reading

    def event(self, position: int) -> Event | None:
        """The event there; None if it is not kept any more, or not there yet."""
        with self._lock:
            if not self.first <= position < self.count:
                return None
            number = bisect_right(self._starts, position) - 1
            chunk = self._chunks[number] if number >= 0 else None
            if chunk is not None and position < self._starts[number] + len(chunk.ends):
                record = self._records(number, chunk)[position - self._starts[number]]
            else:
                record = self._open[position - (self.count - len(self._open))]
        return decode(record)

    def _records(self, number: int, chunk: Chunk) -> list[bytes]:
        found = self._cache.get(number)
        if found is None:
            found = self._cache[number] = chunk.records()
            if len(self._cache) > CACHED_CHUNKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(number)
        return found

    def batch(self, start: int, points: Collection[str]) -> tuple[Iterator[tuple[int, Event]], int]:
        """Some events of these points from `start` on, with their positions, and where the next batch begins;
        that is `start` if there are none yet."""
        with self._lock:
            start = max(start, self.first)
            number = bisect_right(self._starts, start) - 1
            chunk = self._chunks[number] if number >= 0 else None
            if chunk is not None and start < (end := self._starts[number] + len(chunk.ends)):
                base, kinds = self._starts[number], chunk.kinds
            else:
                base, end = self.count - len(self._open), self.count
                chunk, kinds, records = None, frozenset(range(len(POINTS))), self._open[:]
        wanted = {kind for kind in kinds if POINTS[kind] in points}
        if not wanted or start >= end:
            return iter(()), end
        if chunk is not None:
            records = chunk.records()
        found = enumerate(records[start - base :], start)
        return ((at, decode(record)) for at, record in found if record[0] in wanted), end

    def find(self, sequence: int) -> int | None:
        """The position of the event with that number, if it is kept."""
        return next(self._search(self._sequences, sequence, "sequences"), None) if sequence else None

    def effects(self, sequence: int) -> Iterator[int]:
        """The positions of the events that this one caused."""
        return self._search(self._causes, sequence, "causes") if sequence else iter(())

    def sequence(self, position: int) -> int:
        """The number of the event at a position; 0 if it has none."""
        return self._number(self._sequences, position)

    def cause(self, position: int) -> int:
        """The number of what caused the event at a position; 0 for nothing."""
        return self._number(self._causes, position)

    def _number(self, column: bytearray, position: int) -> int:
        start = position * NUMBER.size
        return int.from_bytes(column[start : start + NUMBER.size], "little")

    def _search(self, column: bytearray, number: int, span: str) -> Iterator[int]:
        wanted = NUMBER.pack(number & MASK)
        for start, end in self._places(number, span):
            at = start * NUMBER.size
            while (at := column.find(wanted, at, end * NUMBER.size)) >= 0:
                position, off = divmod(at, NUMBER.size)
                if not off:
                    yield position
                at += 1 if off else NUMBER.size

    def _places(self, number: int, span: str) -> list[tuple[int, int]]:
        """Where that number may be."""
        with self._lock:
            found = [
                (start, start + len(chunk.ends))
                for start, chunk in zip(self._starts, self._chunks, strict=True)
                if chunk is not None and getattr(chunk, span)[0] <= number <= getattr(chunk, span)[1]
            ]
            return [*found, (self.count - len(self._open), self.count)]

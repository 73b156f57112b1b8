"""Percentiles of many times, in little memory."""

from __future__ import annotations

from collections import Counter

PRECISION = 5
"""Bits of a value that count: an answer is at most 3 % too large."""


class Latencies:
    """A histogram whose buckets grow with the values; values are whole numbers, from 0 on."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.most = 0
        self._buckets: Counter[int] = Counter()

    def add(self, value: int) -> None:
        """One more."""
        self.count += 1
        self.total += value
        self.most = max(self.most, value)
        shift = max(value.bit_length() - PRECISION - 1, 0)
        self._buckets[(value >> shift) << shift | ((1 << shift) - 1)] += 1

    def percentile(self, share: float) -> int:
        """The value that this share (0 to 1) of all do not exceed; 0 without any."""
        wanted, seen = share * self.count, 0
        for upper in sorted(self._buckets):
            seen += self._buckets[upper]
            if seen >= wanted:
                return min(upper, self.most)
        return self.most

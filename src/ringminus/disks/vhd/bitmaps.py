"""Sector bitmaps: which sectors of a block the file holds. The first sector is the highest bit."""

from __future__ import annotations

import re
from collections.abc import Iterator

_RUNS = re.compile("0+|1+")


def runs(bitmap: bytes | bytearray, first: int, count: int) -> Iterator[tuple[bool, int]]:
    """The stretches of sectors from `first` on that are alike: whether they are held, and how many."""
    begin, end = first >> 3, (first + count + 7) >> 3
    bits = int.from_bytes(bitmap[begin:end], "big") >> ((end << 3) - first - count)
    text = format(bits & ((1 << count) - 1), f"0{count}b")
    for run in _RUNS.finditer(text):
        yield text[run.start()] == "1", run.end() - run.start()


def mark(bitmap: bytearray, first: int, count: int) -> None:
    """Note that `count` sectors from `first` on are held."""
    begin, end = first >> 3, (first + count + 7) >> 3
    bits = ((1 << count) - 1) << ((end << 3) - first - count)
    bitmap[begin:end] = (int.from_bytes(bitmap[begin:end], "big") | bits).to_bytes(end - begin, "big")


def is_whole(bitmap: bytes | bytearray, sectors: int) -> bool:
    """Whether the first `sectors` sectors are all held."""
    return all(held for held, _ in runs(bitmap, 0, sectors))

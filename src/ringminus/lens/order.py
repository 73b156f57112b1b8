"""Events in the order in which they began."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from ringminus.tap import Event

WINDOW = 4096
"""How many later events may pass before one that began earlier."""


def in_order(events: Iterable[Event], window: int = WINDOW) -> Iterator[Event]:
    """Sort events by their numbers: what has a result passes after the events that it caused. Events without
    a number, which tell a watcher what was before, stay first."""
    waiting: list[tuple[int, int, Event]] = []
    for place, event in enumerate(events):
        heapq.heappush(waiting, (event.sequence, place, event))
        if len(waiting) > window:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]

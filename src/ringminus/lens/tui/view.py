"""Which events are shown: all of a store, or those that a filter is true for."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable

from ringminus.lens.filter import Filter
from ringminus.lens.tui.store import Store

WAIT = 0.1
"""Seconds between looks for events that have come."""


class View:
    """Rows are positions of the store. With a filter a thread of its own looks for what matches, while
    events still come; `only` shows nothing else."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.filter: Filter | None = None
        self.only = True
        self.paused_at: int | None = None
        self._matcher: Matcher | None = None

    def set_filter(self, wanted: Filter | None) -> None:
        """Show what this one is true for; it must not be used elsewhere."""
        self.close()
        self.filter, self.only = wanted, True
        if wanted is not None:
            self._matcher = Matcher(self._store, wanted)

    def close(self) -> None:
        """End the thread."""
        if self._matcher is not None:
            self._matcher.close()
            self._matcher = None

    @property
    def end(self) -> int:
        """The position after the last that may be shown."""
        return self._store.count if self.paused_at is None else self.paused_at

    @property
    def searched(self) -> int:
        """How far the filter has got."""
        return self._matcher.searched if self._matcher is not None else self._store.count

    @property
    def filters(self) -> bool:
        """Whether there are events that are not shown."""
        return self._matcher is not None and self.only

    @property
    def matches(self) -> int:
        """How many events match that may be shown."""
        return self._places()[1] if self._matcher is not None else self.rows

    @property
    def failure(self) -> str:
        """What went wrong in the thread."""
        return self._matcher.failure if self._matcher is not None else ""

    @property
    def rows(self) -> int:
        if self.filters:
            first, end = self._places()
            return end - first
        return max(self.end - self._store.first, 0)

    def position(self, row: int) -> int | None:
        """The position of a row, if there is such a row."""
        if not 0 <= row < self.rows:
            return None
        if self.filters:
            assert self._matcher is not None
            return self._matcher.found[self._places()[0] + row]
        return self._store.first + row

    def row(self, position: int) -> int:
        """The row of a position, or of what is shown next after it; -1 if there are no rows."""
        if self.filters:
            assert self._matcher is not None
            first, end = self._places()
            return min(bisect_left(self._matcher.found, position, first, end) - first, end - first - 1)
        return min(max(position - self._store.first, 0), self.rows - 1)

    def shows(self, position: int) -> bool:
        """Whether it has a row."""
        return self.position(self.row(position)) == position

    def is_match(self, position: int) -> bool:
        """Whether a filter is true for it."""
        if self._matcher is None:
            return False
        found = self._matcher.found
        place = bisect_left(found, position)
        return place < len(found) and found[place] == position

    def next_match(self, position: int, step: int) -> int | None:
        """The match after a position (`step` 1) or before it (-1); None if there is none."""
        if self._matcher is None:
            return None
        found = self._matcher.found
        first, end = self._places()
        place = bisect_left(found, position + 1 if step > 0 else position, first, end) - (step < 0)
        return found[place] if first <= place < end else None

    def _places(self) -> tuple[int, int]:
        """The part of what was found that is kept and may be shown."""
        assert self._matcher is not None
        found = self._matcher.found
        return bisect_left(found, self._store.first), bisect_left(found, self.end)


class Matcher:
    """Looks through a store, from its beginning and then as events come."""

    def __init__(self, store: Store, wanted: Filter) -> None:
        self.found: array[int] = array("Q")
        self.searched = 0
        self.failure = ""
        self._store, self._filter = store, wanted
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._guarded(self._run), name="filter", daemon=True)
        self._thread.start()

    def _guarded(self, run: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                run()
            except Exception as error:
                self.failure = f"the filter failed: {type(error).__name__}: {error}"

        return guarded

    def _run(self) -> None:
        points = self._filter.points
        while not self._closed.is_set():
            events, end = self._store.batch(self.searched, points)
            if end <= self.searched:
                self._closed.wait(WAIT)
                continue
            for position, event in events:
                if self._filter(event):
                    self.found.append(position)
            self.searched = end

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

"""How far a capture has been read, told on a terminal while nothing else is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringminus.lens.source import Source
    from ringminus.tap import Event

PATIENCE = 1.0
"""Seconds that may pass in silence."""
INTERVAL = 0.25
LOOK_EVERY = 1024
"""Events between looks at the clock."""
ERASE = "\r\x1b[K"


class ReadingNote:
    """A line on standard error that `clear` takes away, which is to be called before anything is printed;
    `before` is called before it is shown. There is none where standard error is no terminal, or where the end
    of what is read is not known."""

    def __init__(self, source: Source, before: Callable[[], None] = lambda: None) -> None:
        self._source = source
        self.before = before
        self._shown = False
        self._due = time.monotonic() + PATIENCE

    def events(self) -> Iterable[Event]:
        """Those of the source."""
        if self._progress() is None or not sys.stderr.isatty():
            return self._source
        return self._watched()

    def _progress(self) -> float | None:
        progress: float | None = getattr(self._source, "progress", None)
        return progress

    def _watched(self) -> Iterator[Event]:
        try:
            for number, event in enumerate(self._source):
                if number % LOOK_EVERY == 0 and time.monotonic() >= self._due:
                    self._show()
                yield event
        finally:
            self.clear()

    def _show(self) -> None:
        progress = self._progress()
        self.before()
        if progress is not None:
            self._say(f"{ERASE}reading: {progress:.0%}")
            self._shown = True
        self._due = time.monotonic() + INTERVAL

    def clear(self) -> None:
        """Something else is to be printed."""
        if self._shown:
            self._say(ERASE)
            self._shown = False
            self._due = time.monotonic() + PATIENCE

    @staticmethod
    def _say(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

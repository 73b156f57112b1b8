"""Taking events from their source, in a thread of its own: a file is read, a guest watched."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ringminus.errors import RingminusError
from ringminus.lens.order import in_order
from ringminus.lens.source import Source
from ringminus.lens.tui.dissection import Dissection
from ringminus.lens.tui.store import Store
from ringminus.lens.tui.traffic import Traffic
from ringminus.tap import Event

PATIENCE = 2.0


class Intake:
    """Fills a store from a source, of one that is not `live` in the order in which events began. `done` is
    True at the end, `failure` says what ended it."""

    def __init__(
        self, source: Source, store: Store, dissection: Dissection, traffic: Traffic, *, live: bool = False
    ) -> None:
        self.source = source
        self.live = live
        self.done = False
        self.failure = ""
        self._store, self._dissection, self._traffic = store, dissection, traffic
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End it, and the source."""
        self.source.close()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)

    @property
    def progress(self) -> float | None:
        """The part of a file that has been read, None where that cannot be known."""
        found: float | None = getattr(self.source, "progress", None)
        return found

    @property
    def ended(self) -> str:
        """How a guest that was watched has ended."""
        return str(getattr(self.source, "ended", ""))

    def _run(self) -> None:
        append, see, count = self._store.append, self._dissection.see, self._traffic.see
        events = self._whole()
        try:
            for event in events if self.live else in_order(events):
                see(self._store.count, event)  # before anybody can look at it
                count(event)
                append(event)
        except Exception as error:
            self.failure = f"an event cannot be kept: {type(error).__name__}: {error}"
        finally:
            self.done = True

    def _whole(self) -> Iterator[Event]:
        """The source's events; where it fails is their end, so that none of those before is lost."""
        try:
            yield from self.source
        except RingminusError as error:
            self.failure = str(error)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

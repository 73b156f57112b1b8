"""A guest's end of live watching: takes watchers in at its socket, on the worker's loop.

While nobody watches, this costs a socket that listens. A watcher is told of the events of the points that he
asks for; what he is too slow for is lost and counted, and the guest waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringminus.places import PeerCredentials, Place
from ringminus.tap import EVENTS, ChannelState, Tap

if TYPE_CHECKING:
    from ringminus.lens.watchers import Watcher

BACKLOG = 16
MOST_WATCHERS = 16
GOODBYE_TIME = 2.0
"""Seconds in which watchers may read the last events when the guest has ended."""

log = logging.getLogger(__name__)


class Hub:
    """Lets watchers in at `place`, whose `lock` it keeps. `channels` gives the channels that are open, for
    who comes later; `operations` answer requests, by name: more may be added."""

    def __init__(
        self, tap: Tap, place: Place, lock: int, channels: Callable[[], list[ChannelState]] | None = None
    ) -> None:
        self.place = place
        self.operations: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.channels = channels or list
        self.tap = tap
        self._lock = lock
        self._watchers: set[Watcher] = set()
        self._leave: dict[str, Callable[[], None]] = {}
        self._listening: socket.socket | None = None

    @property
    def watchers(self) -> int:
        """How many there are."""
        return len(self._watchers)

    def open(self) -> None:
        """Begin to listen; raises `OSError`."""
        self.place.socket.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(os.fspath(self.place.socket))
        self._listening.listen(BACKLOG)
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:
            log.info("cannot accept a watcher: %s", error.strerror)
            return
        from ringminus.lens.watchers import Watcher, refuse

        if PeerCredentials.of(accepted).uid != os.geteuid():
            refuse(accepted, "this guest is another user's")
        elif len(self._watchers) >= MOST_WATCHERS:
            refuse(accepted, f"{MOST_WATCHERS} watch this guest already, and it takes no more")
        else:
            self._watchers.add(Watcher(accepted, self))

    def gone(self, watcher: Watcher) -> None:
        """A watcher has left."""
        self._watchers.discard(watcher)
        self.changed()

    def changed(self) -> None:
        """A watcher has other points: listen to what somebody wants, and to nothing else."""
        wanted = {point for one in self._watchers for point in one.points}
        for kind in EVENTS:
            interested = tuple(one for one in self._watchers if kind.POINT in one.points)
            if kind.POINT in self._leave:
                self._leave.pop(kind.POINT)()
            if kind.POINT in wanted:
                from ringminus.lens.watchers import teller

                self._leave[kind.POINT] = self.tap.listen(kind, teller(interested))

    async def close(self, reason: str) -> None:
        """The guest has ended: say so to all, wait a little for who still reads, and give the name back."""
        loop = asyncio.get_running_loop()
        if self._listening is not None:
            loop.remove_reader(self._listening.fileno())
            self._listening.close()
            self.place.socket.unlink(missing_ok=True)
        for leave in self._leave.values():
            leave()
        self._leave.clear()
        ends = [watcher.dismiss(reason) for watcher in tuple(self._watchers)]
        if ends:
            await asyncio.wait([asyncio.ensure_future(one) for one in ends], timeout=GOODBYE_TIME)
        for watcher in tuple(self._watchers):
            watcher.close()
        self.place.lock.unlink(missing_ok=True)  # who finds none makes his own
        os.close(self._lock)

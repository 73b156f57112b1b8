"""Waiting for files: which of those that are watched are ready, and who is to be told.

It has no loop of its own. Its descriptor `fd` becomes readable when one of the watched ones is ready; who
owns it then calls `dispatch`. So the same endpoints run inside a worker's loop and inside a switch's own
process."""

from __future__ import annotations

import select
from collections.abc import Callable

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
Ready = Callable[[int], None]


class Reactor:
    """See the module. `watch(fd, events, ready)` calls `ready(events)` from `dispatch` for as long as the
    file is ready (level-triggered); errors and hang-ups are told whatever is asked for."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._put_off: list[Callable[[], None]] = []

    @property
    def fd(self) -> int:
        """Readable when `dispatch` has something to do."""
        return self._epoll.fileno()

    def watch(self, fd: int, events: int, ready: Ready) -> None:
        """Tell `ready` of these events of `fd`, instead of what was said before of that file."""
        if fd in self._ready:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._ready[fd] = ready

    def forget(self, fd: int) -> None:
        """Watch a file no more; to be called before it is closed."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def before_waiting(self, act: Callable[[], None]) -> None:
        """Call `act`, once, before anybody waits the next time."""
        self._put_off.append(act)

    def settle(self) -> None:
        """Do what was put off. Who waits for `fd` himself calls this first."""
        while self._put_off:
            self._put_off.pop()()

    def dispatch(self, timeout: float = 0) -> int:
        """Tell all whose files are ready; wait up to `timeout` seconds for the first (below 0: for ever).
        Gives how many were told."""
        if self._put_off:
            self.settle()
        events = self._epoll.poll(timeout)
        for fd, what in events:
            ready = self._ready.get(fd)  # an earlier one may have let go of it
            if ready is not None:
                ready(what)
        return len(events)

    def close(self) -> None:
        """Forget all."""
        self._ready.clear()
        self._put_off.clear()
        self._epoll.close()

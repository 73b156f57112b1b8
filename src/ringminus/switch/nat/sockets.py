"""Waiting for libslirp's sockets, all behind one file: it wants to hear of all that are ready at once."""

from __future__ import annotations

import errno
import select

from ringminus.switch.nat.library import Poll

# libslirp has the bits of PRI and OUT the other way round than poll and epoll have
_TO_EPOLL = {
    int(Poll.IN): select.EPOLLIN,
    int(Poll.OUT): select.EPOLLOUT,
    int(Poll.PRI): select.EPOLLPRI,
    int(Poll.ERR): select.EPOLLERR,
    int(Poll.HUP): select.EPOLLHUP,
}
_ALL = 31
_EPOLL = [sum(theirs for ours, theirs in _TO_EPOLL.items() if events & ours) for events in range(_ALL + 1)]
_POLL = [sum(ours for ours, theirs in _TO_EPOLL.items() if events & theirs) for events in range(_ALL + 1)]
_CLOSED = (errno.ENOENT, errno.EBADF)  # the kernel forgets files that are closed, and numbers come again


class Sockets:
    """The sockets and events (`Poll`) that are waited for. `fd` is readable when there is one of them.
    With `forgetful` it is not told of each socket that is closed, and looks whether its sockets are those
    that it knew."""

    def __init__(self, forgetful: bool) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, int] = {}
        self._forgetful = forgetful
        self.fd = self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._watched)

    def ready(self) -> dict[int, int]:
        """The sockets that are ready now, and the events."""
        return {fd: _POLL[what & _ALL] for fd, what in self._epoll.poll(0)}

    def closed(self, fds: list[int]) -> None:
        """These were closed; their numbers may be those of other sockets by now."""
        for fd in fds:
            if self._watched.pop(fd, None) is not None:
                self._unwatch(fd)

    def watch(self, wanted: dict[int, int]) -> None:
        """Wait for these events of these sockets, and for nothing else."""
        watched = self._watched
        if wanted == watched and not self._forgetful:
            return
        for fd in watched.keys() - wanted.keys():
            self._unwatch(fd)
        for fd, events in wanted.items():
            if fd not in watched or self._forgetful:
                self._register(fd, _EPOLL[events & _ALL])
            elif watched[fd] != events:
                self._epoll.modify(fd, _EPOLL[events & _ALL])
        self._watched = wanted

    def close(self) -> None:
        """Wait for nothing."""
        self._watched = {}
        self._epoll.close()

    def _register(self, fd: int, events: int) -> None:
        try:
            self._epoll.register(fd, events)
        except FileExistsError:
            self._epoll.modify(fd, events)

    def _unwatch(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise

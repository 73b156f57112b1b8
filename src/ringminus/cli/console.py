"""The person's side of the guest's console: what it prints, and what is typed.

Nothing here waits: a person who does not read or a guest that does not take its input must not keep
time-outs and signals from being served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable

ESCAPE = 0x1D  # Ctrl-], as telnet has it
READ_SIZE = 4096
RETRY_SECONDS = 0.01
KEPT_LINES = 30
KEPT_BYTES = 16 << 10


class LastLines:
    """The end of what a guest printed, for the report of a crash."""

    def __init__(self) -> None:
        self._tail = b""

    def add(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-KEPT_BYTES:]

    def text(self) -> str:
        lines = self._tail.decode(errors="replace").splitlines()
        return "\n".join(lines[-KEPT_LINES:])


def _without_waiting(fd: int) -> int:
    """A descriptor for the same pipe or terminal that never waits, leaving the mode of `fd`, which others
    share, alone. Files do not wait anyway, and of what cannot be opened again `fd` itself must do."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return os.dup(fd)


class Output:
    """Writes what the guest prints to `fd`, and keeps what cannot be written at once.

    `on_full` is called when something has to wait, `on_empty` when nothing waits any more, `on_closed` once
    with the reason when nobody reads; what is printed after that is lost. Lives on the running loop.
    """

    def __init__(
        self,
        fd: int,
        on_full: Callable[[], None],
        on_empty: Callable[[], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = _without_waiting(fd)
        self._on_full, self._on_empty, self._on_closed = on_full, on_empty, on_closed
        self._waiting = b""

    @property
    def waits(self) -> bool:
        """Whether something is not written yet."""
        return bool(self._waiting)

    def write(self, data: bytes) -> None:
        if self._waiting:
            self._waiting += data
            return
        self._waiting = self._write_some(data)
        if self._waiting and self._fd is not None:
            self._loop.add_writer(self._fd, self._writable)
            self._on_full()

    def _writable(self) -> None:
        self._waiting = self._write_some(self._waiting)
        if not self._waiting:
            if self._fd is not None:
                self._loop.remove_writer(self._fd)
            self._on_empty()

    def _write_some(self, data: bytes) -> bytes:
        """Write what can be written; gives the rest."""
        while data and self._fd is not None:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                return data
            except OSError as error:
                self.close()
                self._on_closed(error.strerror or str(error))
        return b""

    def close(self) -> None:
        """Write no more; what waits is lost."""
        if self._fd is not None:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = None


class Input:
    """Reads `fd` on the running loop and types it into the guest, no faster than the guest takes it.

    `type_` says how many bytes were taken. The end of the input is not the end of the guest. `leave` is
    called for Ctrl-], which is then not for the guest.
    """

    def __init__(self, fd: int, type_: Callable[[bytes], int], leave: Callable[[], None] | None) -> None:
        self._fd = fd
        self._type = type_
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._waiting = b""
        self._retry: asyncio.Handle | None = None
        self._listens = False
        self._listen()

    def _listen(self) -> None:
        try:
            self._loop.add_reader(self._fd, self._readable)
            self._listens = True
        except PermissionError:  # epoll refuses plain files, which can always be read
            self._retry = self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        self._retry = None
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:  # a terminal that was closed, a directory
            data = b""
        if not data:
            self._pause()
        elif self._leave is not None and ESCAPE in data:
            self._leave()
        else:
            self._waiting = data
            self._pass_on()

    def _pass_on(self) -> None:
        self._waiting = self._waiting[self._type(self._waiting) :]
        if self._waiting:
            self._pause()
            self._retry = self._loop.call_later(RETRY_SECONDS, self._pass_on)
        elif not self._listens:
            self._listen()

    def _pause(self) -> None:
        if self._listens:
            self._loop.remove_reader(self._fd)
            self._listens = False

    def close(self) -> None:
        """Read no more."""
        self._pause()
        if self._retry is not None:
            self._retry.cancel()

"""The person's side of the guest's console: a terminal, plain standard streams, or nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import termios
import tty
from collections import deque
from collections.abc import Callable
from typing import Any

ESCAPE = 0x1D  # Ctrl-], as telnet has it
READ_SIZE = 4096
RETRY_SECONDS = 0.01
KEPT_LINES = 30


class LastLines:
    """The end of what a guest printed, for the report of a crash."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._open = b""

    def add(self, data: bytes) -> None:
        *whole, self._open = (self._open + data).split(b"\n")
        self._lines.extend(line.rstrip(b"\r") for line in whole)

    def text(self) -> str:
        lines = [*self._lines, self._open] if self._open else list(self._lines)
        return "\n".join(line.decode(errors="replace") for line in lines)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, whatever the descriptor takes at a time; a reader who left is an error of the OS."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            continue


class Input:
    """Reads `fd` on the loop and types it into the guest, no faster than the guest takes it."""

    def __init__(self, fd: int, type_: Callable[[bytes], int], leave: Callable[[], None] | None) -> None:
        self._fd = fd
        self._type = type_
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._waiting = b""
        self._retry: asyncio.TimerHandle | None = None
        self._reading = False

    def start(self) -> None:
        """Begin to listen; a descriptor that cannot be waited for (a file) is read at once."""
        try:
            self._loop.add_reader(self._fd, self._readable)
            self._reading = True
        except PermissionError:  # epoll refuses plain files, which are always readable
            self._retry = self._loop.call_soon(self._readable)  # type: ignore[assignment]

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the end of the input is not the end of the guest
            self._pause()
            return
        if self._leave is not None and ESCAPE in data:
            self._leave()
            return
        self._waiting += data
        self._pass_on()

    def _pass_on(self) -> None:
        self._retry = None
        self._waiting = self._waiting[self._type(self._waiting) :]
        if self._waiting:
            self._pause()
            self._retry = self._loop.call_later(RETRY_SECONDS, self._pass_on)
        elif not self._reading:
            self.start()

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def stop(self) -> None:
        self._pause()
        if self._retry is not None:
            self._retry.cancel()


class RawTerminal:
    """A terminal in raw mode while the `with` block lasts, however it ends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        self._before = termios.tcgetattr(self._fd)
        tty.setraw(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


def is_terminal() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def terminal_size() -> tuple[int, int]:
    """Rows and columns."""
    size = shutil.get_terminal_size()
    return size.lines, size.columns

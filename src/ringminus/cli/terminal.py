"""The terminal on standard input and output: its size, and its mode while a guest has it."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import tty
from typing import Any

STDIN, STDOUT = 0, 1
_DONE = b"done"


def is_terminal() -> bool:
    """Whether a person sits at both ends."""
    return os.isatty(STDIN) and os.isatty(STDOUT)


def terminal_size() -> tuple[int, int] | None:
    """Rows and columns of the terminal, if it knows them."""
    try:
        columns, rows = os.get_terminal_size(STDOUT)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


class RawTerminal:
    """A terminal that may be in raw mode while the `with` block lasts, and is as before after it, however
    it ends: a child process waits for our end and puts the terminal right if we could not. It is made before
    there are threads and guest memory."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = []
        self._guard = -1
        self._guard_pipe = -1

    def __enter__(self) -> RawTerminal:
        self._before = termios.tcgetattr(self._fd)
        self._start_guard()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        os.write(self._guard_pipe, _DONE)
        os.close(self._guard_pipe)
        os.waitpid(self._guard, 0)

    def set_raw(self) -> None:
        tty.setraw(self._fd, termios.TCSADRAIN)

    def restore(self) -> None:
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def suspend(self) -> None:
        """Stop this process with the terminal as it was. Who continues it has to call `set_raw`."""
        self.restore()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _start_guard(self) -> None:
        read_end, self._guard_pipe = os.pipe()
        self._guard = os.fork()
        if self._guard:
            os.close(read_end)
            return
        try:
            os.setsid()  # out of reach of the terminal's signals
            self._fd = os.dup2(self._fd, 0)
            os.dup2(read_end, 1)
            os.closerange(2, os.sysconf("SC_OPEN_MAX"))
            if not os.read(1, len(_DONE)):
                self.restore()
        finally:
            os._exit(0)

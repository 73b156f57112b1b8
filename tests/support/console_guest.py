"""`ringminus run` as a process of its own, on whose guest's console a test reads and types, and which it can
kill."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from support.command import command

TAIL = 3000  # characters of the console that a failure shows


class ConsoleGuest:
    """Use it in a `with`; the process does not outlive that. `timeout` is in seconds, for all of it."""

    def __init__(self, *options: str | Path, timeout: float = 120) -> None:
        self._deadline = time.monotonic() + timeout
        self._console = bytearray()
        self._read = 0
        self._process = subprocess.Popen(
            command("run", *options, "--console", "stdio"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._input, self._output = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"The guest's console ends with:\n{self.console[-TAIL:]}")
            assert self._process.stderr
            if errors := self._process.stderr.read().decode(errors="replace"):
                error.add_note(f"Standard error ends with:\n{errors[-TAIL:]}")
        self._selector.close()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        assert self._process.stderr
        self._process.stderr.close()

    @property
    def console(self) -> str:
        """All that was read so far, without carriage returns."""
        return self._console.decode(errors="replace")

    def expect(self, text: str) -> str:
        """Wait until the guest prints `text`; gives what it printed since the last `expect`, up to there."""
        wanted = text.encode()
        while (found := self._console.find(wanted, self._read)) < 0:
            if not self._receive():
                raise AssertionError(f"the guest ended before it printed {text!r}")
        before = self._console[self._read : found]
        self._read = found + len(wanted)
        return before.decode(errors="replace")

    def type(self, text: str) -> None:
        """Send keys to the console."""
        self._input.write(text.encode())
        self._input.flush()

    def kill(self) -> None:
        """End the process as a host that is out of memory does: it can do nothing about it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def finish(self) -> tuple[int, str]:
        """Wait for the end of the command; gives its exit status and what it wrote to standard error."""
        while self._receive():
            pass
        assert self._process.stderr
        errors = self._process.stderr.read().decode(errors="replace")
        return self._process.wait(), errors

    def _receive(self) -> bool:
        """Take what comes next; False at the end. Raises `TimeoutError`."""
        if not self._selector.select(max(0.0, self._deadline - time.monotonic())):
            raise TimeoutError("the guest took too long")
        data = os.read(self._output.fileno(), 1 << 16)
        self._console += data.replace(b"\r", b"")
        return bool(data)

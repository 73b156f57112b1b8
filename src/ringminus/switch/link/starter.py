"""Starting the process of a named switch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import ringminus
from ringminus.switch.places import Place

LONGEST_START = 15.0
"""Seconds until a start counts as failed."""


class Starter:
    """Starts the process of the switch at `place`, once at a time, without waiting for it.

    What is started detaches itself, and its first part ends when the switch takes links. Two that start at
    once make one switch: the process that finds another one ends at once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._child: subprocess.Popen[bytes] | None = None
        self._since = 0.0

    def start(self, *options: str) -> str | None:
        """Begin, or look how it goes; None while it is on its way, otherwise why it failed."""
        child = self._child
        if child is not None:
            status = child.poll()
            if status is None:
                if time.monotonic() - self._since < LONGEST_START:
                    return None
                self.close()
                return f"the process of the switch {self.place.name} does not start: see {self.place.log}"
            self._child = None
            words = self._words(child)
            if status:
                return f"the process of the switch {self.place.name} does not start: {words}"
        try:
            self._child = self._spawn(options)
        except OSError as error:
            return f"cannot start the process of the switch {self.place.name}: {error.strerror}"
        self._since = time.monotonic()
        return None

    def _spawn(self, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
        root = os.fspath(Path(ringminus.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "ringminus.switch.process", *options, "--", self.place.name]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            cwd="/",
            start_new_session=True,
        )

    @staticmethod
    def _words(child: subprocess.Popen[bytes]) -> str:
        """The last line that a child had to say, which has ended."""
        assert child.stderr is not None
        with child.stderr as said:
            os.set_blocking(said.fileno(), False)  # the switch itself may have it open, if it hangs
            try:
                lines = os.read(said.fileno(), 1 << 16).decode(errors="replace").split("\n")
            except BlockingIOError:
                lines = []
        words = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return words or f"it ended with status {child.returncode}"

    def reap(self) -> bool:
        """Look whether what was started has done its part; False if it is still at it."""
        child = self._child
        if child is None:
            return True
        if child.poll() is None:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Look after it no more; what was started goes on."""
        child, self._child = self._child, None
        if child is None:
            return
        try:
            child.wait(1)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._words(child)

"""Two guests in turns: each runs for a moment while the other stands still, hundreds of times.

What a machine has left for us changes from second to second by more than what is to be found out, so whole
runs one after the other cannot show it. Here each moment of the one is compared with the moment of the other
beside it. Work is what the guest's process read or wrote in system calls, one for each request; time is what
it was on a processor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from contenders import child, timed_lines

from ringminus.errors import HostError

MOMENT, WARM_UP = 0.2, 2.0
BEGUN = "BEGIN endless"


class Guest:
    """A process that runs a guest; it stands still but for its turns."""

    def __init__(self, process: subprocess.Popen[bytes], counter: str) -> None:
        self._process = process
        self._proc = Path("/proc", str(process.pid))
        self._counter = counter

    def _requests(self) -> int:
        """What it has asked of the host's files: `syscr` or `syscw` of proc(5)."""
        lines = (self._proc / "io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)[self._counter])

    def _seconds(self) -> float:
        """On a processor, all its threads."""
        threads = (path / "schedstat" for path in (self._proc / "task").iterdir())
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def turn(self, length: float) -> float:
        """Run for so long; gives the processor's microseconds for each request."""
        requests, seconds = self._requests(), self._seconds()
        os.kill(self._process.pid, signal.SIGCONT)
        time.sleep(length)
        os.kill(self._process.pid, signal.SIGSTOP)
        while (self._proc / "stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.001)
        done = self._requests() - requests
        if not done:
            raise HostError("a guest does nothing with its disk")
        return (self._seconds() - seconds) / done * 1e6


@contextlib.contextmanager
def started(command: Sequence[str], counter: str, timeout: float) -> Iterator[Guest]:
    """A guest that has begun with its endless work, and stands still. Raises `HostError`."""
    with tempfile.TemporaryFile() as errors, child(list(command), errors) as process:
        assert process.stdout is not None
        said = []
        try:
            for _, text in timed_lines(process.stdout, time.monotonic() + timeout):
                if text == BEGUN:
                    break
                said.append(text)
            else:
                raise HostError("\n".join(["the guest ended before it began:", *said[-15:]]))
        except TimeoutError:
            raise HostError(f"the guest did not begin within {timeout:.0f} s") from None
        time.sleep(WARM_UP)
        os.kill(process.pid, signal.SIGSTOP)
        yield Guest(process, counter)


def compare(
    first: Sequence[str], second: Sequence[str], *, counter: str, turns: int, timeout: float
) -> tuple[float, float, float]:
    """Microseconds of a request with the first and with the second command, and the median of the second's
    relative to the first's beside it."""
    with started(first, counter, timeout) as one, started(second, counter, timeout) as other:
        pairs = []
        for number in range(turns):
            order = (one, other) if number % 2 else (other, one)
            costs = {guest: guest.turn(MOMENT) for guest in order}
            pairs.append((costs[one], costs[other]))
    ratio = median(theirs / ours for ours, theirs in pairs)
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs), ratio

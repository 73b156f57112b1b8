"""The process that holds a named switch: `python -m ringminus.switch.process NAME`.

It detaches itself, and what was started ends when the switch takes links. It ends with the last guest's
link, unless the switch was created explicitly; its files go with it. What was created explicitly is made
again when the process is started after a crash."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from ringminus.clock import NEVER, REFERENCE_HZ, TimerQueue, TscClock
from ringminus.errors import RingminusError
from ringminus.switch.hosting import Hosting
from ringminus.switch.link.server import Listener, Surroundings
from ringminus.switch.places import Place, place_of
from ringminus.switch.reactor import READABLE, Reactor

BACKLOG = 64
LONGEST_WAIT = 3600.0
_LOG_FORMAT = "%(asctime)s %(name)s: %(message)s"


class SwitchProcess:
    """The loop of a switch, its signals, and its files at `place`; `lock` is held until the end."""

    def __init__(self, place: Place, lock: int) -> None:
        self.place = place
        self._lock = lock
        self.clock = TscClock(time.monotonic_ns, 1_000_000_000)
        self.timers = TimerQueue()
        self.reactor = Reactor()
        self.hosting = Hosting(place, self.reactor, self.clock, self.timers)
        around = Surroundings(self.hosting, self.reactor, self.clock, self.timers)
        self._listener = Listener(_listen(place), around)
        self.hosting.listener = self._listener

    def _heed_signals(self) -> None:
        """SIGTERM and SIGINT end the switch; a lost terminal does not."""
        self._woken, told = socket.socketpair()
        self._woken.setblocking(False)
        told.setblocking(False)
        self._told = told
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        self.reactor.watch(self._woken.fileno(), READABLE, self._wake)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.hosting.end(f"the switch {self.place.name} was stopped"))

    def _wake(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def run(self) -> None:
        """Serve until the switch ends."""
        self._heed_signals()
        self.hosting.begin()
        clock, timers, hosting = self.clock, self.timers, self.hosting
        while not hosting.ending:
            timers.fire(clock.reference_time())
            deadline = timers.next_deadline()
            wait = LONGEST_WAIT
            if deadline != NEVER:
                wait = min(wait, max(0, deadline - clock.reference_time()) / REFERENCE_HZ)
            if not hosting.ending:
                self.reactor.dispatch(wait)

    def close(self) -> None:
        """Say goodbye to all, and leave nothing behind."""
        with contextlib.suppress(OSError):
            self.place.socket.unlink()
        self._listener.close(self.hosting.ending or f"the switch {self.place.name} failed")
        self.hosting.close()
        if self.hosting.ending:
            self._delete_files()
        os.close(self._lock)

    def _delete_files(self) -> None:
        """The lock goes last: who finds none makes its own."""
        gone = [self.place.state, self.place.lock]
        with contextlib.suppress(OSError):
            if not self.place.log.stat().st_size:
                gone.insert(0, self.place.log)
        for path in gone:
            path.unlink(missing_ok=True)


def _listen(place: Place) -> socket.socket:
    """A socket that takes links; what a killed process left there goes."""
    place.socket.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(os.fspath(place.socket))
    listening.listen(BACKLOG)
    return listening


def _serve(name: str, ready: int) -> None:
    """Become the process of the switch, say so on `ready`, and serve; do nothing if there is one already."""
    os.umask(0o077)
    place = place_of(name)
    lock = place.take_lock()
    if lock is None:
        os.write(ready, b"1")
        return
    process = SwitchProcess(place, lock)
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.write(ready, b"1")
    os.close(ready)
    logging.basicConfig(format=_LOG_FORMAT, level=logging.WARNING)
    try:
        process.run()
    finally:
        process.close()


def _detached(name: str, ready: int) -> NoReturn:
    """The second part of the process: what goes wrong is said on standard error."""
    status = 1
    try:
        _serve(name, ready)
        status = 0
    except RingminusError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or name}: {error.strerror}", file=sys.stderr)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    sys.stderr.flush()
    os._exit(status)


def main(arguments: list[str]) -> NoReturn:
    """Start the process of the switch that is named; ends with 0 when it is there, else with 1."""
    names = [one for one in arguments if one != "--"]
    if len(names) != 1:
        sys.exit(f"usage: python -m {Path(__file__).stem} NAME")
    told, ready = os.pipe()
    if not os.fork():
        os.close(told)
        _detached(names[0], ready)
    os.close(ready)
    os._exit(0 if os.read(told, 1) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])

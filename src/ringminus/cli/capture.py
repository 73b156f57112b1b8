"""Looking at what passes a named switch: in lines, or into a pcap file."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ringminus.clock import NEVER, REFERENCE_HZ, TimerQueue, TscClock
from ringminus.errors import HostError, RingminusError
from ringminus.switch.capture import CaptureFile
from ringminus.switch.frame import Frame
from ringminus.switch.link.client import RemotePort
from ringminus.switch.link.control import Control
from ringminus.switch.port import Port, PortSettings
from ringminus.switch.reactor import READABLE, Reactor
from ringminus.switch.summary import summary

LONGEST_WAIT = 60.0


class FrameLines:
    """An endpoint that prints each frame it is shown, as `CaptureFile` writes it."""

    def __init__(self, packets: int) -> None:
        self.captured = self.dropped = 0
        self.ended = False
        self.error = ""
        self._most = packets
        self._began: float | None = None
        self._lines: list[str] = []

    def plugged(self, port: Port) -> None:
        """It never sends."""

    def resumed(self) -> None:
        """It never sends."""

    def set_link(self, up: bool, megabits: int) -> None:
        """It is shown what passes whatever its own link is."""

    def deliver(self, frame: Frame) -> None:
        if self.ended:
            return
        now = time.monotonic()
        if self._began is None:
            self._began = now
        self._lines.append(f"{now - self._began:>10.6f}  {summary(frame)}\n")
        self.captured += 1
        if self.captured == self._most:
            self.flush()
            self.ended = True

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines or self.ended:
            return
        try:
            sys.stdout.write("".join(lines))
            sys.stdout.flush()
        except OSError:  # nobody reads any more
            self.ended = True
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def close(self) -> None:
        self.flush()


class Interruption:
    """Becomes true by Ctrl-C, SIGTERM or the terminal's end, which wake the reactor."""

    def __init__(self) -> None:
        self.came = False

    def __bool__(self) -> bool:
        return self.came

    def _come(self, *_: object) -> None:
        self.came = True


@contextmanager
def interruption(reactor: Reactor) -> Iterator[Interruption]:
    """In the block these signals end nothing at once."""
    told = Interruption()
    woken, waking = socket.socketpair()
    woken.setblocking(False)
    waking.setblocking(False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    wakeup = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)

    def wake(_events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            woken.recv(4096)

    reactor.watch(woken.fileno(), READABLE, wake)
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, told._come)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        reactor.forget(woken.fileno())
        woken.close()
        waking.close()


def run(name: str, where: str | None, number: int, packets: int, seconds: float | None) -> None:
    """Capture until `packets` frames or `seconds` have passed (0, None: no bound), the switch ends, the
    reader goes, or somebody interrupts; `number` is the port that is watched, 0 for all."""
    reactor, timers = Reactor(), TimerQueue()
    clock = TscClock(time.monotonic_ns, 1_000_000_000)
    title = f"capture of process {os.getpid()}"
    port = RemotePort(
        name,
        PortSettings(),
        reactor,
        clock,
        timers,
        title=title,
        watch=number,
        start=False,
        on_trouble=lambda what: click.echo(f"ringminus: {what}", err=True),
    )
    until = NEVER if seconds is None else clock.reference_time() + int(seconds * REFERENCE_HZ)
    with interruption(reactor) as interrupted:
        shown = FrameLines(packets) if where is None else CaptureFile(where, reactor=reactor, packets=packets)
        try:
            port.plug(shown)
            while not (interrupted or shown.ended or port.dismissed):
                now = clock.reference_time()
                timers.fire(now)
                if now >= until:
                    break
                wait = max(0, min(until, timers.next_deadline()) - now) / REFERENCE_HZ
                reactor.dispatch(min(wait, LONGEST_WAIT))
            lost = _lost(port)
        finally:
            port.close()
    lost += shown.dropped
    words = f"{shown.captured} frame{'s' * (shown.captured != 1)}"
    click.echo(f"{words} captured" + (f", {lost} dropped" if lost else ""), err=True)
    if shown.error:
        raise HostError(f"the capture to {where} ended: {shown.error}")


def _lost(port: RemotePort) -> int:
    """Frames that the switch could not give us."""
    with contextlib.suppress(RingminusError), Control(port.place, 0.5) as control:
        for shown in control.request("show")["ports"]:
            if shown["number"] == port.number:
                return sum(shown["counters"]["dropped"].values())
    return 0

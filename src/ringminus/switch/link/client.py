"""A worker's end of a link: a `Port` that is on a switch in another process.

The link is made, and made again when it breaks, in the background; meanwhile the endpoint's link is down.
The process of the switch is started if there is none."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue
from ringminus.errors import HostError
from ringminus.switch.frame import Frame
from ringminus.switch.link.documents import (
    ROLE_CAPTURE,
    ROLE_PORT,
    Farewell,
    Hello,
    Welcome,
    settings_of,
    unpack,
)
from ringminus.switch.link.starter import Starter
from ringminus.switch.link.stream import (
    WRITE_SIZE,
    Inbox,
    LinkError,
    Outbox,
    large_buffers,
)
from ringminus.switch.link.wire import Address, Kind, LinkState
from ringminus.switch.places import place_of
from ringminus.switch.port import Endpoint, PortCounters, PortSettings
from ringminus.switch.reactor import READABLE, WRITABLE, Reactor
from ringminus.switch.settings import LARGEST_NAME, check_settings

ENOUGH = 256 << 10
"""Bytes that wait for the socket when the endpoint is asked to send no more."""
RESUME = 64 << 10
"""Bytes that wait when it may go on."""
MOST = 4 << 20
"""Bytes that wait when frames of an endpoint that goes on all the same are dropped."""

FIRST_RETRY = REFERENCE_HZ // 50
LONGEST_RETRY = 2 * REFERENCE_HZ
ANSWER_TIME = 5 * REFERENCE_HZ
"""How long a process may take to answer a HELLO."""


class RemotePort:
    """The port of an `Endpoint` on the switch `name`, which is in a process of its own.

    `plug` names the endpoint and begins. `settings` are as of `Switch.plug`; what `ringminus switch port`
    changes is kept over a break of the link. `title` names the port for a person, unless `settings` do.
    `watch` makes it a capture: the number of the port that it is shown, 0 for all. `start` False: wait for
    the switch, do not make it. `trouble` says in a line why there is no link, "" if there is one, and
    `on_trouble` is told it. `counters` has only frames that were dropped on this side."""

    def __init__(
        self,
        name: str,
        settings: PortSettings,
        reactor: Reactor,
        clock: ReferenceClock,
        timers: TimerQueue,
        *,
        title: str,
        watch: int | None = None,
        start: bool = True,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        self.place = place_of(name)
        self.settings = settings if settings.name else replace(settings, name=_as_name(title))
        check_settings(self.settings)
        self.counters = PortCounters()
        self.number = 0
        self.trouble = ""
        self.on_trouble = on_trouble
        role = ROLE_PORT if watch is None else ROLE_CAPTURE
        self._hello = Hello(role, settings=self.settings, watch=watch or 0)
        self._start = self._may_start = start
        self._reactor = reactor
        self._clock = clock
        self._timer = timers.timer(self._again)
        self._starter = Starter(self.place)
        self._endpoint: Endpoint | None = None
        self._link: socket.socket | None = None
        self._inbox = Inbox()
        self._outbox = Outbox()
        self._welcome = False
        self._up = False
        self._stopped = False
        self._delay = FIRST_RETRY
        self._dismissed = self._unplugged = False
        self._closed = False

    # -- of the endpoint

    def plug(self, endpoint: Endpoint) -> None:
        """Become the port of `endpoint`, which hears that its link is up when it is."""
        self._endpoint = endpoint
        endpoint.plugged(self)
        endpoint.set_link(False, self.settings.megabits)
        self._attempt()

    def send(self, frame: Frame) -> bool:
        """See `Port`. Frames without a link are counted as dropped: "no link"."""
        if not self._welcome:
            self.counters.drop("no link")
            return True
        outbox = self._outbox
        if outbox.size >= MOST:
            self.counters.drop("link queue full")
        elif not outbox.frame(frame):
            self.counters.drop("malformed")
        if outbox.size >= WRITE_SIZE and not outbox.blocked:
            self._send()
        if outbox.size < ENOUGH:
            return True
        self._stopped = True
        return False

    def flush(self) -> None:
        """See `Port`."""
        outbox = self._outbox
        if outbox.size and not outbox.blocked:
            self._send()

    def set_address(self, address: bytes) -> None:
        """See `Port`."""
        self.settings = replace(self.settings, address=address)
        if self._welcome:
            self._outbox.put(Kind.ADDRESS, Address(address=address).pack())
            self.flush()

    def close(self) -> None:
        """Unplug the endpoint and give the link back. The switch goes on while others are on it."""
        if self._closed:
            return
        self._closed = True
        if self._welcome and not self._outbox.blocked:
            self._send()
        self._timer.disarm()
        self._starter.close()
        self._let_go()
        if self._endpoint is not None:
            self._endpoint.close()

    # -- of who waits for it

    @property
    def dismissed(self) -> bool:
        """The switch was stopped on purpose, or this port unplugged; `trouble` says which."""
        return self._dismissed

    @property
    def connected(self) -> bool:
        """The switch has welcomed this port."""
        return self._welcome

    def wait(self, seconds: float = 10) -> None:
        """Wait until the switch has welcomed this port, before there is a loop that serves the reactor;
        raises `HostError` when it refuses, or when time is up."""
        until = time.monotonic() + seconds
        while not self._welcome:
            if self.trouble or time.monotonic() > until:
                raise HostError(self.trouble or f"the switch {self.place.name} does not answer")
            self._reactor.dispatch(0.005)
            if self._link is None:
                self._attempt()

    # -- the link

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self.trouble and self.on_trouble is not None:
            self.on_trouble(trouble)
        self.trouble = trouble

    def _again(self, _now: int) -> None:
        """Time is up: for the answer to a HELLO, or to try again, or to look after what was started."""
        if self._welcome:
            if not self._starter.reap():
                self._timer.arm(self._clock.reference_time() + REFERENCE_HZ)
        elif self._link is not None:
            self._say(f"the switch {self.place.name} does not answer")
            self._broken()
        else:
            self._attempt()

    def _attempt(self) -> None:
        """Look for the process, start it if there is none, and say HELLO."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            large_buffers(link)
            link.connect(os.fspath(self.place.socket))
        except OSError as error:
            link.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                self._nobody_there()
            else:  # a process that does not accept: its queue is full
                if not isinstance(error, BlockingIOError):
                    self._say(f"cannot reach the switch {self.place.name}: {error.strerror}")
                self._later()
            return
        self._link, self._inbox, self._outbox = link, Inbox(), Outbox()
        self._reactor.watch(link.fileno(), READABLE, self._ready)
        self._outbox.put(Kind.HELLO, replace(self._hello, settings=self.settings).pack())
        self._timer.arm(self._clock.reference_time() + ANSWER_TIME)
        self._send()

    def _nobody_there(self) -> None:
        if self._may_start:
            failure = self._starter.start()
            if failure is None:  # it is on its way
                self._timer.arm(self._clock.reference_time() + FIRST_RETRY)
                return
            self._say(failure)
        elif not self._dismissed:
            self._say(f"there is no switch {self.place.name}")
        self._later()

    def _later(self) -> None:
        self._timer.arm(self._clock.reference_time() + self._delay)
        self._delay = min(2 * self._delay, LONGEST_RETRY)

    def _send(self) -> None:
        link, outbox = self._link, self._outbox
        if link is None:
            return
        was_blocked = outbox.blocked
        try:
            outbox.send(link)
        except OSError:
            # the reason may be there to be read; the reactor tells of the broken link in any case
            outbox.blocked = True
            self._reactor.watch(link.fileno(), READABLE, self._ready)
            return
        if outbox.blocked != was_blocked:
            events = READABLE | WRITABLE if outbox.blocked else READABLE
            self._reactor.watch(link.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITABLE:
            self._send()
            if self._stopped and self._outbox.size <= RESUME:
                self._resume()
        if self._link is None or not events & (READABLE | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            count = self._inbox.receive(self._link)
            if count > 0:
                self._take()
        except LinkError as error:
            self._say(f"the switch {self.place.name} broke the protocol: {error}")
            self._broken()
        except OSError:
            self._broken()
        else:
            if not count:
                self._broken()

    def _resume(self) -> None:
        self._stopped = False
        if self._endpoint is not None:
            self._endpoint.resumed()

    def _take(self) -> None:
        """Hand on what has come."""
        endpoint, link = self._endpoint, self._link
        frames = False
        for message in self._inbox.messages():
            if not isinstance(message, Frame):
                self._told(*message)
            elif endpoint is None or not self._welcome:
                raise LinkError("a frame at the wrong time")
            else:
                frames = True
                endpoint.deliver(message)
            if self._link is not link:  # closed meanwhile, perhaps from within
                break
        if frames and endpoint is not None:
            endpoint.flush()

    def _told(self, kind: int, body: bytes) -> None:
        if kind == Kind.WELCOME and not self._welcome:
            self._welcomed(Welcome.unpack(body))
        elif kind == Kind.REFUSAL and not self._welcome:
            self._say(Farewell.unpack(body).reason)
            self._broken()
        elif kind == Kind.LINK and self._welcome and len(body) == LinkState.SIZE:
            state = LinkState.unpack(body)
            self._set_link(bool(state.up), state.megabits)
        elif kind == Kind.SETTINGS and self._welcome:
            self.settings = settings_of(unpack(body))
        elif kind == Kind.GOODBYE and self._welcome:
            self._dismiss(Farewell.unpack(body))
        else:
            raise LinkError(f"a message of kind {kind} at the wrong time")

    def _welcomed(self, welcome: Welcome) -> None:
        self._welcome = True
        self.number = welcome.port
        self._may_start = self._start
        self._dismissed = False
        self._delay = FIRST_RETRY
        self._timer.arm(self._clock.reference_time())
        self._say("")

    def _dismiss(self, farewell: Farewell) -> None:
        """The switch was stopped on purpose, or this port unplugged."""
        self._dismissed = True
        self._say(farewell.reason)
        self._unplugged = farewell.final
        self._may_start = False
        self._delay = LONGEST_RETRY // 2
        self._broken()

    def _set_link(self, up: bool, megabits: int) -> None:
        self._up = up
        self.settings = replace(self.settings, megabits=megabits)
        if self._endpoint is not None:
            self._endpoint.set_link(up, megabits)

    def _let_go(self) -> None:
        """Close the socket; what waited is lost, and counted."""
        link, self._link = self._link, None
        self._welcome = False
        if link is not None:
            self._reactor.forget(link.fileno())
            with contextlib.suppress(OSError):
                link.close()
        if self._outbox.frames:
            self.counters.drop("no link", self._outbox.frames)
        self._outbox = Outbox()

    def _broken(self) -> None:
        """There is no link any more: the endpoint hears that, and a new one is tried."""
        self._let_go()
        if not self._unplugged:
            self._later()
        if self._up:
            self._set_link(False, self.settings.megabits)
        if self._stopped:
            self._resume()


def _as_name(title: str) -> str:
    """A title as a port's name: its end, where it is too long."""
    return "".join(char if char.isprintable() and char != "," else "_" for char in title)[-LARGEST_NAME:]

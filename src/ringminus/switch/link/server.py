"""The end of links in the process of a switch: who comes in, as an endpoint of the switch or as a command.

A peer that breaks the protocol loses its link, and nothing else happens."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue
from ringminus.errors import ConfigError, GuestError, HostError, RingminusError
from ringminus.switch.frame import Frame
from ringminus.switch.link.documents import (
    ROLE_CONTROL,
    Farewell,
    Hello,
    Request,
    Response,
    Welcome,
    pack,
)
from ringminus.switch.link.stream import WRITE_SIZE, Inbox, LinkError, Outbox, large_buffers
from ringminus.switch.link.wire import LARGEST_DOCUMENT, VERSION, Address, Kind, LinkState
from ringminus.switch.places import PeerCredentials
from ringminus.switch.port import Port, PortCounters, PortSettings
from ringminus.switch.reactor import READABLE, WRITABLE, Reactor
from ringminus.switch.settings import to_dict

MOST_LINKS = 256
QUEUE = 2 << 20
"""Bytes that wait for a peer that does not read; frames after that are dropped and counted at its port."""
MOST_WAITING = QUEUE + 2 * LARGEST_DOCUMENT
QUEUE_FULL = "link queue full"
HELLO_TIME = 10 * REFERENCE_HZ
"""How long a peer may take to say what it wants."""

log = logging.getLogger(__name__)


class PluggedPort(Port, Protocol):
    """A `SwitchPort`, as far as a link uses it."""

    number: int
    counters: PortCounters


class Host(Protocol):
    """Whose links these are: the process of the switch. `ending` is not "" when it is about to end."""

    ending: str

    def plug(self, link: Link, hello: Hello) -> None:
        """Plug a new link into the switch, which calls its `plugged`. Raises `ConfigError` or `HostError`."""

    def unplug(self, link: Link) -> None:
        """A link is broken: its port goes."""

    def answer(self, request: Request) -> dict[str, object]:
        """What a command asks for. Raises `ConfigError` or `HostError`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What links of one switch share."""

    host: Host
    reactor: Reactor
    clock: ReferenceClock
    timers: TimerQueue


class Listener:
    """Lets links in by `listening`, a socket that listens. Only processes of this user may come."""

    def __init__(self, listening: socket.socket, around: Surroundings) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._around = around
        self._timer = around.timers.timer(self._listen)
        self.links: set[Link] = set()
        self.refused = 0
        self._listen(0)

    def _listen(self, _now: int) -> None:
        self._around.reactor.watch(self._listening.fileno(), READABLE, self._come)

    def _come(self, _events: int) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left, perhaps
                log.warning("cannot accept a link: %s", error.strerror)
                self._around.reactor.forget(self._listening.fileno())
                self._timer.arm(self._around.clock.reference_time() + REFERENCE_HZ)
                return
            self._let_in(accepted)

    def _let_in(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        peer = PeerCredentials.of(accepted)
        reason = ""
        if peer.uid != os.geteuid():
            reason = "this switch is another user's"
        elif len(self.links) >= MOST_LINKS:
            reason = f"the switch has {MOST_LINKS} links already, and takes no more"
        if reason:
            self.refused += 1
            outbox = Outbox()
            outbox.put(Kind.REFUSAL, Farewell(reason).pack())
            with contextlib.suppress(OSError), accepted:
                outbox.send(accepted)
            return
        self.links.add(Link(accepted, peer.pid, self._around, self._gone))

    def _gone(self, link: Link, broken: bool) -> None:
        self.links.discard(link)
        self.refused += broken

    def close(self, reason: str) -> None:
        """Let nobody in any more, and say goodbye to all."""
        self._timer.disarm()
        self._around.reactor.forget(self._listening.fileno())
        self._listening.close()
        for link in list(self.links):
            link.dismiss(reason)


class Link:
    """One link, an `Endpoint` once it said that it is one. `gone(link, broken)` is called when it is closed;
    `broken` says that the peer broke the protocol."""

    def __init__(
        self, link: socket.socket, pid: int, around: Surroundings, gone: Callable[[Link, bool], None]
    ) -> None:
        self.pid = pid
        self._link: socket.socket | None = link
        self._host = around.host
        self._reactor = around.reactor
        self._gone = gone
        self._inbox = Inbox()
        self._outbox = Outbox()
        self._port: PluggedPort | None = None
        self._control = False
        self._paused = False
        self._taking = False
        self._ended = False
        self._timer = around.timers.timer(self._too_late)
        self._timer.arm(around.clock.reference_time() + HELLO_TIME)
        large_buffers(link)
        self._reactor.watch(link.fileno(), READABLE, self._ready)

    # -- an endpoint

    def plugged(self, port: Port) -> None:
        """See `Endpoint`."""
        self._port = port  # type: ignore[assignment]
        assert self._port is not None
        self._outbox.put(Kind.WELCOME, Welcome(os.getpid(), self._port.number).pack())

    def deliver(self, frame: Frame) -> None:
        """See `Endpoint`. A peer that does not read loses frames; nobody waits for it."""
        outbox = self._outbox
        size = outbox.size
        if size >= QUEUE or not outbox.frame(frame):
            if self._port is not None:
                self._port.counters.drop(QUEUE_FULL if size >= QUEUE else "malformed")
        elif size >= WRITE_SIZE and not outbox.blocked:
            self._send()

    def flush(self) -> None:
        """See `Endpoint`."""
        if self._outbox.size and not self._outbox.blocked:
            self._send()

    def resumed(self) -> None:
        """See `Endpoint`."""
        if self._paused:
            self._paused = False
            self._watch()
            if not self._taking:
                self._guarded(self._take)

    def set_link(self, up: bool, megabits: int) -> None:
        """See `Endpoint`."""
        self._put(Kind.LINK, LinkState(megabits=megabits, up=up).pack())

    def close(self) -> None:
        """See `Endpoint`: it was unplugged, so the peer goes and does not come back."""
        if not self._ended:
            self.dismiss("this port was unplugged", final=True)

    # -- of the process

    def tell_settings(self, settings: PortSettings) -> None:
        """Somebody changed the port."""
        self._put(Kind.SETTINGS, pack(to_dict(settings)))

    def dismiss(self, reason: str, final: bool = False) -> None:
        """Say goodbye and close."""
        if self._port is not None and self._link is not None:
            self._outbox.put(Kind.GOODBYE, Farewell(reason, final).pack())
            with contextlib.suppress(OSError):
                self._outbox.send(self._link)
        self._end()

    # -- the link

    def _put(self, kind: Kind, body: bytes) -> None:
        """Send a message; a peer that asks and does not read is let go."""
        if self._outbox.size > MOST_WAITING:
            self._end(broken=True)
        else:
            self._outbox.put(kind, body)
            self.flush()

    def _too_late(self, _now: int) -> None:
        self._end()

    def _watch(self) -> None:
        if self._link is not None:
            events = 0 if self._paused else READABLE
            self._reactor.watch(
                self._link.fileno(), events | (WRITABLE if self._outbox.blocked else 0), self._ready
            )

    def _send(self) -> None:
        link, outbox = self._link, self._outbox
        if link is None:
            return
        was_blocked = outbox.blocked
        try:
            outbox.send(link)
        except OSError:
            outbox.blocked = True  # the reactor tells that the link is broken
        if outbox.blocked != was_blocked:
            self._watch()

    def _ready(self, events: int) -> None:
        self._guarded(self._serve, events)

    def _guarded(self, what: Callable[..., None], *arguments: object) -> None:
        """Whatever happens here costs this peer its link, and nobody else anything."""
        try:
            what(*arguments)
        except LinkError as error:
            log.debug("process %d broke the protocol of links: %s", self.pid, error)
            self._end(broken=True)
        except (OSError, GuestError, HostError, ConfigError):
            self._end()
        except Exception:
            log.exception("a bug of ringminus: the link to process %d is closed", self.pid)
            self._end(broken=True)

    def _serve(self, events: int) -> None:
        if events & WRITABLE:
            self._send()
        if self._link is None:
            return
        if events & READABLE and not self._paused:
            count = self._inbox.receive(self._link)
            if not count:
                self._end()
            elif count > 0:
                self._take()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self._end()

    def _take(self) -> None:
        """Handle what has come, until the switch wants no more."""
        self._taking = True
        frames = False
        try:
            for message in self._inbox.messages():
                if not isinstance(message, Frame):
                    self._told(*message)
                elif self._port is None:
                    raise LinkError("a frame at the wrong time")
                else:
                    frames = True
                    if not self._port.send(message):
                        self._paused = True
                if self._paused or self._link is None:
                    break
        finally:
            self._taking = False
            if frames and self._port is not None:
                self._port.flush()
        if self._paused:
            self._watch()

    def _told(self, kind: int, body: bytes) -> None:
        """Handle a message that is no frame."""
        if self._host.ending:  # nobody is promised anything now; the peer finds the next switch of this name
            raise LinkError("the switch ends")
        if kind == Kind.HELLO and self._port is None and not self._control:
            self._hello(Hello.unpack(body))
        elif kind == Kind.ADDRESS and self._port is not None and len(body) == Address.SIZE:
            self._port.set_address(Address.unpack(body).address)
        elif kind == Kind.REQUEST and self._control:
            self._request(Request.unpack(body))
        else:
            raise LinkError(f"a message of kind {kind} at the wrong time")

    def _hello(self, hello: Hello) -> None:
        self._timer.disarm()
        if hello.version != VERSION:
            self._refuse(
                f"the switch speaks version {VERSION} of the protocol of links, and not {hello.version}: "
                "start it again with this version of ringminus"
            )
        elif hello.role == ROLE_CONTROL:
            self._control = True
            self._put(Kind.WELCOME, Welcome(os.getpid()).pack())
        else:
            try:
                self._host.plug(self, hello)
            except RingminusError as error:
                self._refuse(str(error))
            else:
                self.flush()

    def _refuse(self, reason: str) -> None:
        self._outbox.put(Kind.REFUSAL, Farewell(reason).pack())
        self._send()
        self._end()

    def _request(self, request: Request) -> None:
        try:
            response = Response(dict(self._host.answer(request)))
        except ConfigError as error:
            response = Response({}, str(error), "config")
        except LinkError:
            raise
        except HostError as error:
            response = Response({}, str(error), "host")
        self._put(Kind.RESPONSE, response.pack())

    def _end(self, broken: bool = False) -> None:
        """Close the link and unplug the port, once."""
        if self._ended:
            return
        self._ended = True
        self._timer.disarm()
        link, self._link = self._link, None
        if link is not None:
            self._reactor.forget(link.fileno())
            with contextlib.suppress(OSError):
                link.close()
        if self._port is not None:
            if self._outbox.frames:
                self._port.counters.drop("no link", self._outbox.frames)
            self._port = None
            self._host.unplug(self)
        self._gone(self, broken)

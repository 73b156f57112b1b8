"""Named switches in tests: in this process, with a clock that stands still, and as processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ringminus.clock import MockClock, TimerQueue, TscClock
from ringminus.errors import RingminusError
from ringminus.switch.frame import Frame
from ringminus.switch.hosting import Hosting
from ringminus.switch.link.client import RemotePort
from ringminus.switch.link.control import Control
from ringminus.switch.link.documents import ROLE_PORT, Hello
from ringminus.switch.link.server import Listener, Surroundings
from ringminus.switch.link.stream import Inbox, Outbox, Told
from ringminus.switch.link.wire import Kind
from ringminus.switch.places import PeerCredentials, Place, place_of
from ringminus.switch.port import PortSettings
from ringminus.switch.reactor import Reactor
from support.endpoints import RecordingEndpoint, mac

PATIENCE = 10.0
"""Seconds that another process may take."""


@contextmanager
def own_runtime_directory() -> Iterator[Path]:
    """A directory for switches of this test alone, in a path that is short enough for sockets. What runs in
    it at the end is killed."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    with TemporaryDirectory(prefix="rm-", dir="/tmp") as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        try:
            yield Path(directory)
        finally:
            for lock in Path(directory, "ringminus").glob("*.lock"):
                kill(Place(lock.stem, lock.parent))
            if before is None:
                del os.environ["XDG_RUNTIME_DIR"]
            else:
                os.environ["XDG_RUNTIME_DIR"] = before


def kill(place: Place) -> None:
    """End the process of a switch, whatever it does."""
    with contextlib.suppress(RingminusError, ProcessLookupError):
        os.kill(process_of(place), signal.SIGKILL)
    until(lambda: not place.is_alive())


def process_of(place: Place) -> int:
    """The process that listens at a place."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(os.fspath(place.socket))
        except OSError:
            raise ProcessLookupError from None
        return PeerCredentials.of(asking).pid


def until(true: Callable[[], object], turn: Callable[[], object] = lambda: time.sleep(0.005)) -> None:
    """Wait until something is so; it fails after `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it does not happen"
        turn()


class Peer:
    """The other end of a link, which says what a test wants it to say."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self.link = link
        self.ended = False
        self._inbox = Inbox()

    @classmethod
    def to(cls, place: Place) -> Peer:
        link = socket.socket(socket.AF_UNIX)
        link.connect(os.fspath(place.socket))
        return cls(link)

    def say(self, *whats: tuple[Kind, bytes] | Frame | bytes) -> None:
        """Send messages, frames, or any bytes."""
        outbox = Outbox()
        for what in whats:
            if isinstance(what, bytes):
                self.link.sendall(what)
            elif isinstance(what, Frame):
                assert outbox.frame(what)
            else:
                outbox.put(*what)
            outbox.send(self.link)
        assert not outbox.size

    def hello(self, number: int = 7, **settings: Any) -> None:
        self.say(
            (Kind.HELLO, Hello(ROLE_PORT, settings=PortSettings(address=mac(number), **settings)).pack())
        )

    def heard(self) -> list[Frame | Told]:
        """What has come since the last call."""
        heard: list[Frame | Told] = []
        while not self.ended:
            try:
                count = self._inbox.receive(self.link)
            except ConnectionResetError:
                count = 0
            self.ended = count == 0
            heard += self._inbox.messages()
            if count < 0:
                break
        return heard

    def kinds(self) -> list[Kind]:
        """What kinds of messages have come since the last call."""
        return [Kind.FRAME if isinstance(one, Frame) else Kind(one[0]) for one in self.heard()]

    def close(self) -> None:
        self.link.close()


class LinkBed:
    """A worker's side: real time, a reactor, and as many ports as are asked for."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.timers = TimerQueue()
        self.clock = TscClock(time.monotonic_ns, 1_000_000_000)
        self.ports: list[RemotePort] = []
        self.troubles: list[str] = []

    def plug(self, number: int, name: str = "lab", **more: Any) -> tuple[RecordingEndpoint, RemotePort]:
        """A port whose endpoint has the address `mac(number)`, and has not waited for its link."""
        endpoint = RecordingEndpoint()
        settings = more.pop("settings", PortSettings(address=mac(number)))
        title = f"NIC {number}"
        port = RemotePort(
            name,
            settings,
            self.reactor,
            self.clock,
            self.timers,
            title=title,
            on_trouble=self.troubles.append,
            **more,
        )
        self.ports.append(port)
        port.plug(endpoint)
        return endpoint, port

    def linked(self, number: int, name: str = "lab", **more: Any) -> tuple[RecordingEndpoint, RemotePort]:
        """A port whose link is up."""
        endpoint, port = self.plug(number, name, **more)
        self.until(lambda: port.connected and endpoint.links[-1][0])
        return endpoint, port

    def turn(self, seconds: float = 0.005) -> None:
        self.timers.fire(self.clock.reference_time())
        self.reactor.dispatch(seconds)

    def until(self, true: Callable[[], object]) -> None:
        until(true, self.turn)

    def close(self) -> None:
        for port in self.ports:
            port.close()
        self.reactor.close()


class HostBed:
    """A switch's process without the process: its switch, its links and this side's ports on one reactor,
    and a clock that stands still."""

    def __init__(self, name: str = "lab") -> None:
        self.place = place_of(name)
        self.clock = MockClock()
        self.timers = TimerQueue()
        self.reactor = Reactor()
        self.hosting = Hosting(self.place, self.reactor, self.clock, self.timers)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(os.fspath(self.place.socket))
        listening.listen(16)
        around = Surroundings(self.hosting, self.reactor, self.clock, self.timers)
        self.listener = self.hosting.listener = Listener(listening, around)
        self.hosting.begin()

    @property
    def switch(self) -> Any:
        return self.hosting.switch

    def turn(self) -> None:
        """Let everybody do what they have to do now."""
        self.timers.fire(self.clock.reference_time())
        while self.reactor.dispatch(0):
            pass

    def advance(self, units: int) -> None:
        self.turn()
        self.clock.advance(units)
        self.turn()

    def plug(self, number: int, **more: Any) -> tuple[RecordingEndpoint, RemotePort]:
        """A guest with the address `mac(number)`, linked."""
        endpoint = RecordingEndpoint()
        settings = more.pop("settings", PortSettings(address=mac(number)))
        port = RemotePort(
            self.place.name, settings, self.reactor, self.clock, self.timers, title=f"NIC {number}", **more
        )
        port.plug(endpoint)
        self.turn()
        return endpoint, port

    def peer(self, number: int | None = None, **settings: Any) -> Peer:
        """A peer that says hello for a port, or nothing."""
        peer = Peer.to(self.place)
        if number is not None:
            peer.hello(number, **settings)
        self.turn()
        return peer

    def counters(self, number: int) -> dict[str, Any]:
        """Of a port, as `show` has them."""
        ports = self.hosting.describe()["ports"]
        found: dict[str, Any] = next(port["counters"] for port in ports if port["number"] == number)
        return found

    def close(self) -> None:
        self.listener.close("the test is over")
        self.hosting.close()
        self.reactor.close()
        self.place.socket.unlink(missing_ok=True)


def facts_of(name: str) -> dict[str, Any]:
    """What `show` says of a switch."""
    with Control(place_of(name)) as control:
        return control.request("show")

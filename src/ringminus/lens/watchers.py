"""One who watches a guest, as the guest's process sees him."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ringminus.errors import RingminusError
from ringminus.lens.live_wire import (
    HOT_HEADER,
    LARGEST_REQUEST,
    VERSION,
    Farewell,
    Hello,
    Inbox,
    Kind,
    LiveError,
    Lost,
    Request,
    Response,
    Watch,
    Welcome,
    pack,
    unpack,
)
from ringminus.lens.record import encode, schema
from ringminus.tap import EVENTS, ChannelState, Event

if TYPE_CHECKING:
    from ringminus.lens.hub import Hub

QUEUE = 16 << 20
"""Bytes that wait for a watcher who does not read; events after that are lost to him, and counted."""
WRITE_SIZE = 64 << 10
"""Bytes with which sending does not wait for the loop's next turn."""
READ_SIZE = 64 << 10
SOCKET_BUFFER = 1 << 20
POINTS = frozenset(kind.POINT for kind in EVENTS)
_EVENT = int(Kind.EVENT)

log = logging.getLogger(__name__)


def refuse(connection: socket.socket, reason: str) -> None:
    """Send somebody away."""
    with contextlib.suppress(OSError), connection:
        connection.setblocking(False)
        connection.send(pack(Farewell(reason)))


def teller(watchers: tuple[Watcher, ...]) -> Callable[[Event], None]:
    """Tells watchers of events."""

    def tell(event: Event) -> None:
        message = b""
        for one in watchers:
            if one.full:
                one.lost += 1
                continue
            message = message or _message(event)
            if message:
                one.put(message)
            else:
                one.lost += 1

    return tell


def _message(event: Event) -> bytes:
    """The event as a message; nothing if it cannot be one: that is our bug, and no reason to stop a guest."""
    try:
        record = encode(event)
    except Exception:
        log.exception("an event that cannot be recorded: %r", event)
        return b""
    return HOT_HEADER.pack(len(record), _EVENT) + record


class Watcher:
    """A connection of `hub`. Whoever breaks the protocol loses it. `lost` counts events since the last that
    found room."""

    def __init__(self, connection: socket.socket, hub: Hub) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self.points: frozenset[str] = frozenset()
        self.lost = 0
        self._connection = connection
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(LARGEST_REQUEST)
        self._greeted = False
        self._parts: list[bytes] = []
        self._rest = memoryview(b"")
        self._size = 0
        self._blocked = False
        self._due = False
        self._open = True
        self._emptied = asyncio.Event()
        self._loop.add_reader(connection.fileno(), self._readable)

    # ------------------------------------------------------------ to the watcher

    @property
    def full(self) -> bool:
        """Whether there is no room for another event."""
        return self._size >= QUEUE

    def put(self, message: bytes) -> None:
        """Send a message soon, after one that tells what was lost before it."""
        if self.lost:
            lost, self.lost = self.lost, 0
            self.put(pack(Lost(lost)))
        self._parts.append(message)
        self._size += len(message)
        if self._blocked:
            return
        if self._size >= WRITE_SIZE:
            self._send()
        elif not self._due:
            self._due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        """Write as much as the socket takes; it may be called from within the guest."""
        self._due = False
        while self._open and self._size:
            if not self._rest:
                self._rest, self._parts = memoryview(b"".join(self._parts)), []
            try:
                sent = self._connection.send(self._rest)
            except (BlockingIOError, InterruptedError):
                if not self._blocked:
                    self._blocked = True
                    self._loop.call_soon(self._wait_for_room)
                return
            except OSError:
                self._forget()
                self._loop.call_soon(self.close)
                return
            self._size -= sent
            self._rest = self._rest[sent:]
        self._emptied.set()
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._connection.fileno())

    def _forget(self) -> None:
        self._parts, self._rest, self._size = [], memoryview(b""), 0
        self._emptied.set()

    def _wait_for_room(self) -> None:
        if self._open and self._blocked:
            self._loop.add_writer(self._connection.fileno(), self._send)

    async def dismiss(self, reason: str) -> None:
        """Say that this is the end, and return when all has been sent."""
        self.put(pack(Farewell(reason)))
        while self._open and self._size:
            self._emptied.clear()
            await self._emptied.wait()

    def close(self) -> None:
        """The connection is over."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        self._forget()
        self._hub.gone(self)

    # ------------------------------------------------------------ from the watcher

    def _readable(self) -> None:
        try:
            data = self._connection.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._inbox.add(data)
        try:
            while self._open and (found := self._inbox.next()) is not None:
                self._take(unpack(*found))
        except LiveError as error:
            self.put(pack(Farewell(str(error))))
            self._send()
            self.close()

    def _take(self, message: object) -> None:
        if isinstance(message, Hello) and not self._greeted:
            if message.version != VERSION:
                raise LiveError(
                    f"this guest's process speaks version {VERSION} of watching, not {message.version}: "
                    "use the ringminus that it was started by"
                )
            self._greeted = True
            self.put(pack(Welcome(VERSION, self._hub.place.name, os.getpid(), schema())))
        elif isinstance(message, Watch) and self._greeted:
            self._watch(frozenset(message.points) & POINTS)
        elif isinstance(message, Request) and self._greeted:
            self.put(pack(self._answer(message)))
        else:
            raise LiveError(f"an unexpected {type(message).__name__}")

    def _watch(self, points: frozenset[str]) -> None:
        new = ChannelState.POINT in points and ChannelState.POINT not in self.points
        self.points = points
        self._hub.changed()
        for one in self._hub.channels() if new else ():
            one.host_ns = time.time_ns()
            self.put(_message(one))

    def _answer(self, request: Request) -> Response:
        operation = self._hub.operations.get(request.operation)
        if operation is None:
            return Response(error=f"this guest's process does not know how to {request.operation[:40]}")
        try:
            return Response(operation(request.arguments))
        except RingminusError as error:
            return Response(error=str(error))

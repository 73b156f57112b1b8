"""Watching a guest that runs in another process of this user."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from ringminus.errors import ConfigError, HostError
from ringminus.lens.guests import no_such, place_of
from ringminus.lens.live_wire import (
    VERSION,
    Body,
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
from ringminus.lens.record import BadRecord, Reader
from ringminus.tap import USUAL, Event

READ_SIZE = 256 << 10
PATIENCE = 5.0
"""Seconds for an answer."""
USUAL_POINTS = frozenset(kind.POINT for kind in USUAL)


class LiveSource:
    """The events of the guest `name` at these points of its tap, as they pass; a `Source`.

    `watch` asks for other points, and `request` asks the guest's process a question; both may be called from
    another thread than the one that iterates. When the guest has ended, iterating ends, and `ended` says how.
    Raises `NoSuchGuest`, or `HostError` if its process does not answer."""

    def __init__(self, name: str, points: Iterable[str] = USUAL_POINTS) -> None:
        self.ended = ""
        self._lost = 0
        self._events: deque[Event] = deque()
        self._answers: deque[Response] = deque()
        self._asking, self._sending, self._answered = (
            threading.Lock(),
            threading.Lock(),
            threading.Condition(),
        )
        self._iterating = False
        self._closed = False
        self._inbox = Inbox()
        self._connection = _connect(name)
        try:
            self._send(Hello(VERSION))
            welcome = self._welcome(name)
            self.partition, self.pid = welcome.name, welcome.pid
            self._reader = Reader(welcome.schema)
            self._connection.settimeout(None)
            self.watch(points)
        except BaseException:
            self.close()
            raise

    def _welcome(self, name: str) -> Welcome:
        try:
            while (found := self._inbox.next()) is None:
                data = self._connection.recv(READ_SIZE)
                if not data:
                    raise HostError(f"the guest {name} ended meanwhile")
                self._inbox.add(data)
        except TimeoutError:
            raise HostError(
                f"the process of the guest {name} does not answer: it is stopped, or hangs"
            ) from None
        except OSError:
            raise HostError(f"the guest {name} ended meanwhile") from None
        message = unpack(*found)
        if isinstance(message, Farewell):
            raise HostError(message.reason)
        if not isinstance(message, Welcome):
            raise LiveError(f"the guest {name} answers with {type(message).__name__}")
        return message

    @property
    def lost(self) -> int:
        """Events that the guest did not keep for us, as we were too slow, or that we do not know."""
        return self._lost

    def pending(self) -> bool:
        """Whether the next event is here already."""
        return bool(self._events)

    def watch(self, points: Iterable[str]) -> None:
        """Ask for the events of these points from now on, and for no others."""
        self._send(Watch(sorted(points)))

    def request(self, operation: str, **arguments: Any) -> Any:
        """Ask the guest's process; raises `ConfigError` with what it says against it, and `HostError`."""
        with self._asking:
            self._answers.clear()
            self._send(Request(operation, arguments))
            if self._iterating:
                with self._answered:
                    self._answered.wait_for(lambda: self._answers or self.ended or self._closed, PATIENCE)
            else:
                self._connection.settimeout(PATIENCE)
                try:
                    while not self._answers and self._receive():
                        pass
                finally:
                    if not self._closed:
                        self._connection.settimeout(None)
            if not self._answers:
                raise HostError(f"the guest {self.partition} does not answer")
            answer = self._answers.popleft()
        if answer.error:
            raise ConfigError(answer.error)
        return answer.result

    def __iter__(self) -> Iterator[Event]:
        self._iterating = True
        try:
            while True:
                while self._events:
                    yield self._events.popleft()
                if not self._receive():
                    return
        finally:
            self._iterating = False
            if self._closed:
                self._connection.close()

    def _send(self, message: Body) -> None:
        with self._sending, contextlib.suppress(OSError):  # the end is found when we read
            self._connection.sendall(pack(message))

    def _receive(self) -> bool:
        """Read once; False at the end."""
        try:
            data = self._connection.recv(READ_SIZE)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            if not self._closed:
                self._end(self.ended or f"the process of the guest {self.partition} has gone")
            return False
        self._inbox.add(data)
        while (found := self._inbox.next()) is not None:
            kind, body = found
            if kind == Kind.EVENT:
                self._take(body)
            else:
                self._hear(unpack(kind, body))
        return True

    def _take(self, record: bytes) -> None:
        try:
            self._events.append(self._reader.decode(record))
        except BadRecord:
            self._lost += 1

    def _hear(self, message: object) -> None:
        if isinstance(message, Lost):
            self._lost += message.count
        elif isinstance(message, Farewell):
            self._end(message.reason)
        elif isinstance(message, Response):
            with self._answered:
                self._answers.append(message)
                self._answered.notify_all()
        else:
            raise LiveError(f"the guest {self.partition} says {type(message).__name__}")

    def _end(self, reason: str) -> None:
        with self._answered:
            self.ended = reason
            self._answered.notify_all()

    def close(self) -> None:
        """See `Source`."""
        with self._answered:
            self._closed = True
            self._answered.notify_all()  # nobody waits for an answer any more
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # who reads in another thread comes back
        if not self._iterating:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(name: str) -> socket.socket:
    place = place_of(name)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(os.fspath(place.socket))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise no_such(name) from None
    except OSError as error:
        connection.close()
        raise HostError(f"cannot reach the guest {name}: {error.strerror or error}") from None
    return connection


def connect(name: str, points: Iterable[str] = USUAL_POINTS) -> LiveSource:
    """Watch a guest; see `LiveSource`."""
    return LiveSource(name, points)

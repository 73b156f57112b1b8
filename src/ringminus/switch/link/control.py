"""Asking the process of a switch, from a command. It waits for the answer."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any, Self

from ringminus.errors import ConfigError, HostError
from ringminus.switch.frame import Frame
from ringminus.switch.link.documents import (
    ROLE_CONTROL,
    Farewell,
    Hello,
    Request,
    Response,
    Welcome,
    may_be_said,
)
from ringminus.switch.link.starter import Starter
from ringminus.switch.link.stream import Inbox, LinkError, Told, message
from ringminus.switch.link.wire import Kind
from ringminus.switch.places import PeerCredentials, Place

PATIENCE = 5.0
"""Seconds for an answer."""


class NoSuchSwitch(ConfigError):
    """There is no process of this switch."""


class SwitchEnded(HostError):
    """The process of the switch closed the link without an answer."""


class Control:
    """A link for requests to the switch at `place`; a context manager. Raises `NoSuchSwitch`, and `HostError`
    if the switch does not answer."""

    def __init__(self, place: Place, patience: float = PATIENCE) -> None:
        self.place = place
        self._inbox = Inbox()
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._link.settimeout(patience)
        try:
            self._connect()
        except BaseException:
            self._link.close()
            raise

    def _connect(self) -> None:
        try:
            self._link.connect(os.fspath(self.place.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoSuchSwitch(
                f"there is no switch {self.place.name}: ringminus switch list names those that are there, "
                f"and ringminus switch create {self.place.name} makes it"
            ) from None
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise HostError(f"cannot reach the switch {self.place.name}: {error.strerror}") from None
        kind, body = self._exchange(Kind.HELLO, Hello(ROLE_CONTROL).pack())
        if kind == Kind.REFUSAL:
            raise HostError(Farewell.unpack(body).reason)
        if kind != Kind.WELCOME:
            raise LinkError(f"the switch {self.place.name} answers with a message of kind {kind}")
        self.pid = Welcome.unpack(body).pid

    def request(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Ask for an operation; raises what the switch says against it, as `ConfigError` or `HostError`."""
        for value in arguments.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str) and not may_be_said(one):
                    raise ConfigError(f"{one!r:.60} is too long, or has characters that cannot be printed")
        kind, body = self._exchange(Kind.REQUEST, Request(operation, arguments).pack())
        if kind != Kind.RESPONSE:
            raise LinkError(f"the switch {self.place.name} answers with a message of kind {kind}")
        response = Response.unpack(body)
        if response.kind:
            raise (ConfigError if response.kind == "config" else HostError)(response.error)
        return response.result

    def _exchange(self, kind: Kind, body: bytes) -> Told:
        try:
            self._link.sendall(message(kind, body))
            while True:
                if not self._inbox.receive(self._link):
                    raise self._gone()
                for answer in self._inbox.messages():
                    if not isinstance(answer, Frame):
                        return answer
        except TimeoutError:
            raise self._silent() from None
        except OSError:
            raise self._gone() from None

    def _silent(self) -> HostError:
        return HostError(
            f"the switch {self.place.name} does not answer: its process {self._listener()}hangs or is "
            f"stopped; its log is {self.place.log}"
        )

    def _listener(self) -> str:
        try:
            return f"{PeerCredentials.of(self._link).pid} "
        except OSError:
            return ""

    def _gone(self) -> HostError:
        return SwitchEnded(f"the switch {self.place.name} ended meanwhile")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def started(place: Place, patience: float = PATIENCE) -> Control:
    """A link to the switch at `place`, whose process is started if there is none; raises `HostError`."""
    starter = Starter(place)
    until = time.monotonic() + 3 * patience
    try:
        while True:
            try:
                return Control(place, patience)
            except NoSuchSwitch:
                failure = starter.start()
                if failure is not None or time.monotonic() > until:
                    raise HostError(failure or f"the switch {place.name} does not start") from None
            except SwitchEnded:  # it was ending; the next one is another
                if time.monotonic() > until:
                    raise
            time.sleep(0.01)
    finally:
        starter.close()

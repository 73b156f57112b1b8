"""What is said in JSON on a link, checked: who reads it gets what these classes promise, or a `LinkError`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from ringminus.errors import ConfigError
from ringminus.switch.link.stream import LinkError
from ringminus.switch.link.wire import LARGEST_DOCUMENT, VERSION
from ringminus.switch.port import PortSettings
from ringminus.switch.settings import from_dict, to_dict

LONGEST_TEXT = 1000
"""Characters of a reason or a title."""
T = TypeVar("T", int, str, bool)

ROLE_PORT, ROLE_CAPTURE, ROLE_CONTROL = "port", "capture", "control"
ROLES = (ROLE_PORT, ROLE_CAPTURE, ROLE_CONTROL)


def pack(document: dict[str, Any]) -> bytes:
    """A document as a message's body; raises `LinkError` if it is too large for one."""
    body = json.dumps(document, separators=(",", ":")).encode()
    if len(body) > LARGEST_DOCUMENT:
        raise LinkError(f"{len(body)} bytes are more than a message of a link has")
    return body


def unpack(body: bytes) -> dict[str, Any]:
    """The object that a message's body is."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise LinkError("a message that is no JSON") from None
    if not isinstance(document, dict):
        raise LinkError("a message that is no JSON object")
    return document


def may_be_said(text: str) -> bool:
    """Whether a message may have this text; arguments of a command may be anything."""
    return len(text) <= LONGEST_TEXT and text.isprintable()


def _get(document: dict[str, Any], name: str, kind: type[T], default: T | None = None) -> T:
    value = document.get(name, default)
    if type(value) is not kind:  # a bool is no number here
        raise LinkError(f"{name}: {str(value)[:40]!r} is no {kind.__name__}")
    if isinstance(value, str) and not may_be_said(value):
        raise LinkError(f"{name} is too long, or has unprintable characters")
    return value


def _number(document: dict[str, Any], name: str, most: int, default: int | None = None) -> int:
    value = _get(document, name, int, default)
    if not 0 <= value <= most:
        raise LinkError(f"{name} is not in 0 to {most}")
    return value


def _one_of(document: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = _get(document, name, str)
    if value not in allowed:
        raise LinkError(f"{name}: unknown word {value[:40]!r}")
    return value


def settings_of(document: object) -> PortSettings:
    """The settings that a document, of `settings.to_dict`, has."""
    try:
        return from_dict(document)
    except ConfigError as error:
        raise LinkError(_shown(str(error))) from None


def _shown(text: str) -> str:
    """What a peer said as it may be printed."""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:LONGEST_TEXT]
    )


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says first: which `version` of the protocol it speaks, and what it wants to be. A port
    has `settings`, and so has a capture, which only looks on; `watch` is the number of the port whose frames
    it wants, 0 for those of all."""

    role: str
    version: int = VERSION
    settings: PortSettings | None = None
    watch: int = 0

    def pack(self) -> bytes:
        document: dict[str, Any] = {"version": self.version, "role": self.role}
        if self.settings is not None:
            document |= {"settings": to_dict(self.settings), "watch": self.watch}
        return pack(document)

    @staticmethod
    def unpack(body: bytes) -> Hello:
        document = unpack(body)
        version = _number(document, "version", 1 << 31)
        if version != VERSION:  # the rest may be said in other words
            return Hello("", version)
        role = _one_of(document, "role", ROLES)
        if role == ROLE_CONTROL:
            return Hello(role)
        settings = settings_of(document.get("settings"))
        return Hello(role, version, settings, _number(document, "watch", 1 << 31, 0))


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's answer: the process that it is, and the number of the port (0 for a command)."""

    pid: int
    port: int = 0

    def pack(self) -> bytes:
        return pack({"version": VERSION, "pid": self.pid, "port": self.port})

    @staticmethod
    def unpack(body: bytes) -> Welcome:
        document = unpack(body)
        return Welcome(_number(document, "pid", 1 << 31), _number(document, "port", 1 << 31))


@dataclass(frozen=True, slots=True)
class Farewell:
    """Why the server closes the link, in words for a person. `final` is said to who shall not come back by
    itself: its port was unplugged. After a GOODBYE that is not final the switch was stopped on purpose: a
    client comes back when somebody else has started it again."""

    reason: str
    final: bool = False

    def pack(self) -> bytes:
        return pack({"reason": _shown(self.reason), "final": self.final})

    @staticmethod
    def unpack(body: bytes) -> Farewell:
        document = unpack(body)
        return Farewell(_get(document, "reason", str), _get(document, "final", bool))


@dataclass(frozen=True, slots=True)
class Request:
    """A command's wish: an operation's name, and what it needs."""

    operation: str
    arguments: dict[str, Any]

    def pack(self) -> bytes:
        return pack({"operation": self.operation, "arguments": self.arguments})

    @staticmethod
    def unpack(body: bytes) -> Request:
        document = unpack(body)
        arguments = document.get("arguments", {})
        if not isinstance(arguments, dict):
            raise LinkError("arguments are no object")
        return Request(_get(document, "operation", str), arguments)

    def text(self, name: str, default: str | None = None) -> str:
        """An argument that is text; raises `LinkError`."""
        return _get(self.arguments, name, str, default)

    def flag(self, name: str) -> bool:
        """An argument that is true or false, and false if it is missing."""
        return _get(self.arguments, name, bool, False)

    def number(self, name: str, most: int) -> int:
        """An argument that is a number from 0 to `most`."""
        return _number(self.arguments, name, most)

    def words(self, name: str, most: int = 64) -> list[str]:
        """An argument that is a list of at most `most` words."""
        found = self.arguments.get(name, [])
        if not isinstance(found, list) or len(found) > most:
            raise LinkError(f"{name} is no list of at most {most} words")
        return [_get({name: one}, name, str) for one in found]


@dataclass(frozen=True, slots=True)
class Response:
    """The answer: a `result`, or an `error` for the person. `kind` is "config" if the request was wrong, and
    "host" if the host cannot do it."""

    result: dict[str, Any]
    error: str = ""
    kind: str = ""

    def pack(self) -> bytes:
        return pack({"result": self.result, "error": _shown(self.error), "kind": self.kind})

    @staticmethod
    def unpack(body: bytes) -> Response:
        document = unpack(body)
        result = document.get("result")
        if not isinstance(result, dict):
            raise LinkError("a result that is no object")
        return Response(
            result, _get(document, "error", str), _one_of(document, "kind", ("", "config", "host"))
        )

"""What passes between a guest's process and who watches it: messages one after the other on a Unix stream
socket, each a `MessageHeader` and its body. The protocol is ringminus's own, and both ends are on one host.

    watcher                        guest
    HELLO     ->
              <-  WELCOME or FAREWELL, and then the end
    WATCH     ->  which points, instead of those before
              <-  EVENT, LOST, FAREWELL
    REQUEST   ->
              <-  RESPONSE

An event is a record (see `record`); bodies of the other messages are MessagePack.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import msgspec

from ringminus.errors import HostError
from ringminus.wire import U8, U32, Struct

VERSION = 1
LARGEST_BODY = 16 << 20
"""Bytes of a message's body; an event has at most some 128 KiB."""
LARGEST_REQUEST = 64 << 10
"""Bytes of a watcher's message's body."""


class Kind(IntEnum):
    """`MessageHeader.kind`."""

    HELLO = 1
    WELCOME = 2
    FAREWELL = 3
    WATCH = 4
    EVENT = 5
    LOST = 6
    REQUEST = 7
    RESPONSE = 8


class MessageHeader(Struct):
    """Before each message; `length` counts the body."""

    length: U32
    kind: U8


HOT_HEADER = struct.Struct("<IB")
"""`MessageHeader`."""


class LiveError(HostError):
    """The other end broke the protocol."""


class Hello(msgspec.Struct):
    """Which version of the protocol a watcher speaks."""

    version: int


class Welcome(msgspec.Struct):
    """The guest's name, its process, and the schema of its records."""

    version: int
    name: str
    pid: int
    schema: bytes


class Farewell(msgspec.Struct):
    """Why there are no more events, in words for a person."""

    reason: str


class Watch(msgspec.Struct):
    """The points of the tap that a watcher wants."""

    points: list[str]


class Lost(msgspec.Struct):
    """How many events did not find room, since the last that was sent."""

    count: int


class Request(msgspec.Struct):
    """A question: an operation's name, and what it needs."""

    operation: str
    arguments: dict[str, Any] = {}


class Response(msgspec.Struct):
    """The answer; `error` is for a person, "" if there is none."""

    result: Any = None
    error: str = ""


Body = Hello | Welcome | Farewell | Watch | Lost | Request | Response
KINDS: dict[type[Any], Kind] = {
    Hello: Kind.HELLO,
    Welcome: Kind.WELCOME,
    Farewell: Kind.FAREWELL,
    Watch: Kind.WATCH,
    Lost: Kind.LOST,
    Request: Kind.REQUEST,
    Response: Kind.RESPONSE,
}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS = {kind: msgspec.msgpack.Decoder(body) for body, kind in KINDS.items()}


def pack(body: Body) -> bytes:
    """A whole message."""
    data = _ENCODER.encode(body)
    return HOT_HEADER.pack(len(data), KINDS[type(body)]) + data


def unpack(kind: int, data: bytes) -> Any:
    """The body of a message that is no event; raises `LiveError`."""
    decoder = _DECODERS.get(kind)  # type: ignore[call-overload]
    if decoder is None:
        raise LiveError(f"a message of kind {kind}, which there is not")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LiveError(f"a message of kind {kind} that is none: {error}") from None


class Inbox:
    """What has come, cut into messages of at most `limit` bytes."""

    def __init__(self, limit: int = LARGEST_BODY) -> None:
        self._limit = limit
        self._data = bytearray()
        self._start = 0

    def add(self, data: bytes) -> None:
        """More of the stream."""
        if self._start:
            del self._data[: self._start]
            self._start = 0
        self._data += data

    def next(self) -> tuple[int, bytes] | None:
        """The next message's kind and body, None if it is not there as a whole; raises `LiveError`."""
        data, start = self._data, self._start
        if len(data) - start < HOT_HEADER.size:
            return None
        length, kind = HOT_HEADER.unpack_from(data, start)
        if length > self._limit:
            raise LiveError(f"a message of {length} bytes; {self._limit} are the most")
        first = start + HOT_HEADER.size
        if len(data) - first < length:
            return None
        self._start = first + length
        return kind, bytes(data[first : first + length])

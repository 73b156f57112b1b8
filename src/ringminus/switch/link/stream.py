"""Cutting a link's stream into messages, and joining messages into it. The sockets are non-blocking."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

from ringminus.errors import HostError
from ringminus.switch.frame import LARGEST_FRAME, Checksum, Frame
from ringminus.switch.link.wire import HEADER_SIZE, HOT_HEADER, LARGEST_BODY, FrameFlag, Kind, MessageHeader

SOCKET_BUFFER = 1 << 20
"""Bytes that are asked for in each direction; the kernel gives at most net.core.wmem_max."""
READ_SIZE = 256 << 10
"""Bytes that are read at once."""
WRITE_SIZE = 64 << 10
"""Bytes with which an `Outbox` does not wait for `flush`."""

GATHERED = 8 << 10
"""Bytes of a part, on average, from which on parts are not joined before they are sent."""
MOST_GATHERED = 128
"""Parts for one system call; the kernel takes IOV_MAX, which is 1,024."""

Told = tuple[int, bytes]
"""A message that is no frame: its kind and body."""

T = TypeVar("T")
_CHECKSUMS = (Checksum.UNKNOWN, Checksum.VALID, Checksum.MISSING)
_LIMITS = [LARGEST_BODY[Kind(kind)] if kind in LARGEST_BODY else -1 for kind in range(256)]
_FRAME, _TAGGED = int(Kind.FRAME), int(FrameFlag.TAGGED)


class LinkError(HostError):
    """The other end of a link broke the protocol. It loses the link."""


def large_buffers(link: socket.socket) -> None:
    """Ask for socket buffers that hold some of the largest frames."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)


def message(kind: Kind, body: bytes = b"") -> bytes:
    """A whole message that is not a frame."""
    return MessageHeader(length=HEADER_SIZE + len(body), kind=kind).pack() + body


class Inbox:
    """What has come, cut into messages.

    `receive` reads once, `messages` gives what is complete; who stops in the middle of that gets the rest
    the next time."""

    def __init__(self) -> None:
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._needed = 0

    def receive(self, link: socket.socket) -> int:
        """Read what is there; gives how many bytes, 0 at the stream's end, -1 if there is nothing."""
        view, start, end = self._view, self._start, self._end
        if self._needed > len(view):
            self._grow(self._needed)
            view, start, end = self._view, self._start, self._end
        elif start:
            if end > start:
                view[: end - start] = view[start:end]
            self._start, self._end = start, end = 0, end - start
        if end == len(view):
            return -1
        try:
            count = link.recv_into(view[end:] if end else view)
        except (BlockingIOError, InterruptedError):
            return -1
        self._end = end + count
        return count

    def _grow(self, size: int) -> None:
        """Make place for a message that does not fit."""
        kept = bytes(self._view[self._start : self._end])
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._view[: len(kept)] = kept
        self._start, self._end = 0, len(kept)

    def messages(self) -> Iterator[Frame | Told]:
        """What has come as a whole; raises `LinkError` at a header that cannot be."""
        unpack, buffer, view, limits = HOT_HEADER.unpack_from, self._buffer, self._view, _LIMITS
        start, end = self._start, self._end
        while end - start >= HEADER_SIZE:
            length, kind, flags, segment_size, tci, reserved = unpack(buffer, start)
            if not HEADER_SIZE <= length <= HEADER_SIZE + limits[kind] or reserved:
                raise LinkError(f"a message of kind {kind} cannot have {length} bytes, reserved {reserved}")
            first, start = start + HEADER_SIZE, start + length
            if start > end:
                self._needed = length
                return
            self._start = start
            body = bytes(view[first:start])
            if kind == _FRAME:
                if flags & 3 == 3 or flags > 7:
                    raise LinkError(f"a frame with unknown flags {flags:#x}")
                yield Frame(body, tci if flags & _TAGGED else None, _CHECKSUMS[flags & 3], segment_size)
            elif flags or segment_size or tci:
                raise LinkError(f"a message of kind {kind} with what only frames have")
            else:
                yield kind, body


class Outbox:
    """What is to be sent.

    `frame` and `put` take it in any case. `size` is the bytes that wait, `frames` the frames among them. When
    the socket takes no more, `blocked` is set until `send` is called again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._rest = memoryview(b"")
        self._rest_frames = 0
        self.size = 0
        self.frames = 0
        self.blocked = False

    def frame(self, frame: Frame) -> bool:
        """Append a frame; False if it is none that a link carries."""
        data, tci = frame.data, frame.tci
        size = len(data)
        if size > LARGEST_FRAME:
            return False
        length, flags = HEADER_SIZE + size, int(frame.checksum)
        if tci is None:
            tci = 0
        else:
            flags |= _TAGGED
        parts = self._parts
        try:
            parts.append(HOT_HEADER.pack(length, _FRAME, flags, frame.segment_size, tci, 0))
        except struct.error:
            return False
        parts.append(data)
        self.size += length
        self.frames += 1
        return True

    def put(self, kind: Kind, body: bytes = b"") -> None:
        """Append a message."""
        whole = message(kind, body)
        self._parts.append(whole)
        self.size += len(whole)

    def send(self, link: socket.socket) -> None:
        """Send what the socket takes; raises `OSError` when the link is broken."""
        self.blocked = False
        while self.size:
            rest = self._rest
            if not rest:
                parts, self._parts, self._rest_frames = self._parts, [], self.frames
                if len(parts) <= MOST_GATHERED and self.size >= len(parts) * GATHERED:
                    sent = _try(link.sendmsg, parts)
                    self.size -= sent
                    if self.size:
                        self._rest = memoryview(b"".join(parts))[sent:]
                        self.blocked = True
                        return
                    self.frames = 0
                    return
                rest = memoryview(b"".join(parts))
            sent = _try(link.send, rest)
            self.size -= sent
            if sent < len(rest):
                self._rest = rest[sent:]
                self.blocked = True
                return
            self._rest = memoryview(b"")
            self.frames -= self._rest_frames


def _try(send: Callable[[T], int], what: T) -> int:
    """Send on a non-blocking socket; gives how many bytes it took."""
    try:
        return send(what)
    except (BlockingIOError, InterruptedError):
        return 0

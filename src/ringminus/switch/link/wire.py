"""What passes a link between a worker, or a command, and the process of a named switch. The protocol is
ringminus's own; both ends are on one host, so numbers are little-endian.

A link is a Unix stream socket, on which messages follow each other without gaps: a `MessageHeader`, and
behind it the message's body. Streams are used, and not SOCK_SEQPACKET, because one system call then carries
as many frames as there are: measured with 1,500-byte frames in batches of 32, a frame costs its sender 0.9 µs
and its receiver 1.6 µs on a stream, against 3.5 and 5.3 µs as packets (`python bench/links.py` measures the
whole way).

    client                          server
    HELLO       ->
                <-  WELCOME or REFUSAL, and then the end
    of a port:
    FRAME       <->  FRAME
    ADDRESS     ->
                <-  LINK, SETTINGS, GOODBYE
    of a command:
    REQUEST     ->
                <-  RESPONSE
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated

from ringminus.switch.frame import LARGEST_FRAME
from ringminus.wire import U8, U16, U32, Bytes, Struct

VERSION = 1
LARGEST_DOCUMENT = 1 << 20
"""Bytes of JSON in one message."""


class Kind(IntEnum):
    """`MessageHeader.kind`."""

    HELLO = 1
    """JSON: `documents.Hello`."""
    WELCOME = 2
    """JSON: `documents.Welcome`."""
    REFUSAL = 3
    """JSON: `documents.Farewell`. The server closes the link."""
    FRAME = 4
    """An Ethernet frame; the header tells what `Frame` has beside its data."""
    LINK = 5
    """`LinkState`: the port's link went up or down, or has another speed."""
    ADDRESS = 6
    """`Address`: the endpoint has another MAC address."""
    SETTINGS = 7
    """JSON: the port's settings, after somebody changed them."""
    REQUEST = 8
    """JSON: `documents.Request`."""
    RESPONSE = 9
    """JSON: `documents.Response`."""
    GOODBYE = 10
    """JSON: `documents.Farewell`. The server closes the link, and does not want it back at once."""


class FrameFlag(IntEnum):
    """`MessageHeader.flags` of a FRAME. The low bits are its `Checksum`."""

    CHECKSUM = 3
    TAGGED = 4
    """`MessageHeader.tci` counts."""


class MessageHeader(Struct):
    """Before each message. `length` counts header and body; all but `length` and `kind` is zero except of a
    FRAME."""

    length: U32
    kind: U8
    flags: U8 = 0
    segment_size: U16 = 0
    tci: U16 = 0
    reserved: U16 = 0


class LinkState(Struct):
    """The body of LINK; `megabits` is the speed in megabits per second."""

    megabits: U32
    up: U8
    reserved: Annotated[bytes, Bytes(3)] = b""


class Address(Struct):
    """The body of ADDRESS."""

    address: Annotated[bytes, Bytes(6)]
    reserved: U16 = 0


HEADER_SIZE = MessageHeader.SIZE
LARGEST_BODY = dict.fromkeys(Kind, LARGEST_DOCUMENT) | {
    Kind.FRAME: LARGEST_FRAME,
    Kind.LINK: LinkState.SIZE,
    Kind.ADDRESS: Address.SIZE,
}
"""Bytes of the largest body that each kind may have."""

HOT_HEADER = struct.Struct("<IBBHHH")
"""The whole `MessageHeader`."""

"""A link's stream: messages are found however it is cut, and sent however little the socket takes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ringminus.switch.frame import LARGEST_FRAME, Checksum, Frame
from ringminus.switch.link import stream
from ringminus.switch.link.stream import Inbox, LinkError, Outbox, message
from ringminus.switch.link.wire import (
    HEADER_SIZE,
    HOT_HEADER,
    LARGEST_DOCUMENT,
    Address,
    Kind,
    LinkState,
    MessageHeader,
)
from support.endpoints import frame

FRAMES = (
    frame(payload=b"plain"),
    frame(payload=b"tagged", tci=0xE005, checksum=Checksum.VALID),
    frame(payload=b"large" * 1000, checksum=Checksum.MISSING, segment_size=1448),
    Frame(bytes(LARGEST_FRAME), 0, Checksum.MISSING, 65535),
    Frame(b""),
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    for one in (ours, theirs):
        one.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def parts(found: Frame) -> tuple[object, ...]:
    return found.data, found.tci, found.checksum, found.segment_size


def all_of(inbox: Inbox, link: socket.socket) -> list[object]:
    found: list[object] = []
    while inbox.receive(link) > 0:
        found += [parts(one) if isinstance(one, Frame) else one for one in inbox.messages()]
    return found


def test_the_codec_of_headers_is_their_structure() -> None:
    data = bytes(range(1, 1 + HEADER_SIZE))
    header = MessageHeader.unpack(data)
    assert HOT_HEADER.size == MessageHeader.SIZE
    assert HOT_HEADER.unpack(data) == tuple(getattr(header, one.name) for one in MessageHeader.FIELDS)


def test_frames_keep_what_is_left_undone(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    inbox, found = Inbox(), []
    for one in FRAMES:
        outbox = Outbox()
        assert outbox.frame(one)
        outbox.put(Kind.LINK, LinkState(megabits=10, up=1).pack())
        while outbox.size:
            outbox.send(ours)
            found += all_of(inbox, theirs)
    link = (Kind.LINK, LinkState(megabits=10, up=1).pack())
    assert found == [one for each in FRAMES for one in (parts(each), link)]


@pytest.mark.parametrize("step", [1, 5, HEADER_SIZE, HEADER_SIZE + 1, 100])
def test_messages_come_in_any_pieces(pair: tuple[socket.socket, socket.socket], step: int) -> None:
    ours, theirs = pair
    kept = FRAMES[:2]
    outbox = Outbox()
    for one in kept:
        outbox.frame(one)
    outbox.put(Kind.ADDRESS, Address(address=b"abcdef").pack())
    whole = b"".join(outbox._parts)
    inbox, found = Inbox(), []
    for at in range(0, len(whole), step):
        ours.send(whole[at : at + step])
        found += all_of(inbox, theirs)
    assert found == [*map(parts, kept), (Kind.ADDRESS, Address(address=b"abcdef").pack())]


def test_a_document_larger_than_what_is_read_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    body = bytes(range(256)) * (LARGEST_DOCUMENT // 256)
    outbox, inbox = Outbox(), Inbox()
    found: list[object] = []
    outbox.put(Kind.RESPONSE, body)
    outbox.frame(FRAMES[0])
    while outbox.size:
        outbox.send(ours)
        found += all_of(inbox, theirs)
    assert found == [(Kind.RESPONSE, body), parts(FRAMES[0])]


def test_who_stops_gets_the_rest_the_next_time(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    outbox, inbox = Outbox(), Inbox()
    for number in range(3):
        outbox.frame(frame(payload=bytes([number])))
    outbox.send(ours)
    inbox.receive(theirs)
    first = next(iter(inbox.messages()))
    rest = list(inbox.messages())
    assert [one.data[-1] for one in (first, *rest) if isinstance(one, Frame)] == [0, 1, 2]


def test_the_end_of_the_stream_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    inbox = Inbox()
    assert inbox.receive(theirs) == -1
    ours.close()
    assert inbox.receive(theirs) == 0


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (MessageHeader(length=0, kind=Kind.FRAME), "cannot have 0 bytes"),
        (MessageHeader(length=HEADER_SIZE - 1, kind=Kind.FRAME), "cannot have 11 bytes"),
        (MessageHeader(length=HEADER_SIZE + LARGEST_FRAME + 1, kind=Kind.FRAME), "cannot have"),
        (MessageHeader(length=HEADER_SIZE + LARGEST_DOCUMENT + 1, kind=Kind.HELLO), "cannot have"),
        (MessageHeader(length=0xFFFFFFFF, kind=Kind.REQUEST), "cannot have"),
        (MessageHeader(length=HEADER_SIZE, kind=0), "kind 0"),
        (MessageHeader(length=HEADER_SIZE, kind=11), "kind 11"),
        (MessageHeader(length=HEADER_SIZE + 9, kind=Kind.LINK), "kind 5"),
        (MessageHeader(length=HEADER_SIZE, kind=Kind.FRAME, reserved=1), "reserved 1"),
        (MessageHeader(length=HEADER_SIZE, kind=Kind.FRAME, flags=3), "unknown flags 0x3"),
        (MessageHeader(length=HEADER_SIZE, kind=Kind.FRAME, flags=8), "unknown flags 0x8"),
        (MessageHeader(length=HEADER_SIZE, kind=Kind.HELLO, tci=1), "what only frames have"),
    ],
)
def test_headers_that_cannot_be(
    pair: tuple[socket.socket, socket.socket], header: MessageHeader, reason: str
) -> None:
    ours, theirs = pair
    ours.send(message(Kind.HELLO, b"{}") + header.pack())
    inbox = Inbox()
    inbox.receive(theirs)
    messages = inbox.messages()
    assert next(messages) == (Kind.HELLO, b"{}")
    with pytest.raises(LinkError, match=reason):
        next(messages)


def test_what_no_link_carries_is_not_sent() -> None:
    outbox = Outbox()
    assert not outbox.frame(Frame(bytes(LARGEST_FRAME + 1)))
    assert not outbox.frame(Frame(bytes(60), segment_size=65536))
    assert not outbox.frame(Frame(bytes(60), tci=65536))
    assert (outbox.size, outbox.frames) == (0, 0)


@pytest.mark.parametrize("size", [60, 1514, stream.GATHERED * 3, 60000])
def test_a_full_socket_blocks_and_nothing_is_lost(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    """Also where large frames are not joined, and the socket takes a part of one."""
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
    outbox, inbox = Outbox(), Inbox()
    sent = 0
    while not outbox.blocked:
        for _ in range(3):
            outbox.frame(Frame(sent.to_bytes(4, "big") + bytes(size - 4)))
            sent += 1
        outbox.send(ours)
    assert 0 < outbox.frames <= sent
    assert outbox.size > 0
    found: list[object] = []
    while outbox.size:
        found += all_of(inbox, theirs)
        outbox.send(ours)
    found += all_of(inbox, theirs)
    assert [int.from_bytes(one[0][:4], "big") for one in found] == list(range(sent))  # type: ignore[index]
    assert (outbox.frames, outbox.blocked) == (0, False)

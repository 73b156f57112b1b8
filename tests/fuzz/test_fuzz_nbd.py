"""An NBD server may say anything: its client answers with an error of ours, and never waits for more."""

from __future__ import annotations

import socket
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from ringminus.disks.disk import DiskError
from ringminus.disks.nbd.connection import Connection
from ringminus.disks.nbd.wire import (
    OPTION_REPLY_MAGIC,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    ChunkHeader,
    Command,
    ExportInfo,
    Number32,
    Option,
    OptionReply,
    OptionReplyType,
)

HELLO = b"NBDMAGICIHAVEOPT\0\3"


def option_reply(option: int, type: int, data: bytes = b"") -> bytes:
    return OptionReply(magic=OPTION_REPLY_MAGIC, option=option, type=type, length=len(data)).pack() + data


ACCEPTED = (
    HELLO
    + option_reply(Option.STRUCTURED_REPLY, OptionReplyType.ACK)
    + option_reply(Option.SET_META_CONTEXT, OptionReplyType.META_CONTEXT, bytes(4) + b"base:allocation")
    + option_reply(Option.SET_META_CONTEXT, OptionReplyType.ACK)
    + option_reply(Option.GO, OptionReplyType.INFO, bytes(2) + ExportInfo(size=1 << 20, flags=0x65).pack())
    + option_reply(Option.GO, OptionReplyType.ACK)
)

replies = st.builds(
    option_reply,
    st.sampled_from([Option.STRUCTURED_REPLY, Option.SET_META_CONTEXT, Option.GO]),
    st.sampled_from([*OptionReplyType, 77]),
    st.one_of(
        st.binary(max_size=20),
        st.builds(
            lambda kind, rest: struct.pack(">H", kind) + rest, st.integers(0, 4), st.binary(max_size=14)
        ),
    ),
)
chunks = st.builds(
    lambda flags, type, handle, length, data: (
        Number32(value=STRUCTURED_REPLY_MAGIC).pack()
        + ChunkHeader(flags=flags, type=type, handle=handle, length=length).pack()
        + data
    ),
    st.integers(0, 1),
    st.sampled_from([0, 1, 2, 5, 6, 0x8001, 0x8002]),
    st.sampled_from([1, 1, 1, 2]),
    st.one_of(st.integers(0, 600), st.integers(0, 0xFFFFFFFF)),
    st.one_of(
        st.binary(max_size=30),
        st.builds(
            lambda offset, rest: struct.pack(">Q", offset) + rest,
            st.integers(0, 1024),
            st.binary(max_size=520),
        ),
    ),
)
simple = st.builds(
    lambda error, handle, data: struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, error, handle) + data,
    st.integers(0, 200),
    st.integers(0, 2),
    st.binary(max_size=600),
)


def talk(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.sendall(said)
    theirs.shutdown(socket.SHUT_WR)
    view = memoryview(bytearray(512))
    try:
        connection = Connection(ours, "here", "")
        for command in (Command.READ, Command.BLOCK_STATUS):
            try:
                connection.run(command, 512, 512, receive=[view] if command == Command.READ else ())
            except DiskError as error:
                assert "timed out" not in str(error)
        connection.close()
    except DiskError as error:
        assert "timed out" not in str(error)
    finally:
        theirs.close()


@settings(deadline=None)
@given(st.lists(st.one_of(replies, st.binary(max_size=40)), max_size=6))
def test_any_handshake(parts: list[bytes]) -> None:
    talk(HELLO + b"".join(parts))


@settings(deadline=None)
@given(st.lists(st.one_of(chunks, simple, st.binary(max_size=40)), max_size=6))
def test_any_answer(parts: list[bytes]) -> None:
    talk(ACCEPTED + b"".join(parts))

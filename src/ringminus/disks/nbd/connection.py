"""One connection to an NBD server: the handshake, then one request at a time.

The protocol's fixed newstyle handshake, with structured replies and allocation where the server has them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass

from ringminus.disks.disk import Buffers, DiskError
from ringminus.disks.files import after, fill_zeros, first, total
from ringminus.disks.nbd.wire import (
    ALLOCATION_CONTEXT,
    LARGEST_NAME,
    LARGEST_PAYLOAD,
    OPTION_MAGIC,
    OPTION_REPLY_MAGIC,
    SERVER_MAGIC,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    BlockSizeInfo,
    ChunkFlag,
    ChunkHeader,
    ChunkType,
    ClientFlags,
    Command,
    CommandFlag,
    ExportInfo,
    Extent,
    HandshakeFlag,
    HoleChunk,
    InfoType,
    Number16,
    Number32,
    Number64,
    Option,
    OptionReply,
    OptionReplyType,
    OptionRequest,
    Request,
    ServerHello,
    SimpleReply,
    TransmissionFlag,
)
from ringminus.wire import ShortBuffer

_ZEROES_AFTER_EXPORT = 124
_LONGEST_OPTION_REPLY = 1 << 16
_MOST_OPTION_REPLIES = 100
_LONGEST_MESSAGE = 1 << 16
_REASONS = {
    OptionReplyType.POLICY: "the server does not allow it",
    OptionReplyType.TLS_REQUIRED: "the server wants TLS, which this client does not have",
    OptionReplyType.UNKNOWN: "the server has no export of this name",
    OptionReplyType.SHUTDOWN: "the server is ending",
    OptionReplyType.BLOCK_SIZE_REQUIRED: "the server wants a block size that this client does not have",
}


@dataclass(slots=True)
class Export:
    """What the server said of the disk; sizes in bytes."""

    size: int
    flags: TransmissionFlag
    smallest: int = 1
    largest: int = LARGEST_PAYLOAD
    tells_allocation: bool = False


class Connection:
    """A connected socket in its transmission phase; not for two threads at once.

    After any failure but the server's own error replies, the connection is closed and stays so: whether the
    server has what was written to it is not known then.
    """

    def __init__(self, peer: socket.socket, where: str, name: str) -> None:
        """Shake hands and choose the export `name`; errors (`DiskError`) call the server `where`."""
        self._socket = peer
        self._where = where
        self._handle = 0
        self._structured = False
        try:
            self.export = self._shake_hands(name)
        except OSError as error:
            self.close()
            raise DiskError(f"{where}: {error.strerror or error}", error.errno) from None
        except ShortBuffer as error:
            self.close()
            raise self._broken(str(error)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the socket at once."""
        self._socket.close()

    def disconnect(self) -> None:
        """Take leave and close."""
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.sendall(Request(type=Command.DISCONNECT, handle=0).pack())
        self.close()

    # the handshake

    def _shake_hands(self, name: str) -> Export:
        hello = ServerHello.unpack(self._take(ServerHello.SIZE))
        if hello.magic != SERVER_MAGIC or hello.option_magic != OPTION_MAGIC:
            raise self._broken("this is no NBD server, or one of before 2011")
        if not hello.flags & HandshakeFlag.FIXED_NEWSTYLE:
            raise self._broken("the server is too old: it has no fixed newstyle handshake")
        flags = HandshakeFlag.FIXED_NEWSTYLE | hello.flags & HandshakeFlag.NO_ZEROES
        self._socket.sendall(ClientFlags(flags=flags).pack())
        encoded = name.encode()
        if len(encoded) > LARGEST_NAME:
            raise self._broken(f"an export's name of {len(encoded)} bytes: {LARGEST_NAME} at most")
        named = Number32(value=len(encoded)).pack() + encoded
        self._structured = self._ask(Option.STRUCTURED_REPLY) is not None
        tells = False
        if self._structured:
            query = (
                Number32(value=1).pack() + Number32(value=len(ALLOCATION_CONTEXT)).pack() + ALLOCATION_CONTEXT
            )
            tells = bool(self._ask(Option.SET_META_CONTEXT, named + query))
        wish = named + Number16(value=1).pack() + Number16(value=InfoType.BLOCK_SIZE).pack()
        facts = self._ask(Option.GO, wish, must=True)
        if facts is None:
            return self._take_old_export(encoded, bool(flags & HandshakeFlag.NO_ZEROES))
        return self._export(facts, tells)

    def _take_old_export(self, name: bytes, no_zeroes: bool) -> Export:
        """For servers without `Option.GO`. They close the connection if there is no such export."""
        self._socket.sendall(OptionRequest(option=Option.EXPORT_NAME, length=len(name)).pack() + name)
        info = ExportInfo.unpack(self._take(ExportInfo.SIZE))
        if not no_zeroes:
            self._take(_ZEROES_AFTER_EXPORT)
        return Export(info.size, TransmissionFlag(info.flags))

    def _export(self, facts: list[bytes], tells_allocation: bool) -> Export:
        export: Export | None = None
        sizes: BlockSizeInfo | None = None
        for fact in facts:
            kind = Number16.unpack(fact).value
            if kind == InfoType.EXPORT:
                info = ExportInfo.unpack(fact, Number16.SIZE)
                export = Export(info.size, TransmissionFlag(info.flags), tells_allocation=tells_allocation)
            elif kind == InfoType.BLOCK_SIZE:
                sizes = BlockSizeInfo.unpack(fact, Number16.SIZE)
        if export is None:
            raise self._broken("the server does not tell the export's size")
        if sizes is not None:
            export.smallest = sizes.minimum
            export.largest = max(sizes.minimum, min(sizes.maximum, LARGEST_PAYLOAD))
        return export

    def _ask(self, option: Option, data: bytes = b"", must: bool = False) -> list[bytes] | None:
        """Negotiate an option: the data of the replies before the acknowledgement, None if it is refused.

        Where the option is a `must`, only a server that does not know it is none; else `DiskError`.
        """
        self._socket.sendall(OptionRequest(option=option, length=len(data)).pack() + data)
        told: list[bytes] = []
        while True:
            reply = OptionReply.unpack(self._take(OptionReply.SIZE))
            if reply.magic != OPTION_REPLY_MAGIC or reply.option != option:
                raise self._broken("the server's handshake is out of step")
            if reply.length > _LONGEST_OPTION_REPLY:
                raise self._broken(f"a reply of {reply.length} bytes in the handshake")
            body = self._take(reply.length)
            if reply.type == OptionReplyType.ACK:
                return told
            if reply.type & OptionReplyType.ERROR:
                if must and reply.type != OptionReplyType.UNSUPPORTED:
                    said = body.decode("utf-8", "replace") or _reason(reply.type)
                    raise DiskError(f"{self._where}: {said}")
                return None
            told.append(body)
            if len(told) > _MOST_OPTION_REPLIES:
                raise self._broken("a handshake without end")

    # requests

    def run(
        self,
        command: Command,
        offset: int = 0,
        length: int = 0,
        *,
        send: Buffers = (),
        receive: Buffers = (),
        flags: CommandFlag | int = 0,
    ) -> list[Extent]:
        """One request; returns the extents that a block status tells. Raises `DiskError`."""
        if self._socket.fileno() < 0:
            raise DiskError(f"{self._where}: the connection to the server was lost before", errno.ENOTCONN)
        self._handle += 1
        request = Request(type=command, handle=self._handle, offset=offset, length=length, flags=flags)
        try:
            self._send([memoryview(request.pack()), *send])
            return self._reply(offset, receive)
        except OSError as error:
            self.close()
            raise DiskError(f"{self._where}: {error.strerror or error}", error.errno, offset) from None
        except _Refused as refused:
            reason = os.strerror(refused.number)
            what = f"{command.name.lower()} at {offset}"
            raise DiskError(f"{self._where}: {what}: {reason}", refused.number, offset) from None
        except BaseException:
            self.close()
            raise

    def _reply(self, offset: int, receive: Buffers) -> list[Extent]:
        extents: list[Extent] = []
        error = 0
        left = total(receive) if receive else 0
        while True:
            magic = Number32.unpack(self._take(Number32.SIZE)).value
            if magic == SIMPLE_REPLY_MAGIC:
                reply = SimpleReply.unpack(self._take(SimpleReply.SIZE))
                self._must_be_mine(reply.handle)
                if reply.error:
                    raise _Refused(reply.error)
                self._fill(receive)
                return []
            if magic != STRUCTURED_REPLY_MAGIC or not self._structured:
                raise self._broken(f"a reply that begins with {magic:#x}")
            chunk = ChunkHeader.unpack(self._take(ChunkHeader.SIZE))
            self._must_be_mine(chunk.handle)
            if chunk.type & ChunkType.ERROR:
                error = error or self._error_in(chunk)
            elif chunk.type == ChunkType.BLOCK_STATUS:
                extents += self._extents_in(chunk)
            elif chunk.type in (ChunkType.OFFSET_DATA, ChunkType.OFFSET_HOLE):
                left -= self._data_in(chunk, offset, receive)
            elif chunk.type != ChunkType.NONE or chunk.length:
                raise self._broken(f"an unknown chunk {chunk.type}")
            if chunk.flags & ChunkFlag.DONE:
                if error:
                    raise _Refused(error)
                if left:
                    raise self._broken(f"{left} bytes of a read are missing")
                return extents

    def _data_in(self, chunk: ChunkHeader, offset: int, receive: Buffers) -> int:
        """Take a chunk of a read to its place; returns its length."""
        if chunk.type == ChunkType.OFFSET_HOLE:
            if chunk.length != HoleChunk.SIZE:
                raise self._broken("a hole of a wrong form")
            hole = HoleChunk.unpack(self._take(HoleChunk.SIZE))
            at, length = hole.offset - offset, hole.length
        else:
            if chunk.length < Number64.SIZE:
                raise self._broken("data of a wrong form")
            at = Number64.unpack(self._take(Number64.SIZE)).value - offset
            length = chunk.length - Number64.SIZE
        if at < 0 or at + length > (total(receive) if receive else 0):
            raise self._broken("data that nobody asked for")
        part = first(after(receive, at), length)
        if chunk.type == ChunkType.OFFSET_HOLE:
            fill_zeros(part)
        else:
            self._fill(part)
        return length

    def _extents_in(self, chunk: ChunkHeader) -> list[Extent]:
        if (
            not Number32.SIZE < chunk.length <= _LONGEST_MESSAGE
            or (chunk.length - Number32.SIZE) % Extent.SIZE
        ):
            raise self._broken("a block status of a wrong form")
        body = self._take(chunk.length)
        return [Extent.unpack(body, at) for at in range(Number32.SIZE, len(body), Extent.SIZE)]

    def _error_in(self, chunk: ChunkHeader) -> int:
        if not Number32.SIZE <= chunk.length <= _LONGEST_MESSAGE:
            raise self._broken("an error of a wrong form")
        return Number32.unpack(self._take(chunk.length)).value or errno.EIO

    # bytes

    def _must_be_mine(self, handle: int) -> None:
        if handle != self._handle:
            raise self._broken(f"a reply to request {handle} where {self._handle} was asked")

    def _take(self, length: int) -> bytes:
        data = bytearray(length)
        self._fill([memoryview(data)])
        return bytes(data)

    def _fill(self, buffers: Buffers) -> None:
        for view in buffers:
            while view:
                got = self._socket.recv_into(view)
                if not got:
                    raise self._broken("the server closed the connection")
                view = view[got:]

    def _send(self, buffers: list[memoryview]) -> None:
        while buffers:
            buffers = after(buffers, self._socket.sendmsg(buffers[:1024]))

    def _broken(self, what: str) -> DiskError:
        return DiskError(f"{self._where}: {what}", errno.EPROTO)


class _Refused(Exception):
    """The server's own error reply: its numbers are those of Linux."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _reason(type: int) -> str:
    for known, reason in _REASONS.items():
        if type == known:
            return reason
    return f"the server refuses the export (error {type & 0x7FFFFFFF})"

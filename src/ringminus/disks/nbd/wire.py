"""The NBD protocol's messages. All integers are big-endian.

Source: "The NBD protocol", doc/proto.md of the NetworkBlockDevice project.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from ringminus.wire import U16, U32, U64, Struct

DEFAULT_PORT = 10809
SERVER_MAGIC = 0x4E42444D41474943  # NBDMAGIC
OPTION_MAGIC = 0x49484156454F5054  # IHAVEOPT
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

LARGEST_NAME = 4096
LARGEST_PAYLOAD = 32 << 20  # bytes of one request that every server takes
ALLOCATION_CONTEXT = b"base:allocation"


class HandshakeFlag(IntFlag):
    """Of the server and of the client, which answers with those that it knows."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    GO = 7
    STRUCTURED_REPLY = 8
    SET_META_CONTEXT = 10


class OptionReplyType(IntEnum):
    ACK = 1
    INFO = 3
    META_CONTEXT = 4
    ERROR = 0x80000000  # bit of all errors
    UNSUPPORTED = 0x80000001
    POLICY = 0x80000002
    INVALID = 0x80000003
    PLATFORM = 0x80000004
    TLS_REQUIRED = 0x80000005
    UNKNOWN = 0x80000006
    SHUTDOWN = 0x80000007
    BLOCK_SIZE_REQUIRED = 0x80000008


class InfoType(IntEnum):
    EXPORT = 0
    BLOCK_SIZE = 3


class TransmissionFlag(IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    ONE_EXTENT = 1 << 3


class ChunkFlag(IntFlag):
    DONE = 1


class ChunkType(IntEnum):
    """Of structured replies."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 1 << 15  # bit of all errors


class ExtentFlag(IntFlag):
    """Of `base:allocation`."""

    HOLE = 1
    ZERO = 2


class ServerHello(Struct, big_endian=True):
    magic: U64
    option_magic: U64
    flags: U16


class ClientFlags(Struct, big_endian=True):
    flags: U32


class OptionRequest(Struct, big_endian=True):
    """`length` bytes of data follow."""

    magic: U64 = OPTION_MAGIC
    option: U32
    length: U32


class OptionReply(Struct, big_endian=True):
    """`length` bytes of data follow."""

    magic: U64
    option: U32
    type: U32
    length: U32


class Number16(Struct, big_endian=True):
    """A count or a kind of information."""

    value: U16


class Number32(Struct, big_endian=True):
    """A count or a length."""

    value: U32


class ExportInfo(Struct, big_endian=True):
    """After the kind, in a reply to `Option.GO`; alone, after `Option.EXPORT_NAME`."""

    size: U64
    flags: U16


class BlockSizeInfo(Struct, big_endian=True):
    """After the kind; in bytes."""

    minimum: U32
    preferred: U32
    maximum: U32


class Request(Struct, big_endian=True):
    magic: U32 = REQUEST_MAGIC
    flags: U16 = 0
    type: U16
    handle: U64
    offset: U64 = 0
    length: U32 = 0


class SimpleReply(Struct, big_endian=True):
    """After its magic. The data of a read follows if there is no error."""

    error: U32
    handle: U64


class ChunkHeader(Struct, big_endian=True):
    """After its magic. `length` bytes follow."""

    flags: U16
    type: U16
    handle: U64
    length: U32


class HoleChunk(Struct, big_endian=True):
    offset: U64
    length: U32


class Number64(Struct, big_endian=True):
    """An offset."""

    value: U64


class Extent(Struct, big_endian=True):
    length: U32
    flags: U32

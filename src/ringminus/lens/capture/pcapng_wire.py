"""The blocks of a capture file: pcapng (draft-ietf-opsawg-pcapng), written little-endian, and what is ours
in it, which docs/reference/capture-format.md describes.

A block is its type, its length, its body padded to 4 bytes, and its length again; an option is its code, its
length and its value, padded too.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from ringminus.wire import U8, U16, U32, U64, Struct

BYTE_ORDER_MAGIC = 0x1A2B3C4D
SWAPPED_MAGIC = 0x4D3C2B1A
UNKNOWN_LENGTH = 0xFFFFFFFFFFFFFFFF
"""Of a section that ends where the file or the next one begins."""
ALIGNMENT = 4
MOST_CAPTURED = 1 << 18
"""Bytes of a packet: more Wireshark calls a damaged file (WTAP_MAX_PACKET_SIZE_STANDARD)."""
MOST_IN_BLOCK = 16 << 20
"""Bytes of a block: the same (wiretap/pcapng.c: MAX_BLOCK_SIZE)."""


class BlockType(IntEnum):
    """The blocks that are written, or read."""

    SECTION_HEADER = 0x0A0D0D0A
    INTERFACE = 1
    STATISTICS = 5
    PACKET = 6
    CUSTOM = 0x00000BAD


class LinkType(IntEnum):
    """What a packet's bytes are (tcpdump.org/linktypes.html)."""

    ETHERNET = 1
    EVENTS = 160
    """LINKTYPE_USER13: packets that begin with `PacketHeader`. Numbers 147 to 162 are for everybody."""


class Option(IntEnum):
    """Codes of options; several blocks use the same numbers."""

    END = 0
    COMMENT = 1
    HARDWARE = 2
    OS = 3
    APPLICATION = 4
    INTERFACE_NAME = 2
    INTERFACE_DESCRIPTION = 3
    TIME_RESOLUTION = 9
    START_TIME = 2
    END_TIME = 3
    RECEIVED = 4
    DROPPED = 5
    FLAGS = 2
    PACKET_ID = 5
    CUSTOM_BYTES = 2989


NANOSECONDS = 9
"""The time resolution: 10 to the power of minus that."""


class Direction(IntEnum):
    """A packet's, as the host sees it, in the two lowest bits of its flags."""

    NONE = 0
    TO_HOST = 1
    TO_GUEST = 2


class BlockHeader(Struct):
    """`length` is the whole block's, with its header and the length at its end."""

    type: U32
    length: U32


class SectionHeader(Struct):
    """The body of a section's header."""

    magic: U32 = BYTE_ORDER_MAGIC
    major: U16 = 1
    minor: U16 = 0
    section_length: U64 = UNKNOWN_LENGTH


class Interface(Struct):
    """The body of an interface's description; interfaces are counted from 0 in each section."""

    link_type: U16
    reserved: U16 = 0
    snap_length: U32 = MOST_CAPTURED


class Packet(Struct):
    """The body of a packet's block, before its bytes."""

    interface: U32
    time_high: U32
    time_low: U32
    captured_length: U32
    original_length: U32


class Statistics(Struct):
    """The body of an interface's statistics."""

    interface: U32
    time_high: U32
    time_low: U32


class OptionHeader(Struct):
    """`length` is the value's without its padding."""

    code: U16
    length: U16


PRIVATE_ENTERPRISE = 32473
"""The number before a custom option's or block's bytes. Ringminus has none of its own: this one is for
documents (RFC 5612), and what is ours begins with `CUSTOM_MAGIC` after it."""
CUSTOM_MAGIC = 0x4E494D52


class Custom(Struct):
    """Before a custom block's or option's bytes."""

    enterprise: U32 = PRIVATE_ENTERPRISE
    magic: U32 = CUSTOM_MAGIC


class Kind(IntEnum):
    """What follows a `PacketHeader`."""

    ABOUT = 0
    """A MessagePack map that tells of the file: `application`, `partition`, and the `schema` of its records
    (see `lens.record`). It is each section's first packet."""
    EVENT = 1
    """A record."""


FORMAT_VERSION = 1


class PacketHeader(Struct):
    """Before the bytes of a packet of `LinkType.EVENTS`; `schema` is the CRC-32 of the schema by which
    records were written."""

    version: U8 = FORMAT_VERSION
    kind: U8 = Kind.EVENT
    direction: U8 = Direction.NONE
    reserved: U8 = 0
    schema: U32


BLOCK_HEADER = struct.Struct("<II")
"""BlockHeader."""
PACKET = struct.Struct("<IIIII")
"""Packet."""
PACKET_HEADER = struct.Struct("<BBBBI")
"""PacketHeader."""
BEFORE_PACKET = struct.Struct("<IIIIIII")
"""BlockHeader and Packet."""
AFTER_PACKET = tuple(struct.Struct(f"<{padding}xHHIHHQII") for padding in (0, 3, 2, 1))
"""By the packet's length modulo 4: padding, the options FLAGS and PACKET_ID, END, and the block's length."""
AROUND_PACKET = BEFORE_PACKET.size + AFTER_PACKET[0].size
"""Bytes of a packet's block beside its packet and the padding."""

"""The capture file that libpcap and Wireshark call "pcap" (draft-ietf-opsawg-pcap), written little-endian
with times in nanoseconds."""

from __future__ import annotations

import struct

from ringminus.wire import U16, U32, Struct

MAGIC_NANOSECONDS = 0xA1B23C4D
LINKTYPE_ETHERNET = 1


class PcapHeader(Struct):
    """The file's begin. `snaplen` is at least the captured bytes of any record."""

    magic: U32 = MAGIC_NANOSECONDS
    version_major: U16 = 2
    version_minor: U16 = 4
    reserved1: U32 = 0
    reserved2: U32 = 0
    snaplen: U32
    linktype: U32 = LINKTYPE_ETHERNET


class PcapRecord(Struct):
    """Before each packet's bytes; the time is since 1970."""

    seconds: U32
    nanoseconds: U32
    captured_length: U32
    original_length: U32


RECORD = struct.Struct("<IIII")
"""PcapRecord."""

"""The VHD file format: "Virtual Hard Disk Image Format Specification", Microsoft, version 1.0 (2006).

All integers are big-endian. A dynamic or differencing disk's file is: a copy of the footer, the dynamic
header, parent locators, the block allocation table (BAT), blocks, and the footer. A block is its sector
bitmap, padded to whole sectors, and its data; the bitmap's first bit is the highest of its first byte.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from ringminus.wire import U8, U16, U32, U64, Bytes, Struct

SECTOR = 512
FOOTER_COOKIE = b"conectix"
HEADER_COOKIE = b"cxsparse"
NO_OFFSET = 0xFFFFFFFFFFFFFFFF
VERSION_1_0 = 0x00010000
UNUSED_ENTRY = 0xFFFFFFFF  # a BAT entry of a block that has no place in the file
BAT_ENTRY_SIZE = 4
OLD_FOOTER_SIZE = 511  # Virtual PC before 2004 left out the last byte
DEFAULT_BLOCK_SIZE = 2 << 20
LARGEST_DISK = 2040 << 30  # bytes; what Hyper-V allows
EPOCH = 946684800  # 2000-01-01 00:00:00 UTC as a Unix time: time stamps count seconds from here

FEATURE_RESERVED = 2  # always set
CREATOR_HYPER_V = b"win "
CREATOR_VERSION = 0x000A0000  # Windows 10's and Server 2016's
HOST_WINDOWS = b"Wi2k"

LARGEST_CYLINDERS, LARGEST_HEADS, LARGEST_SECTORS = 65535, 16, 255


class DiskType(IntEnum):
    NONE = 0
    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


class Footer(Struct, big_endian=True):
    """Sizes in bytes; `timestamp` of creation; `checksum` is the complement of the sum of all other bytes."""

    cookie: Annotated[bytes, Bytes(8)] = FOOTER_COOKIE
    features: U32 = FEATURE_RESERVED
    file_format_version: U32 = VERSION_1_0
    data_offset: U64
    timestamp: U32
    creator_application: Annotated[bytes, Bytes(4)] = CREATOR_HYPER_V
    creator_version: U32 = CREATOR_VERSION
    creator_host_os: Annotated[bytes, Bytes(4)] = HOST_WINDOWS
    original_size: U64
    current_size: U64
    cylinders: U16
    heads: U8
    sectors_per_track: U8
    disk_type: U32
    checksum: U32 = 0
    unique_id: Annotated[bytes, Bytes(16)]
    saved_state: U8 = 0
    reserved: Annotated[bytes, Bytes(427)] = b""


class ParentLocator(Struct, big_endian=True):
    """Where one name of the parent is. `data_space` should count sectors, but many programs write bytes."""

    platform_code: Annotated[bytes, Bytes(4)] = b""
    data_space: U32 = 0
    data_length: U32 = 0
    reserved: U32 = 0
    data_offset: U64 = 0


class DynamicHeader(Struct, big_endian=True):
    """`parent_timestamp` is when the parent's file was last changed, `parent_name` its name in UTF-16 BE."""

    cookie: Annotated[bytes, Bytes(8)] = HEADER_COOKIE
    data_offset: U64 = NO_OFFSET
    table_offset: U64
    header_version: U32 = VERSION_1_0
    max_table_entries: U32
    block_size: U32
    checksum: U32 = 0
    parent_unique_id: Annotated[bytes, Bytes(16)] = b""
    parent_timestamp: U32 = 0
    reserved_1: U32 = 0
    parent_name: Annotated[bytes, Bytes(512)] = b""
    locator_1: ParentLocator = ParentLocator()
    locator_2: ParentLocator = ParentLocator()
    locator_3: ParentLocator = ParentLocator()
    locator_4: ParentLocator = ParentLocator()
    locator_5: ParentLocator = ParentLocator()
    locator_6: ParentLocator = ParentLocator()
    locator_7: ParentLocator = ParentLocator()
    locator_8: ParentLocator = ParentLocator()
    reserved_2: Annotated[bytes, Bytes(256)] = b""


LOCATORS = tuple(f"locator_{number}" for number in range(1, 9))


class Platform:
    """Codes of parent locators, and what their data is."""

    WINDOWS_RELATIVE = b"W2ru"  # UTF-16 LE, relative to the child's directory
    WINDOWS_ABSOLUTE = b"W2ku"  # UTF-16 LE
    MAC_URL = b"MacX"  # a file URL in UTF-8

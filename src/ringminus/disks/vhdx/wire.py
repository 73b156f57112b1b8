"""What a VHDX file is made of. Source: [MS-VHDX], section 2; numbers are little-endian, strings UTF-16."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated
from uuid import UUID

from ringminus.wire import U16, U32, U64, Bytes, Struct

Guid = Annotated[bytes, Bytes(16)]
Signature = Annotated[bytes, Bytes(4)]

KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40

# 2.2: where the header section's parts are
IDENTIFIER_OFFSET = 0
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
REGION_TABLE_SIZE = 64 * KIB
HEADER_SECTION_SIZE = MIB
MOST_TABLE_ENTRIES = 2047  # of a region table and of the metadata table

LARGEST_DISK = 64 * TIB
SMALLEST_BLOCK, LARGEST_BLOCK = MIB, 256 * MIB
SECTOR_SIZES = (512, 4096)
BITMAP_BLOCK_SIZE = MIB
SECTORS_PER_CHUNK = BITMAP_BLOCK_SIZE * 8

IDENTIFIER_SIGNATURE = b"vhdxfile"
HEADER_SIGNATURE = b"head"
REGION_SIGNATURE = b"regi"
METADATA_SIGNATURE = b"metadata"
FORMAT_VERSION, LOG_VERSION = 1, 0

BAT_REGION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")

FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")

PARENT_IS_VHDX = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")
# 2.6.2.6.3: the keys of a parent locator
KEY_LINKAGE = "parent_linkage"
KEY_LINKAGE_2 = "parent_linkage2"
KEY_RELATIVE_PATH = "relative_path"
KEY_VOLUME_PATH = "volume_path"
KEY_ABSOLUTE_PATH = "absolute_win32_path"


class FileIdentifier(Struct):
    """2.2.1: the first bytes of the file."""

    signature: Annotated[bytes, Bytes(8)]
    creator: Annotated[bytes, Bytes(512)]


class Header(Struct):
    """2.2.2: there are two, of which the valid one with the higher sequence number counts."""

    signature: Signature = HEADER_SIGNATURE
    checksum: U32 = 0
    sequence_number: U64
    file_write_guid: Guid
    data_write_guid: Guid
    log_guid: Guid
    log_version: U16 = LOG_VERSION
    version: U16 = FORMAT_VERSION
    log_length: U32
    log_offset: U64
    reserved: Annotated[bytes, Bytes(4016)] = b""


class RegionTableHeader(Struct):
    """2.2.3.1."""

    signature: Signature = REGION_SIGNATURE
    checksum: U32 = 0
    entry_count: U32
    reserved: U32 = 0


class RegionTableEntry(Struct):
    """2.2.3.2."""

    guid: Guid
    file_offset: U64
    length: U32
    required: U32


LOG_SECTOR_SIZE = 4 * KIB
LOG_SIGNATURE = b"loge"
ZERO_SIGNATURE = b"zero"
DATA_DESCRIPTOR_SIGNATURE = b"desc"
DATA_SIGNATURE = b"data"
SMALLEST_LOGGED_OFFSET = REGION_TABLE_OFFSETS[0]


class LogEntryHeader(Struct):
    """2.3.1.1; descriptors follow at once, data sectors from the next 4 KiB on. Lengths are in bytes, `tail`
    is an offset in the log."""

    signature: Signature = LOG_SIGNATURE
    checksum: U32 = 0
    entry_length: U32
    tail: U32
    sequence_number: U64
    descriptor_count: U32
    reserved: U32 = 0
    log_guid: Guid
    flushed_file_offset: U64
    last_file_offset: U64


class ZeroDescriptor(Struct):
    """2.3.1.2."""

    signature: Signature = ZERO_SIGNATURE
    reserved: U32 = 0
    zero_length: U64
    file_offset: U64
    sequence_number: U64


class DataDescriptor(Struct):
    """2.3.1.3: holds the bytes of its sector that the data sector's own fields displace."""

    signature: Signature = DATA_DESCRIPTOR_SIGNATURE
    trailing_bytes: Annotated[bytes, Bytes(4)]
    leading_bytes: Annotated[bytes, Bytes(8)]
    file_offset: U64
    sequence_number: U64


class DataSector(Struct):
    """2.3.1.4: a sector of 4 KiB without its first 8 and its last 4 bytes."""

    signature: Signature = DATA_SIGNATURE
    sequence_high: U32
    data: Annotated[bytes, Bytes(4084)]
    sequence_low: U32


class BlockState(IntEnum):
    """2.5.1.1: the low three bits of a payload block's BAT entry."""

    NOT_PRESENT = 0
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    FULLY_PRESENT = 6
    PARTIALLY_PRESENT = 7


class BitmapState(IntEnum):
    """2.5.1.2: the low three bits of a sector bitmap block's BAT entry."""

    NOT_PRESENT = 0
    PRESENT = 6


# 2.5.1: a BAT entry is a state, 17 reserved bits and the block's place in the file in MiB
BAT_ENTRY_SIZE = 8
STATE_MASK = 7
PLACE_MASK = ~(MIB - 1)


class MetadataTableHeader(Struct):
    """2.6.1.1."""

    signature: Annotated[bytes, Bytes(8)] = METADATA_SIGNATURE
    reserved: U16 = 0
    entry_count: U16
    reserved2: Annotated[bytes, Bytes(20)] = b""


class MetadataFlag(IntFlag):
    USER = 1
    VIRTUAL_DISK = 2
    REQUIRED = 4


class MetadataTableEntry(Struct):
    """2.6.1.2: `offset` is from the region's beginning."""

    item_id: Guid
    offset: U32
    length: U32
    flags: U32
    reserved: U32 = 0


METADATA_TABLE_SIZE = 64 * KIB
LARGEST_ITEM = MIB


class FileFlag(IntFlag):
    LEAVE_BLOCKS_ALLOCATED = 1  # a fixed disk
    HAS_PARENT = 2


class FileParameters(Struct):
    """2.6.2.1: `block_size` in bytes."""

    block_size: U32
    flags: U32


class VirtualDiskSize(Struct):
    """2.6.2.2: in bytes."""

    size: U64


class VirtualDiskId(Struct):
    """2.6.2.3: for SCSI's vital product data page 0x83."""

    guid: Guid


class SectorSize(Struct):
    """2.6.2.4 and 2.6.2.5: bytes of a logical or physical sector."""

    size: U32


class ParentLocatorHeader(Struct):
    """2.6.2.6.1."""

    locator_type: Guid
    reserved: U16 = 0
    key_value_count: U16


class ParentLocatorEntry(Struct):
    """2.6.2.6.2: offsets are from the locator's beginning, lengths in bytes."""

    key_offset: U32
    value_offset: U32
    key_length: U16
    value_length: U16

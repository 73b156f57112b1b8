"""What SCSI disks answer: sense data, INQUIRY and its pages, capacities, mode and log pages.

Names and layouts as in SPC-4 and SBC-3, big-endian; parameter lists that the guest sends are here, too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar

from ringminus.wire import U8, U16, U32, U64, Bytes, Struct


class DeviceType(IntEnum):
    """Peripheral device types."""

    DISK = 0
    DVD = 5
    NONE = 0x1F


class FixedSense(Struct, big_endian=True):
    """Sense data in fixed format."""

    response_code: U8
    obsolete: U8 = 0
    sense_key: U8
    information: U32 = 0
    additional_length: U8 = 10
    command_specific: U32 = 0
    additional_sense_code: U8
    additional_sense_code_qualifier: U8
    field_replaceable_unit: U8 = 0
    sense_key_specific: Annotated[bytes, Bytes(3)] = b""


class InquiryData(Struct, big_endian=True):
    """Standard INQUIRY data; `version` 5 is SPC-3, as Hyper-V says."""

    peripheral: U8
    removable: U8 = 0
    version: U8 = 5
    response_format: U8 = 2
    additional_length: U8 = 91
    flags5: U8 = 0
    flags6: U8 = 0
    flags7: U8 = 0
    vendor: Annotated[bytes, Bytes(8)]
    product: Annotated[bytes, Bytes(16)]
    revision: Annotated[bytes, Bytes(4)]
    vendor_specific: Annotated[bytes, Bytes(20)] = b""
    reserved: U16 = 0
    version_descriptors: Annotated[bytes, Bytes(16)] = b""
    reserved2: Annotated[bytes, Bytes(22)] = b""


class VpdHeader(Struct, big_endian=True):
    """Before every page of vital product data."""

    peripheral: U8
    page_code: U8
    page_length: U16


class DesignatorHeader(Struct, big_endian=True):
    """Before each name in the device identification page."""

    code_set: U8
    type: U8
    reserved: U8 = 0
    length: U8


class BlockLimits(Struct, big_endian=True):
    """VPD page 0xB0 after its header. Lengths are in logical blocks; 0 is no limit, or not told."""

    wsnz: U8 = 0
    maximum_compare_and_write_length: U8 = 0
    optimal_transfer_length_granularity: U16 = 0
    maximum_transfer_length: U32 = 0
    optimal_transfer_length: U32 = 0
    maximum_prefetch_length: U32 = 0
    maximum_unmap_lba_count: U32 = 0
    maximum_unmap_block_descriptor_count: U32 = 0
    optimal_unmap_granularity: U32 = 0
    unmap_granularity_alignment: U32 = 0
    maximum_write_same_length: U64 = 0
    reserved: Annotated[bytes, Bytes(20)] = b""


class BlockDeviceCharacteristics(Struct, big_endian=True):
    """VPD page 0xB1 after its header. A rotation rate of 1 is a medium that does not rotate."""

    medium_rotation_rate: U16
    product_type: U8 = 0
    form_factor: U8 = 0
    flags: U8 = 0
    reserved: Annotated[bytes, Bytes(55)] = b""


class LogicalBlockProvisioning(Struct, big_endian=True):
    """VPD page 0xB2 after its header."""

    LBPU: ClassVar[int] = 0x80
    LBPWS: ClassVar[int] = 0x40
    LBPWS10: ClassVar[int] = 0x20
    LBPRZ: ClassVar[int] = 0x04
    THIN: ClassVar[int] = 2
    threshold_exponent: U8
    flags: U8
    provisioning_type: U8
    threshold_percentage: U8 = 0


class Capacity10(Struct, big_endian=True):
    """READ CAPACITY(10) data."""

    last_lba: U32
    block_length: U32


class Capacity16(Struct, big_endian=True):
    """READ CAPACITY(16) data."""

    LBPME: ClassVar[int] = 0x8000
    LBPRZ: ClassVar[int] = 0x4000
    last_lba: U64
    block_length: U32
    protection: U8 = 0
    exponents: U8 = 0
    provisioning: U16 = 0
    reserved: Annotated[bytes, Bytes(16)] = b""


class LbaStatusHeader(Struct, big_endian=True):
    """Before the descriptors of GET LBA STATUS; the length counts what follows it."""

    parameter_data_length: U32
    reserved: U32 = 0


class LbaStatusDescriptor(Struct, big_endian=True):
    MAPPED: ClassVar[int] = 0
    DEALLOCATED: ClassVar[int] = 1
    lba: U64
    blocks: U32
    status: U8
    reserved: Annotated[bytes, Bytes(3)] = b""


class ModeHeader6(Struct, big_endian=True):
    """Before mode pages; lengths of data count what follows them."""

    WRITE_PROTECT: ClassVar[int] = 0x80
    DPOFUA: ClassVar[int] = 0x10
    mode_data_length: U8
    medium_type: U8 = 0
    device_specific: U8 = 0
    block_descriptor_length: U8 = 0


class ModeHeader10(Struct, big_endian=True):
    mode_data_length: U16
    medium_type: U8 = 0
    device_specific: U8 = 0
    long_lba: U8 = 0
    reserved: U8 = 0
    block_descriptor_length: U16 = 0


class ModeBlockDescriptor(Struct, big_endian=True):
    """The short block descriptor of direct-access devices; more blocks than fit are all ones."""

    number_of_blocks: U32
    block_length: U32


class CachingPage(Struct, big_endian=True):
    """Mode page 0x08."""

    WCE: ClassVar[int] = 0x04
    page_code: U8 = 0x08
    page_length: U8 = 0x12
    flags: U8
    retention_priority: U8 = 0
    disable_prefetch: U16 = 0
    minimum_prefetch: U16 = 0
    maximum_prefetch: U16 = 0
    prefetch_ceiling: U16 = 0
    flags2: U8 = 0
    cache_segments: U8 = 0
    cache_segment_size: U16 = 0
    reserved: U8 = 0
    obsolete: Annotated[bytes, Bytes(3)] = b""


class ControlPage(Struct, big_endian=True):
    """Mode page 0x0A."""

    page_code: U8 = 0x0A
    page_length: U8 = 0x0A
    flags: U8 = 0
    queue: U8 = 0x10
    flags4: U8 = 0
    flags5: U8 = 0
    obsolete: U16 = 0
    busy_timeout: U16 = 0
    self_test_time: U16 = 0


class InformationalExceptionsPage(Struct, big_endian=True):
    """Mode page 0x1C; DEXCPT: no exceptions are ever reported."""

    DEXCPT: ClassVar[int] = 0x08
    page_code: U8 = 0x1C
    page_length: U8 = 0x0A
    flags: U8 = 0x08
    mrie: U8 = 0
    interval_timer: U32 = 0
    report_count: U32 = 0


class UnmapHeader(Struct, big_endian=True):
    """Head of UNMAP's parameter list."""

    data_length: U16
    block_descriptor_data_length: U16
    reserved: U32 = 0


class UnmapDescriptor(Struct, big_endian=True):
    lba: U64
    blocks: U32
    reserved: U32 = 0


class ReportLunsHeader(Struct, big_endian=True):
    lun_list_length: U32
    reserved: U32 = 0


class LunEntry(Struct, big_endian=True):
    """A LUN in single-level, peripheral-device form."""

    lun: U16
    reserved: Annotated[bytes, Bytes(6)] = b""


class LogPageHeader(Struct, big_endian=True):
    page: U8
    subpage: U8 = 0
    length: U16


class LogParameter(Struct, big_endian=True):
    """Header of a log parameter and its value, an eight-byte counter."""

    code: U16
    control: U8 = 0
    length: U8 = 8
    value: U64


class InformationalExceptionsLog(Struct, big_endian=True):
    code: U16 = 0
    control: U8 = 0x03
    length: U8 = 4
    asc: U8 = 0
    ascq: U8 = 0
    temperature: U8 = 0
    reserved: U8 = 0


class SupportedOpcodesHeader(Struct, big_endian=True):
    """REPORT SUPPORTED OPERATION CODES, the list of all."""

    command_data_length: U32


class SupportedOpcode(Struct, big_endian=True):
    SERVACTV: ClassVar[int] = 0x01
    opcode: U8
    reserved: U8 = 0
    service_action: U16
    reserved2: U8 = 0
    flags: U8
    cdb_length: U16


class OneSupportedOpcode(Struct, big_endian=True):
    """REPORT SUPPORTED OPERATION CODES, one command; its CDB usage data follows."""

    SUPPORTED: ClassVar[int] = 3
    UNSUPPORTED: ClassVar[int] = 1
    reserved: U8 = 0
    support: U8
    cdb_size: U16

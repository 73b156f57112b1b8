"""SCSI command descriptor blocks.

Names and layouts as in SPC-4 (primary commands), SBC-3 (block commands) and MMC-6 (multimedia), big-endian.
A byte that holds several fields is one `flags`, with its bits as constants beside it. `MASKS` are the bits of
such bytes that we look at, for REPORT SUPPORTED OPERATION CODES; fields that are not named there are looked
at as a whole, and reserved ones not at all.
"""

from __future__ import annotations

import struct
from typing import Annotated, ClassVar

from ringminus.wire import U8, U16, U32, U64, Bytes, Struct

PROTECT = 0xE0  # RDPROTECT, WRPROTECT, VRPROTECT: protection information, which these disks do not have
DPO, FUA = 0x10, 0x08
SERVICE_ACTION = 0x1F


class Cdb6(Struct, big_endian=True):
    """A six-byte command without anything of its own: TEST UNIT READY."""

    MASKS: ClassVar[dict[str, int]] = {}
    opcode: U8
    reserved: Annotated[bytes, Bytes(4)] = b""
    control: U8 = 0


class Inquiry(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x01}
    EVPD: ClassVar[int] = 0x01
    opcode: U8
    flags: U8
    page_code: U8
    allocation_length: U16
    control: U8 = 0


class RequestSense(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x01}
    DESC: ClassVar[int] = 0x01
    opcode: U8
    flags: U8
    reserved: U16 = 0
    allocation_length: U8
    control: U8 = 0


class ModeSense6(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x08}
    DBD: ClassVar[int] = 0x08
    opcode: U8
    flags: U8
    page: U8
    subpage: U8
    allocation_length: U8
    control: U8 = 0


class ModeSense10(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x18}
    opcode: U8
    flags: U8
    page: U8
    subpage: U8
    reserved: Annotated[bytes, Bytes(3)] = b""
    allocation_length: U16
    control: U8 = 0


class ModeSelect6(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x11}
    SP: ClassVar[int] = 0x01
    PF: ClassVar[int] = 0x10
    opcode: U8
    flags: U8
    reserved: U16 = 0
    parameter_list_length: U8
    control: U8 = 0


class ModeSelect10(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x11}
    opcode: U8
    flags: U8
    reserved: Annotated[bytes, Bytes(5)] = b""
    parameter_list_length: U16
    control: U8 = 0


class StartStopUnit(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"immediate": 0x01, "flags": 0xF3}
    START: ClassVar[int] = 0x01
    LOEJ: ClassVar[int] = 0x02
    POWER_CONDITION: ClassVar[int] = 0xF0
    opcode: U8
    immediate: U8
    reserved: U8 = 0
    modifier: U8 = 0
    flags: U8
    control: U8 = 0


class PreventAllowMediumRemoval(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"prevent": 0x03}
    opcode: U8
    reserved: Annotated[bytes, Bytes(3)] = b""
    prevent: U8
    control: U8 = 0


class ReadWrite6(Struct, big_endian=True):
    """READ(6) and WRITE(6): an LBA of 21 bits; a length of 0 is 256."""

    MASKS: ClassVar[dict[str, int]] = {"lba_high": 0x1F}
    opcode: U8
    lba_high: U8
    lba_low: U16
    transfer_length: U8
    control: U8 = 0


class ReadWrite10(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | DPO | FUA, "group": 0}
    opcode: U8
    flags: U8
    lba: U32
    group: U8 = 0
    transfer_length: U16
    control: U8 = 0


class ReadWrite12(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | DPO | FUA, "group": 0}
    opcode: U8
    flags: U8
    lba: U32
    transfer_length: U32
    group: U8 = 0
    control: U8 = 0


class ReadWrite16(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | DPO | FUA, "group": 0}
    opcode: U8
    flags: U8
    lba: U64
    transfer_length: U32
    group: U8 = 0
    control: U8 = 0


# The hot path decodes these from the byte after the opcode: flags, lba, transfer_length.
HOT_READ_WRITE_10 = struct.Struct(">BIxH")
HOT_READ_WRITE_12 = struct.Struct(">BII")
HOT_READ_WRITE_16 = struct.Struct(">BQI")


class Verify10(Struct, big_endian=True):
    """BYTCHK: 0 only the medium, 1 against as many blocks from the guest, 3 against one."""

    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | DPO | 0x06, "group": 0}
    BYTCHK: ClassVar[int] = 0x06
    opcode: U8
    flags: U8
    lba: U32
    group: U8 = 0
    transfer_length: U16
    control: U8 = 0


class Verify12(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | DPO | 0x06, "group": 0}
    opcode: U8
    flags: U8
    lba: U32
    transfer_length: U32
    group: U8 = 0
    control: U8 = 0


class Verify16(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | DPO | 0x06, "group": 0}
    opcode: U8
    flags: U8
    lba: U64
    transfer_length: U32
    group: U8 = 0
    control: U8 = 0


class SynchronizeCache10(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x02, "group": 0}
    opcode: U8
    flags: U8
    lba: U32
    group: U8 = 0
    number_of_blocks: U16
    control: U8 = 0


class SynchronizeCache16(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x02, "group": 0}
    opcode: U8
    flags: U8
    lba: U64
    number_of_blocks: U32
    group: U8 = 0
    control: U8 = 0


class ReadCapacity10(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {}
    opcode: U8
    reserved: U8 = 0
    lba: U32
    reserved2: U16 = 0
    pmi: U8
    control: U8 = 0


class ReadCapacity16(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"service_action": SERVICE_ACTION}
    opcode: U8
    service_action: U8
    reserved: U64 = 0
    allocation_length: U32
    reserved2: U8 = 0
    control: U8 = 0


class GetLbaStatus(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"service_action": SERVICE_ACTION}
    opcode: U8
    service_action: U8
    lba: U64
    allocation_length: U32
    reserved: U8 = 0
    control: U8 = 0


class Unmap(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x01, "group": 0}
    ANCHOR: ClassVar[int] = 0x01
    opcode: U8
    flags: U8
    reserved: U32 = 0
    group: U8 = 0
    parameter_list_length: U16
    control: U8 = 0


class WriteSame10(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | 0x18, "group": 0}
    UNMAP: ClassVar[int] = 0x08
    ANCHOR: ClassVar[int] = 0x10
    PBDATA_LBDATA: ClassVar[int] = 0x06
    opcode: U8
    flags: U8
    lba: U32
    group: U8 = 0
    number_of_blocks: U16
    control: U8 = 0


class WriteSame16(Struct, big_endian=True):
    """NDOB: there is no data, write zeros."""

    MASKS: ClassVar[dict[str, int]] = {"flags": PROTECT | 0x19, "group": 0}
    NDOB: ClassVar[int] = 0x01
    opcode: U8
    flags: U8
    lba: U64
    number_of_blocks: U32
    group: U8 = 0
    control: U8 = 0


class LogSense(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"flags": 0x01}
    opcode: U8
    flags: U8
    page: U8
    subpage: U8
    reserved: U8 = 0
    parameter_pointer: U16
    allocation_length: U16
    control: U8 = 0


class ReportLuns(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {}
    opcode: U8
    reserved: U8 = 0
    select_report: U8
    reserved2: Annotated[bytes, Bytes(3)] = b""
    allocation_length: U32
    reserved3: U8 = 0
    control: U8 = 0


class ReportSupportedOperationCodes(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"service_action": SERVICE_ACTION, "options": 0x87}
    RCTD: ClassVar[int] = 0x80
    opcode: U8
    service_action: U8
    options: U8
    requested_opcode: U8
    requested_service_action: U16
    allocation_length: U32
    reserved: U8 = 0
    control: U8 = 0

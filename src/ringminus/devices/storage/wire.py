"""vmstor, the protocol between a guest's storvsc and the host.

Names as in Linux's drivers/scsi/storvsc_drv.c; what that leaves open is as OpenVMM's storvsp_protocol has it.
The guest's requests are in-band or GPA-direct packets, our answers completions, and both carry one
`VstorPacket`. With 5.1 and later it has 64 bytes.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Annotated

from ringminus.wire import U8, U16, U32, U64, Array, Bytes, Struct

VERSIONS = (0x0602, 0x0600, 0x0501)  # major << 8 | minor: Windows 10, 8.1 and 8
MAX_TRANSFER = 1 << 20  # bytes that a guest may move with one request
SENSE_SIZE = 0x14
CDB_SIZE = 0x10


class Operation(IntEnum):
    """vstor_packet_operation; 14 is Hyper-V's own."""

    COMPLETE_IO = 1
    REMOVE_DEVICE = 2
    EXECUTE_SRB = 3
    RESET_LUN = 4
    RESET_ADAPTER = 5
    RESET_BUS = 6
    BEGIN_INITIALIZATION = 7
    END_INITIALIZATION = 8
    QUERY_PROTOCOL_VERSION = 9
    QUERY_PROPERTIES = 10
    ENUMERATE_BUS = 11
    FCHBA_DATA = 12
    CREATE_SUB_CHANNELS = 13
    EVENT_NOTIFICATION = 14


class NtStatus(IntEnum):
    """Status of a vstor packet."""

    SUCCESS = 0
    BUFFER_OVERFLOW = 0x8000_0005
    INVALID_PARAMETER = 0xC000_000D
    INVALID_DEVICE_REQUEST = 0xC000_0010
    REVISION_MISMATCH = 0xC000_0059
    DEVICE_DOES_NOT_EXIST = 0xC000_00C0
    INVALID_DEVICE_STATE = 0xC000_0184
    IO_DEVICE_ERROR = 0xC000_0185


class SrbStatus(IntEnum):
    """Low six bits of srb_status."""

    SUCCESS = 0x01
    ABORTED = 0x02
    ERROR = 0x04
    INVALID_REQUEST = 0x06
    DATA_OVERRUN = 0x12
    INVALID_LUN = 0x20


AUTOSENSE_VALID = 0x80


class SrbFlags(IntFlag):
    """srb_flags, as far as they matter here."""

    DISABLE_AUTOSENSE = 0x20
    DATA_IN = 0x40
    DATA_OUT = 0x80


class ScsiStatus(IntEnum):
    """SAM status codes."""

    GOOD = 0
    CHECK_CONDITION = 2


class Direction(IntEnum):
    """data_in of a request: the way of the data, seen from the guest."""

    OUT = 0
    IN = 1
    NONE = 2


class ChannelFlags(IntFlag):
    """flags of the channel's properties (0 …) and of an IDE disk's offer (2)."""

    SUPPORTS_MULTI_CHANNEL = 1
    EMULATED_IDE = 2


class VstorPacket(Struct):
    """vstor_packet. `body` is one of the structures below, by operation."""

    operation: U32
    flags: U32 = 0
    status: U32 = 0
    body: Annotated[bytes, Bytes(52)] = b""


class VstorHeader(Struct):
    """vstor_packet without its body."""

    operation: U32
    flags: U32
    status: U32


HEADER_SIZE = VstorPacket.offset_of("body")


class VmscsiRequest(Struct):
    """vmscsi_request: a SCSI command and its outcome. In an answer, sense data is in place of the CDB."""

    length: U16 = 52
    srb_status: U8 = 0
    scsi_status: U8 = 0
    port_number: U8 = 0
    path_id: U8 = 0
    target_id: U8 = 0
    lun: U8 = 0
    cdb_length: U8 = CDB_SIZE
    sense_info_length: U8 = SENSE_SIZE
    data_in: U8 = 0
    reserved: U8 = 0
    data_transfer_length: U32
    cdb: Annotated[bytes, Bytes(SENSE_SIZE)] = b""
    reserve: U16 = 0
    queue_tag: U8 = 0
    queue_action: U8 = 0
    srb_flags: U32 = 0
    time_out_value: U32 = 0
    queue_sort_key: U32 = 0


class VmscsiAnswer(Struct):
    """The same in an answer: vmscsi_request's other view of the bytes of the CDB."""

    length: U16
    srb_status: U8
    scsi_status: U8
    port_number: U8
    path_id: U8
    target_id: U8
    lun: U8
    cdb_length: U8
    sense_info_length: U8
    data_in: U8
    reserved: U8
    data_transfer_length: U32
    sense_data: Annotated[bytes, Bytes(SENSE_SIZE)]


class VmscsiRequestWin7(Struct):
    """vmscsi_request as it was before Windows 8."""

    length: U16
    srb_status: U8
    scsi_status: U8
    port_number: U8
    path_id: U8
    target_id: U8
    lun: U8
    cdb_length: U8
    sense_info_length: U8
    data_in: U8
    reserved: U8
    data_transfer_length: U32
    cdb: Annotated[bytes, Bytes(SENSE_SIZE)]


class ProtocolVersion(Struct):
    """vmstorage_protocol_version: major << 8 | minor, and a build number that only Windows looks at."""

    major_minor: U16
    revision: U16 = 0


class ChannelProperties(Struct):
    """vmstorage_channel_properties. `max_channel_count` counts the sub-channels, `max_transfer_bytes` is per
    request."""

    reserved: U32 = 0
    max_channel_count: U16
    reserved1: U16 = 0
    flags: U32
    max_transfer_bytes: U32
    reserved2: U64 = 0


class SubChannelCount(Struct):
    """Body of CREATE_SUB_CHANNELS."""

    count: U16


class OfferProperties(Struct):
    """The user-defined part of an IDE disk's offer. Linux takes the target from the instance GUID."""

    reserved: U16 = 0
    path_id: U8
    target_id: U8
    reserved2: U32 = 0
    flags: U32
    reserved3: Annotated[tuple[int, ...], Array("I", 3)] = (0, 0, 0)


# The hot path decodes from a packet: operation, path_id | target_id << 8, lun, data_in,
# data_transfer_length and the CDB's opcode, in one go; what lies between is skipped.
HOT_REQUEST = struct.Struct("<I13xHBxxBxIB")
CDB_OFFSET = HEADER_SIZE + VmscsiRequest.offset_of("cdb")

"""The storage protocol's structures and the kernel's."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.devices.storage import cdb_wire, mmc_wire, protocol, scsi_wire, wire
from ringminus.wire import Struct

_STORVSC = "hv_storvsc"

SAME = (
    Same(wire.VstorPacket, "vstor_packet", _STORVSC, renamed={"body": "buffer"}),
    Same(
        wire.VmscsiRequest,
        "vmscsi_request",
        _STORVSC,
        renamed={"cdb": "sense_data", "queue_sort_key": "queue_sort_ey"},
    ),
    Same(wire.VstorHeader, "vstor_packet", _STORVSC, until="buffer"),
    Same(wire.VmscsiAnswer, "vmscsi_request", _STORVSC, until="reserve"),
    Same(wire.VmscsiRequestWin7, "vmscsi_request", _STORVSC, renamed={"cdb": "sense_data"}, until="reserve"),
    Same(wire.ProtocolVersion, "vmstorage_protocol_version", _STORVSC),
    Same(
        wire.ChannelProperties,
        "vmstorage_channel_properties",
        _STORVSC,
        renamed={"max_channel_count": "max_channel_cnt"},
    ),
)

NUMBERS = (
    SameNumbers(
        "Operation",
        wire.Operation.__members__,
        "vstor_packet_operation",
        "VSTOR_OPERATION_",
        _STORVSC,
        beyond={"EVENT_NOTIFICATION": "not in Linux"},
    ),
    SameNumbers(
        "Direction",
        wire.Direction.__members__,
        "storvsc_request_type",
        "",
        _STORVSC,
        renamed={"OUT": "WRITE_TYPE", "IN": "READ_TYPE", "NONE": "UNKNOWN_TYPE"},
    ),
)

_SCSI = "Linux builds and reads SCSI's commands and pages byte by byte"

BITS: tuple[SameBits, ...] = ()

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    cdb_wire: _SCSI,
    mmc_wire: _SCSI,
    scsi_wire: _SCSI,
    protocol: _SCSI,
    wire.SubChannelCount: "Linux has a number in its place (vstor_packet.sub_channel_count)",
    wire.OfferProperties: "Linux reads nothing of it",
}

"""The bus's control messages and the packets in rings, declared for who shows them.

Control messages are from the table that the control plane works by. What a ring packet has between its
descriptor and its payload is `ring`; the payload belongs to the channel's device.
"""

from __future__ import annotations

from ringminus.protocol import NAMES, Form, Labels, Pages, Part, Show, declare
from ringminus.protocol import Protocol as Declaration
from ringminus.vmbus.control.messages import MESSAGES, MessageKind
from ringminus.vmbus.ring_wire import (
    GpaRangeHeader,
    TransferPageRange,
)
from ringminus.vmbus.wire import (
    ChannelFlag,
    ConnectionState,
    Feature,
    MessageHeader,
    OpenFlag,
    PacketType,
    Status,
    Version,
)
from ringminus.wire import U8, U16, U32, Int, Struct

PAGE_NUMBERS = Int("Q")

GPA_RANGE = declare(
    Declaration(
        "gpa_range",
        "Range of guest memory",
        GpaRangeHeader,
        "",
        {
            0: Form(
                "RANGE",
                # the rest of a GPADL's page numbers comes in GPADL_BODY
                parts=(Part("pfns", PAGE_NUMBERS, count=Pages("byte_offset", "byte_count"), continued=True),),
            )
        },
        shows={"pfns": Show.HEX},
    )
)
TRANSFER_RANGE = declare(
    Declaration("transfer_range", "Range of a page set", TransferPageRange, "", {0: Form("RANGE")})
)

LABELS: Labels = {
    "vmbus_version_requested": Version,
    "feature_flags": Feature,
    "supported_features": Feature,
    "chn_flags": ChannelFlag,
    "flags": OpenFlag,
    "status": Status,
    "creation_status": Status,
    "connection_state": ConnectionState,
}
_GUIDS = ("if_type", "if_instance", "client_id", "guest_endpoint_id", "host_service_id", "silo_id")
_ADDRESSES = (
    *("interrupt_page", "monitor_page1", "monitor_page2"),
    *("parent_to_child_monitor_page", "child_to_parent_monitor_page"),
    *("gpadl", "ringbuffer_gpadlhandle", "connection_id", "pfns"),
)
_PARTS = {
    "GPADL_HEADER": (
        Part("ranges", GPA_RANGE.name, size="range_buflen", count="rangecount", continued=True),
    ),
    "GPADL_BODY": (Part("pfns", PAGE_NUMBERS),),
}


def _form(kind: MessageKind, structure: type[Struct]) -> Form:
    parts = _PARTS.get(kind.name, ())
    return Form(kind.name, structure, whole=True, to_guest=not kind.from_guest, parts=parts)


def _forms(kind: MessageKind) -> tuple[Form, ...]:
    return tuple(_form(kind, form.structure) for form in kind.forms)


VMBUS = declare(
    Declaration(
        "vmbus",
        "VMBus control message",
        MessageHeader,
        "msgtype",
        {number: _forms(kind) for number, kind in MESSAGES.items()},
        LABELS,
        shows={**dict.fromkeys(_GUIDS, Show.GUID), **dict.fromkeys(_ADDRESSES, Show.HEX)},
    )
)


class TransferPages(Struct):
    """vmtransfer_page_packet_header behind its descriptor."""

    xfer_pageset_id: U16
    sender_owns_set: U8
    reserved: U8
    range_cnt: U32


class GpaDirect(Struct):
    """vmdata_gpa_direct behind its descriptor."""

    reserved: U32
    range_count: U32


RING = declare(
    Declaration(
        "ring",
        "Header of a ring packet",
        None,
        "type",
        {
            PacketType.DATA_USING_XFER_PAGES: Form(
                "DATA_USING_XFER_PAGES",
                TransferPages,
                parts=(Part("ranges", TRANSFER_RANGE.name, count="range_cnt"),),
            ),
            PacketType.DATA_USING_GPA_DIRECT: Form(
                "DATA_USING_GPA_DIRECT",
                GpaDirect,
                parts=(Part("ranges", GPA_RANGE.name, count="range_count"),),
            ),
        },
        {"type": PacketType},
        shows={"xfer_pageset_id": Show.HEX},
        otherwise=Form("", parts=(Part("unused"),)),
    )
)

NAMES["packet.kind"] = {one.value: one.name for one in PacketType}

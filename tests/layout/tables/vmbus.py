"""The bus's messages, rings and packets and the kernel's."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.vmbus import protocol, ring_wire, wire
from ringminus.vmbus.control.messages import MESSAGES
from ringminus.wire import Struct

_SIX = "version 6.0"
_WITH_DESCRIPTOR = "Linux's begins with the descriptor, as that of ring_wire which is compared"

MESSAGE_STRUCTURES = (
    Same(wire.MessageHeader, "vmbus_channel_message_header"),
    Same(wire.HeaderOnly, "vmbus_channel_message_header"),
    Same(wire.ChannelOffer, "vmbus_channel_offer", renamed={"mmio_megabytes_optional": "reserved3"}),
    Same(
        wire.OfferChannel,
        "vmbus_channel_offer_channel",
        renamed={"mmio_megabytes_optional": "reserved3"},
        merged={
            "monitor_allocated": ("monitor_allocated", "reserved"),
            "is_dedicated_interrupt": ("is_dedicated_interrupt", "reserved1"),
        },
    ),
    Same(wire.RescindOffer, "vmbus_channel_rescind_offer"),
    Same(wire.OpenChannel, "vmbus_channel_open_channel"),
    Same(
        wire.OpenChannel2,
        "vmbus_channel_open_channel",
        beyond={"connection_id": _SIX, "event_flag": _SIX, "flags": _SIX},
    ),
    Same(wire.OpenResult, "vmbus_channel_open_result"),
    Same(wire.CloseChannel, "vmbus_channel_close_channel"),
    Same(wire.GpadlHeader, "vmbus_channel_gpadl_header"),
    Same(wire.GpadlBody, "vmbus_channel_gpadl_body"),
    Same(wire.GpadlCreated, "vmbus_channel_gpadl_created"),
    Same(wire.GpadlTeardown, "vmbus_channel_gpadl_teardown"),
    Same(wire.GpadlTorndown, "vmbus_channel_gpadl_torndown"),
    Same(wire.RelidReleased, "vmbus_channel_relid_released"),
    Same(wire.InitiateContact, "vmbus_channel_initiate_contact"),
    Same(wire.InitiateContact2, "vmbus_channel_initiate_contact", beyond={"client_id": _SIX}),
    Same(wire.VersionResponse, "vmbus_channel_version_response"),
    Same(
        wire.VersionResponse2,
        "vmbus_channel_version_response",
        beyond={"supported_features": _SIX},
    ),
    Same(
        wire.VersionResponse3,
        "vmbus_channel_version_response",
        beyond={
            "supported_features": _SIX,
            "padding2": _SIX,
            "parent_to_child_monitor_page": _SIX,
            "child_to_parent_monitor_page": _SIX,
        },
    ),
    Same(wire.TlConnectRequest, "vmbus_channel_tl_connect_request"),
    Same(
        wire.TlConnectRequest2,
        "vmbus_channel_tl_connect_request",
        beyond={"silo_id": "Linux has no silos"},
    ),
    Same(wire.ModifyChannel, "vmbus_channel_modifychannel"),
    Same(wire.ModifyChannelResponse, "vmbus_channel_modifychannel_response"),
)

RING_STRUCTURES = (
    Same(ring_wire.RingBuffer, "hv_ring_buffer", until="reserved2"),
    Same(ring_wire.PacketDescriptor, "vmpacket_descriptor"),
    Same(
        ring_wire.TransferPageHeader,
        "vmtransfer_page_packet_header",
        "hv_netvsc",
        renamed={"descriptor": "d"},
        until="ranges",
    ),
    Same(ring_wire.TransferPageRange, "vmtransfer_page_range", "hv_netvsc"),
    Same(
        ring_wire.GpaDirectHeader,
        "vmbus_packet_mpb_array",  # with which the kernel makes a vmdata_gpa_direct
        renamed={
            "offset8": "dataoffset8",
            "len8": "length8",
            "trans_id": "transactionid",
            "range_count": "rangecount",
        },
        until="range",
    ),
    Same(ring_wire.GpaRangeHeader, "gpa_range"),
    Same(
        ring_wire.PipeHeader,
        "vmpipe_proto_header",
        "hv_sock",
        renamed={"flags": "pkt_type", "msgsize": "data_size"},
    ),
    Same(
        ring_wire.MonitorParameter,
        "hv_monitor_parameter",
        renamed={"connection_id": "connectionid", "flag_number": "flagnumber"},
    ),
    Same(
        ring_wire.MonitorPage,
        "hv_monitor_page",
        renamed={
            "trigger_groups": "trigger_group",
            "next_check_time": "next_checktime",
            "parameters": "parameter",
        },
    ),
)

SAME = MESSAGE_STRUCTURES + RING_STRUCTURES

_NO_HANDLER = "Linux does not know the message"

NUMBERS = (
    SameNumbers(
        "PacketType",
        wire.PacketType.__members__,
        "vmbus_packet_type",
        "VM_PKT_",
        renamed={"COMPLETION": "VM_PKT_COMP"},
    ),
    SameNumbers(
        "MESSAGES",
        {kind.name: kind.number for kind in MESSAGES.values()},
        "vmbus_channel_message_type",
        "CHANNELMSG_",
        renamed={
            "OFFER_CHANNEL": "CHANNELMSG_OFFERCHANNEL",
            "RESCIND_OFFER": "CHANNELMSG_RESCIND_CHANNELOFFER",
            "REQUEST_OFFERS": "CHANNELMSG_REQUESTOFFERS",
            "ALL_OFFERS_DELIVERED": "CHANNELMSG_ALLOFFERS_DELIVERED",
            "OPEN_CHANNEL": "CHANNELMSG_OPENCHANNEL",
            "OPEN_CHANNEL_RESULT": "CHANNELMSG_OPENCHANNEL_RESULT",
            "CLOSE_CHANNEL": "CHANNELMSG_CLOSECHANNEL",
            "MODIFY_CHANNEL": "CHANNELMSG_MODIFYCHANNEL",
            "MODIFY_CHANNEL_RESPONSE": "CHANNELMSG_MODIFYCHANNEL_RESPONSE",
            "OPEN_RESERVED_CHANNEL": "CHANNELMSG_18",
            "CLOSE_RESERVED_CHANNEL": "CHANNELMSG_19",
            "CLOSE_RESERVED_RESPONSE": "CHANNELMSG_20",
        },
        beyond={
            "MODIFY_CONNECTION": _NO_HANDLER,
            "MODIFY_CONNECTION_RESPONSE": _NO_HANDLER,
            "PAUSE": _NO_HANDLER,
            "PAUSE_RESPONSE": _NO_HANDLER,
            "RESUME": _NO_HANDLER,
        },
    ),
)

BITS = (
    SameBits(
        "ring features", {"feat_pending_send_sz": ring_wire.FEATURE_PENDING_SEND_SIZE}, "hv_ring_buffer"
    ),
)

_OPENVMM = "Linux has no type for it; source: OpenVMM, vmbus_core/src/protocol.rs"

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    wire.TargetInfo: _OPENVMM,
    wire.OpenReservedChannel: _OPENVMM,
    wire.CloseReservedChannel: _OPENVMM,
    wire.CloseReservedResponse: _OPENVMM,
    wire.TlConnectResult: _OPENVMM,
    wire.ModifyConnection: _OPENVMM,
    wire.ModifyConnectionResponse: _OPENVMM,
    protocol.TransferPages: _WITH_DESCRIPTOR,
    protocol.GpaDirect: _WITH_DESCRIPTOR,
    ring_wire.Footer: "Linux writes it as one 64-bit number (ring_buffer.c, hv_get_ring_bufferindices)",
}

"""VMBus messages as they are on the wire; names as in Linux's include/linux/hyperv.h.

A docstring that begins with a name tells the kernel's type. What Linux has no type for follows OpenVMM's
vmbus_core/src/protocol.rs. GUIDs are 16 bytes in their little-endian layout (`uuid.UUID(bytes_le=…)`).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from ringminus.wire import U8, U16, U32, U64, Bytes, Struct

VMBUS_MESSAGE_TYPE = 1
MESSAGE_SINT = 2
MESSAGE_CONNECTION_ID = 1
MESSAGE_CONNECTION_ID_4 = 4
PAYLOAD_LIMIT = 240
SINT_COUNT = 16
RELID_LIMIT = 2048  # a relid is a bit of a SINT's event flags; bit 0 is no channel's
USER_DATA_SIZE = 120
PIPE_MODE_SIZE = 4
MONITOR_ID_LIMIT = 128
VP_NONE = 0xFFFFFFFF  # as a channel's target_vp: it wants no interrupts

Guid = Annotated[bytes, Bytes(16)]
UserData = Annotated[bytes, Bytes(USER_DATA_SIZE)]


class Version(IntEnum):
    """Protocol versions, major << 16 | minor."""

    WIN8 = 2 << 16 | 4
    WIN8_1 = 3 << 16
    WIN10 = 4 << 16
    WIN10_V4_1 = 4 << 16 | 1
    WIN10_V5 = 5 << 16
    WIN10_V5_1 = 5 << 16 | 1
    WIN10_V5_2 = 5 << 16 | 2
    WIN10_V5_3 = 5 << 16 | 3
    COPPER = 6 << 16


class Feature(IntFlag):
    """What both sides may agree on from 6.0 on (OpenVMM: FeatureFlags)."""

    GUEST_SIGNAL_PARAMETERS = 1
    INTERRUPT_REDIRECTION = 2
    MODIFY_CONNECTION = 4
    CLIENT_ID = 8
    CONFIDENTIAL_CHANNELS = 0x10
    PAUSE_RESUME = 0x20
    SERVER_MONITOR_PAGES = 0x40
    GPA_PINNING = 0x80


class Status(IntEnum):
    """Results in messages; those that OpenVMM sends."""

    SUCCESS = 0
    UNSUCCESSFUL = 0x8000FFFF
    CONNECTION_REFUSED = 0xC0000236


class ConnectionState(IntEnum):
    """What a version response says of the connection."""

    SUCCESSFUL = 0
    FAILED_LOW_RESOURCES = 1
    FAILED_UNKNOWN_FAILURE = 2


class MessageHeader(Struct):
    """vmbus_channel_message_header."""

    msgtype: U32
    padding: U32 = 0


class HeaderOnly(Struct):
    """A message that is nothing but its type."""

    header: MessageHeader


class ChannelOffer(Struct):
    """vmbus_channel_offer. `mmio_megabytes_optional` is Linux's reserved3."""

    if_type: Guid
    if_instance: Guid
    reserved1: U64 = 0
    reserved2: U64 = 0
    chn_flags: U16
    mmio_megabytes: U16
    user_def: UserData
    sub_channel_index: U16
    mmio_megabytes_optional: U16 = 0


class OfferChannel(Struct):
    """vmbus_channel_offer_channel. Bit 0 of `monitor_allocated` and of `is_dedicated_interrupt` counts."""

    header: MessageHeader
    offer: ChannelOffer
    child_relid: U32
    monitorid: U8
    monitor_allocated: U8
    is_dedicated_interrupt: U16
    connection_id: U32


class RescindOffer(Struct):
    """vmbus_channel_rescind_offer."""

    header: MessageHeader
    child_relid: U32


class OpenChannel(Struct):
    """vmbus_channel_open_channel."""

    header: MessageHeader
    child_relid: U32
    openid: U32
    ringbuffer_gpadlhandle: U32
    target_vp: U32
    downstream_ringbuffer_pageoffset: U32
    userdata: UserData


class OpenFlag(IntFlag):
    """Flags of `OpenChannel2` (OpenVMM: OpenChannelFlags)."""

    REDIRECT_INTERRUPT = 1


class OpenChannel2(Struct):
    """The open of 6.0, when a feature gives its last three fields a meaning (OpenVMM: OpenChannel2)."""

    header: MessageHeader
    child_relid: U32
    openid: U32
    ringbuffer_gpadlhandle: U32
    target_vp: U32
    downstream_ringbuffer_pageoffset: U32
    userdata: UserData
    connection_id: U32
    event_flag: U16
    flags: U16


class OpenResult(Struct):
    """vmbus_channel_open_result."""

    header: MessageHeader
    child_relid: U32
    openid: U32
    status: U32


class CloseChannel(Struct):
    """vmbus_channel_close_channel."""

    header: MessageHeader
    child_relid: U32


class GpadlHeader(Struct):
    """vmbus_channel_gpadl_header, before its ranges. `range_buflen` is all of their bytes, those in later
    bodies included."""

    header: MessageHeader
    child_relid: U32
    gpadl: U32
    range_buflen: U16
    rangecount: U16


class GpadlBody(Struct):
    """vmbus_channel_gpadl_body, before its page numbers."""

    header: MessageHeader
    msgnumber: U32
    gpadl: U32


class GpadlCreated(Struct):
    """vmbus_channel_gpadl_created."""

    header: MessageHeader
    child_relid: U32
    gpadl: U32
    creation_status: U32


class GpadlTeardown(Struct):
    """vmbus_channel_gpadl_teardown."""

    header: MessageHeader
    child_relid: U32
    gpadl: U32


class GpadlTorndown(Struct):
    """vmbus_channel_gpadl_torndown."""

    header: MessageHeader
    gpadl: U32


class RelidReleased(Struct):
    """vmbus_channel_relid_released."""

    header: MessageHeader
    child_relid: U32


class InitiateContact(Struct):
    """vmbus_channel_initiate_contact. `interrupt_page` is a `TargetInfo` from 5.0 on."""

    header: MessageHeader
    vmbus_version_requested: U32
    target_vcpu: U32
    interrupt_page: U64
    monitor_page1: U64
    monitor_page2: U64


class InitiateContact2(Struct):
    """The contact of 6.0 with `Feature.CLIENT_ID` (OpenVMM: InitiateContact2)."""

    header: MessageHeader
    vmbus_version_requested: U32
    target_vcpu: U32
    interrupt_page: U64
    monitor_page1: U64
    monitor_page2: U64
    client_id: Guid


class TargetInfo(Struct):
    """What stands in a contact's `interrupt_page` from 5.0 on (OpenVMM: TargetInfo); the VTL from 5.1 on,
    the features from 6.0 on."""

    msg_sint: U8
    msg_vtl: U8
    reserved: U16 = 0
    feature_flags: U32


class VersionResponse(Struct):
    """vmbus_channel_version_response. `msg_conn_id` is the connection for the guest's further messages
    (from 5.0 on), before that the version that was selected."""

    header: MessageHeader
    version_supported: U8
    connection_state: U8
    padding: U16 = 0
    msg_conn_id: U32


class VersionResponse2(Struct):
    """The response to 6.0, with the features that both sides have (OpenVMM: VersionResponse2)."""

    header: MessageHeader
    version_supported: U8
    connection_state: U8
    padding: U16 = 0
    msg_conn_id: U32
    supported_features: U32


class VersionResponse3(Struct):
    """The response with `Feature.SERVER_MONITOR_PAGES`: their addresses (OpenVMM: VersionResponse3)."""

    header: MessageHeader
    version_supported: U8
    connection_state: U8
    padding: U16 = 0
    msg_conn_id: U32
    supported_features: U32
    padding2: U32 = 0
    parent_to_child_monitor_page: U64
    child_to_parent_monitor_page: U64


class OpenReservedChannel(Struct):
    """OpenVMM: OpenReservedChannel."""

    header: MessageHeader
    child_relid: U32
    target_vp: U32
    target_sint: U32
    ringbuffer_gpadlhandle: U32
    downstream_ringbuffer_pageoffset: U32


class CloseReservedChannel(Struct):
    """OpenVMM: CloseReservedChannel."""

    header: MessageHeader
    child_relid: U32
    target_vp: U32
    target_sint: U32


class CloseReservedResponse(Struct):
    """OpenVMM: CloseReservedChannelResponse."""

    header: MessageHeader
    child_relid: U32


class TlConnectRequest(Struct):
    """vmbus_channel_tl_connect_request."""

    header: MessageHeader
    guest_endpoint_id: Guid
    host_service_id: Guid


class TlConnectRequest2(Struct):
    """The request that may come from 5.2 on, with the guest's silo (OpenVMM: TlConnectRequest2)."""

    header: MessageHeader
    guest_endpoint_id: Guid
    host_service_id: Guid
    silo_id: Guid


class TlConnectResult(Struct):
    """OpenVMM: TlConnectResult."""

    header: MessageHeader
    guest_endpoint_id: Guid
    host_service_id: Guid
    status: U32


class ModifyChannel(Struct):
    """vmbus_channel_modifychannel."""

    header: MessageHeader
    child_relid: U32
    target_vp: U32


class ModifyChannelResponse(Struct):
    """vmbus_channel_modifychannel_response."""

    header: MessageHeader
    child_relid: U32
    status: U32


class ModifyConnection(Struct):
    """New monitor pages, or none with zeros (OpenVMM: ModifyConnection)."""

    header: MessageHeader
    parent_to_child_monitor_page: U64
    child_to_parent_monitor_page: U64


class ModifyConnectionResponse(Struct):
    """OpenVMM: ModifyConnectionResponse."""

    header: MessageHeader
    connection_state: U8


class ChannelFlag(IntFlag):
    """chn_flags of an offer."""

    ENUMERATE_DEVICE_INTERFACE = 1
    CONFIDENTIAL_RING = 2
    CONFIDENTIAL_EXTERNAL_MEMORY = 4
    PINNED_EXTERNAL_MEMORY = 8
    NAMED_PIPE_MODE = 0x10
    LOOPBACK = 0x100
    PARENT_OFFER = 0x200
    MONITORED_NOTIFICATION = 0x400
    TLNPI_PROVIDER = 0x2000


class PipeMode(IntEnum):
    """How a pipe's messages are framed (vmpipe: VMBUS_PIPE_TYPE_…)."""

    BYTE = 0
    MESSAGE = 4


class PacketType(IntEnum):
    """vmbus_packet_type, as far as packets travel today."""

    DATA_INBAND = 6
    DATA_USING_XFER_PAGES = 7
    DATA_USING_GPA_DIRECT = 9
    COMPLETION = 11

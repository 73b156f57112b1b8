"""VMBus messages as they are on the wire; names as in Linux's include/linux/hyperv.h."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from ringminus.wire import U8, U16, U32, U64, Struct

VMBUS_MESSAGE_TYPE = 1
MESSAGE_SINT = 2
MESSAGE_CONNECTION_ID = 1
MESSAGE_CONNECTION_ID_4 = 4
PAYLOAD_LIMIT = 240


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


class ConnectionState(IntEnum):
    """What a version response says of the connection."""

    SUCCESSFUL = 0


class MessageHeader(Struct):
    """vmbus_channel_message_header."""

    msgtype: U32
    padding: U32 = 0


class InitiateContact(Struct):
    """vmbus_channel_initiate_contact. `interrupt_page` is, from 5.0 on, msg_sint, msg_vtl and flags."""

    header: MessageHeader
    vmbus_version_requested: U32
    target_vcpu: U32
    interrupt_page: U64
    monitor_page1: U64
    monitor_page2: U64


class VersionResponse(Struct):
    """vmbus_channel_version_response, as far as all versions have it. `msg_conn_id` is the connection for
    the guest's further messages (from 5.0 on), before that the version that was selected."""

    header: MessageHeader
    version_supported: U8
    connection_state: U8
    padding: U16 = 0
    msg_conn_id: U32


class VersionResponseWithFeatures(Struct):
    """The response to 6.0, which tells the features that both sides have."""

    header: MessageHeader
    version_supported: U8
    connection_state: U8
    padding: U16 = 0
    msg_conn_id: U32
    feature_flags: U32


class HeaderOnly(Struct):
    """A message that is nothing but its type."""

    header: MessageHeader


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

"""What DVD drives are asked and answer: CDBs and data of the multimedia commands (MMC-6), big-endian."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar

from ringminus.wire import U8, U16, U32, Bytes, Struct


class MediaEvent(IntEnum):
    """Event codes of the media class."""

    NO_CHANGE = 0
    EJECT_REQUEST = 1
    NEW_MEDIA = 2
    MEDIA_REMOVAL = 3


class Feature(IntEnum):
    """Feature codes."""

    PROFILE_LIST = 0x0000
    CORE = 0x0001
    MORPHING = 0x0002
    REMOVABLE_MEDIUM = 0x0003
    RANDOM_READABLE = 0x0010
    CD_READ = 0x001E
    DVD_READ = 0x001F
    POWER_MANAGEMENT = 0x0100
    TIME_OUT = 0x0105


class Profile(IntEnum):
    """Kinds of media."""

    NONE = 0x0000
    CD_ROM = 0x0008
    DVD_ROM = 0x0010


# ------------------------------------------------------------------ commands


class ReadToc(Struct, big_endian=True):
    """Old guests put the format into the two high bits of `control`."""

    MASKS: ClassVar[dict[str, int]] = {"flags": 0x02, "format": 0x0F, "control": 0xC0}
    MSF: ClassVar[int] = 0x02
    opcode: U8
    flags: U8
    format: U8
    reserved: Annotated[bytes, Bytes(3)] = b""
    track: U8
    allocation_length: U16
    control: U8 = 0


class GetConfiguration(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"request_type": 0x03}
    opcode: U8
    request_type: U8
    starting_feature: U16
    reserved: Annotated[bytes, Bytes(3)] = b""
    allocation_length: U16
    control: U8 = 0


class GetEventStatusNotification(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"polled": 0x01}
    opcode: U8
    polled: U8
    reserved: U16 = 0
    classes: U8
    reserved2: U16 = 0
    allocation_length: U16
    control: U8 = 0


class ReadDiscInformation(Struct, big_endian=True):
    MASKS: ClassVar[dict[str, int]] = {"data_type": 0x07}
    opcode: U8
    data_type: U8
    reserved: Annotated[bytes, Bytes(5)] = b""
    allocation_length: U16
    control: U8 = 0


class ReadTrackInformation(Struct, big_endian=True):
    """address_type: 0 an LBA, 1 a track, 2 a session."""

    MASKS: ClassVar[dict[str, int]] = {"address_type": 0x07}
    opcode: U8
    address_type: U8
    address: U32
    reserved: U8 = 0
    allocation_length: U16
    control: U8 = 0


# ------------------------------------------------------------------ answers


class TocHeader(Struct, big_endian=True):
    """`data_length` counts what follows it."""

    data_length: U16
    first: U8 = 1
    last: U8 = 1


class TocTrack(Struct, big_endian=True):
    """A data track, or the lead-out as track 0xAA; `address` is an LBA, or 0 and minute, second, frame."""

    LEAD_OUT: ClassVar[int] = 0xAA
    reserved: U8 = 0
    adr_control: U8 = 0x14
    track: U8
    reserved2: U8 = 0
    address: Annotated[bytes, Bytes(4)]


class RawTocEntry(Struct, big_endian=True):
    """Format 2; `time` and `p_time` are minute, second, frame."""

    session: U8 = 1
    adr_control: U8 = 0x14
    track: U8 = 0
    point: U8
    time: Annotated[bytes, Bytes(3)] = b""
    zero: U8 = 0
    p_time: Annotated[bytes, Bytes(3)]


class ConfigurationHeader(Struct, big_endian=True):
    """`data_length` counts what follows it."""

    data_length: U32
    reserved: U16 = 0
    current_profile: U16


class FeatureHeader(Struct, big_endian=True):
    CURRENT: ClassVar[int] = 0x01
    PERSISTENT: ClassVar[int] = 0x02
    code: U16
    flags: U8
    additional_length: U8


class ProfileDescriptor(Struct, big_endian=True):
    profile: U16
    current: U8
    reserved: U8 = 0


class CoreFeature(Struct, big_endian=True):
    """`interface` 1 is SCSI."""

    interface: U32 = 1
    flags: U8 = 0x01
    reserved: Annotated[bytes, Bytes(3)] = b""


class RemovableMediumFeature(Struct, big_endian=True):
    """A tray that the guest may lock and eject."""

    flags: U8 = 0x29
    reserved: Annotated[bytes, Bytes(3)] = b""


class RandomReadableFeature(Struct, big_endian=True):
    block_size: U32
    blocking: U16 = 1
    page_present: U8 = 0
    reserved: U8 = 0


class EventHeader(Struct, big_endian=True):
    """`data_length` counts what follows it; `supported` has a bit for each class."""

    NO_EVENT: ClassVar[int] = 0x80
    data_length: U16
    event_class: U8
    supported: U8


class MediaEventData(Struct, big_endian=True):
    PRESENT: ClassVar[int] = 0x02
    code: U8
    status: U8
    start_slot: U8 = 0
    end_slot: U8 = 0


class DiscInformation(Struct, big_endian=True):
    """A finalized disc of one session and one track."""

    data_length: U16 = 32
    status: U8 = 0x0E
    first_track: U8 = 1
    sessions_low: U8 = 1
    first_track_in_last_session_low: U8 = 1
    last_track_in_last_session_low: U8 = 1
    flags: U8 = 0x20
    disc_type: U8 = 0
    sessions_high: U8 = 0
    first_track_in_last_session_high: U8 = 0
    last_track_in_last_session_high: U8 = 0
    disc_identification: U32 = 0
    last_session_lead_in: U32 = 0xFFFF_FFFF
    last_possible_lead_out: U32 = 0xFFFF_FFFF
    bar_code: Annotated[bytes, Bytes(8)] = b""
    reserved: U8 = 0
    opc_entries: U8 = 0


class TrackInformation(Struct, big_endian=True):
    """The one data track."""

    data_length: U16 = 34
    track: U8 = 1
    session: U8 = 1
    reserved: U8 = 0
    track_mode: U8 = 0x04
    data_mode: U8 = 0x01
    flags: U8 = 0
    start: U32 = 0
    next_writable: U32 = 0
    free_blocks: U32 = 0
    packet_size: U32 = 0
    size: U32
    last_recorded: U32
    track_high: U8 = 0
    session_high: U8 = 0
    reserved2: U16 = 0


class CapabilitiesPage(Struct, big_endian=True):
    """Mode page 0x2A: reads CD-R, CD-RW and DVD-ROM, has a tray; speeds in kB/s (11080 is 8 × DVD)."""

    LOCKED: ClassVar[int] = 0x02
    page_code: U8 = 0x2A
    page_length: U8 = 0x12
    reads: U8 = 0x0B
    writes: U8 = 0
    audio: U8 = 0
    cdda: U8 = 0
    mechanism: U8 = 0x29
    separate_channels: U8 = 0
    maximum_speed: U16 = 11080
    volume_levels: U16 = 0
    buffer_size: U16 = 512
    current_speed: U16 = 11080
    reserved: U8 = 0
    digital_output: U8 = 0
    reserved2: U16 = 0

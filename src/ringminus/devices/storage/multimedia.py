"""Commands of DVD drives (MMC-6): media events, table of contents, features."""

from __future__ import annotations

from ringminus.devices.storage.cdb_wire import PreventAllowMediumRemoval, StartStopUnit
from ringminus.devices.storage.dvd import BLOCK, DvdUnit
from ringminus.devices.storage.mmc_wire import (
    ConfigurationHeader,
    CoreFeature,
    DiscInformation,
    EventHeader,
    Feature,
    FeatureHeader,
    GetConfiguration,
    GetEventStatusNotification,
    MediaEvent,
    MediaEventData,
    Profile,
    ProfileDescriptor,
    RandomReadableFeature,
    RawTocEntry,
    ReadDiscInformation,
    ReadToc,
    ReadTrackInformation,
    RemovableMediumFeature,
    TocHeader,
    TocTrack,
    TrackInformation,
)
from ringminus.devices.storage.request import Answer, Request
from ringminus.devices.storage.sense import (
    INVALID_FIELD_IN_CDB,
    LBA_OUT_OF_RANGE,
    REMOVAL_PREVENTED,
    CheckCondition,
)

FRAMES, SECONDS, LEAD_IN = 75, 60, 150
LONGEST_MSF = 100 * SECONDS * FRAMES - 1
MEDIA_CLASS, MEDIA_CLASS_BIT = 4, 1 << 4


def start_stop(unit: DvdUnit, request: Request, cdb: StartStopUnit) -> Answer:
    """Eject, or load; a drive without LOEJ only spins up and down, which is nothing."""
    if cdb.flags & StartStopUnit.POWER_CONDITION or not cdb.flags & StartStopUnit.LOEJ:
        return 0
    if not cdb.flags & StartStopUnit.START:
        if unit.locked:
            raise CheckCondition(REMOVAL_PREVENTED)
        disk = unit.remove()
        if disk is not None:
            unit.ejected(disk)
    return 0


def prevent_allow(unit: DvdUnit, request: Request, cdb: PreventAllowMediumRemoval) -> Answer:
    unit.locked = bool(cdb.prevent & 1)
    return 0


def get_event_status(unit: DvdUnit, request: Request, cdb: GetEventStatusNotification) -> Answer:
    """One event of the media class; others do not happen here."""
    if not cdb.polled & 1:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    if not cdb.classes & MEDIA_CLASS_BIT:
        header = EventHeader(data_length=2, event_class=EventHeader.NO_EVENT, supported=MEDIA_CLASS_BIT)
        return header.pack()[: cdb.allocation_length]
    whole = cdb.allocation_length >= EventHeader.SIZE + MediaEventData.SIZE
    # a guest that has no room for the event shall not lose it
    code = unit.events.pop(0) if whole and unit.events else MediaEvent.NO_CHANGE
    data = MediaEventData(code=code, status=MediaEventData.PRESENT if unit.disk is not None else 0)
    header = EventHeader(
        data_length=EventHeader.SIZE - 2 + MediaEventData.SIZE,
        event_class=MEDIA_CLASS,
        supported=MEDIA_CLASS_BIT,
    )
    return (header.pack() + data.pack())[: cdb.allocation_length]


# ------------------------------------------------------------------ table of contents


def read_toc(unit: DvdUnit, request: Request, cdb: ReadToc) -> Answer:
    unit.medium()
    in_time = bool(cdb.flags & ReadToc.MSF)
    kind = cdb.format & 0x0F or cdb.control >> 6
    if kind == 0:
        body = _tracks(unit, cdb.track, in_time)
    elif kind == 1:
        body = TocTrack(track=1, address=_address(0, in_time)).pack()
    elif kind == 2 and cdb.track <= 1:
        body = _raw_toc(unit)
    else:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    header = TocHeader(data_length=TocHeader.SIZE - 2 + len(body))
    return (header.pack() + body)[: cdb.allocation_length]


def _tracks(unit: DvdUnit, first: int, in_time: bool) -> bytes:
    if 1 < first != TocTrack.LEAD_OUT:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    tracks = [] if first == TocTrack.LEAD_OUT else [TocTrack(track=1, address=_address(0, in_time))]
    tracks.append(TocTrack(track=TocTrack.LEAD_OUT, address=_address(unit.blocks, in_time)))
    return b"".join(track.pack() for track in tracks)


def _raw_toc(unit: DvdUnit) -> bytes:
    """First track, last track, lead-out, and the track."""
    entries = ((0xA0, b"\1\0\0"), (0xA1, b"\1\0\0"), (0xA2, _msf(unit.blocks)), (1, _msf(0)))
    return b"".join(RawTocEntry(point=point, p_time=time).pack() for point, time in entries)


def _address(lba: int, in_time: bool) -> bytes:
    return b"\0" + _msf(lba) if in_time else min(lba, 0xFFFF_FFFF).to_bytes(4, "big")


def _msf(lba: int) -> bytes:
    """Minute, second and frame; a DVD is longer than these can say."""
    frames = min(lba + LEAD_IN, LONGEST_MSF)
    return bytes((frames // (FRAMES * SECONDS), frames // FRAMES % SECONDS, frames % FRAMES))


def read_disc_information(unit: DvdUnit, request: Request, cdb: ReadDiscInformation) -> Answer:
    unit.medium()
    if cdb.data_type & 7:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    return DiscInformation().pack()[: cdb.allocation_length]


def read_track_information(unit: DvdUnit, request: Request, cdb: ReadTrackInformation) -> Answer:
    unit.medium()
    kind = cdb.address_type & 7
    if kind == 0 and cdb.address >= unit.blocks:
        raise CheckCondition(LBA_OUT_OF_RANGE)
    if kind > 2 or (kind and cdb.address != 1):
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    blocks = min(unit.blocks, 0xFFFF_FFFF)
    return TrackInformation(size=blocks, last_recorded=max(blocks - 1, 0)).pack()[: cdb.allocation_length]


# ------------------------------------------------------------------ features


def get_configuration(unit: DvdUnit, request: Request, cdb: GetConfiguration) -> Answer:
    """Request types: 0 all features from a code on, 1 those that are current, 2 one."""
    kind = cdb.request_type & 3
    if kind == 3:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    listed = b""
    for code, current, body in _features(unit):
        if code < cdb.starting_feature or (kind == 1 and not current):
            continue
        if kind == 2 and code != cdb.starting_feature:
            continue
        flags = (FeatureHeader.CURRENT if current else 0) | (FeatureHeader.PERSISTENT if _stays(code) else 0)
        listed += FeatureHeader(code=code, flags=flags, additional_length=len(body)).pack() + body
    header = ConfigurationHeader(
        data_length=ConfigurationHeader.SIZE - 4 + len(listed), current_profile=unit.profile
    )
    return (header.pack() + listed)[: cdb.allocation_length]


def _stays(code: int) -> bool:
    return code in (
        Feature.PROFILE_LIST,
        Feature.CORE,
        Feature.MORPHING,
        Feature.REMOVABLE_MEDIUM,
        Feature.POWER_MANAGEMENT,
        Feature.TIME_OUT,
    )


def _features(unit: DvdUnit) -> list[tuple[int, bool, bytes]]:
    """(code, current, data) in the order of their codes."""
    profile = unit.profile
    profiles = b"".join(
        ProfileDescriptor(profile=known, current=known == profile).pack()
        for known in (Profile.DVD_ROM, Profile.CD_ROM)
    )
    return [
        (Feature.PROFILE_LIST, True, profiles),
        (Feature.CORE, True, CoreFeature().pack()),
        (Feature.MORPHING, True, bytes(4)),
        (Feature.REMOVABLE_MEDIUM, True, RemovableMediumFeature().pack()),
        (Feature.RANDOM_READABLE, profile != Profile.NONE, RandomReadableFeature(block_size=BLOCK).pack()),
        (Feature.CD_READ, profile == Profile.CD_ROM, bytes(4)),
        (Feature.DVD_READ, profile == Profile.DVD_ROM, bytes(4)),
        (Feature.POWER_MANAGEMENT, True, b""),
        (Feature.TIME_OUT, True, bytes(4)),
    ]

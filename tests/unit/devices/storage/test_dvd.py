"""A DVD drive: media that come and go, and what a guest asks about them."""

from __future__ import annotations

from typing import Any

import pytest

from ringminus.devices.storage.dvd import CD_BLOCKS
from ringminus.devices.storage.mmc_wire import CapabilitiesPage, Feature, Profile
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Direction
from ringminus.disks.disk import Disk
from ringminus.errors import ConfigError
from ringminus.memory import MIB
from support import cdb
from support.storage import Guest, MemoryDisk

NO_MEDIUM, CHANGED, ILLEGAL_FIELD = (2, 0x3A, 0), (6, 0x28, 0), (5, 0x24, 0)
NO_CHANGE, EJECT_REQUEST, NEW_MEDIA, REMOVAL = range(4)


def iso(size: int = MIB, fill: int = 1) -> MemoryDisk:
    disk = MemoryDisk(size, sector_size=512)
    disk.data[:] = bytes([fill]) * size
    disk.read_only = True
    return disk


@pytest.fixture
def drives() -> ScsiController:
    controller = ScsiController()
    controller.attach_dvd(0, iso())
    controller.attach_dvd(1)
    return controller


@pytest.fixture
def viewer(drives: ScsiController) -> Guest:
    return Guest(drives).connect()


def event(guest: Guest, **more: Any) -> tuple[int, int]:
    """Code and status of the next media event."""
    data = guest.read(cdb.get_event_status(), 8, **more)
    assert data[:4] == bytes((0, 6, 4, 1 << 4))
    return data[4], data[5]


def test_a_drive_says_what_it_is(viewer: Guest) -> None:
    data = viewer.read(cdb.inquiry(36), 36)
    assert data[:2] == bytes((5, 0x80)) and data[16:32] == b"Virtual DVD-ROM "
    assert viewer.read(cdb.inquiry(255, 0), 255)[4:] == bytes((0x00, 0x80, 0x83))
    names = {viewer.read(cdb.inquiry(255, 0x80), 255, lun=lun)[4:] for lun in (0, 1)}
    assert len(names) == 2


def test_its_blocks_are_of_2048_bytes(viewer: Guest) -> None:
    assert viewer.read(cdb.read_capacity10(), 8) == bytes.fromhex("000001ff 00000800")
    assert viewer.read(cdb.read10(511, 1), 2048) == b"\1" * 2048
    assert viewer.read(cdb.read12(0, 2), 4096) == b"\1" * 4096
    assert viewer.command(cdb.read10(512, 1), 2048).sense == (5, 0x21, 0)


def test_it_does_not_write(viewer: Guest) -> None:
    for command in (cdb.write10(0, 1), cdb.write16(0, 1), cdb.write_same16(0, 1), cdb.unmap(24)):
        assert viewer.write(command, bytes(2048)).sense == (5, 0x20, 0)


def test_what_a_drive_does_not_know_is_refused_on_the_fast_way_too(viewer: Guest) -> None:
    assert viewer.command(cdb.read16(0, 1), 2048).sense == (5, 0x20, 0)


def test_without_a_medium_it_is_not_ready(viewer: Guest) -> None:
    for command, length in (
        (cdb.TEST_UNIT_READY, 0),
        (cdb.read10(0, 1), 2048),
        (cdb.read_capacity10(), 8),
        (cdb.read_toc(), 804),
        (cdb.read_disc_information(), 34),
        (cdb.read_track_information(1, 1), 36),
    ):
        assert viewer.command(command, length, lun=1).sense == NO_MEDIUM
    assert event(viewer, lun=1) == (NO_CHANGE, 0)
    assert viewer.read(cdb.mode_sense10(0x2A), 128, lun=1)


def test_a_medium_that_is_inserted_is_noticed(viewer: Guest, drives: ScsiController) -> None:
    assert drives.insert(1, iso(fill=7)) is None
    assert event(viewer, lun=1) == (NEW_MEDIA, 2), "asking for events comes first"
    assert viewer.command(cdb.TEST_UNIT_READY, lun=1).sense == CHANGED
    assert viewer.command(cdb.TEST_UNIT_READY, lun=1).srb_status == 1
    assert viewer.read(cdb.read10(0, 1), 2048, lun=1) == b"\7" * 2048
    assert event(viewer, lun=1) == (NO_CHANGE, 2)


def test_a_medium_that_is_ejected_is_gone(viewer: Guest, drives: ScsiController) -> None:
    disk = drives.unit(0).disk
    assert drives.eject(0) is disk
    assert event(viewer) == (REMOVAL, 0)
    assert viewer.command(cdb.TEST_UNIT_READY).sense == NO_MEDIUM
    assert drives.eject(0) is None


def test_a_medium_may_be_replaced_by_a_larger_one(viewer: Guest, drives: ScsiController) -> None:
    old = drives.unit(0).disk
    assert drives.insert(0, iso(2 * MIB)) is old
    assert [event(viewer)[0] for _ in range(3)] == [REMOVAL, NEW_MEDIA, NO_CHANGE]
    assert viewer.command(cdb.TEST_UNIT_READY).sense == CHANGED
    assert viewer.read(cdb.read_capacity10(), 8)[:4] == bytes.fromhex("000003ff")


def test_events_stay_in_order_and_few(viewer: Guest, drives: ScsiController) -> None:
    for _ in range(20):
        drives.insert(0, iso())
    drives.eject(0)
    found = [event(viewer)[0] for _ in range(9)]
    assert found == [NEW_MEDIA, *[REMOVAL, NEW_MEDIA] * 3, REMOVAL, NO_CHANGE]


def test_a_locked_drive_is_asked_before_it_is_forced(viewer: Guest, drives: ScsiController) -> None:
    viewer.command(cdb.prevent_removal(True))
    assert viewer.command(cdb.start_stop(start=False, eject=True)).sense == (5, 0x53, 2)
    with pytest.raises(ConfigError, match="locked"):
        drives.eject(0)
    assert event(viewer) == (EJECT_REQUEST, 2)
    with pytest.raises(ConfigError, match="locked"):
        drives.insert(0, iso())
    assert event(viewer) == (EJECT_REQUEST, 2)
    assert viewer.read(cdb.mode_sense10(0x2A), 128)[8 + 6] & CapabilitiesPage.LOCKED
    assert drives.eject(0, force=True) is not None
    assert not viewer.read(cdb.mode_sense10(0x2A), 128)[8 + 6] & CapabilitiesPage.LOCKED


def test_the_guest_may_let_go_and_eject_itself(viewer: Guest, drives: ScsiController) -> None:
    told: list[tuple[int, Disk]] = []
    drives.ejected = lambda lun, disk: told.append((lun, disk))
    disk = drives.unit(0).disk
    assert disk is not None
    viewer.command(cdb.prevent_removal(True))
    viewer.command(cdb.prevent_removal(False))
    assert viewer.command(cdb.start_stop(start=False)).srb_status == 1
    assert viewer.command(cdb.TEST_UNIT_READY).srb_status == 1, "spun down is not ejected"
    assert viewer.command(cdb.start_stop(start=False, eject=True)).srb_status == 1
    assert told == [(0, disk)]
    assert viewer.command(cdb.TEST_UNIT_READY).sense == NO_MEDIUM
    assert viewer.command(cdb.start_stop(start=True, eject=True)).srb_status == 1


def test_a_medium_is_not_given_back_while_it_is_read(viewer: Guest, drives: ScsiController) -> None:
    disk = drives.unit(0).disk
    assert isinstance(disk, MemoryDisk)
    disk.immediate = False
    number = viewer.start(cdb.read10(0, 1), 2048)
    drives.eject(0)
    assert viewer.result(number).srb_status == 1 and viewer.services.waiting == []


def test_a_reset_opens_the_lock(viewer: Guest, drives: ScsiController) -> None:
    viewer.command(cdb.prevent_removal(True))
    viewer.ask(6)
    assert drives.eject(0) is not None


def test_a_disk_is_no_drive(drives: ScsiController) -> None:
    drives.attach_disk(2, MemoryDisk())
    with pytest.raises(ConfigError, match="no DVD drive"):
        drives.eject(2)
    with pytest.raises(ConfigError, match="sectors of 4096 bytes"):
        drives.insert(1, MemoryDisk(sector_size=4096))
    assert drives.unit(1).disk is None


def test_the_table_of_contents_has_one_track(viewer: Guest) -> None:
    assert viewer.read(cdb.read_toc(), 804).hex(" ", 4) == "00120101 00140100 00000000 0014aa00 00000200"
    assert viewer.read(cdb.read_toc(flags=2), 804)[-4:] == bytes((0, 0, 8, 62)), "150 frames before it"
    assert viewer.read(cdb.read_toc(track=0xAA), 804)[4:].hex() == "0014aa0000000200"
    assert viewer.read(cdb.read_toc(format=1), 804)[2:4] == b"\1\1"
    assert viewer.read(cdb.read_toc(control=0x40, length=12), 12)[:2] == bytes((0, 10))
    raw = viewer.read(cdb.read_toc(format=2), 804)
    assert [raw[4 + 11 * index + 3] for index in range(4)] == [0xA0, 0xA1, 0xA2, 1]
    for wrong in (cdb.read_toc(track=2), cdb.read_toc(format=5)):
        assert viewer.command(wrong, 804).sense == ILLEGAL_FIELD


def test_a_disc_is_complete_and_has_one_track(viewer: Guest) -> None:
    disc = viewer.read(cdb.read_disc_information(), 34)
    assert disc[:3] == bytes((0, 32, 0x0E))
    track = viewer.read(cdb.read_track_information(1, 1), 36)
    assert track[:4] == bytes((0, 34, 1, 1)) and track[24:28] == (512).to_bytes(4, "big")
    assert viewer.command(cdb.read_track_information(1, 2), 36).sense == ILLEGAL_FIELD
    assert viewer.command(cdb.read_track_information(0, 512), 36).sense == (5, 0x21, 0)


def features(data: bytes) -> dict[int, int]:
    """Flags of each feature by code."""
    found, position = {}, 8
    while position < len(data):
        found[int.from_bytes(data[position : position + 2], "big")] = data[position + 2]
        position += 4 + data[position + 3]
    assert position == len(data) == int.from_bytes(data[:4], "big") + 4
    return found


def test_features_tell_what_is_current(viewer: Guest) -> None:
    every = features(viewer.read(cdb.get_configuration(), 4096))
    assert list(every) == sorted(Feature)
    current = features(viewer.read(cdb.get_configuration(1), 4096))
    assert Feature.CD_READ in current and Feature.DVD_READ not in current
    assert list(features(viewer.read(cdb.get_configuration(2, Feature.CORE), 4096))) == [Feature.CORE]
    assert features(viewer.read(cdb.get_configuration(2, 0x777), 4096)) == {}
    assert min(features(viewer.read(cdb.get_configuration(0, 0x10), 4096))) == 0x10
    assert viewer.command(cdb.get_configuration(3), 4096).sense == ILLEGAL_FIELD
    empty = viewer.read(cdb.get_configuration(1), 4096, lun=1)
    assert int.from_bytes(empty[6:8], "big") == Profile.NONE
    assert Feature.RANDOM_READABLE not in features(empty)


def test_a_large_image_is_a_dvd(viewer: Guest, drives: ScsiController) -> None:
    large = iso()
    large.size = (CD_BLOCKS + 1) * 2048
    drives.insert(1, large)
    data = viewer.read(cdb.get_configuration(), 4096, lun=1)
    assert int.from_bytes(data[6:8], "big") == Profile.DVD_ROM
    viewer.command(cdb.TEST_UNIT_READY, lun=1)
    assert viewer.read(cdb.read_toc(flags=2), 804, lun=1)[-3:] == bytes((80, 2, 1))


def test_events_are_asked_for_and_not_lost(viewer: Guest, drives: ScsiController) -> None:
    drives.eject(0)
    assert viewer.read(cdb.get_event_status(length=4), 4) == bytes((0, 6, 4, 16))
    assert viewer.read(cdb.get_event_status(classes=1 << 1), 8) == bytes((0, 2, 0x80, 16))
    assert event(viewer) == (REMOVAL, 0)
    assert viewer.command(cdb.get_event_status(polled=0), 8).sense == ILLEGAL_FIELD


def test_a_drive_is_the_same_when_restored(viewer: Guest, drives: ScsiController) -> None:
    viewer.command(cdb.prevent_removal(True))
    with pytest.raises(ConfigError):
        drives.eject(0)
    again = ScsiController()
    again.attach_dvd(0, iso())
    again.attach_dvd(1, iso(2 * MIB))
    again.restore(drives.save())
    guest = Guest(again)
    guest.open()
    assert event(guest) == (EJECT_REQUEST, 2)
    assert guest.command(cdb.start_stop(start=False, eject=True)).sense == (5, 0x53, 2)
    assert guest.command(cdb.TEST_UNIT_READY, lun=1).sense == CHANGED, "there was no medium before"


def test_its_caching_page_is_not_there(viewer: Guest) -> None:
    assert viewer.command(cdb.mode_sense10(0x08), 128).sense == ILLEGAL_FIELD
    assert viewer.command(cdb.mode_select6(4), 4, Direction.OUT).sense == (5, 0x20, 0)

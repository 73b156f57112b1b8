"""How a guest finds its disks: what each address answers, and how few questions a scan takes."""

from __future__ import annotations

import pytest

from ringminus.devices.storage.ide import IdeDisk
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import OfferProperties
from ringminus.errors import ConfigError
from support import cdb
from support.storage import Guest, MemoryDisk

NO_UNIT_HERE = 0x7F


def luns(data: bytes) -> list[int]:
    assert len(data) == 8 + int.from_bytes(data[:4], "big")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(8, len(data), 8)]


def test_report_luns_lists_what_is_attached(guest: Guest, controller: ScsiController) -> None:
    for lun in (63, 7):
        controller.attach_disk(lun, MemoryDisk())
    assert luns(guest.read(cdb.report_luns(), 4096)) == [0, 7, 63]
    assert luns(guest.read(cdb.report_luns(), 4096, lun=5)) == [0, 7, 63], "any LUN may be asked"
    assert luns(guest.read(cdb.report_luns(select=1), 4096)) == []
    assert guest.command(cdb.report_luns(select=3), 4096).sense == (5, 0x24, 0)
    assert len(guest.read(cdb.report_luns(16), 16)) == 16


@pytest.mark.parametrize("address", [(0, 1), (1, 0), (7, 1)], ids=str)
def test_there_is_nothing_at_other_targets(guest: Guest, address: tuple[int, int]) -> None:
    path, target = address
    assert guest.read(cdb.inquiry(36), 36, path=path, target=target)[0] == NO_UNIT_HERE
    assert luns(guest.read(cdb.report_luns(), 4096, path=path, target=target)) == []
    assert guest.command(cdb.read10(0, 1), 512, path=path, target=target).srb_status == 0x20


def test_an_absent_lun_is_named_only_if_it_is_the_first(controller: ScsiController, guest: Guest) -> None:
    assert guest.read(cdb.inquiry(36), 36, lun=3) == bytes((NO_UNIT_HERE, 0, 5, 2, 91)) + bytes(31)
    assert guest.read(cdb.inquiry(36), 36, target=1)[8:16] == b"Msft    "
    assert guest.command(cdb.inquiry(255, 0x83), 255, lun=3).sense == (5, 0x24, 0)


@pytest.mark.parametrize("command", [cdb.TEST_UNIT_READY, cdb.read_capacity10(), cdb.mode_sense6(0x3F)])
def test_other_commands_to_an_absent_lun_make_linux_forget_it(guest: Guest, command: bytes) -> None:
    for lun in (1, 63, 64, 255):
        result = guest.command(command, lun=lun)
        assert (result.srb_status, result.srb.scsi_status) == (0x20, 2)
        assert result.packet.status == 0xC00000C0


def test_a_scan_as_linux_does_it_is_short(guest: Guest) -> None:
    """Two questions to each of 16 targets, and two more to each disk."""
    found = []
    for path in range(8):
        for target in range(2):
            first = guest.read(cdb.inquiry(36), 36, path=path, target=target)
            assert first, "an answer without data would be asked again, twice"
            for lun in luns(guest.read(cdb.report_luns(), 4096, path=path, target=target)):
                data = guest.read(cdb.inquiry(36), 36, path=path, target=target, lun=lun)
                assert data[0] == 0
                found.append((path, target, lun))
    assert found == [(0, 0, 0)]
    assert len(guest.channel.completed) == 4 + 33


@pytest.mark.parametrize("lun", [-1, 64])
def test_a_controller_has_64_places(lun: int) -> None:
    with pytest.raises(ConfigError, match="LUN 0 to 63"):
        ScsiController().attach_disk(lun, MemoryDisk())


def test_a_place_is_for_one() -> None:
    controller = ScsiController()
    controller.attach_disk(3, MemoryDisk())
    for attach in (controller.attach_disk, controller.attach_dvd):
        with pytest.raises(ConfigError, match="is taken"):
            attach(3, MemoryDisk())
    with pytest.raises(ConfigError, match="nothing at LUN 4"):
        controller.detach(4)


@pytest.mark.parametrize(("path", "target"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_an_ide_disk_is_where_its_guid_says(path: int, target: int) -> None:
    device = IdeDisk(path, target, MemoryDisk())
    assert device.instance.bytes_le[4:6] == bytes((target, 0))
    offer = OfferProperties.unpack(device.user_defined())
    assert (offer.path_id, offer.target_id, offer.flags) == (path, target, 2)
    guest = Guest(device).connect()
    assert guest.read(cdb.inquiry(36), 36, target=target)[0] == 0
    assert guest.read(cdb.inquiry(36), 36, target=1 - target)[0] == NO_UNIT_HERE
    assert guest.read(cdb.read10(0, 8), 4096, target=target) == bytes(4096)


def test_ide_disks_have_instances_of_their_own_and_one_channel() -> None:
    devices = [IdeDisk(path, target, MemoryDisk()) for path in (0, 1) for target in (0, 1)]
    assert len({device.instance for device in devices}) == 4
    assert Guest(devices[0]).connect().device.handshake.max_subchannels == 0
    with pytest.raises(ConfigError, match="controllers 0 and 1"):
        IdeDisk(2, 0, MemoryDisk())

"""Failures of the host: the guest gets sense data, the person one line."""

from __future__ import annotations

import errno
import logging

import pytest

from ringminus.clock import REFERENCE_HZ
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import SrbFlags
from ringminus.disks.disk import CorruptDisk, DiskError
from support import cdb
from support.storage import Guest, MemoryDisk

MINUTE = 60 * REFERENCE_HZ
at_once_or_later = pytest.mark.parametrize("immediate", [True, False], ids=["at once", "later"])


@at_once_or_later
@pytest.mark.parametrize(
    ("number", "reading", "writing"),
    [
        (errno.EIO, (3, 0x11, 0), (3, 0x0C, 0)),
        (errno.ENOSPC, (3, 0x11, 0), (7, 0x27, 7)),
        (errno.EDQUOT, (3, 0x11, 0), (7, 0x27, 7)),
        (errno.EROFS, (3, 0x11, 0), (7, 0x27, 0)),
        (errno.ESTALE, (4, 0x44, 0), (4, 0x44, 0)),
        (None, (3, 0x11, 0), (3, 0x0C, 0)),
    ],
)
def test_the_guest_is_told_what_failed(
    guest: Guest,
    disk: MemoryDisk,
    immediate: bool,
    number: int | None,
    reading: tuple[int, int, int],
    writing: tuple[int, int, int],
) -> None:
    disk.immediate = immediate
    disk.failure = DiskError("no", number)
    read = guest.command(cdb.read10(5, 8), 4096)
    assert (read.srb_status, read.srb.scsi_status, read.sense, read.moved) == (0x84, 2, reading, 0)
    assert guest.write(cdb.write16(5, 8), bytes(4096)).sense == writing
    counters = guest.device.units[0].counters
    assert (counters.reads, counters.writes, counters.read_errors, counters.write_errors) == (0, 0, 1, 1)
    disk.failure = None
    assert guest.read(cdb.read10(5, 8), 4096) == disk.data[2560:6656]


def test_the_place_is_told_where_it_is_known(guest: Guest, disk: MemoryDisk) -> None:
    disk.immediate = False
    guest.services.waiting.clear()
    number = guest.start(cdb.read10(0x123, 8), 4096)
    disk.failure = CorruptDisk("a block points nowhere")
    guest.services.step()
    sense = guest.result(number).srb.cdb
    assert sense[0] == 0xF0 and sense[3:7] == bytes.fromhex("00000123")


def test_other_commands_fail_the_same_way(guest: Guest, disk: MemoryDisk) -> None:
    disk.failure = DiskError("full", errno.ENOSPC)
    assert guest.write(cdb.write_same16(0, 8), bytes(512)).sense == (7, 0x27, 7)
    assert guest.command(cdb.synchronize_cache10()).sense == (7, 0x27, 7)
    disk.failure = DiskError("worn out", errno.EIO)
    assert guest.command(cdb.verify10(0, 8)).sense == (3, 0x11, 0)


def test_the_person_gets_one_line_a_minute_for_each_kind(
    guest: Guest, disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.failure = DiskError("disk.vhdx: Input/output error", errno.EIO)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            guest.command(cdb.read10(0, 8), 4096)
        assert caplog.messages == ["SCSI LUN 0: the host cannot read: disk.vhdx: Input/output error"]
        guest.write(cdb.write10(0, 8), bytes(4096))
        disk.failure = DiskError("disk.vhdx: No space left on device", errno.ENOSPC)
        guest.write(cdb.write10(0, 8), bytes(4096))
        assert [message.split(": ")[1] for message in caplog.messages[1:]] == ["the host cannot write"] * 2
        guest.services.time.advance(MINUTE)
        guest.command(cdb.read10(0, 8), 4096)
        disk.failure = DiskError("disk.vhdx: Input/output error", errno.EIO)
        guest.command(cdb.read10(0, 8), 4096)
    assert caplog.messages[-1].endswith("(4 more like it were not shown)")


def test_a_disk_that_shrank_under_a_request_is_out_of_range(guest: Guest, disk: MemoryDisk) -> None:
    disk.immediate = False
    number = guest.start(cdb.read10(2040, 8), 4096)
    disk.resize(512 << 10)
    guest.services.step()
    assert guest.result(number).sense == (5, 0x21, 0)
    disk.immediate = True
    assert guest.command(cdb.read10(2040, 8), 4096).sense == (5, 0x21, 0)


def test_without_autosense_the_guest_asks_itself(guest: Guest) -> None:
    result = guest.command(cdb.read10(1 << 20, 8), 4096, srb_flags=SrbFlags.DISABLE_AUTOSENSE)
    assert (result.srb_status, result.srb.scsi_status, result.sense) == (6, 2, None)
    assert guest.read(cdb.request_sense(), 18)[2:14:10] == bytes((5, 0x21))
    assert guest.read(cdb.request_sense(), 18)[2:14:10] == bytes((0, 0)), "told once"


def test_with_autosense_there_is_nothing_more_to_ask(guest: Guest) -> None:
    guest.command(cdb.read10(1 << 20, 8), 4096)
    assert guest.read(cdb.request_sense(), 18)[2] == 0


@pytest.mark.parametrize("opcode", [0x5E, 0x5F, 0x16, 0x17, 0x56, 0x57, 0x85, 0xA1, 0xC0, 0xFF, 0x04, 0xA2])
def test_reservations_pass_through_and_the_unknown_are_refused(guest: Guest, opcode: int) -> None:
    for length in (0, 512):
        result = guest.command(bytes([opcode]) + bytes(15), length)
        assert (result.srb_status, result.srb.scsi_status, result.sense) == (0x86, 2, (5, 0x20, 0))


def test_an_unknown_service_action_is_an_illegal_field(guest: Guest) -> None:
    assert guest.command(bytes((0x9E, 0x1F)) + bytes(14), 32).sense == (5, 0x24, 0)
    assert guest.command(bytes((0xA3, 0x05)) + bytes(10), 32).sense == (5, 0x24, 0)


def test_errors_are_kept_for_log_sense(guest: Guest, disk: MemoryDisk, controller: ScsiController) -> None:
    assert list(guest.read(cdb.log_sense(0), 255)[4:]) == [0x00, 0x02, 0x03, 0x2F]
    guest.read(cdb.read10(0, 8), 4096)
    disk.failure = DiskError("no", errno.EIO)
    guest.command(cdb.read10(0, 8), 4096)
    page = guest.read(cdb.log_sense(3), 255)
    assert page[:4] == bytes((3, 0, 0, 24))
    assert page[4:16] == bytes.fromhex("00050008") + (4096).to_bytes(8, "big")
    assert page[16:28] == bytes.fromhex("00060008") + (1).to_bytes(8, "big")
    assert guest.read(cdb.log_sense(0x2F), 255)[8:10] == b"\0\0"
    assert guest.command(cdb.log_sense(0x0D), 255).sense == (5, 0x24, 0)

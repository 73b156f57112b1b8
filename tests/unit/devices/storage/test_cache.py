"""What is on stable storage, and when: SYNCHRONIZE CACHE, FUA, and a write cache that can be switched off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringminus.devices.storage.cdb_wire import FUA
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Direction
from ringminus.disks.disk import DiskError
from support import cdb
from support.storage import Guest, MemoryDisk

BLOCK = b"\x5a" * 512
WCE = 0x04


def caching(guest: Guest) -> int:
    return guest.read(cdb.mode_sense6(0x08), 255)[6]


def switch(guest: Guest, on: bool, size: int = 6) -> None:
    """Change WCE as Linux's sd does: read the page, alter it, send it back."""
    if size == 6:
        data = bytearray(guest.read(cdb.mode_sense6(0x08), 255))
        data[0] = data[2] = 0
        data[4] &= 0x7F
        data[6] = data[6] & ~WCE | (WCE if on else 0)
        result = guest.write(cdb.mode_select6(len(data)), bytes(data))
    else:
        data = bytearray(guest.read(cdb.mode_sense10(0x08), 255))
        data[0] = data[1] = data[3] = 0
        data[10] = data[10] & ~WCE | (WCE if on else 0)
        result = guest.write(cdb.mode_select10(len(data)), bytes(data))
    assert (result.srb_status, result.moved) == (1, len(data))


@pytest.mark.parametrize("flush", [cdb.synchronize_cache10, cdb.synchronize_cache16])
def test_a_flush_makes_stable_what_was_written_before(
    guest: Guest, disk: MemoryDisk, flush: Callable[[], bytes]
) -> None:
    guest.write(cdb.write10(3, 1), BLOCK)
    assert disk.stable[1536:2048] != BLOCK
    number = guest.start(flush())
    assert guest.answer(number) is None, "it waits for the host"
    guest.services.step()
    assert guest.result(number).srb_status == 1
    assert disk.stable[1536:2048] == BLOCK


def test_a_flush_of_nothing_new_is_answered_at_once(guest: Guest, disk: MemoryDisk) -> None:
    guest.command(cdb.synchronize_cache10())
    number = guest.start(cdb.synchronize_cache10())
    assert guest.result(number).srb_status == 1
    assert disk.calls.count("flush") == 1


def test_the_first_flush_is_never_spared(guest: Guest, disk: MemoryDisk) -> None:
    """Somebody may have written to the disk before it came here."""
    guest.command(cdb.synchronize_cache10())
    assert disk.calls == ["flush"]


def test_a_second_flush_does_not_count_on_one_that_has_not_ended(guest: Guest, disk: MemoryDisk) -> None:
    guest.write(cdb.write10(0, 1), BLOCK)
    first, second = guest.start(cdb.synchronize_cache10()), guest.start(cdb.synchronize_cache10())
    assert guest.answer(first) is None and guest.answer(second) is None
    guest.services.step()
    guest.services.step()
    assert disk.calls.count("flush") == 2


def test_a_write_that_ends_while_a_flush_runs_is_flushed_by_the_next(guest: Guest, disk: MemoryDisk) -> None:
    guest.write(cdb.write10(0, 1), BLOCK)
    guest.start(cdb.synchronize_cache10())
    guest.write(cdb.write10(1, 1), BLOCK)
    guest.services.step()
    guest.command(cdb.synchronize_cache10())
    assert disk.calls.count("flush") == 2 and disk.stable[512:1024] == BLOCK


def test_a_flush_that_failed_is_tried_again(guest: Guest, disk: MemoryDisk) -> None:
    disk.failure = DiskError("it burns", 5)
    assert guest.command(cdb.synchronize_cache10()).sense == (3, 0x0C, 0)
    disk.failure = None
    assert guest.command(cdb.synchronize_cache10()).srb_status == 1
    assert disk.calls == ["flush", "flush"]


def test_a_flush_of_a_range_that_is_not_there_is_refused(guest: Guest) -> None:
    assert guest.command(cdb.synchronize_cache10(2047, 2)).sense == (5, 0x21, 0)


@pytest.mark.parametrize("write", [cdb.write10, cdb.write12, cdb.write16])
def test_a_forced_write_is_stable_when_it_is_answered(
    guest: Guest, disk: MemoryDisk, write: Callable[[int, int, int], bytes]
) -> None:
    guest.write(write(3, 1, FUA), BLOCK)
    assert disk.calls == ["write", "flush"] and disk.stable[1536:2048] == BLOCK


def test_a_forced_read_is_a_read(guest: Guest, disk: MemoryDisk) -> None:
    assert guest.read(cdb.read10(3, 1, FUA), 512) == disk.data[1536:2048]


@pytest.mark.parametrize("size", [6, 10])
def test_without_write_cache_every_write_is_stable(
    guest: Guest, disk: MemoryDisk, controller: ScsiController, size: int
) -> None:
    assert caching(guest) & WCE
    guest.write(cdb.write10(0, 1), BLOCK)
    switch(guest, False, size)
    assert not caching(guest) & WCE
    assert disk.stable[:512] == BLOCK, "what was in the cache is flushed"
    guest.write(cdb.write10(1, 1), BLOCK)
    guest.write(cdb.write6(2, 1), BLOCK)
    assert disk.stable[512:1536] == BLOCK * 2
    switch(guest, True, size)
    guest.write(cdb.write10(3, 1), BLOCK)
    assert disk.stable[1536:2048] != BLOCK


def test_nothing_else_can_be_changed(guest: Guest) -> None:
    good = bytearray(guest.read(cdb.mode_sense6(0x08), 255))
    good[0] = good[2] = 0
    parameters = (5, 0x26, 0)
    for index, value in ((6, good[6] | 1), (5, 0x11), (4, 0x09), (8, 1)):
        bad = bytearray(good)
        bad[index] = value
        assert guest.write(cdb.mode_select6(len(bad)), bytes(bad)).sense == parameters
    assert guest.write(cdb.mode_select6(len(good), 0x11), bytes(good)).sense == (5, 0x24, 0)
    assert guest.write(cdb.mode_select6(10), bytes(good[:10])).sense == (5, 0x1A, 0)
    assert guest.write(cdb.mode_select6(2), bytes(2)).sense == (5, 0x1A, 0)
    assert guest.write(cdb.mode_select6(24), bytes(good[:20])).sense == (5, 0x1A, 0)
    assert guest.command(cdb.mode_select6(24), 24, Direction.IN).sense == (5, 0x1A, 0)
    assert guest.command(cdb.mode_select6(0)).srb_status == 1
    assert caching(guest) & WCE


def test_a_block_descriptor_may_come_along_if_it_changes_nothing(guest: Guest) -> None:
    page = guest.read(cdb.mode_sense6(0x08), 255)[4:]
    for length, sense in ((512, None), (4096, (5, 0x26, 0))):
        data = bytes((0, 0, 0, 8)) + bytes(4) + length.to_bytes(4, "big") + page
        assert guest.write(cdb.mode_select6(len(data)), data).sense == sense


def test_stop_flushes_and_the_disk_stays_ready(guest: Guest, disk: MemoryDisk) -> None:
    guest.write(cdb.write10(0, 1), BLOCK)
    assert guest.command(cdb.start_stop(start=False)).srb_status == 1
    assert disk.stable[:512] == BLOCK
    assert guest.command(cdb.start_stop(start=True)).srb_status == 1
    assert guest.command(cdb.TEST_UNIT_READY).srb_status == 1
    assert guest.command(cdb.start_stop(start=False, eject=True)).sense == (5, 0x24, 0)

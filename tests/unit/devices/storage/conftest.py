"""A guest that is connected to a controller with one disk."""

from __future__ import annotations

import pytest

from ringminus.devices.storage.scsi import ScsiController
from support.storage import Guest, MemoryDisk


@pytest.fixture
def disk() -> MemoryDisk:
    disk = MemoryDisk()
    disk.data[:] = bytes(range(256)) * (len(disk.data) // 256)
    for offset in range(0, len(disk.data), 512):
        disk.data[offset : offset + 4] = (offset // 512).to_bytes(4, "big")
    return disk


@pytest.fixture
def controller(disk: MemoryDisk) -> ScsiController:
    controller = ScsiController()
    controller.attach_disk(0, disk)
    return controller


@pytest.fixture
def guest(controller: ScsiController) -> Guest:
    return Guest(controller).connect()

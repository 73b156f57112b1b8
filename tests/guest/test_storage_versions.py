"""A disk works over every version of the bus that Linux knows, old ones asked for by a word to its driver."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ringminus.disks.open import open_disk
from ringminus.disks.vhdx import create_vhdx
from ringminus.machine.config import DiskConfig
from ringminus.memory import MIB
from ringminus.vmbus.wire import Version
from support.disks import get, put
from support.guest_disks import complaints_of, md5_of, name_of
from support.live_guest import LiveGuest, RunLive

VERSIONS = [version for version in Version if version <= Version.WIN10_V5_3]
LOAD = """
while read -r name needs; do
    options=; [ $name != hv_vmbus ] || options=max_version={}
    insmod /lib/modules/$name.ko $options || exit 1
done < /lib/modules/root
"""


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_disk_over_each_version(live_guest: RunLive, tmp_path: Path, version: Version) -> None:
    path = tmp_path / "disk.vhdx"
    content = hashlib.shake_128(version.name.encode()).digest(4 * MIB)
    create_vhdx(path, 32 * MIB)
    with open_disk(path) as disk:
        put(disk, 0, content)

    async def scenario(guest: LiveGuest) -> None:
        assert not await guest.run("ls -d /sys/class/scsi_device 2>/dev/null", 1)
        await guest.run(LOAD.format(int(version)))
        assert guest.machine.vmbus.control.version == version
        name = await name_of(guest, 0)
        assert f"Vmbus version:{version >> 16}.{version & 0xFFFF}" in await guest.run("dmesg")
        assert await md5_of(guest, f"/dev/{name}", "bs=1M count=4") == hashlib.md5(content).hexdigest()
        await guest.run(
            f"dd if=/dev/{name} of=/tmp/content bs=1M count=4 2>/dev/null;"
            f" dd if=/tmp/content of=/dev/{name} bs=1M seek=8 conv=fsync 2>/dev/null"
        )
        assert await complaints_of(guest) == []

    live_guest(scenario, disks=[DiskConfig(path)], words="quiet ringminus.modules=no")
    with open_disk(path, read_only=True) as disk:
        assert get(disk, 8 * MIB, 4 * MIB) == content

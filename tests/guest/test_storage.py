"""Real guests and their disks: what Linux's sd and sr make of ours, and of what happens to them."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence

import pytest

from ringminus.devices.storage.ide import IdeDisk
from ringminus.devices.storage.identify import naa_of
from ringminus.devices.storage.scsi import ScsiController
from ringminus.disks.disk import DiskError
from ringminus.errors import ConfigError
from ringminus.memory import MIB
from support.live_guest import LiveGuest, RunLive
from support.storage import MemoryDisk

WAIT = "n=0; until {}; do n=$((n+1)); [ $n -lt 100 ] || exit 9; sleep 0.1; done"


def patterned(size: int = 8 * MIB, *, immediate: bool = True, seed: int = 1) -> MemoryDisk:
    disk = MemoryDisk(size, immediate=immediate)
    disk.data[:] = hashlib.shake_128(bytes([seed])).digest(size)
    return disk


def md5(data: bytes | bytearray) -> str:
    return hashlib.md5(data).hexdigest()


async def wait_for(guest: LiveGuest, condition: str) -> None:
    await guest.run(f"({WAIT.format(condition)})")


async def name_of(guest: LiveGuest, lun: int, controller: str = "*") -> str:
    """The block device of that LUN."""
    return (await guest.run(f"ls /sys/class/scsi_device/{controller}:0:0:{lun}/device/block")).strip()


async def md5_of(guest: LiveGuest, device: str, options: str = "bs=64k") -> str:
    return (await guest.run(f"dd if=/dev/{device} {options} 2>/dev/null | md5sum")).split()[0]


async def complaints(guest: LiveGuest) -> Sequence[str]:
    return (await guest.run("dmesg | grep -E 'WARNING|BUG|Call Trace|hung|hv_storvsc.*status'", None)).split(
        "\n"
    )


def test_disks_of_all_kinds_are_found_and_keep_what_is_written(live_guest: RunLive) -> None:
    quick, slow, ide = patterned(), patterned(immediate=False, seed=2), patterned(seed=3)
    controller = ScsiController()
    controller.attach_disk(0, quick)
    controller.attach_disk(63, slow)

    async def scenario(guest: LiveGuest) -> None:
        found = (await guest.run("ls /sys/class/scsi_device")).split()
        assert sorted(one.partition(":")[2] for one in found) == ["0:0:0", "0:0:63", "0:1:0"]
        ide_host = next(one for one in found if one.endswith(":0:1:0")).partition(":")[0]
        scsi_host = next(one for one in found if one.endswith(":63")).partition(":")[0]
        names = {
            0: await name_of(guest, 0, scsi_host),
            63: await name_of(guest, 63, scsi_host),
            "ide": (await guest.run(f"ls /sys/class/scsi_device/{ide_host}:0:1:0/device/block")).strip(),
        }
        for key, disk in ((0, quick), (63, slow), ("ide", ide)):
            name = names[key]
            assert await md5_of(guest, name) == md5(disk.data)
            assert await md5_of(guest, name, "bs=512 skip=77 count=5 iflag=direct") == md5(
                disk.data[77 * 512 : 82 * 512]
            )
            facts = await guest.run(
                f"cd /sys/block/{name}; cat device/vendor device/model device/wwid;"
                " cat queue/write_cache queue/fua"
            )
            wwid = f"naa.{naa_of(disk.identity).hex()}"
            assert [line.strip() for line in facts.splitlines()] == [
                "Msft",
                "Virtual Disk",
                wwid,
                "write back",
                "1",
            ]
            before = disk.calls.count("flush")
            await guest.run(
                f"dd if=/dev/urandom of=/tmp/data bs=1M count=3 2>/dev/null;"
                f"dd if=/tmp/data of=/dev/{name} bs=1M seek=2 conv=fsync 2>/dev/null"
            )
            written = (await guest.run("md5sum < /tmp/data")).split()[0]
            assert md5(disk.data[2 * MIB : 5 * MIB]) == written
            assert md5(disk.stable[2 * MIB : 5 * MIB]) == written
            assert disk.calls.count("flush") > before
        assert (await complaints(guest)) == [""]

    live_guest(scenario, devices=(controller, IdeDisk(0, 1, ide)))
    assert set(slow.calls) >= {"read", "write"} and "read" not in quick.calls


def test_space_is_given_back_and_the_cache_switched(live_guest: RunLive) -> None:
    disk = patterned()
    controller = ScsiController()
    controller.attach_disk(0, disk)

    async def scenario(guest: LiveGuest) -> None:
        queue = await guest.run("cd /sys/block/sda/queue; cat discard_granularity discard_max_bytes")
        assert queue.split()[0] == "4096" and int(queue.split()[1]) > 1 << 30
        await guest.run("blkdiscard -o 1048576 -l 2097152 /dev/sda")
        assert sum(length for _, length in disk.holes) == 2 * MIB
        assert disk.data[MIB : 3 * MIB] == bytes(2 * MIB)
        await guest.run("echo 'write through' > $(ls -d /sys/class/scsi_disk/*)/cache_type")
        assert (await guest.run("cat /sys/block/sda/queue/write_cache")).strip() == "write through"
        assert not controller.units[0].write_cache
        disk.calls.clear()
        await guest.run("dd if=/dev/zero of=/dev/sda bs=4k count=1 oflag=direct 2>/dev/null")
        assert disk.calls == ["write", "flush"]
        await guest.run("echo 'write back' > $(ls -d /sys/class/scsi_disk/*)/cache_type")
        assert controller.units[0].write_cache

    live_guest(scenario, devices=(controller,))


def test_disks_come_go_and_grow(live_guest: RunLive) -> None:
    disk, other = patterned(), patterned(4 * MIB, seed=2)
    controller = ScsiController()
    controller.attach_disk(0, disk)

    async def scenario(guest: LiveGuest) -> None:
        controller.attach_disk(5, other)
        await wait_for(guest, "[ -e /dev/sdb ]")
        assert await md5_of(guest, "sdb") == md5(other.data)
        disk.resize(16 * MIB)
        controller.resized(0)
        await wait_for(guest, f"[ $(cat /sys/block/sda/size) = {16 * MIB // 512} ]")
        assert await md5_of(guest, "sda") == md5(disk.data)
        assert controller.detach(5) is other
        await wait_for(guest, "[ ! -e /sys/block/sdb ]")
        controller.attach_disk(6, other)
        await wait_for(guest, "[ -e /sys/class/scsi_device/*:0:0:6 ]")
        assert "capacity change" in await guest.run("dmesg | grep sda")

    live_guest(scenario, devices=(controller,))


def test_failures_of_the_host_are_the_guests_errors(
    live_guest: RunLive, caplog: pytest.LogCaptureFixture
) -> None:
    disk = patterned()
    controller = ScsiController()
    controller.attach_disk(0, disk)

    async def scenario(guest: LiveGuest) -> None:
        write = "dd if=/dev/zero of=/dev/sda bs=4k count=1 seek=3 oflag=direct 2>&1"
        disk.failure = DiskError("disk.vhdx: No space left on device", errno.ENOSPC)
        assert "No space left on device" in await guest.run(write, 1)
        disk.failure = DiskError("disk.vhdx: Input/output error", errno.EIO)
        assert "error" in await guest.run(write, 1)
        # what Linux makes of a block that cannot be read
        read = "dd if=/dev/sda bs=4k count=1 iflag=direct 2>&1 >/dev/null"
        assert "No data available" in await guest.run(read, 1)
        disk.failure = None
        assert await md5_of(guest, "sda", "bs=4k count=1 iflag=direct") == md5(disk.data[:4096])
        await guest.run(write)

    live_guest(scenario, devices=(controller,))
    shown = [message for message in caplog.messages if message.startswith("SCSI LUN 0")]
    assert len(shown) == 3, "one line for each kind"


def test_media_come_and_go(live_guest: RunLive) -> None:
    disks = [MemoryDisk(2 * MIB), MemoryDisk(3 * MIB)]
    for number, disk in enumerate(disks):
        disk.read_only = True
        disk.data[:] = hashlib.shake_128(bytes([number])).digest(disk.size)
    controller = ScsiController()
    controller.attach_dvd(2, disks[0])

    async def scenario(guest: LiveGuest) -> None:
        model = "cat /sys/block/sr0/device/vendor /sys/block/sr0/device/model"
        assert (await guest.run(model)).split() == ["Msft", "Virtual", "DVD-ROM"]
        assert await md5_of(guest, "sr0", "bs=2048") == md5(disks[0].data)
        assert controller.eject(2) is disks[0]
        assert "No medium found" in await guest.run("dd if=/dev/sr0 of=/dev/null bs=2048 count=1 2>&1", 1)
        controller.insert(2, disks[1])
        await wait_for(guest, "dd if=/dev/sr0 of=/dev/null bs=2048 count=1 2>/dev/null")
        assert await md5_of(guest, "sr0", "bs=2048") == md5(disks[1].data)
        # an open drive is locked
        await guest.run("exec 7</dev/sr0")
        with pytest.raises(ConfigError, match="locked"):
            controller.eject(2)
        await guest.run("exec 7<&-")
        ejected = []
        controller.ejected = lambda lun, disk: ejected.append((lun, disk))
        await guest.run("echo 1 > /proc/sys/dev/cdrom/autoeject; true < /dev/sr0")
        assert ejected == [(2, disks[1])]

    live_guest(scenario, devices=(controller,))

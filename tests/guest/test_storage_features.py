"""What a guest can do with its disks besides reading and writing, on files as people have them: names,
growth, space that is given back, zeros, media, and as many disks as there is room for."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pycdlib
import pytest

from ringminus.devices.storage.identify import naa_of
from ringminus.devices.storage.wire import MAX_TRANSFER
from ringminus.disks.open import open_disk
from ringminus.disks.vhdx import create_vhdx
from ringminus.errors import ConfigError
from ringminus.machine.config import IDE, DiskConfig
from ringminus.memory import MIB
from support.disks import get, put
from support.guest_disks import (
    as_raw,
    assert_clean,
    complaints_of,
    gone,
    md5_of,
    name_of,
    wait_for,
)
from support.live_guest import LiveGuest, RunLive


def noise(size: int, seed: object = 0) -> bytes:
    return hashlib.shake_128(repr(seed).encode()).digest(size)


def md5(data: bytes | bytearray) -> str:
    return hashlib.md5(data).hexdigest()


def vhdx_with(path: Path, size: int, content: bytes) -> Path:
    """A dynamic VHDX that begins with `content`."""
    create_vhdx(path, size)
    with open_disk(path) as disk:
        put(disk, 0, content)
    return path


def used(path: Path) -> int:
    """Bytes that a file takes on the host."""
    return path.stat().st_blocks * 512


# ---------------------------------------------------------------- names and places


def test_disks_have_names_that_stay(debian_guest: RunLive, tmp_path: Path) -> None:
    content = noise(MIB)
    first = vhdx_with(tmp_path / "first.vhdx", 16 * MIB, content)
    second = vhdx_with(tmp_path / "second.vhdx", 16 * MIB, content)

    async def names(guest: LiveGuest, lun: int) -> tuple[str, str]:
        """Serial number and NAA name, as a program and the kernel tell them."""
        name = await name_of(guest, lun)
        told = await guest.run(
            f"debian sg_vpd -p sn /dev/{name}; debian sg_vpd -p di /dev/{name};"
            f" cd /sys/block/{name}/device; cat wwid; hexdump -ve '1/1 \"%02x\"' vpd_pg83; cd /"
        )
        match = re.search(
            r"Unit serial number: (\w+)\s.*\b0x(6\w+)\s.*^naa\.(\w+)\s+([0-9a-f]+)", told, re.S | re.M
        )
        assert match is not None, told
        serial, naa, wwid, page = match.groups()
        assert naa == wwid and page.endswith(naa)
        return serial, naa

    async def scenario(guest: LiveGuest) -> None:
        controller = guest.machine.storage.controller(0)
        told = {lun: await names(guest, lun) for lun in (1, 2)}
        for lun, (serial, naa) in told.items():
            identity = controller.unit(lun).identity
            assert serial == identity.hex.upper()
            assert bytes.fromhex(naa) == naa_of(identity)
        assert told[1] != told[2]
        # the same file at another place, opened anew, is the same disk
        disk = controller.detach(1)
        await gone(guest, 1)
        assert disk is not None
        disk.close()
        again = open_disk(first)
        controller.attach_disk(40, again)
        assert await names(guest, 40) == told[1]
        controller.detach(40)
        await gone(guest, 40)
        again.close()

    debian_guest(scenario, disks=[DiskConfig(first), DiskConfig(second)])


def test_a_read_only_disk_and_one_on_ide(debian_guest: RunLive, tmp_path: Path) -> None:
    content = noise(MIB)
    fixed, ide = (vhdx_with(tmp_path / f"{name}.vhdx", 16 * MIB, content) for name in ("fixed", "ide"))
    before = fixed.read_bytes()

    async def scenario(guest: LiveGuest) -> None:
        name = await name_of(guest, 1)
        assert (await guest.run(f"debian blockdev --getro /dev/{name}")).strip() == "1"
        refused = await guest.run(f"dd if=/dev/zero of=/dev/{name} bs=4k count=1 conv=fsync 2>&1", 1)
        assert "Read-only" in refused
        # whoever does not ask Linux is refused by the disk
        write = "2a 00 00 00 00 00 00 00 01 00"
        refused = await guest.run(f"debian sg_raw -R -s 512 -i /dev/zero /dev/{name} {write} 2>&1", None)
        assert "Data Protect" in refused and "Write protected" in refused, refused
        assert await md5_of(guest, f"/dev/{name}", "bs=1M count=1") == md5(content)

        place = "/sys/class/scsi_device/*:0:1:0/device"
        on_ide = (await guest.run(f"ls {place}/block")).strip()
        bus = await guest.run(f"cat /sys/bus/vmbus/devices/00000001-0001-*/class_id; cat {place}/model")
        assert bus.split() == ["{32412632-86cb-44a2-9b5c-50d1417354f5}", "Virtual", "Disk"]
        assert await md5_of(guest, f"/dev/{on_ide}", "bs=1M count=1") == md5(content)
        await guest.run(f"dd if=/dev/zero of=/dev/{on_ide} bs=1M count=1 conv=fsync 2>/dev/null")
        assert await complaints_of(guest) == []

    debian_guest(
        scenario,
        disks=[DiskConfig(fixed, read_only=True), DiskConfig(ide, bus=IDE, controller=1, place=1)],
    )
    assert fixed.read_bytes() == before
    with open_disk(ide, read_only=True) as disk:
        assert get(disk, 0, MIB) == bytes(MIB)


# ---------------------------------------------------------------- growing, giving back, zeros, large requests


def test_a_file_system_grows_while_it_is_mounted(debian_guest: RunLive, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    create_vhdx(path, 64 * MIB)

    async def scenario(guest: LiveGuest) -> None:
        name = await name_of(guest, 1)
        await guest.run(
            f"debian mkfs.ext4 -q -F -b 4096 /dev/{name} && mount /dev/{name} /debian/mnt"
            " && dd if=/dev/urandom of=/debian/mnt/before bs=1M count=10 2>/dev/null"
        )
        before = await md5_of(guest, "/debian/mnt/before")
        controller = guest.machine.storage.controller(0)
        disk = controller.unit(1).disk
        assert disk is not None
        disk.resize(512 * MIB)
        controller.resized(1)
        await guest.run(wait_for(f"[ $(cat /sys/block/{name}/size) = {1024 * MIB // 1024} ]"))
        assert f"{name}: detected capacity change from 131072 to 1048576" in await guest.run("dmesg")
        await guest.run(f"debian resize2fs /dev/{name} 2>&1")
        assert int((await guest.run("df -m /debian/mnt | awk 'END { print $2 }'")).split()[0]) > 400
        await guest.run("dd if=/dev/urandom of=/debian/mnt/after bs=1M count=10 seek=70 2>/dev/null")
        after = await md5_of(guest, "/debian/mnt/after")
        await guest.run("umount /debian/mnt; echo 3 > /proc/sys/vm/drop_caches")
        await guest.run(f"mount /dev/{name} /debian/mnt")
        assert await md5_of(guest, "/debian/mnt/before") == before
        assert await md5_of(guest, "/debian/mnt/after") == after
        await guest.run("umount /debian/mnt")
        assert await complaints_of(guest) == []

    debian_guest(scenario, disks=[DiskConfig(path)])
    assert_clean(as_raw(path, "vhdx"))


def test_space_is_given_back_to_the_host(debian_guest: RunLive, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    # Linux trims nothing that is smaller than a block, which are 32 MiB if one does not ask for less
    create_vhdx(path, 256 * MIB, block_size=MIB)

    async def scenario(guest: LiveGuest) -> None:
        name = await name_of(guest, 1)
        await guest.run(
            f"debian mkfs.ext4 -q -F -b 4096 /dev/{name} && mount /dev/{name} /debian/mnt && cd /debian/mnt"
            " && dd if=/dev/urandom of=kept bs=1M count=10 2>/dev/null"
            " && dd if=/dev/zero of=removed bs=1M count=100 2>/dev/null && sync"
        )
        kept = await md5_of(guest, "/debian/mnt/kept")
        full = used(path)
        assert full > 110 * MIB
        told = await guest.run("rm removed; sync; cd /; debian fstrim -v /mnt")
        assert re.search(r"/mnt: 2\d\d.*MiB .* trimmed", told)
        # blocks leave the file when the disk is flushed
        await guest.run("touch /debian/mnt/touched; sync")
        assert used(path) < full - 80 * MIB  # Linux leaves pieces that are smaller than a block
        unit = guest.machine.storage.controller(0).unit(1)
        trimmed = unit.counters.unmaps
        await guest.run("umount /debian/mnt; echo 3 > /proc/sys/vm/drop_caches")
        await guest.run(f"mount -o ro /dev/{name} /debian/mnt")
        assert await md5_of(guest, "/debian/mnt/kept") == kept
        await guest.run(f"umount /debian/mnt; blkdiscard /dev/{name}; debian sg_sync /dev/{name}")
        assert used(path) < 8 * MIB
        assert unit.disk is not None and get(unit.disk, 0, 64 * MIB) == bytes(64 * MIB)
        assert unit.counters.unmaps > trimmed
        assert await complaints_of(guest) == []

    debian_guest(scenario, disks=[DiskConfig(path)])


def test_zeros_and_patterns(debian_guest: RunLive, tmp_path: Path) -> None:
    """Linux sends the zeros of BLKZEROOUT to a storvsc disk; sg_write_same has the disk repeat a block."""
    content = noise(16 * MIB)
    path = vhdx_with(tmp_path / "disk.vhdx", 64 * MIB, content)

    async def scenario(guest: LiveGuest) -> None:
        name = await name_of(guest, 1)
        facts = await guest.run(f"cat /sys/block/{name}/queue/write_cache /sys/block/{name}/queue/fua")
        assert facts.split("\n")[:2] == ["write back", "1"]
        await guest.run(f"debian blkdiscard -z -o 3145728 -l 5242880 /dev/{name}")
        expected = bytearray(content)
        expected[3 * MIB : 8 * MIB] = bytes(5 * MIB)
        assert await md5_of(guest, f"/dev/{name}", "bs=1M count=16 iflag=direct") == md5(expected)
        block = noise(512, "pattern")
        await guest.run(f"echo {base64.b64encode(block).decode()} | base64 -d > /debian/tmp/block")
        counters = guest.machine.storage.controller(0).unit(1).counters
        writes, written = counters.writes, counters.written_bytes
        same = f"debian sg_write_same --16 --xferlen=512 --lba={{}} --num=2048 {{}} /dev/{name}"
        await guest.run(same.format(20480, "--in=/tmp/block"))
        expected[10 * MIB : 11 * MIB] = block * 2048
        await guest.run(same.format(24576, "--in=/dev/zero"))
        expected[12 * MIB : 13 * MIB] = bytes(MIB)
        assert (counters.writes - writes, counters.written_bytes - written) == (2, 2 * MIB)
        assert await md5_of(guest, f"/dev/{name}", "bs=1M count=16 iflag=direct") == md5(expected)
        assert await complaints_of(guest) == []

    debian_guest(scenario, disks=[DiskConfig(path)])


def test_large_requests(debian_guest: RunLive, tmp_path: Path) -> None:
    content = noise(48 * MIB)
    path = vhdx_with(tmp_path / "disk.vhdx", 64 * MIB, content)

    async def scenario(guest: LiveGuest) -> None:
        name = await name_of(guest, 1)
        queue = f"/sys/block/{name}/queue"
        largest = int(await guest.run(f"cat {queue}/max_hw_sectors_kb"))
        assert largest == MAX_TRANSFER >> 10
        await guest.run(f"echo {largest} > {queue}/max_sectors_kb")
        counters = guest.machine.storage.controller(0).unit(1).counters
        reads, read = counters.reads, counters.read_bytes
        assert await md5_of(guest, f"/dev/{name}", "bs=16M count=3 iflag=direct") == md5(content)
        # but for a few at the ends
        assert (counters.read_bytes - read) / (counters.reads - reads) > 0.9 * MAX_TRANSFER
        writes = counters.writes
        await guest.run(
            f"dd if=/dev/{name} of=/tmp/data bs=1M count=32 2>/dev/null;"
            f" dd if=/tmp/data of=/dev/{name} bs=16M seek=1 oflag=direct 2>/dev/null"
        )
        assert 32 * MIB / (counters.writes - writes) > 0.9 * MAX_TRANSFER
        expected = content[: 16 * MIB] + content[: 32 * MIB]
        assert await md5_of(guest, f"/dev/{name}", "bs=16M count=3 iflag=direct") == md5(expected)
        assert await complaints_of(guest) == []

    debian_guest(scenario, disks=[DiskConfig(path)])


# ---------------------------------------------------------------- DVDs


def make_iso(path: Path, files: dict[str, bytes]) -> Path:
    """An ISO 9660 image with Rock Ridge names."""
    iso = pycdlib.PyCdlib()
    iso.new(rock_ridge="1.09", vol_ident=path.stem.upper())
    iso.add_directory("/DIR", rr_name="directory")
    for number, (name, content) in enumerate(files.items()):
        source = path.with_name(f"{path.stem}-{number}")
        source.write_bytes(content)
        iso.add_file(str(source), f"/DIR/F{number}.;1", rr_name=name)
    iso.write(str(path))
    iso.close()
    return path


def test_dvds_are_mounted_and_changed(debian_guest: RunLive, tmp_path: Path) -> None:
    contents = [
        {
            "empty": b"",
            "a long name with spaces": noise(3 * MIB, number),
            f"only{number}": noise(2047, number),
        }
        for number in range(2)
    ]
    isos = [make_iso(tmp_path / f"dvd{n}.iso", files) for n, files in enumerate(contents)]

    async def files_on(guest: LiveGuest) -> dict[str, str]:
        """Mount it, and give the MD5 sums by name."""
        await guest.run("mount -t iso9660 -o ro /dev/sr0 /debian/mnt && cd /debian/mnt/directory")
        said = await guest.run('for one in *; do md5sum "$one"; done; cd /')
        return {line[34:]: line[:32] for line in said.splitlines()}

    def expected(number: int) -> dict[str, str]:
        return {name: md5(content) for name, content in contents[number].items()}

    async def scenario(guest: LiveGuest) -> None:
        controller = guest.machine.storage.controller(0)
        await guest.run("debian modprobe isofs")
        assert "DVD-ROM" in await guest.run("cat /sys/block/sr0/device/model")
        assert await files_on(guest) == expected(0)
        with pytest.raises(ConfigError, match="locked"):
            controller.eject(5)
        await guest.run("umount /debian/mnt")
        assert controller.eject(5) is not None
        assert "No medium" in await guest.run("mount -t iso9660 -o ro /dev/sr0 /debian/mnt 2>&1", None)
        other = open_disk(isos[1])
        controller.insert(5, other)
        await guest.run(wait_for("dd if=/dev/sr0 of=/dev/null bs=2048 count=1 2>/dev/null"))
        assert await files_on(guest) == expected(1)
        await guest.run("umount /debian/mnt")
        assert await complaints_of(guest) == []
        other_again = controller.eject(5)
        assert other_again is other
        other.close()

    debian_guest(scenario, disks=[DiskConfig(isos[0], dvd=True, read_only=True, place=5)])


# ---------------------------------------------------------------- as many as there is room for


def test_64_disks_on_one_controller(debian_guest: RunLive, tmp_path: Path) -> None:
    paths = [vhdx_with(tmp_path / f"{lun}.vhdx", 8 * MIB, noise(4096, lun)) for lun in range(1, 64)]

    async def scenario(guest: LiveGuest) -> None:
        told = await guest.run(
            "for one in /sys/class/scsi_device/*; do name=$(ls $one/device/block);"
            " echo ${one##*:} $name $(dd if=/dev/$name bs=4k count=1 2>/dev/null | md5sum); done"
        )
        found = {int(lun): digest for lun, _name, digest, _ in map(str.split, told.splitlines())}
        assert sorted(found) == list(range(64))
        assert all(found[lun] == md5(noise(4096, lun)) for lun in range(1, 64))
        dmesg = await guest.run("dmesg")
        times = [float(t) for t in re.findall(r"^\[ *([\d.]+)\] (?:scsi host0|sd .* Attached)", dmesg, re.M)]
        assert len(times) == 65
        print(f"64 disks were found in {times[-1] - times[0]:.2f} s of the guest's time")
        assert await complaints_of(guest) == []

    debian_guest(scenario, disks=[DiskConfig(path) for path in paths])

"""Hosts that fail: what a guest with a file system sees of it, that the machine lives on, and that all is
well when the host is."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ringminus.disks.disk import Buffers, Disk, DiskError
from ringminus.disks.open import open_disk
from ringminus.disks.vhdx import create_vhdx
from ringminus.machine.config import DiskConfig
from ringminus.memory import MIB
from support.guest_disks import as_raw, assert_clean, assert_consistent, complaints_of, md5_of, name_of
from support.live_guest import LiveGuest, RunLive


class Unreliable(Disk):
    """A disk on a host that may fail: `before(name)` is called before each read, write and flush, on the
    host's thread for them, and may raise or take its time."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.format, self.size, self.identity = disk.format, disk.size, disk.identity
        self.sector_size, self.physical_sector_size = disk.sector_size, disk.physical_sector_size
        self.before: Callable[[str], None] = lambda name: None

    def fail(self, number: int, *names: str) -> None:
        """From now on the host gives this error to those calls."""

        def before(name: str) -> None:
            if name in names:
                raise DiskError(f"cannot {name} disk.vhdx: {os.strerror(number)}", number)

        self.before = before

    def recover(self) -> None:
        """From now on all is well."""
        self.before = lambda name: None

    def read(self, offset: int, buffers: Buffers) -> None:
        self.before("read")
        self._disk.read(offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> None:
        self.before("write")
        self._disk.write(offset, buffers)

    def flush(self) -> None:
        self.before("flush")
        self._disk.flush()

    def unmap(self, offset: int, length: int) -> None:
        self._disk.unmap(offset, length)

    def write_zeros(self, offset: int, length: int) -> None:
        self._disk.write_zeros(offset, length)

    def resize(self, size: int) -> None:
        self._disk.resize(size)

    def allocated(self, offset: int, length: int) -> tuple[bool, int]:
        return self._disk.allocated(offset, length)

    def info(self) -> dict[str, Any]:
        return self._disk.info()

    def close(self) -> None:
        self._disk.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vhdx"
    create_vhdx(path, 64 * MIB, block_size=MIB)
    return path


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the person was told, without the name of the file."""
    return [line for line in caplog.messages if line.startswith("SCSI LUN 1: the host cannot")]


def test_a_host_that_cannot_read_or_write(
    debian_guest: RunLive, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(guest: LiveGuest) -> None:
        disk = Unreliable(open_disk(path))
        guest.machine.storage.controller(0).attach_disk(1, disk)
        name = await name_of(guest, 1)
        await guest.run(
            f"debian mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/{name}"
            f" && mount /dev/{name} /debian/mnt && dd if=/dev/urandom of=/debian/mnt/file bs=1M count=4; sync"
        )
        digest = await md5_of(guest, "/debian/mnt/file")
        write = "dd if=/dev/zero of=/debian/mnt/file bs=64k count=4 conv=notrunc oflag=direct 2>&1"
        disk.fail(errno.EIO, "write")
        assert "Input/output error" in await guest.run(write, 1)
        disk.fail(errno.EIO, "read")
        read = "dd if=/debian/mnt/file of=/dev/null bs=64k count=4 iflag=direct 2>&1"
        # Linux's word for a block that cannot be read
        assert "No data available" in await guest.run(read, 1)
        assert "Unrecovered read error" in (said := await guest.run("dmesg"))
        assert f"critical medium error, dev {name}" in said
        disk.recover()
        assert await md5_of(guest, "/debian/mnt/file") == digest
        await guest.run(write)
        assert len(told(caplog)) == 2, "one line for each kind"

        # what a file system cannot make durable it must not take for durable
        disk.fail(errno.EIO, "flush")
        await guest.run("echo lost > /debian/mnt/new; debian sync /mnt/new", 1)
        disk.recover()
        await guest.run("umount /debian/mnt", None)
        await guest.run(f"debian fsck.ext4 -y /dev/{name}", None)
        await guest.run(f"mount /dev/{name} /debian/mnt && echo again > /debian/mnt/new && sync")
        await guest.run("umount /debian/mnt")
        counters = guest.machine.storage.controller(0).unit(1).counters
        assert counters.read_errors >= 1 and counters.write_errors >= 2
        guest.machine.storage.controller(0).detach(1)
        disk.close()

    debian_guest(scenario)
    assert_consistent(as_raw(path, "vhdx"))


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """A host on which no file can become larger than this, as on a full one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_host_without_space(debian_guest: RunLive, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file cannot grow: the guest's writer hears that there is no space, and can go on when there is."""

    async def scenario(guest: LiveGuest) -> None:
        name = await name_of(guest, 1)
        await guest.run("dd if=/dev/urandom of=/tmp/data bs=1M count=24 2>/dev/null")
        digest = (await guest.run("md5sum < /tmp/data")).split()[0]
        write = f"dd if=/tmp/data of=/dev/{name} bs=1M oflag=direct conv=fsync 2>&1"
        with files_end_at(path.stat().st_size + 8 * MIB):
            assert "No space left on device" in await guest.run(write, 1)
            # what has its place in the file already can be written
            await guest.run(f"dd if=/tmp/data of=/dev/{name} bs=1M count=4 oflag=direct conv=fsync 2>&1")
        assert f"critical space allocation error, dev {name}" in await guest.run("dmesg")
        (line,) = told(caplog)
        assert str(path) in line and "File too large" in line
        await guest.run(write)
        assert await md5_of(guest, f"/dev/{name}", "bs=1M count=24 iflag=direct") == digest

    debian_guest(scenario, disks=[DiskConfig(path)])
    as_raw(path, "vhdx")


def test_a_host_that_takes_longer_than_the_guest_likes_to_wait(debian_guest: RunLive, path: Path) -> None:
    async def scenario(guest: LiveGuest) -> None:
        disk = Unreliable(open_disk(path))
        guest.machine.storage.controller(0).attach_disk(1, disk)
        name = await name_of(guest, 1)
        await guest.run(f"echo 1 > /sys/block/{name}/device/timeout")
        disk.before = lambda name: time.sleep(3)
        await guest.run(f"dd if=/dev/urandom of=/dev/{name} bs=64k count=1 oflag=direct 2>/dev/null")
        disk.recover()
        await guest.run(f"debian mkfs.ext4 -q -F /dev/{name} && mount /dev/{name} /debian/mnt")
        await guest.run("echo good > /debian/mnt/news; umount /debian/mnt")
        assert await complaints_of(guest) == []
        guest.machine.storage.controller(0).detach(1)
        disk.close()

    debian_guest(scenario)
    assert_clean(as_raw(path, "vhdx"))

"""What tests of real guests and their disks share: Debian's programs in the demo guest, what a guest's kernel
complains about, and what the host's own tools find on a disk afterwards."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ringminus.disks.disk import Disk
from ringminus.guest.build import GuestImage
from ringminus.guest.programs import find_program
from support.disks import qemu_img
from support.live_guest import LiveGuest

LONG = os.environ.get("RINGMINUS_LONG_TESTS") == "1"
"""Whether to test for minutes what otherwise is tested for seconds."""


@dataclass(frozen=True, slots=True)
class RootGuest:
    """The demo guest, and a VHDX with Debian for its kernel, which nobody may write to."""

    image: GuestImage
    root: Path


# ---------------------------------------------------------------- Debian's programs in the demo guest

# The root is LUN 0; `debian fio …` runs its programs, and what is mounted in /debian/mnt is their /mnt.
MOUNT_DEBIAN = r"""
mkdir /debian && mount -o ro /dev/$(ls /sys/class/scsi_device/*:0:0:0/device/block) /debian || exit 1
for one in dev proc sys; do mount --bind /$one /debian/$one; done
for one in tmp run mnt; do mount -t tmpfs none /debian/$one; done
cat > /bin/debian <<'END'
#!/bin/sh
exec chroot /debian /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/tmp LC_ALL=C "$@"
END
chmod 755 /bin/debian
"""


def wait_for(condition: str, seconds: int = 20) -> str:
    """A command of the guest's shell that waits until another one succeeds."""
    return f"(n=0; until {condition}; do n=$((n+1)); [ $n -lt {seconds * 20} ] || exit 9; usleep 50000; done)"


async def name_of(guest: LiveGuest, lun: int) -> str:
    """Wait for the block device of a LUN of the only SCSI controller; gives its name, such as sdb."""
    place = f"/sys/class/scsi_device/*:0:0:{lun}/device/block"
    return (await guest.run(f"{wait_for(f'ls {place}/ >/dev/null 2>&1')} && ls {place}")).strip()


async def gone(guest: LiveGuest, lun: int) -> None:
    """Wait until a LUN has disappeared."""
    await guest.run(wait_for(f"! ls -d /sys/class/scsi_device/*:0:0:{lun} >/dev/null 2>&1"))


async def md5_of(guest: LiveGuest, path: str, options: str = "bs=1M") -> str:
    """The MD5 sum of a file or device, or of the part of it that options of dd name."""
    return (await guest.run(f"dd if={path} {options} 2>/dev/null | md5sum")).split()[0]


# ---------------------------------------------------------------- what the kernel complains about

_COMPLAINTS = re.compile(
    r"""WARNING: | BUG: | Oops | Call\ Trace | hung\ task | blocked\ for\ more | soft\ lockup | rcu:\ INFO
    | (?: hv_ | storvsc | scsi | sd\ | sr\ | sd[a-z]+ | blk_ | Buffer ) .* (?: error | fail | timeout
        | timed\ out | abort | reset | invalid | Sense\ Key | unexpected | unable )
    | EXT4-fs\ (?:error|warning) | JBD2: .* (?: error | abort )""",
    re.VERBOSE | re.IGNORECASE,
)
_HARMLESS = re.compile(r"RAS: |SError|random: |error-handling|EXT4-fs \(\w+\): .*errors=")


def complaints(dmesg: str) -> list[str]:
    """The lines of a kernel's log that tell of trouble, with its disks or in general."""
    lines = dmesg.splitlines()
    return [line for line in lines if _COMPLAINTS.search(line) and not _HARMLESS.search(line)]


async def complaints_of(guest: LiveGuest) -> list[str]:
    """The same of a running guest."""
    return complaints(await guest.run("dmesg"))


# ---------------------------------------------------------------- what is on a disk afterwards


def e2fs(name: str, *arguments: str | Path) -> tuple[int, bytes]:
    """Run a program of e2fsprogs; its exit status and what it printed."""
    command = [find_program(name, "e2fsprogs"), *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode, done.stdout + (done.stderr if done.returncode else b"")


def _e2fsck(image: Path, options: str) -> tuple[int, str]:
    status, said = e2fs("e2fsck", options, image)
    return status, said.decode(errors="replace")


def copy_out(disk: Disk, image: Path, *, whole: bool = False) -> Path:
    """All bytes of a disk as a sparse file, read by us; `whole` also what a parent may have."""
    with image.open("wb") as file:
        file.truncate(disk.size)
        offset = 0
        while offset < disk.size:
            stored, length = disk.allocated(offset, min(disk.size - offset, 1 << 24))
            if stored or whole:
                data = memoryview(bytearray(length))
                disk.read(offset, [data])
                os.pwrite(file.fileno(), data, offset)
            offset += length
    return image


def as_raw(path: Path, format: str) -> Path:
    """A raw copy of a disk that QEMU reads and finds without faults."""
    if format not in ("raw", "vpc"):  # of which it cannot tell
        qemu_img("check", "-q", "-f", format, path)
    raw = path.with_name(f"{path.name}.as-raw")
    qemu_img("convert", "-f", format, "-O", "raw", path, raw)
    return raw


def assert_clean(image: Path) -> None:
    """e2fsck has nothing to say about an image of ext4; the image is removed."""
    status, said = _e2fsck(image, "-fn")
    assert status == 0 and "recover" not in said, said
    image.unlink()


def assert_consistent(image: Path) -> str:
    """After its journal was replayed, e2fsck has nothing to repair in an image of ext4 but what an unclean
    end leaves there by design; gives what it said. The image is removed."""
    status, said = _e2fsck(image, "-fy")
    assert status in (0, 1), said
    by_design = re.compile(
        # ext4 writes the totals in the superblock only when it is unmounted
        r"recovering journal|Clearing orphaned inode|^Free (?:blocks|inodes) count wrong \(|^Fix\? yes$|"
        # Linux takes its time from a clock of whole seconds, and adds half a one
        r"^Superblock last (?:mount|write) time is in the future|^\t\(by less than a day|"
        r"^Pass \d|^e2fsck |\*\*\*\*\* FILE SYSTEM WAS MODIFIED|\d+/\d+ files|^\s*$"
    )
    assert not [line for line in said.splitlines() if not by_design.search(line)], said
    assert_clean(image)
    return said

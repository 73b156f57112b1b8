"""fio in a real guest, which verifies what it reads: ext4 on disks of every format at once, while other disks
come and go. Afterwards the host's own tools look at the disks."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ringminus.devices.storage.unit import Counters
from ringminus.disks.nbd.qemu import create_qemu
from ringminus.disks.open import open_disk
from ringminus.disks.raw import create_raw
from ringminus.disks.vhd import create_vhd
from ringminus.disks.vhdx import create_vhdx
from ringminus.guest.image_copy import image_to_vhdx
from ringminus.machine.config import DiskConfig
from ringminus.memory import MIB
from support.disks import put
from support.guest_disks import (
    LONG,
    as_raw,
    assert_clean,
    complaints,
    copy_out,
    e2fs,
    gone,
    md5_of,
    name_of,
)
from support.live_guest import LiveGuest, RunLive

SIZE = (1024 if LONG else 128) * MIB
FILE = (256 if LONG else 8) * MIB  # each job's
TIMEOUT = 3600 if LONG else 240
COMERS = 8  # LUNs for disks that come and go, from here on
PARENT_FILE = hashlib.shake_128(b"parent").digest(3 * MIB)


def parent_with_files(directory: Path) -> Path:
    """A VHDX with ext4 and a file on it, made on the host."""
    tree, raw, path = directory / "tree", directory / "parent.raw", directory / "parent.vhdx"
    tree.mkdir()
    (tree / "from-the-parent").write_bytes(PARENT_FILE)
    status, said = e2fs("mke2fs", "-q", "-t", "ext4", "-d", tree, raw, f"{SIZE // MIB}M")
    assert status == 0, said
    image_to_vhdx(raw, path, lambda fraction: None)
    shutil.rmtree(tree)
    raw.unlink()
    return path


def make_child(path: Path) -> None:
    create_vhdx(path, None, kind="differencing", parent=parent_with_files(path.parent))


# how each disk is made; QEMU's name of the format, None where it cannot read such a disk
DISKS: dict[str, tuple[Callable[[Path], None], str | None]] = {
    "dynamic.vhdx": (lambda path: create_vhdx(path, SIZE), "vhdx"),
    "sectors.vhdx": (lambda path: create_vhdx(path, SIZE, sector_size=4096), None),
    "child.vhdx": (make_child, None),
    "dynamic.vhd": (lambda path: create_vhd(path, SIZE), "vpc"),
    "plain.raw": (lambda path: create_raw(path, SIZE), "raw"),
    "through.qcow2": (lambda path: create_qemu(path, "qcow2", SIZE), "qcow2"),
}
GLOBAL = f"""
[global]
ioengine=libaio
iodepth=32
rw=randrw
bssplit=4k/50:16k/25:64k/20:1m/5
size={FILE}
verify=crc32c
verify_fatal=1
verify_state_save=0
fallocate=none
filename_format=$jobname
"""
JOBS = {"direct": "direct=1\nfsync=48", "buffered": "fdatasync=32"}
JOB_FILE = GLOBAL + "".join(
    f"[{job}]\ndirectory=/mnt/{disk}\n{options}\n" for disk in DISKS for job, options in JOBS.items()
)
FIO = (
    "debian fio --output-format=json --output=/tmp/said {} /tmp/jobs >/dev/null 2>/tmp/errors;"
    r""" echo "fio ended with $?"; cat /tmp/errors; grep -E '"(jobname|error|io_bytes)"' /debian/tmp/said"""
)
REMOUNT = """
for one in /debian/mnt/*; do
    device=$(grep " $one " /proc/mounts | cut -d' ' -f1); umount $one && mount $device $one || exit 1
done
"""


@dataclass
class Results:
    """What fio said when it wrote and when it read all again, how often a disk came and went, and of each
    disk: the guest's MD5 sums of its files, the bytes that the guest and the host count as read and written,
    its file."""

    written: str = ""
    verified: str = ""
    hot_adds: int = 0
    complaints: list[str] = field(default_factory=list)
    sums: dict[str, dict[str, str]] = field(default_factory=dict)
    guest_bytes: dict[str, tuple[int, int]] = field(default_factory=dict)
    host_bytes: dict[str, tuple[int, int]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


async def come_and_go(guest: LiveGuest, directory: Path, number: int) -> None:
    """A new disk appears in the guest, with the right contents, and disappears again."""
    controller = guest.machine.storage.controller(0)
    lun, path = COMERS + number % 4, directory / f"comer{number}.vhdx"
    create_vhdx(path, 16 * MIB)
    disk = open_disk(path)
    content = hashlib.shake_128(path.name.encode()).digest(2 * MIB)
    put(disk, 5 * MIB, content)
    controller.attach_disk(lun, disk)
    name = await name_of(guest, lun)
    digest = hashlib.md5(content).hexdigest()
    assert await md5_of(guest, f"/dev/{name}", "bs=1M skip=5 count=2") == digest
    assert "16777216" in await guest.run(f"debian lsblk -bdno SIZE /dev/{name}")
    await guest.run(f"dd if=/dev/urandom of=/dev/{name} bs=64k count=8 conv=fsync 2>/dev/null")
    assert controller.detach(lun) is disk
    await gone(guest, lun)
    assert not await guest.run(f"ls /dev/{name} 2>/dev/null", 1)
    disk.close()
    path.unlink()


async def workload(guest: LiveGuest, directory: Path, results: Results) -> None:
    await guest.run(f"cat > /debian/tmp/jobs <<'END'\n{JOB_FILE}END\n")
    names = {disk: await name_of(guest, lun) for lun, disk in enumerate(DISKS, 1)}
    for disk, name in names.items():
        if disk != "child.vhdx":
            await guest.run(f"debian mkfs.ext4 -q -F /dev/{name}")
        await guest.run(f"mkdir /debian/mnt/{disk} && mount /dev/{name} /debian/mnt/{disk}")
    await guest.run(f"({FIO.format('')}) > /tmp/first 2>&1 & fio=$!")
    while await guest.run("[ ! -d /proc/$fio ] || echo busy"):
        await come_and_go(guest, directory, results.hot_adds)
        results.hot_adds += 1
        # now, before there are more lines than the kernel keeps
        results.complaints += complaints(await guest.run("dmesg -c"))
    results.written = await guest.run("wait $fio; cat /tmp/first")
    # again from the disks, not from memory
    await guest.run(f"{REMOUNT} echo 3 > /proc/sys/vm/drop_caches")
    results.verified = await guest.run(FIO.format("--verify_only"))
    for disk, name in names.items():
        sums = await guest.run(f"cd /debian/mnt/{disk} && md5sum $(find . -type f); cd /")
        results.sums[disk] = {
            line.split("./")[1]: line.split()[0] for line in sums.splitlines() if "./" in line
        }
        await guest.run(f"umount /debian/mnt/{disk}")
        numbers = (await guest.run(f"cat /sys/block/{name}/stat")).split()
        results.guest_bytes[disk] = int(numbers[2]) * 512, int(numbers[6]) * 512
    results.complaints += complaints(await guest.run("dmesg"))


@pytest.fixture(scope="module")
def results(debian_guest: RunLive, tmp_path_factory: pytest.TempPathFactory) -> Results:
    directory = tmp_path_factory.mktemp("fio")
    results = Results(files={disk: directory / disk for disk in DISKS})
    for disk, path in results.files.items():
        DISKS[disk][0](path)

    async def scenario(guest: LiveGuest) -> None:
        await workload(guest, directory, results)
        units = guest.machine.storage.controller(0).units
        for lun, disk in enumerate(DISKS, 1):
            counters: Counters = units[lun].counters
            results.host_bytes[disk] = counters.read_bytes, counters.written_bytes

    debian_guest(scenario, disks=[DiskConfig(path) for path in results.files.values()], timeout=TIMEOUT)
    return results


def bytes_by_job(said: str) -> list[tuple[int, int]]:
    """Bytes that each job has read and written, from fio's words, which must tell of no error."""
    assert "fio ended with 0\n" in said, said
    assert set(re.findall(r'"error" : (\d+)', said)) == {"0"}, said
    jobs = said.split('"jobname"')[1:]
    assert len(jobs) == len(DISKS) * len(JOBS)
    found = [list(map(int, re.findall(r'"io_bytes" : (\d+)', job))) for job in jobs]
    return [(read, written) for read, written, _trimmed in found]


def test_fio_finds_what_it_wrote(results: Results) -> None:
    moved = bytes_by_job(results.written)
    # all reads of the mix and of the verification
    assert {read for read, _ in moved} == {FILE}
    assert all(FILE // 3 < written < FILE for _, written in moved)
    print(f"fio wrote and verified {sum(written for _, written in moved) / MIB:.1f} MiB")


def test_and_finds_it_again_from_the_disk(results: Results) -> None:
    assert [written for _, written in bytes_by_job(results.verified)] == [
        written for _, written in bytes_by_job(results.written)
    ]


def test_other_disks_came_and_went_meanwhile(results: Results) -> None:
    assert results.hot_adds >= 3
    print(f"{results.hot_adds} disks came and went")


def test_the_kernel_complains_about_nothing_else(results: Results) -> None:
    # of each disk that is simply taken away it says that its cache is not written any more
    farewell = re.compile(r"sd .*: \[sd\w+\] Synchronize Cache\(10\) failed: Result: hostbyte=DID_NO_CONNECT")
    rest = [line for line in results.complaints if not farewell.search(line)]
    assert rest == [] and len(results.complaints) == results.hot_adds


@pytest.mark.parametrize("disk", DISKS)
def test_guest_and_host_count_the_same_bytes(results: Results, disk: str) -> None:
    assert results.host_bytes[disk] == results.guest_bytes[disk]


@pytest.mark.parametrize("disk", DISKS)
def test_the_disk_is_good_for_others(results: Results, disk: str) -> None:
    """QEMU and e2fsck find no fault; debugfs reads the files that the guest had."""
    path, format = results.files[disk], DISKS[disk][1]
    if format is None:
        with open_disk(path, read_only=True) as opened:
            raw = copy_out(opened, path.with_suffix(".as-raw"), whole=True)
    else:
        raw = as_raw(path, format)
    sums = results.sums[disk]
    assert sums.keys() >= JOBS.keys()
    for name, digest in sums.items():
        _, content = e2fs("debugfs", "-R", f"cat /{name}", raw)
        assert hashlib.md5(content).hexdigest() == digest, name
    assert_clean(raw)


def test_a_parent_is_read_and_never_written(results: Results) -> None:
    assert results.sums["child.vhdx"]["from-the-parent"] == hashlib.md5(PARENT_FILE).hexdigest()
    parent = results.files["child.vhdx"].with_name("parent.vhdx")
    raw = as_raw(parent, "vhdx")
    _, names = e2fs("debugfs", "-R", "ls -p /", raw)
    assert b"from-the-parent" in names and b"direct" not in names
    assert_clean(raw)

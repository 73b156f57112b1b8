"""Debian on a VHDX, booted by the command as a person does it: it reaches a login, complains about nothing,
restarts, and leaves a good disk however it ends."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringminus.disks.vhdx import open_vhdx
from ringminus.guest.init_script import STARTED
from support.command import kernel_words
from support.console_guest import ConsoleGuest
from support.disks import qemu_img
from support.guest_disks import LONG, RootGuest, as_raw, assert_clean, assert_consistent, complaints, copy_out

PROMPT = "root@ringminus:~# "
KILLS = 20 if LONG else 2


def options(guest: RootGuest, disk: Path, words: str, script: str | None = None) -> Sequence[str | Path]:
    append = kernel_words(script, f"quiet root=/dev/sda {words}")
    return ["-k", guest.image.kernel, "-i", guest.image.initrd, "--disk", disk, "-a", append]


def copy_of(guest: RootGuest, path: Path) -> Path:
    shutil.copyfile(guest.root, path)
    return path


# ---------------------------------------------------------------- a login


@dataclass(frozen=True)
class Login:
    """What commands printed at the prompt, before the guest restarted and after, and how it all ended."""

    before: dict[str, str]
    after: dict[str, str]
    console: str
    status: int
    errors: str
    disk: Path


class Shell:
    """Commands at the prompt."""

    def __init__(self, guest: ConsoleGuest) -> None:
        self.guest = guest
        self.printed: dict[str, str] = {}
        guest.expect(PROMPT)

    def run(self, command: str) -> None:
        self.guest.type(f"{command}\n")
        printed = self.guest.expect(PROMPT)
        plain = re.sub(r"\x1b\[\?2004[hl]", "", printed)
        self.printed[command] = plain.partition("\n")[2]


@pytest.fixture(scope="module")
def login(root_guest: RootGuest, tmp_path_factory: pytest.TempPathFactory) -> Login:
    """Log in, look, write, restart, look again, power off."""
    disk = copy_of(root_guest, tmp_path_factory.mktemp("login") / "root.vhdx")
    with ConsoleGuest(*options(root_guest, disk, "")) as guest:
        first = Shell(guest)
        first.run("dmesg")
        first.run("findmnt -no SOURCE,FSTYPE,OPTIONS /")
        first.run("systemctl is-system-running --wait; systemctl --failed --no-legend")
        first.run("lsblk -no NAME,SIZE,VENDOR,MODEL")
        first.run("seq 1 300000 > numbers; md5sum numbers")
        guest.type("reboot\n")
        guest.expect(STARTED)
        second = Shell(guest)
        second.run("dmesg")
        second.run("findmnt -no SOURCE,FSTYPE,OPTIONS /")
        second.run("md5sum numbers")
        guest.type("poweroff\n")
        status, errors = guest.finish()
        return Login(first.printed, second.printed, guest.console, status, errors, disk)


def test_a_login_is_reached_at_each_boot(login: Login) -> None:
    assert login.console.count(STARTED) == 2
    assert login.console.count("login: root (automatic login)") == 2


def test_the_kernel_complains_about_nothing(login: Login) -> None:
    for printed in (login.before["dmesg"], login.after["dmesg"]):
        assert "hv_vmbus: Vmbus version:5.3" in printed
        assert complaints(printed) == []


def test_the_root_is_the_disk(login: Login) -> None:
    for printed in (login.before, login.after):
        source, kind, flags = printed["findmnt -no SOURCE,FSTYPE,OPTIONS /"].split()
        assert (source, kind, flags.split(",")[0]) == ("/dev/sda", "ext4", "rw")
    assert login.before["lsblk -no NAME,SIZE,VENDOR,MODEL"].split() == [
        "sda",
        "4G",
        "Msft",
        "Virtual",
        "Disk",
    ]


def test_no_service_fails(login: Login) -> None:
    command = "systemctl is-system-running --wait; systemctl --failed --no-legend"
    assert login.before[command].split() == ["running"]


def test_what_was_written_is_there_after_a_restart(login: Login) -> None:
    assert login.after["md5sum numbers"] == login.before["seq 1 300000 > numbers; md5sum numbers"]


def test_a_shutdown_leaves_a_clean_disk(login: Login) -> None:
    assert (login.status, login.errors) == (0, "")
    assert login.console.rstrip().endswith("reboot: Power down")
    assert_clean(as_raw(login.disk, "vhdx"))


# ---------------------------------------------------------------- a host that ends us

# Files that are durable before they are told, while others come and go.
WRITE = r"""
cd /root && mkdir -p kept && for one in kept/*; do echo "== found $(md5sum $one)"; done
(while :; do cp -r /usr/share/perl5 /usr/lib/udev coming; sync -f coming; rm -r coming; done) 2>/dev/null &
n=$(ls kept | wc -l)
while :; do
    n=$((n + 1))
    dd if=/dev/urandom of=kept/$n bs=4k count=$((n % 37 * 3 + 1)) conv=fsync 2>/dev/null && sync kept
    echo "== durable $(md5sum kept/$n)"
done
"""
LOOK = 'cd /root; for one in kept/*; do echo "== found $(md5sum $one)"; done; dmesg > /dev/console'


def files(console: str, what: str) -> dict[str, str]:
    """MD5 sums by name."""
    return {name: digest for digest, name in re.findall(rf"^== {what} (\w+)  (kept/\d+)$", console, re.M)}


def check_after_kill(disk: Path) -> bool:
    """The file as the kill left it is good for QEMU, which replays the log itself, and for us, and both see
    the same. Gives whether the file system's journal had to be replayed."""
    by_qemu = disk.with_name("by-qemu.vhdx")
    shutil.copyfile(disk, by_qemu)
    qemu_img("check", "-q", "-r", "all", by_qemu)
    open_vhdx(disk).close()
    qemu_img("compare", "-q", by_qemu, disk)
    by_qemu.unlink()
    raw = as_raw(disk, "vhdx")
    with open_vhdx(disk, read_only=True) as ours:
        copy_out(ours, raw.with_suffix(".ours"))
    qemu_img("compare", "-q", "-f", "raw", "-F", "raw", raw.with_suffix(".ours"), raw)
    raw.with_suffix(".ours").unlink()
    return "recovering journal" in assert_consistent(raw)


def test_killed_while_the_guest_writes(root_guest: RootGuest, tmp_path: Path) -> None:
    disk = copy_of(root_guest, tmp_path / "root.vhdx")
    durable: dict[str, str] = {}
    recovered = 0
    source = random.Random(4)
    # without systemd the guest comes to the point at once
    words = "init=/usr/local/libexec/ringminus-script"
    for _ in range(KILLS):
        with ConsoleGuest(*options(root_guest, disk, words, WRITE)) as guest:
            for _ in range(source.randrange(2, 12)):
                guest.expect("== durable")
            time.sleep(source.random() * 0.3)
            guest.kill()
            guest.finish()
            assert files(guest.console, "found").items() >= durable.items()
            durable |= files(guest.console, "durable")
        recovered += check_after_kill(disk)
    assert recovered > 0, "the kills came between the writes"
    with ConsoleGuest(*options(root_guest, disk, "", LOOK)) as guest:
        assert guest.finish() == (0, "")
        assert "the script ended with status 0" in guest.console
        assert files(guest.console, "found").items() >= durable.items()
        assert complaints(guest.console) == []
    assert_clean(as_raw(disk, "vhdx"))

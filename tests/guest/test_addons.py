"""Addons against a real guest, each with the guest's own word for what it saw."""

from __future__ import annotations

import ctypes.util
import os
import re
import textwrap
from pathlib import Path

import pytest

from support.command import RunGuest
from support.guest_programs import EXAMPLES

ADDONS = EXAMPLES / "addons"
MIB = 1 << 20
HEAD = "from ringminus.lens.addons import Context, only\nfrom ringminus.tap import *\n"


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """A disk of 64 MiB with nothing on it."""
    path = tmp_path / "disk.raw"
    path.touch()
    os.truncate(path, 64 * MIB)
    return str(path)


def addon(tmp_path: Path, source: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(HEAD + textwrap.dedent(source))
    return str(path)


# ---------------------------------------------------------------- the examples


def test_a_disk_has_another_name(run_guest: RunGuest, disk: str) -> None:
    run = run_guest(
        *("--disk", disk, "--addon", f"{ADDONS / 'rename_disk.py'},vendor=ACME,product=Rocket 9"),
        words="quiet",
        script="cd /sys/block/sda/device; cat vendor model; dmesg | grep Direct-Access",
    )
    assert run.status == 0 and run.errors == ""
    assert re.search(r"^ACME +\r?\nRocket 9 +\r?$", run.output, re.M)
    assert re.search(r"scsi \d:0:0:0: Direct-Access     ACME     Rocket 9 ", run.output)


def test_every_tenth_completion_of_the_storage_is_late(run_guest: RunGuest, disk: str) -> None:
    """The guest measures each of 30 reads, by its own clock: three of them take at least 200 ms, and are ten
    reads from each other."""
    read = "dd if=/dev/sda of=/dev/null bs=4k count=1 iflag=direct skip=$n 2>/dev/null"
    run = run_guest(
        *("--disk", disk, "--addon", f"{ADDONS / 'slow_storage.py'},every=10,seconds=0.2"),
        words="quiet",
        script=f"""
            spent() {{ set -- $(cat /sys/block/sda/stat); echo $4; }}
            n=0; while [ $n -lt 30 ]; do
                before=$(spent); {read}; echo "read $n took $(( $(spent) - before )) ms"; n=$((n+1))
            done
        """,
    )
    assert run.status == 0
    took = [int(ms) for ms in re.findall(r"^read \d+ took (\d+) ms", run.output, re.M)]
    assert len(took) == 30
    late = sorted(range(30), key=lambda number: took[number])[-3:]
    assert all(took[number] >= 200 for number in late)
    first, second, third = sorted(late)
    assert (second - first, third - second) == (10, 10)
    told = re.search(r"SlowStorage: (\d+) of (\d+) completions were late", run.errors)
    assert told is not None and int(told[1]) == int(told[2]) // 10 >= 3


@pytest.mark.skipif(ctypes.util.find_library("slirp") is None, reason="no libslirp here")
def test_what_a_driver_says_to_an_rndis_length_that_lies(run_guest: RunGuest) -> None:
    run = run_guest(
        *("--nic", "nat", "--addon", f"{ADDONS / 'bad_rndis.py'},every=4"),
        words="quiet",
        script="""
            udhcpc -i eth0 -f -q -n >/dev/null 2>&1
            ping -c 8 -i 0.2 -W 1 10.0.2.2
            dmesg | grep -c "rndis message buffer overflow detected (got .*, min 60000)"
        """,
    )
    assert run.status == 0
    lies = re.search(r"BadRndis: (\d+) of \d+ packets lied", run.errors)
    assert lies is not None and int(lies[1]) > 0
    refused = "nvsp SEND_RNDIS_PKT_COMPLETE(msg_type=SEND_RNDIS_PKT_COMPLETE, status=FAIL)"
    assert run.errors.count(refused) == int(lies[1])
    assert re.search(rf"^{lies[1]}\r?$", run.output, re.M), "the guest counts as many lies"
    assert "8 packets transmitted, 8 packets received" not in run.output


# ---------------------------------------------------------------- every kind of change, seen by the guest


def test_an_msr_has_the_value_that_an_addon_gives_it(run_guest: RunGuest, tmp_path: Path) -> None:
    source = """
        def msr_read(event, ctx):
            if event.msr == 0x8B:
                event.answer(0x1234 << 32 | 0x5678)
    """
    run = run_guest(
        *("--addon", addon(tmp_path, source)), words="quiet", script="grep -m1 microcode /proc/cpuinfo"
    )
    assert re.search(r"^microcode\s+: 0x5678\r?$", run.output, re.M)


def test_a_device_that_is_not_offered_is_not_there(run_guest: RunGuest, disk: str, tmp_path: Path) -> None:
    source = """
        @only("vmbus.message == offer_channel")
        def vmbus_message(event, ctx):
            event.drop()
    """
    run = run_guest(
        *("--disk", disk, "--addon", addon(tmp_path, source)),
        words="quiet",
        script="echo devices: $(ls /sys/bus/vmbus/devices | wc -l), disks: $(ls /sys/block | wc -l)",
    )
    assert "devices: 0, disks: 0" in run.output


def test_a_hypercall_is_answered_in_the_hypervisors_place(run_guest: RunGuest, tmp_path: Path) -> None:
    """HvPostMessage says that it has no buffers: the guest tries again and again, until it is let through."""
    source = """
        class Busy:
            asked = 0

            @only("hypercall.code == post_message")
            def hypercall(self, event, ctx):
                self.asked += 1
                if self.asked <= 3:
                    event.answer(19)  # HV_STATUS_INSUFFICIENT_BUFFERS

            @only("hypercall.code == post_message")
            def hypercall_result(self, event, ctx):
                ctx.log(f"{event.status} {event.changed}")
    """
    run = run_guest(
        *("--addon", addon(tmp_path, source)), words="quiet", script="ls /sys/bus/vmbus/devices; echo alive"
    )
    assert run.status == 0 and "alive" in run.output
    told = re.findall(r"mine.Busy: (\w+) ?(\w*)", run.errors)
    assert told[:4] == [("INSUFFICIENT_BUFFERS", "answered")] * 3 + [("SUCCESS", "")]


def test_a_request_of_ones_own_leaves_the_guest_alone(run_guest: RunGuest, disk: str, tmp_path: Path) -> None:
    """An addon asks the disk's controller for its properties and gets the answer, and tells the guest to look
    for disks; the guest looks, and reads on."""
    source = """
        from functools import partial
        from ringminus.devices.storage.wire import Operation, VstorPacket

        def packet(operation):
            return VstorPacket(operation=operation, flags=1, status=0, body=b"").pack()

        class Ask:
            reads = scans = 0

            @only("scsi")
            def packet_from_guest(self, event, ctx):
                name = ctx.message(event).scsi.name
                self.scans += name == "REPORT_LUNS"
                self.reads += name == "READ_10"
                if self.reads == 3 and name == "READ_10":
                    self.scans = 0
                    inject = partial(ctx.inject.packet, "storvsc")
                    answered = lambda answer: ctx.log(f"answered {answer[:4].hex()}")
                    inject(packet(Operation.QUERY_PROPERTIES), to_guest=False, done=answered)
                    inject(packet(Operation.ENUMERATE_BUS), to_guest=True)

            def stop(self, ctx):
                ctx.log(f"scans after that: {self.scans}")
    """
    run = run_guest(
        *("--disk", disk, "--addon", addon(tmp_path, source), "--log", "packets"),
        words="quiet",
        script="dd if=/dev/sda of=/dev/null bs=4k count=10 iflag=direct; sleep 1; echo alive",
    )
    assert run.status == 0 and "alive" in run.output and "10+0 records out" in run.output
    assert "mine.Ask: answered 01000000" in run.errors, "COMPLETE_IO comes to who asked"
    assert run.errors.count("[injected]") == 3
    assert re.search(r"mine.Ask: scans after that: [1-9]", run.errors)


# ---------------------------------------------------------------- isolation


def test_an_addon_that_fails_is_told_of_and_switched_off(
    run_guest: RunGuest, disk: str, tmp_path: Path
) -> None:
    source = """
        class Broken:
            def packet_from_guest(self, event, ctx):
                event.payload = b""
                1 / 0
    """
    run = run_guest(
        *("--disk", disk, "--addon", addon(tmp_path, source)),
        words="quiet",
        script="dd if=/dev/sda of=/dev/null bs=4k count=30 iflag=direct; echo alive",
    )
    assert run.status == 0 and "alive" in run.output and "30+0 records out" in run.output
    failed = (
        r"addon mine.Broken failed in packet_from_guest at event \d+: ZeroDivisionError: division by zero"
    )
    assert len(re.findall(failed, run.errors)) == 10
    assert "vstor BEGIN_INITIALIZATION" in run.errors, "the event is shown"
    assert f"{tmp_path / 'mine.py'}, line 7, in packet_from_guest: 1 / 0" in run.errors
    assert run.errors.count("is switched off; the guest goes on") == 1

"""Debian's kernel as it is, on the command: it finds Hyper-V, computes rightly, and ends as documented."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import signal
import subprocess
import time
from typing import Any

import pytest

from ringminus.guest.build import GuestImage
from ringminus.guest.init_script import STARTED
from support.command import Run, RunGuest, command, kernel_words

TROUBLE = re.compile(r"WARNING:|BUG:|Oops|Call Trace|hung task|soft lockup|rcu: INFO|unable to handle", re.I)
POWERED_OFF = re.compile(r"\[ *[0-9.]+\] reboot: Power down\r?\n\Z")
SCRIPT_ENDED = "ringminus guest: the script ended with status"

# what the guest computes: a file of numbers, packed and unpacked, with checksums of both
NUMBERS = "".join(f"{n}\n" for n in range(1, 20001)).encode()
FULL_SCRIPT = """
echo; echo "== checksum"
seq 1 20000 > /tmp/numbers
sha256sum < /tmp/numbers
gzip -c /tmp/numbers > /tmp/numbers.gz
gunzip -c /tmp/numbers.gz | sha256sum
md5sum < /tmp/numbers
echo "== packed $(base64 -w0 /tmp/numbers.gz)"
echo "== integers $((123456789 * 987654321)) $((-1000007 / 13)) $((1 << 62)) $((0x7fffffffffffffff % 9973))"
echo "== floats $(awk 'BEGIN { s = 0; for (i = 1; i <= 2000; i++) s += 1 / i; printf "%.12f", s }')"
n=0; i=0; while [ $i -lt 200 ]; do n=$((n + $(/bin/busybox expr $i \\* 2))); i=$((i + 1)); done
echo "== forked $n"
echo "== interrupts $(sed -n 's/^ *HVS: *\\([0-9]*\\).*/\\1/p' /proc/interrupts)"
"""


def booted(run: Run) -> str:
    """The console of a guest that came up, had no trouble and powered off."""
    assert run.status == 0, run.errors[-2000:] + run.output[-2000:]
    assert STARTED in run.output
    assert not TROUBLE.search(run.output)
    assert f"{SCRIPT_ENDED} 0" in run.output
    return run.output


def answer(output: str, name: str) -> str:
    """What a script printed after `== name`."""
    found = re.search(rf"^== {name} (.*?)\r?$", output, re.M)
    assert found is not None, output[-2000:]
    return found[1]


@pytest.fixture(scope="session")
def full_run(run_guest: RunGuest) -> Run:
    """One boot with everything on the console, and the statistics."""
    return run_guest("--stats", "--json", script=FULL_SCRIPT)


@pytest.fixture(scope="session")
def full(full_run: Run) -> str:
    return booted(full_run)


@pytest.fixture(scope="session")
def statistics(full_run: Run) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(full_run.errors)
    return data


class TestFullOutput:
    """One boot, everything that it says."""

    def test_the_guest_finds_hyper_v(self, full: str) -> None:
        assert "Hypervisor detected: Microsoft Hyper-V" in full

    def test_its_clocksource_is_hyper_vs(self, full: str) -> None:
        assert "clocksource: Switched to clocksource hyperv_clocksource_tsc_page" in full
        assert re.search(r"^  clocksource  hyperv_clocksource_tsc_page\r?$", full, re.M)

    def test_it_need_not_calibrate_anything(self, full: str) -> None:
        assert "Calibrating delay loop (skipped)" in full
        assert "Calibrating delay loop..." not in full
        assert "Fast TSC calibration" not in full

    def test_its_random_numbers_are_ready_at_once(self, full: str) -> None:
        assert re.search(r"^\[ +0\.000000\] random: crng init done\r?$", full, re.M)

    def test_the_serial_port_has_its_interrupt(self, full: str) -> None:
        found = re.search(r"ttyS0 at I/O 0x3f8 \(irq = (\d+), base_baud = 115200\) is a 16550A", full)
        assert found is not None
        assert int(found[1]) != 0

    def test_the_bus_connects(self, full: str) -> None:
        assert re.search(r"hv_vmbus: Vmbus version:5\.3", full)
        modules = re.search(r"^  modules      (.*)$", full, re.M)
        assert modules is not None
        assert "hv_vmbus hv_utils" in modules[1]
        assert "failed" not in modules[1]

    def test_the_last_line_is_complete(self, full: str) -> None:
        assert POWERED_OFF.search(full)

    def test_no_console_line_is_lost(self, full: str) -> None:
        stamps = [float(stamp) for stamp in re.findall(r"^\[ *(\d+\.\d+)\]", full, re.M)]
        assert len(stamps) > 150
        assert stamps == sorted(stamps)

    def test_checksums_are_right(self, full: str) -> None:
        digest = hashlib.sha256(NUMBERS).hexdigest()
        assert full.count(f"{digest}  -") == 2
        assert f"{hashlib.md5(NUMBERS).hexdigest()}  -" in full

    def test_what_the_guest_packs_the_host_unpacks(self, full: str) -> None:
        assert gzip.decompress(base64.b64decode(answer(full, "packed"))) == NUMBERS

    def test_arithmetics_are_right(self, full: str) -> None:
        values = [123456789 * 987654321, -(1000007 // 13), 1 << 62, (2**63 - 1) % 9973]
        assert answer(full, "integers") == " ".join(map(str, values))
        total = 0.0
        for i in range(1, 2001):
            total += 1 / i
        assert float(answer(full, "floats")) == pytest.approx(total, abs=2e-12)

    def test_processes_give_right_results(self, full: str) -> None:
        assert answer(full, "forked") == str(sum(2 * i for i in range(200)))


class TestBothSidesAgree:
    """What the guest counted, and what we counted."""

    def test_interrupts_are_ended_without_exits(self, statistics: dict[str, Any]) -> None:
        """By the VP assist page; that each is ended the guest shows by taking the next one."""
        exits = statistics["msrs"]["HV_X64_MSR_EOI"]["writes"]
        raised = sum(entry["count"] for entry in statistics["interrupts"])
        assert raised > 100
        assert exits < raised / 4

    def test_timer_interrupts(self, full: str, statistics: dict[str, Any]) -> None:
        by_guest = int(answer(full, "interrupts"))
        by_us = [entry["count"] for entry in statistics["interrupts"] if entry["source"] == "stimer0"]
        assert len(by_us) == 1
        # a few more come between the guest's reading and its end
        assert by_guest <= by_us[0] <= by_guest + 60
        assert statistics["timers"]["stimer0"] >= by_guest

    def test_the_enlightenments_are_in_use(self, statistics: dict[str, Any]) -> None:
        writes = {name: entry["writes"] for name, entry in statistics["msrs"].items()}
        for name in (
            "GUEST_OS_ID",
            "HYPERCALL",
            "REFERENCE_TSC",
            "VP_ASSIST_PAGE",
            "SCONTROL",
            "SIMP",
            "SIEFP",
        ):
            assert writes[f"HV_X64_MSR_{name}"] >= 1, name
        assert writes["HV_X64_MSR_STIMER0_COUNT"] > 100

    def test_exits_are_timed(self, statistics: dict[str, Any]) -> None:
        exits = statistics["exits"]
        assert exits["wrmsr"]["count"] == sum(entry["writes"] for entry in statistics["msrs"].values())
        assert exits["rdmsr"]["count"] == sum(entry["reads"] for entry in statistics["msrs"].values())
        assert exits["hypercall"]["count"] == sum(statistics["hypercalls"].values()) > 0
        assert 0 < sum(entry["seconds"] for entry in exits.values()) < statistics["seconds"]

    def test_the_engine_counts_system_calls_and_page_faults(self, statistics: dict[str, Any]) -> None:
        assert statistics["system_calls"] > 1000
        assert statistics["exceptions"]["#PF"] > 1000


def test_quiet_boot_in_little_memory(run_guest: RunGuest) -> None:
    # Debian's kernel takes 46 MiB for itself, and ends in a panic with less than about 80 MiB anywhere
    output = booted(run_guest("--memory", "96M", words="quiet ringminus.modules=no", script="free -m"))
    assert "Linux version" not in output
    total = re.search(r"^Mem: +(\d+)", output, re.M)
    assert total is not None
    assert int(total[1]) < 96


def test_4_gib_of_memory_on_both_sides_of_the_hole(run_guest: RunGuest) -> None:
    script = (
        "echo == total $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo); dmesg | grep 'BIOS-e820'"
    )
    output = booted(run_guest("--memory", "4G", words="quiet", script=script))
    assert 3.7 * (1 << 20) < int(answer(output, "total")) < 4 << 20
    assert "[mem 0x0000000100000000-0x000000013fffffff] usable" in output


def test_a_reboot_ends_the_command_when_asked_to(run_guest: RunGuest) -> None:
    run = run_guest("--no-reboot", words="quiet ringminus.modules=no ringminus.end=reboot", script="true")
    assert run.status == 0
    assert "ringminus: the guest restarted" in run.errors
    assert run.output.count(STARTED) == 1


def test_a_panic_is_reported_with_its_message(run_guest: RunGuest) -> None:
    run = run_guest("--timeout", "60", words="quiet", script="echo c > /proc/sysrq-trigger; sleep 60")
    assert run.status == 3, run.errors[-2000:]
    assert "ringminus: the guest crashed" in run.errors
    assert re.search(r"^  system +Linux \d+\.\d+\.\d+$", run.errors, re.M)
    assert re.search(r"^  time +\d+\.\d{3} s after its start, on VP 0$", run.errors, re.M)
    words = run.errors.split("The kernel's last words:")[1]
    assert "sysrq_handle_crash" in words
    assert "Kernel panic - not syncing: sysrq triggered crash" in words


def start(guest_options: list[str], script: str, words: str) -> subprocess.Popen[bytes]:
    arguments = ["run", *guest_options, "--console", "stdio", "--timeout", "100"]
    return subprocess.Popen(
        command(*arguments, "--append", kernel_words(script, words)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"the guest ended before it said {text!r}")


def test_a_reboot_boots_again(guest_options: list[str]) -> None:
    words = "quiet ringminus.modules=no ringminus.end=reboot"
    with start(guest_options, "true", words) as process:
        for _ in range(2):
            wait_for(process, STARTED.encode())
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        process.stdout.read()
        assert process.wait(10) == 130


def test_an_endless_loop_in_user_space_ends_by_ctrl_c(guest_options: list[str]) -> None:
    with start(guest_options, "echo looping; while :; do :; done", "quiet ringminus.modules=no") as process:
        wait_for(process, b"looping")
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - sent < 2


def test_a_time_out_ends_a_guest_that_sleeps(run_guest: RunGuest, demo_guest: GuestImage) -> None:
    # wherever in its boot it is by then
    started = time.monotonic()
    run = run_guest("--timeout", "2", words="quiet", script="sleep 1000")
    assert run.status == 124
    assert "ringminus: time-out after 2 s" in run.errors
    assert time.monotonic() - started < 15

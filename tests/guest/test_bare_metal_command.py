"""Kernels of a few instructions, run by the command: each end that a guest can come to has its status."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import POWER_OFF, RESET, Run, command, run_command, say, write_kernel, write_msr

LINUX_6_1_2 = 0x8100 << 48 | 0x060102 << 16
GUEST_OS_ID, CRASH_P0, CRASH_CTL, HV_RESET = 0x40000000, 0x40000100, 0x40000105, 0x40000003
CRASH_NOTIFY, CRASH_MESSAGE = 1 << 63, 1 << 62
FOR_EVER = "1: jmp 1b"

RunSource = Callable[..., Run]


@pytest.fixture
def run_source(tmp_path: Path) -> RunSource:
    def run(source: str, *options: str) -> Run:
        kernel = write_kernel(tmp_path, source)
        return run_command("run", "-k", kernel, "-m", "64M", "--console", "stdio", *options)

    return run


def test_power_off_by_acpi_is_success_and_says_nothing(run_source: RunSource) -> None:
    assert run_source(POWER_OFF) == Run(0, "", "")


def test_the_console_is_complete_when_the_guest_powers_off_in_mid_line(run_source: RunSource) -> None:
    assert (
        run_source(f"{say('first')}\n{say(chr(10) + 'no newline')}\n{POWER_OFF}").output
        == "first\nno newline"
    )


def test_without_a_console_the_output_of_the_guest_goes_nowhere(run_source: RunSource) -> None:
    assert run_source(f"{say('unseen')}\n{POWER_OFF}", "--console", "none") == Run(0, "", "")


def test_triple_fault_has_a_status_of_its_own_and_its_place(run_source: RunSource) -> None:
    run = run_source("ud2")
    assert run.status == 4
    assert run.errors.splitlines()[0] == "ringminus: triple fault at RIP 0x100000"
    assert re.search(r"\brip 0000000000100000\b", run.errors)


def crash(control: int, values: tuple[int, ...]) -> str:
    """A guest that names itself Linux 6.1.2 and reports a crash."""
    writes = [write_msr(CRASH_P0 + i, value) for i, value in enumerate(values)]
    return "\n".join([write_msr(GUEST_OS_ID, LINUX_6_1_2), *writes, write_msr(CRASH_CTL, control)])


def test_crash_registers_are_decoded(run_source: RunSource) -> None:
    values = (0xDEAD, LINUX_6_1_2, 0xFFFFFFFF81234567, 0x1111222233334444, 0xFFFFC90000000000)
    run = run_source(f"{say('oh no' + chr(10))}\n{crash(CRASH_NOTIFY, values)}\n{FOR_EVER}")
    assert run.status == 3
    lines = [" ".join(line.split()) for line in run.errors.splitlines()]
    assert lines[:2] == ["ringminus: the guest crashed", "system Linux 6.1.2"]
    assert re.fullmatch(r"time \d+\.\d{3} s after its start, on VP 0", lines[2])
    for name, value in (("error", values[0]), ("RIP", values[2]), ("RAX", values[3]), ("RSP", values[4])):
        assert f"{name} {value:#x}" in lines
    assert lines[-2:] == ["The kernel's last words:", "oh no"]


def test_a_crash_message_is_read_from_the_guests_memory(run_source: RunSource) -> None:
    message = "Kernel panic: out of coffee\nat the fourth cup"
    data = f"jmp 2f\nmessage: .ascii {message!r}\n2:".replace("'", '"')
    where = 0x100000 + 2  # after the short jump
    values = (1, LINUX_6_1_2, 3, where, len(message))
    run = run_source(f"{data}\n{crash(CRASH_NOTIFY | CRASH_MESSAGE, values)}\n{FOR_EVER}")
    assert run.status == 3
    assert run.errors.endswith(
        "The kernel's last words:\n  Kernel panic: out of coffee\n  at the fourth cup\n"
    )


def test_a_crash_message_outside_of_memory_is_told_and_not_read(run_source: RunSource) -> None:
    run = run_source(crash(CRASH_NOTIFY | CRASH_MESSAGE, (1, 2, 3, 1 << 40, 16)) + "\n" + FOR_EVER)
    assert run.status == 3
    assert "could not be read: guest-physical 0x10000000000+0x10 is not RAM" in run.errors


def test_a_guest_that_powers_off_after_its_crash_report_has_still_crashed(run_source: RunSource) -> None:
    started = time.monotonic()
    assert run_source(f"{crash(CRASH_NOTIFY, (1,))}\n{POWER_OFF}").status == 3
    assert time.monotonic() - started < 10


def test_an_endless_loop_ends_by_time_out(run_source: RunSource) -> None:
    run = run_source(FOR_EVER, "--timeout", "0.5")
    assert run.status == 124
    assert run.errors.strip() == "ringminus: time-out after 0.5 s"


def test_a_halted_guest_ends_by_time_out_too(run_source: RunSource) -> None:
    # with interrupts on, somebody might still wake it
    assert run_source("sti; 1: hlt; jmp 1b", "--timeout", "0.5").status == 124


@pytest.mark.parametrize(
    ("reset", "how"),
    [
        (RESET, "ACPI reset register"),
        ("mov al, 0xfe; out 0x64, al; 1: jmp 1b", "keyboard controller"),
        ("mov dx, 0xcf9; mov al, 6; out dx, al; 1: jmp 1b", "reset control register"),
        (write_msr(HV_RESET, 1) + "\n1: jmp 1b", "reset MSR"),
    ],
)
def test_a_restart_ends_the_command_when_asked_to(run_source: RunSource, reset: str, how: str) -> None:
    run = run_source(reset, "--no-reboot", "--timeout", "20")
    assert (run.status, run.errors.strip()) == (0, f"ringminus: the guest restarted ({how})")


def test_halting_with_interrupts_off_is_a_crash_with_the_last_words(run_source: RunSource) -> None:
    run = run_source(f"{say('the end' + chr(10))}\ncli; hlt")
    assert run.status == 3
    assert "halted with interrupts off" in run.errors
    assert run.errors.endswith("The kernel's last words:\n  the end\n")


def test_an_endless_loop_ends_at_once_by_a_signal(tmp_path: Path) -> None:
    kernel = write_kernel(tmp_path, f"{say('go' + chr(10))}\n{FOR_EVER}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with start(kernel) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"go\n"
            sent = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 130
            assert time.monotonic() - sent < 2
            assert process.stderr is not None
            assert f"interrupted by {number.name}" in process.stderr.read().decode()


def test_the_guest_ends_when_nobody_reads_its_console_any_more(tmp_path: Path) -> None:
    kernel = write_kernel(tmp_path, f"2:\n{say('y' + chr(10))}\njmp 2b")
    with start(kernel) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(10) == 130


def start(kernel: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("run", "-k", kernel, "-m", "64M", "--console", "stdio", "--timeout", "60"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def holdings(pid: int) -> dict[str, int]:
    """File descriptors, threads, mappings and resident KiB of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(status["Threads"]),
        "kib": int(status["VmRSS"].split()[0]),
        "mappings": len(Path(f"/proc/{pid}/maps").read_text().splitlines()),
    }


def test_restarts_do_not_leak(tmp_path: Path) -> None:
    # the guest waits after its line, so that each look finds a machine that runs
    kernel = write_kernel(tmp_path, f"{say('up' + chr(10))}\nmov ecx, 40000000\n3: loop 3b\n{RESET}")
    with start(kernel) as process:
        assert process.stdout is not None
        seen = []
        for _ in range(10):
            assert process.stdout.readline() == b"up\n"
            seen.append(holdings(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 130
    early, late = seen[3], seen[9]
    assert late["threads"] <= early["threads"]
    assert late["descriptors"] <= early["descriptors"]
    assert late["mappings"] <= early["mappings"] + 6
    assert late["kib"] < early["kib"] + 6 * 1024

"""The worker runs a machine to its end, and each end has its name."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ringminus.machine.config import MachineConfig
from ringminus.machine.machine import Machine
from ringminus.machine.outcome import End, Outcome
from ringminus.machine.worker import Worker, run_machine
from ringminus.memory import MIB
from ringminus.tap import Halt
from support.command import POWER_OFF, RESET, say, write_kernel, write_msr

GUEST_OS_ID, CRASH_P0, CRASH_CTL, RESET_MSR = 0x40000000, 0x40000100, 0x40000105, 0x40000003
GUEST_IDLE, SVR = 0x400000F0, 0x80F
STIMER0_CONFIG, STIMER0_COUNT = 0x400000B0, 0x400000B1
CRASH_NOTIFY = 1 << 63
LINUX, OTHER_LINUX = 0x8100 << 48 | 0x060100 << 16, 0x8100 << 48 | 0x060200 << 16
FOR_EVER = "8: jmp 8b"

Run = Callable[..., tuple[Outcome, bytes]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_source(source: str, prepare: Callable[[Worker], None] | None = None) -> tuple[Outcome, bytes]:
        printed = bytearray()
        machine = Machine(MachineConfig(write_kernel(tmp_path, source), memory=64 * MIB), printed.extend)
        try:
            return run_machine(machine, prepare), bytes(printed)
        finally:
            machine.close()

    return run_source


def after(seconds: float, outcome: Outcome) -> Callable[[Worker], None]:
    """Ends the guest from inside the loop."""

    def prepare(worker: Worker) -> None:
        asyncio.get_running_loop().call_later(seconds, worker.end, outcome)

    return prepare


def test_power_off(run: Run) -> None:
    assert run(f"{say('bye')}\n{POWER_OFF}") == (Outcome(End.POWER_OFF), b"bye")


def test_reboot_tells_how(run: Run) -> None:
    assert run(RESET)[0] == Outcome(End.REBOOT, "ACPI reset register")
    assert run(f"{write_msr(RESET_MSR, 1)}\n{FOR_EVER}")[0] == Outcome(End.REBOOT, "reset MSR")


def test_triple_fault_tells_where(run: Run) -> None:
    outcome, _ = run("nop\nud2")
    assert (outcome.end, outcome.detail) == (End.TRIPLE_FAULT, "at RIP 0x100001")
    assert outcome.registers is not None
    assert outcome.registers.rip == 0x100001


def test_a_crash_is_the_end_a_while_after_its_report(run: Run) -> None:
    crash = (
        f"{write_msr(GUEST_OS_ID, LINUX)}\n{write_msr(CRASH_P0, 77)}\n{write_msr(CRASH_CTL, CRASH_NOTIFY)}"
    )
    outcome, printed = run(f"{crash}\n{say('last words')}\n{FOR_EVER}")
    assert outcome.end is End.CRASH
    assert outcome.crash is not None
    assert (outcome.crash.parameters[0], outcome.crash.guest_os_id) == (77, LINUX)
    assert printed == b"last words"


def test_a_crash_is_not_hidden_by_what_the_guest_does_after_it(run: Run) -> None:
    for end in (POWER_OFF, RESET, "cli; hlt"):
        assert run(f"{write_msr(CRASH_CTL, CRASH_NOTIFY)}\n{end}")[0].end is End.CRASH


def test_a_crash_kernel_that_starts_makes_the_crash_past(run: Run) -> None:
    crash = f"{write_msr(GUEST_OS_ID, LINUX)}\n{write_msr(CRASH_CTL, CRASH_NOTIFY)}"
    again = f"{write_msr(GUEST_OS_ID, 0)}\n{write_msr(GUEST_OS_ID, OTHER_LINUX)}"
    assert run(f"{crash}\n{again}\n{POWER_OFF}")[0].end is End.POWER_OFF


def test_halting_with_interrupts_off_is_for_ever(run: Run) -> None:
    outcome, _ = run("cli; hlt")
    assert outcome.end is End.CRASH
    assert "interrupts off" in outcome.detail


def test_a_busy_guest_is_ended_from_the_loop(run: Run) -> None:
    started = time.monotonic()
    assert run(FOR_EVER, after(0.1, Outcome(End.TIMEOUT)))[0].end is End.TIMEOUT
    assert 0.1 <= time.monotonic() - started < 5


# a timer each 4 ms, as a busy kernel has it, whose interrupts wait as interrupts are off
TICKS = "\n".join(
    [write_msr(SVR, 0x1FF), write_msr(STIMER0_COUNT, 40_000), write_msr(STIMER0_CONFIG, 0x40 << 4 | 0x1003)]
)


@pytest.mark.parametrize("guest", [FOR_EVER, f"8: mov ecx, {GUEST_IDLE}; rdmsr; jmp 8b"])
def test_ticks_do_not_starve_the_loop(run: Run, guest: str) -> None:
    # neither its timers, nor callbacks that callbacks have queued
    def prepare(worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, worker.end, Outcome(End.INTERRUPTED))
        loop.call_later(0.1, os.kill, os.getpid(), signal.SIGUSR1)
        watchdog = threading.Timer(20, worker.end, [Outcome(End.TIMEOUT)])
        watchdog.daemon = True
        watchdog.start()

    started = time.monotonic()
    assert run(f"{TICKS}\n{guest}", prepare)[0].end is End.INTERRUPTED
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("idle", ["sti; 8: hlt; jmp 8b", f"8: mov ecx, {GUEST_IDLE}; rdmsr; jmp 8b"])
def test_an_idle_guest_is_ended_from_the_loop_and_costs_nothing(run: Run, idle: str) -> None:
    used: list[float] = []

    def prepare(worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.3, lambda: used.append(time.process_time()))
        loop.call_later(0.8, lambda: used.append(time.process_time()))
        loop.call_later(0.9, worker.end, Outcome(End.INTERRUPTED))

    assert run(idle, prepare)[0].end is End.INTERRUPTED
    assert used[1] - used[0] < 0.1


@pytest.mark.parametrize("idle", ["sti; 8: hlt; jmp 8b", f"8: mov ecx, {GUEST_IDLE}; rdmsr; jmp 8b"])
def test_a_timer_that_the_loop_arms_fires_while_the_guest_idles(run: Run, idle: str) -> None:
    """Such as those of who waits for the network: nothing of it wakes the guest."""

    def prepare(worker: Worker) -> None:
        timers, clock = worker.machine.partition.timers, worker.machine.partition.clock
        timer = timers.timer(lambda _now: worker.end(Outcome(End.INTERRUPTED)))
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, lambda: timer.arm(clock.reference_time() + 100_000))
        loop.call_later(5, worker.end, Outcome(End.TIMEOUT))

    assert run(idle, prepare)[0].end is End.INTERRUPTED


@pytest.mark.parametrize(
    ("idle", "how"),
    [("sti; 8: hlt; jmp 8b", "hlt"), (f"8: mov ecx, {GUEST_IDLE}; rdmsr; jmp 8b", "guest idle")],
)
def test_halts_are_told_with_their_time(run: Run, idle: str, how: str) -> None:
    seen: list[Halt] = []

    def prepare(worker: Worker) -> None:
        worker.machine.tap.listen(Halt, seen.append)
        asyncio.get_running_loop().call_later(0.2, worker.end, Outcome(End.INTERRUPTED))

    run(idle, prepare)
    assert [one.how for one in seen] == [how]
    assert 0 < seen[0].idle < 50_000_000 and seen[0].rip


# interrupts of COM1 go to vector 0x31 of an enabled APIC, and the guest idles until one comes
IDLE_UNTIL_INPUT = f"""
{write_msr(SVR, 0x1FF)}
mov eax, 0xfec00000; mov dword ptr [rax], 0x18; mov dword ptr [rax + 0x10], 0x31
mov dx, 0x3f9; mov al, 1; out dx, al
mov dx, 0x3fc; mov al, 0xb; out dx, al
6: mov ecx, {GUEST_IDLE}; rdmsr
mov dx, 0x3fd; in al, dx; test al, 1; jz 6b
mov dx, 0x3f8; in al, dx; out dx, al
{POWER_OFF}
"""


def test_an_idle_guest_is_woken_by_input(run: Run) -> None:
    def prepare(worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, worker.machine.type, b"q")
        loop.call_later(10, worker.end, Outcome(End.TIMEOUT))

    assert run(IDLE_UNTIL_INPUT, prepare) == (Outcome(End.POWER_OFF), b"q")


def test_the_first_end_counts(run: Run) -> None:
    def prepare(worker: Worker) -> None:
        worker.end(Outcome(End.TIMEOUT, "first"))
        worker.end(Outcome(End.INTERRUPTED, "second"))

    assert run(FOR_EVER, prepare)[0] == Outcome(End.TIMEOUT, "first")


def test_a_guest_that_is_held_does_not_run(run: Run) -> None:
    seen: list[int] = []

    def prepare(worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        read = worker.machine.partition.vps[0].processor.general_register

        def hold() -> None:
            worker.hold()
            loop.call_later(0.1, lambda: seen.append(read(3)))
            loop.call_later(0.2, lambda: seen.append(read(3)))
            loop.call_later(0.3, worker.release)
            loop.call_later(0.5, lambda: seen.append(read(3)))
            loop.call_later(0.6, worker.end, Outcome(End.TIMEOUT))

        loop.call_later(0.1, hold)

    assert run("8: inc rbx; jmp 8b", prepare)[0].end is End.TIMEOUT
    assert 0 < seen[0] == seen[1] < seen[2]


def test_an_error_of_ours_ends_the_run_and_is_not_swallowed(run: Run) -> None:
    def prepare(worker: Worker) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        worker.machine.power._power_off = lambda sleep_type: fail()

    with pytest.raises(ZeroDivisionError):
        run(POWER_OFF, prepare)


@pytest.mark.parametrize("guest", [FOR_EVER, "8: sti; hlt; jmp 8b"], ids=["busy", "idle"])
def test_an_error_in_a_callback_of_the_loop_ends_the_run(run: Run, guest: str) -> None:
    """Such as what a device does with the result of its host work, or what a person's terminal calls."""

    def fail() -> None:
        raise ZeroDivisionError

    def prepare(worker: Worker) -> None:
        asyncio.get_running_loop().call_later(0.1, fail)

    with pytest.raises(ZeroDivisionError):
        run(guest, prepare)


def test_machines_after_one_another_do_not_leak(run: Run) -> None:
    run(POWER_OFF)
    before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        run(POWER_OFF)
    assert threading.active_count() == before[0]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before[1] + 1

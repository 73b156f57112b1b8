"""The worker: one asyncio loop that owns one machine and runs its guest in slices.

Everything of the machine happens on the loop's thread, so there is no lock. While the guest runs the
loop stands still; the kicker brings it back when a timer is due or when the loop has something to do.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ringminus.clock import NEVER
from ringminus.cpu.engine import Debug, EngineFailure, Exit, Halted, TripleFault
from ringminus.hypervisor.crash import CrashReport
from ringminus.machine.kicker import AlarmDescriptor, Kicker
from ringminus.machine.machine import Machine
from ringminus.machine.outcome import End, Outcome
from ringminus.tap import Halt

REFERENCE_NS = 100
# the loop's own timers and callbacks have their turn at least this often
LONGEST_WITHOUT_LOOP_NS = 50_000_000
# who waits for an answer from the network gets it within this time, or it takes a little longer
ANSWER_MS = 1
# after its report a crashed guest may still write its last lines or start a crash kernel
CRASH_GRACE_SECONDS = 1.0
T = TypeVar("T")


class Debugger(Protocol):
    """Who runs the guest in its own way, and holds the worker when it has stopped."""

    def run(self) -> Exit:
        """In place of the processor's."""

    def stopped(self, event: Debug) -> None:
        """The processor came to where it was to stop."""

    async def look(self, outcome: Outcome) -> None:
        """The guest is about to end so; it ends when this returns."""

    def hurry(self) -> None:
        """Somebody wants the end who does not wait: `look` is to return."""


class Worker:
    """Runs `machine` until it ends; made and used inside the loop of `run_on_loop`.

    `hold` and `release` stop the guest and let it go on, for who cannot take what it gives. A `debugger` runs
    the guest as it likes."""

    def __init__(self, machine: Machine, selector: selectors.BaseSelector) -> None:
        self.machine = machine
        self._partition = machine.partition
        self._bus = machine.vmbus
        self._vp = machine.partition.vps[0]
        self._tap = machine.tap
        self._processor = self._vp.processor
        self._timers = machine.partition.timers
        self._clock = machine.partition.clock
        self._outcome: Outcome | None = None
        self._crash: CrashReport | None = None
        self._crash_end: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._kicker = Kicker(selector.fileno(), self._processor.native_stop())  # type: ignore[attr-defined]
        self._alarm = AlarmDescriptor()
        self._inside = False
        self._held: set[str] = set()
        self.debugger: Debugger | None = None
        self._loop_due_ns = 0
        self._reactor = machine.network.reactor if machine.network is not None else None
        self._loop_has_events = select.poll()
        self._loop_has_events.register(selector.fileno(), select.POLLIN)  # type: ignore[attr-defined]

    def end(self, outcome: Outcome) -> None:
        """Finish with `outcome`; the first one counts."""
        if self._outcome is None:
            self._outcome = outcome
        elif self.debugger is not None:
            self.debugger.hurry()
        self._processor.stop()
        self._awake.set()

    def hold(self, who: str = "console") -> None:
        """Keep the guest from running until `release` by the same; its clock goes on."""
        self._held.add(who)
        self._processor.stop()

    def release(self, who: str = "console") -> None:
        """Let the guest run again, unless another holds it."""
        self._held.discard(who)
        self._awake.set()

    def _connect(self) -> None:
        machine = self.machine
        machine.on_power_off = lambda: self.end(self._crash_outcome() or Outcome(End.POWER_OFF))
        machine.on_reset = lambda why: self.end(self._crash_outcome() or Outcome(End.REBOOT, why))
        self._partition.on_crash = self._crashed
        self._partition.on_restart = self._restarted
        self._processor.set_wake(self._awake.set)
        self._timers.on_earlier = self._deadline_moved
        self._loop.add_reader(self._alarm.fd, self._alarm_rang)
        machine.threads.bind(self._loop)
        if self._reactor is not None:
            self._loop.add_reader(self._reactor.fd, self._reactor.dispatch)

    def _alarm_rang(self) -> None:
        self._alarm.clear()
        self._awake.set()

    def _crashed(self, report: CrashReport) -> None:
        self._crash = report
        if self._crash_end is not None:
            self._crash_end.cancel()
        self._crash_end = self._loop.call_later(CRASH_GRACE_SECONDS, self._crash_is_final)

    def _crash_is_final(self) -> None:
        outcome = self._crash_outcome()
        if outcome is not None and self._held:  # who does not run cannot say its last words
            self._crash_end = self._loop.call_later(CRASH_GRACE_SECONDS, self._crash_is_final)
        elif outcome is not None:
            self.end(outcome)

    def _crash_outcome(self) -> Outcome | None:
        return Outcome(End.CRASH, crash=self._crash) if self._crash is not None else None

    def _restarted(self) -> None:
        """The guest names its system anew: a crash kernel has started, and the crash is not the end."""
        if self._crash_end is not None:
            self._crash_end.cancel()
        self._crash = self._crash_end = None

    def _until(self, deadline: int) -> int:
        """Nanoseconds from now to a reference time."""
        return (deadline - self._clock.reference_time()) * REFERENCE_NS

    def _deadline_moved(self) -> None:
        if self._inside:
            remaining = self._until(self._timers.next_deadline())
            if remaining <= 0:
                self._processor.stop()
            else:
                self._kicker.stop_at(time.monotonic_ns() + remaining)
        else:
            self._awake.set()  # the alarm of an idle guest is set for a later time

    async def run(self) -> Outcome:
        """Run the guest to its end."""
        self._connect()
        try:
            while True:
                while self._held and self._outcome is None:
                    self._awake.clear()
                    await self._awake.wait()
                if self._outcome is not None:
                    break
                self._timers.fire(self._clock.reference_time())
                await self._slice()
            if self.debugger is not None:
                await self.debugger.look(self._outcome)
            return self._outcome
        finally:
            self._disconnect()

    async def _slice(self) -> None:
        processor, kicker = self._processor, self._kicker
        deadline = self._timers.next_deadline()
        kicker.enter(None if deadline == NEVER else time.monotonic_ns() + max(0, self._until(deadline)))
        self._inside = True
        try:
            ended = processor.run() if self.debugger is None else self.debugger.run()
        finally:
            self._inside = False
            kicker.leave()
        if self._bus.holding:
            self._bus.guest_left(isinstance(ended, Halted) or self._vp.idle)
        self.machine.flush()
        if self._reactor is not None:
            self._reactor.settle()
        if isinstance(ended, Halted):
            await self._idle(ended)
        elif isinstance(ended, TripleFault):
            registers = processor.registers()
            self.end(Outcome(End.TRIPLE_FAULT, f"at RIP {ended.rip:#x}", registers=registers))
        elif isinstance(ended, EngineFailure):
            reason = f"{ended.reason} at RIP {ended.rip:#x}"
            self.end(Outcome(End.FAILURE, reason, registers=processor.registers()))
        elif isinstance(ended, Debug) and self.debugger is not None:
            self.debugger.stopped(ended)
        elif (kicker.loop_is_ready and self._serve_network(0)) or kicker.slice_is_over:
            self._loop_due_ns = 0
        if self._vp.idle:
            await self._idle(Halted(True))
        # what the loop has queued for itself wakes nobody, and a guest with a fast timer has short slices
        now = time.monotonic_ns()
        if now >= self._loop_due_ns:
            self._loop_due_ns = now + LONGEST_WITHOUT_LOOP_NS
            await asyncio.sleep(0)

    def _serve_network(self, milliseconds: int) -> bool:
        """Wait up to that long for the loop to have events, and take the network's from it: a turn of the
        loop costs more than an answer may take. Gives whether the loop has others."""
        if self._reactor is None:
            return True
        self._reactor.settle()
        if not self._loop_has_events.poll(milliseconds):
            return False
        self._reactor.dispatch()
        return bool(self._loop_has_events.poll(0))

    async def _idle(self, halted: Halted) -> None:
        """Wait until an interrupt can wake the guest."""
        if not halted.interruptible:
            reason = "it halted with interrupts off, which nothing ends"
            for_ever = Outcome(End.CRASH, reason, registers=self._processor.registers())
            self.end(self._crash_outcome() or for_ever)
            return
        since = self._clock.reference_time()
        self._kicker.rest()
        while self._outcome is None and not self._vp.has_interrupt():
            self._awake.clear()
            if self._held:
                await self._awake.wait()
                continue
            deadline = self._timers.next_deadline()
            remaining = self._until(deadline) if deadline != NEVER else 0
            if deadline != NEVER and remaining <= 0:
                self._timers.fire(self._clock.reference_time())
                continue
            if self._reactor is not None:
                soon = 0 < remaining < ANSWER_MS * 1_000_000
                if soon:
                    self._alarm.set(remaining)  # the loop has it as an event
                others = self._serve_network(ANSWER_MS)
                if self._vp.has_interrupt():
                    break
                if soon:
                    if others:
                        await asyncio.sleep(0)
                    continue
            if self._bus.holding:
                self._bus.nothing_came()
                continue
            self._alarm.set(remaining)
            await self._awake.wait()
        how, self._vp.idle = "guest idle" if self._vp.idle else "hlt", False
        now = self._clock.reference_time()
        self._vp.idle_time += now - since
        if self._tap.halts is not None:
            self._tap.halts(Halt(since, self._vp.index, how, self._processor.rip, now - since))

    def _disconnect(self) -> None:
        if self._crash_end is not None:
            self._crash_end.cancel()
        self.machine.threads.unbind()
        self._timers.on_earlier = None
        self._processor.set_wake(None)
        self._loop.remove_reader(self._alarm.fd)
        if self._reactor is not None:
            self._loop.remove_reader(self._reactor.fd)
        self._kicker.close()
        self._alarm.close()
        self.machine.flush()


def run_on_loop(main: Callable[[selectors.BaseSelector], Coroutine[None, None, T]]) -> T:
    """Run `main(selector)` on a new loop with that selector, which its workers need. An exception in a
    callback of the loop, such as a device's when its host work has ended, ends it and is raised here."""
    selector = selectors.EpollSelector()
    loop = asyncio.SelectorEventLoop(selector)
    failures: list[BaseException] = []

    def failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "exception" not in context:
            loop.default_exception_handler(context)
            return
        failures.append(context["exception"])
        task.cancel()

    loop.set_exception_handler(failed)
    task = loop.create_task(main(selector))
    try:
        result = loop.run_until_complete(task)
    except asyncio.CancelledError:
        if not failures:
            raise
    finally:
        loop.close()
    if failures:
        raise failures[0]
    return result


def run_machine(machine: Machine, prepare: Callable[[Worker], None] | None = None) -> Outcome:
    """Run a machine to its end on a loop of its own. `prepare(worker)` is called inside the loop first."""

    async def main(selector: selectors.BaseSelector) -> Outcome:
        worker = Worker(machine, selector)
        if prepare is not None:
            prepare(worker)
        return await worker.run()

    return run_on_loop(main)

"""The local APIC's timer: a counter that runs down at APIC_HZ divided by 1 to 128.

The count is never stored: what is kept is the tick at which it reaches zero, in APIC_HZ ticks since the
partition began.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue
from ringminus.hypervisor.apic_registers import APIC_HZ, DIVIDE_WRITABLE

TICKS_PER_UNIT = APIC_HZ // REFERENCE_HZ

SHORTEST_PERIOD = 500
"""A periodic timer fires at most this often (100 ns units), or a guest could keep the host busy with it."""


class ApicTimer:
    """One-shot or periodic; `expired(deadline)` is called when the count reaches zero and is not masked."""

    __slots__ = (
        "_alarm",
        "_clock",
        "_divisor",
        "_expired",
        "_running",
        "_zero",
        "divide",
        "initial",
        "masked",
        "periodic",
    )

    def __init__(self, clock: ReferenceClock, timers: TimerQueue, expired: Callable[[int], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._alarm = timers.timer(self._expire)
        self.reset()

    def reset(self) -> None:
        """As after power-on: stopped, masked, one-shot, divided by 2."""
        self.initial = 0
        self.divide = 0
        self.periodic = False
        self.masked = True
        self._divisor = 2
        self._running = False
        self._zero = 0
        self._alarm.disarm()

    def start(self, count: int) -> None:
        """Write the initial count: the timer runs from there; 0 stops it."""
        self.initial = count
        self._running = count != 0
        self._zero = self._clock.reference_time() * TICKS_PER_UNIT + count * self._divisor
        self._arm()

    def current(self) -> int:
        """The current count."""
        now = self._settle()
        if not self._running:
            return 0
        return min(self.initial, -((now - self._zero) // self._divisor))

    def set_divide(self, register: int) -> None:
        """Write the divide configuration register; the count goes on from where it is."""
        left = self.current()
        self.divide = register & DIVIDE_WRITABLE
        self._divisor = _divisor(self.divide)
        self._zero = self._clock.reference_time() * TICKS_PER_UNIT + left * self._divisor
        self._arm()

    def configure(self, periodic: bool, masked: bool) -> None:
        """What the LVT entry says."""
        if periodic == self.periodic and masked == self.masked:
            return
        self._settle()
        self.periodic = periodic
        self.masked = masked
        self._arm()

    def _settle(self) -> int:
        """Account for zeros that passed while nobody looked; gives the current tick."""
        now = self._clock.reference_time() * TICKS_PER_UNIT
        if self._running and self._zero <= now:
            if self.periodic:
                period = self.initial * self._divisor
                self._zero += period * ((now - self._zero) // period + 1)
            else:
                self._running = False
        return now

    def _arm(self) -> None:
        if self._running and not self.masked:
            self._alarm.arm(-(-self._zero // TICKS_PER_UNIT))
        else:
            self._alarm.disarm()

    def _expire(self, now: int) -> None:
        deadline = -(-self._zero // TICKS_PER_UNIT)
        if self.periodic:
            period = self.initial * self._divisor
            self._zero += period * max(1, (now * TICKS_PER_UNIT - self._zero) // period + 1)
            self._alarm.arm(max(-(-self._zero // TICKS_PER_UNIT), now + SHORTEST_PERIOD))
        else:
            self._running = False
        self._expired(deadline)

    def save(self) -> dict[str, Any]:
        """Plain data; times are the partition's reference time."""
        return {
            "initial": self.initial,
            "divide": self.divide,
            "periodic": self.periodic,
            "masked": self.masked,
            "running": self._running,
            "zero": self._zero,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self.initial = state["initial"]
        self.divide = state["divide"]
        self.periodic = state["periodic"]
        self.masked = state["masked"]
        self._divisor = _divisor(self.divide)
        self._running = state["running"]
        self._zero = state["zero"]
        self._arm()


def _divisor(register: int) -> int:
    """Bits 0, 1 and 3 are a power of two, less one, modulo 8: 0 is 2 and 7 is 1."""
    return 1 << (((register & 3) | (register & 8) >> 1) + 1 & 7)

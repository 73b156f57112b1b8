"""Synthetic timers: four to a virtual processor (TLFS, timers.md).

A timer expires by asserting an interrupt (direct mode) or by a message to a SINT. Its one message buffer
waits in the SynIC while the SINT's slot is busy; an expiration meanwhile is merged into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringminus.clock import NEVER, ReferenceClock, TimerQueue
from ringminus.hypervisor.wire import FIRST_VECTOR, TimerConfig
from ringminus.tap import Tap, TimerExpired

if TYPE_CHECKING:
    from ringminus.hypervisor.synic import SynIC

MINIMUM_DELAY = 500  # 50 µs between two expirations, so that a guest cannot bury its host in them
CATCH_UP_LIMIT = 4  # periods a late timer makes up for; more than that are skipped

ENABLED, PERIODIC, LAZY, AUTO_ENABLE = (
    TimerConfig.ENABLED,
    TimerConfig.PERIODIC,
    TimerConfig.LAZY,
    TimerConfig.AUTO_ENABLE,
)
DIRECT = TimerConfig.DIRECT
STARTS = ENABLED | AUTO_ENABLE
HAS_TARGET = DIRECT | TimerConfig.SINT_MASK << TimerConfig.SINT_SHIFT


class SyntheticTimer:
    """One timer; `config` and `count` are its registers."""

    def __init__(
        self,
        index: int,
        synic: SynIC,
        assert_interrupt: Callable[[int, str], None],
        clock: ReferenceClock,
        timers: TimerQueue,
        tap: Tap,
    ) -> None:
        self.index = index
        self.name = f"stimer{index}"
        self.config = 0
        self.count = 0
        self.expiration = 0  # when it expired last, for the message
        self._due = 0  # when it expires next
        self._synic = synic
        self._assert = assert_interrupt
        self._clock = clock
        self._tap = tap
        self._timer = timers.timer(self._expire)

    @property
    def sint(self) -> int:
        """Where its messages go."""
        return self.config >> TimerConfig.SINT_SHIFT & TimerConfig.SINT_MASK

    def read_config(self) -> int:
        return self.config

    def read_count(self) -> int:
        return self.count

    def write_config(self, value: int) -> None:
        """A message timer without a SINT is disabled at once."""
        if not value & HAS_TARGET:
            value &= ~ENABLED
        self._synic.drop_timer(self)  # a message that waits belongs to the old arrangement
        self.config = value
        self._start()

    def write_count(self, value: int) -> None:
        """Zero stops the timer; another value starts it, if it is enabled or enables itself."""
        self.count = value
        config = self.config
        if not value:
            self.config = config & ~ENABLED
            self._timer.disarm()
        elif config & STARTS and config & HAS_TARGET:
            self.config = config | ENABLED
            self._start()

    def _start(self) -> None:
        config, count = self.config, self.count
        if not config & ENABLED or not count:
            self._timer.disarm()
            return
        if config & PERIODIC:
            now = self._clock.reference_time()
            self._due = now + count
            self._arm(max(self._due, now + MINIMUM_DELAY))
            return
        self._due = count
        now = self._clock.reference_time()
        if now < count < NEVER:
            self._timer.arm(count)
            return
        self._timer.disarm()
        if count <= now:
            self._expire(now)

    def _arm(self, deadline: int) -> None:
        if deadline < NEVER:
            self._timer.arm(deadline)
        else:
            self._timer.disarm()

    def _expire(self, now: int) -> None:
        due, config = self._due, self.config
        if not config & PERIODIC:
            self.config = config & ~ENABLED
        elif self._next_period(now):
            return
        self.expiration = due
        if self._tap.timers is None:
            self._notify(config)
            return
        event = TimerExpired(now, self._synic.vp_index, self.name, due)
        self._tap.submit(event, lambda _: self._notify(config))

    def _notify(self, config: int) -> None:
        if config & DIRECT:
            vector = config >> TimerConfig.VECTOR_SHIFT & TimerConfig.VECTOR_MASK
            if vector >= FIRST_VECTOR:
                self._assert(vector, self.name)
        else:
            self._synic.timer_expired(self)

    def _next_period(self, now: int) -> bool:
        """Arm the next expiration; True when this one came so late that it is skipped."""
        period = self.count
        late = now - self._due
        if self.config & LAZY:
            # signals that were missed are not made up for, and one shortly before the next is dropped
            self._due += (late // period + 1) * period
            self._arm(max(self._due, now + MINIMUM_DELAY))
            return late > 0 and self._due - now < period // 8
        # late ones follow at half the period; what is too far behind is lost
        self._due += max(1, late // period - CATCH_UP_LIMIT + 1) * period
        self._arm(max(self._due, now + max(period // 2, MINIMUM_DELAY)))
        return False

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        return {
            "config": self.config,
            "count": self.count,
            "expiration": self.expiration,
            "due": self._due,
            "deadline": self._timer.deadline,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.config, self.count = state["config"], state["count"]
        self.expiration, self._due = state["expiration"], state["due"]
        self._timer.disarm()
        if state["deadline"] is not None:
            self._timer.arm(state["deadline"])

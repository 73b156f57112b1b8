"""Interrupt moderation: several answers, one interrupt, where a guest has more to ask.

Answers that are ready while the guest still is in its doorbell could interrupt it at once, and a guest with
one request at a time wants just that. A guest that has many to give would be interrupted after each. Which it
is can only be learnt by trying: from time to time an interrupt is held back until the next doorbell. If that
comes soon, more are held back the next time. If the guest halts instead it has no more to give, and if it is
busy with other things it would wait in vain: it is told then, and holding back stops for a while.
"""

from __future__ import annotations

MOST = 16  # doorbells that share an interrupt
PATIENCE = 3000  # how late the next doorbell may come (100 ns)
# interrupts until the next attempt: after one that went well, and after many that did not
SOON, SELDOM = 64, 4096


class Moderation:
    """Of one channel. `held` are the doorbells whose answers the guest has not been told of, `goal` how many
    there will be before it is told."""

    __slots__ = ("_pause", "_since", "_until_attempt", "goal", "held")

    def __init__(self) -> None:
        self.held = 0
        self.goal = 1
        self._since = 0
        self._pause = self._until_attempt = SOON

    @property
    def needs_time(self) -> bool:
        """Whether `tell_now` will look at the time."""
        return self.goal > 1 or self._until_attempt <= 1

    def tell_now(self, now: int) -> bool:
        """A doorbell has been answered, at `now` (100 ns): whether to interrupt, or to hold it back."""
        if self.goal == 1:
            self._until_attempt -= 1
            if self._until_attempt:
                return True
            self.goal = 2
        if self._is_late(now):
            self._lower(self.goal // 2)
            return True
        self.held += 1
        self._since = now
        if self.held < self.goal:
            return False
        self.goal = min(2 * self.goal, MOST)
        self._pause = SOON
        return True

    def guest_left(self, now: int, halted: bool) -> None:
        """The guest runs no more, and is told now of what is held."""
        if self._is_late(now):
            self._lower(self.goal // 2)
        elif halted:
            # so many it gave before it waited for the answers
            self._lower(self.held if self.held > 1 else self.goal // 2)

    def told(self) -> None:
        """The guest has been interrupted."""
        self.held = 0

    def _is_late(self, now: int) -> bool:
        return self.held > 0 and now - self._since > PATIENCE

    def _lower(self, goal: int) -> None:
        self.goal = max(goal, 1)
        if self.goal == 1:
            self._until_attempt = self._pause
            self._pause = min(2 * self._pause, SELDOM)

"""Interrupt moderation: several answers, one interrupt, where a guest has more to ask.

Answers that are ready while the guest still is in its doorbell could interrupt it at once, and a guest with
one request at a time wants just that. A guest that has many to give would be interrupted after each. Which it
is can only be learnt by trying: from time to time an interrupt is held back until the next doorbell. If that
comes soon, more are held back the next time. If the guest halts instead it has no more to give, and if it is
busy with other things it would wait in vain: it is told then, and holding back stops for a while.

Nobody waits for a network adapter's answers to what it was given to send, but for what comes from the network
then. So they are held back until that comes, if it comes soon (`Patience`).
"""

from __future__ import annotations

MOST = 16  # doorbells that share an interrupt
PATIENCE = 3000  # how late the next doorbell may come (100 ns)
# interrupts until the next attempt: after one that went well, and after many that did not
SOON, SELDOM = 64, 4096
OLD = 10_000  # how long answers may be held back that nobody waits for (100 ns)


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

    def guest_left(self, now: int, halted: bool) -> bool:
        """The guest runs no more: whether it is told now of what is held."""
        if self._is_late(now):
            self._lower(self.goal // 2)
        elif halted:
            # so many it gave before it waited for the answers
            self._lower(self.held if self.held > 1 else self.goal // 2)
        return True

    def nothing_came(self) -> None:
        """The guest halted, and what could have been told together with what is held did not come."""

    def came(self) -> None:
        """It came."""

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


class Patience(Moderation):
    """Of a channel whose answers nobody waits for. While that goes well they are held until something else is
    sent; after a time in which nothing came it is as with others for a while."""

    __slots__ = ("_impatient", "_next")

    def __init__(self) -> None:
        super().__init__()
        self._impatient = self._next = SOON  # the first messages are not of that kind

    @property
    def needs_time(self) -> bool:
        return not self._impatient or super().needs_time

    def tell_now(self, now: int) -> bool:
        if self._impatient:
            self._impatient -= 1
            return super().tell_now(now)
        if not self.held:
            self._since = now
        self.held += 1
        return self.held >= MOST

    def guest_left(self, now: int, halted: bool) -> bool:
        if self._impatient:
            return super().guest_left(now, halted)
        return not halted or now - self._since > OLD

    def nothing_came(self) -> None:
        if not self._impatient:
            self._impatient = self._next
            self._next = min(2 * self._next, SELDOM)
            self.goal = 1

    def came(self) -> None:
        if not self._impatient:
            self._next = SOON

"""What a recorded guest said and what it was answered, in the order of the recording."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ringminus.machine.replay.compare import Observed
from ringminus.tap import DeviceMessage, RingPacket

E = TypeVar("E", RingPacket, DeviceMessage)
AHEAD = 64
"""How many of the expected messages are looked at for one that is similar to what came."""


@dataclass(slots=True, eq=False)
class Step(Generic[E]):
    """A recorded message of the guest, its answer, and what the host sent of its own after it."""

    request: E
    answer: E | None = None
    after: list[E] = field(default_factory=list)
    used: bool = False


class Script(Generic[E]):
    """The steps of one channel, or of one protocol. Messages with the same `key` are the same, and those that
    are of the same `likeness` are compared with each other."""

    def __init__(self, key: Callable[[E], Hashable], likeness: Callable[[Observed], str]) -> None:
        self.steps: list[Step[E]] = []
        self.before: list[E] = []
        """What the host sent before the guest sent anything."""
        self._key: Callable[[E], Hashable] = key
        self._likeness = likeness
        self._next = 0
        self._unused: dict[Hashable, deque[Step[E]]] = {}
        self._all: dict[Hashable, Step[E]] = {}

    def add(self, step: Step[E]) -> None:
        """The next message of the guest."""
        self.steps.append(step)
        key = self._key(step.request)
        self._unused.setdefault(key, deque()).append(step)
        self._all[key] = step

    def next(self) -> Step[E] | None:
        """The one that is expected now."""
        while self._next < len(self.steps) and self.steps[self._next].used:
            self._next += 1
        return self.steps[self._next] if self._next < len(self.steps) else None

    def take(self, message: E) -> tuple[Step[E] | None, str]:
        """The step of a live message, and how it was found: `next`, `later`, `again`, or not at all."""
        expected, key = self.next(), self._key(message)
        unused = self._unused.get(key)
        while unused and unused[0].used:
            unused.popleft()
        if unused:
            step = unused.popleft()
            step.used = True
            return step, "next" if step is expected else "later"
        return self._all.get(key), "again"

    def similar(self, message: E) -> Step[E] | None:
        """An expected one with the same message, which counts as having come."""
        if self.next() is None:
            return None
        wanted = self._likeness(message)
        for step in self.steps[self._next : self._next + AHEAD]:
            if not step.used and self._likeness(step.request) == wanted:
                step.used = True
                return step
        return None

    @property
    def left(self) -> int:
        """How many did not come."""
        return sum(not step.used for step in self.steps)

"""Every notion of time, real or mock.

Two units only: TSC ticks, and the TLFS's reference time in units of 100 ns since the partition began.
They are tied together by the reference TSC page's formula: time = (tsc × scale) >> 64.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable

REFERENCE_HZ = 10_000_000
NEVER = (1 << 64) - 1


class ReferenceClock(ABC):
    """A partition's clock; it begins at zero with the partition."""

    def __init__(self, tsc_hz: int) -> None:
        self.tsc_hz = tsc_hz
        self.scale = (REFERENCE_HZ << 64) // tsc_hz

    @abstractmethod
    def tsc(self) -> int:
        """The guest's time-stamp counter, as RDTSC gives it."""

    def reference_time(self) -> int:
        """Reference time in units of 100 ns."""
        return self.tsc() * self.scale >> 64


class TscClock(ReferenceClock):
    """A clock on a real counter: `read_tsc` gives the guest's TSC."""

    def __init__(self, read_tsc: Callable[[], int], tsc_hz: int) -> None:
        super().__init__(tsc_hz)
        self._read_tsc = read_tsc
        self._held: int | None = None
        self._holds = 0

    def tsc(self) -> int:
        return self._read_tsc() if self._held is None else self._held

    def hold(self) -> None:
        """Stand still until each `hold` has its `release`; a debugger and a person may both hold it."""
        if not self._holds:
            self._held = self._read_tsc()
        self._holds += 1

    def release(self) -> int:
        """Go on, unless another holds it still; gives by how many ticks the counter has to be set back for
        that."""
        self._holds = max(self._holds - 1, 0)
        if self._holds or self._held is None:
            return 0
        held, self._held = self._held, None
        return self._read_tsc() - held


class MockClock(ReferenceClock):
    """A clock that stands still until a test advances it; one TSC tick is 100 ns / 100."""

    def __init__(self, tsc_hz: int = 1_000_000_000) -> None:
        super().__init__(tsc_hz)
        self._now = 0

    def tsc(self) -> int:
        return -(-(self._now * self.tsc_hz) // REFERENCE_HZ)

    def reference_time(self) -> int:
        return self._now

    def advance(self, reference_units: int) -> None:
        """Move on by a number of 100 ns units."""
        self._now += reference_units


class Timer:
    """One alarm of a `TimerQueue`: `expire(now)` is called at or after `deadline` (100 ns units)."""

    __slots__ = ("deadline", "expire", "queue")

    def __init__(self, queue: TimerQueue, expire: Callable[[int], None]) -> None:
        self.queue = queue
        self.expire = expire
        self.deadline: int | None = None

    def arm(self, deadline: int) -> None:
        """Expire at `deadline`, instead of any earlier arrangement."""
        if self.deadline != deadline:
            self.deadline = deadline
            self.queue.insert(deadline, self)

    def disarm(self) -> None:
        self.deadline = None


class TimerQueue:
    """All alarms of a partition. It has no thread: its owner asks for `next_deadline` and calls `fire`.

    `on_earlier` is called when the next deadline moves before the one last told by `next_deadline`.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._told = NEVER
        self.on_earlier: Callable[[], None] | None = None

    def timer(self, expire: Callable[[int], None]) -> Timer:
        """A new alarm, not armed."""
        return Timer(self, expire)

    def insert(self, deadline: int, timer: Timer) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (deadline, self._sequence, timer))
        if len(self._heap) > 256:
            self._compact()
        if deadline < self._told:
            self._told = deadline
            if self.on_earlier is not None:
                self.on_earlier()

    def _compact(self) -> None:
        live = {id(t): (d, s, t) for d, s, t in self._heap if t.deadline == d}
        self._heap = sorted(live.values(), key=lambda entry: entry[:2])

    def next_deadline(self) -> int:
        """The earliest deadline, or `NEVER`."""
        heap = self._heap
        while heap and heap[0][2].deadline != heap[0][0]:
            heapq.heappop(heap)
        self._told = heap[0][0] if heap else NEVER
        return self._told

    def fire(self, now: int) -> int:
        """Expire all that is due at `now`; gives how many. Alarms armed meanwhile wait for the next call."""
        due: list[Timer] = []
        while self.next_deadline() <= now:
            timer = heapq.heappop(self._heap)[2]
            timer.deadline = None
            due.append(timer)
        for timer in due:
            timer.expire(now)
        return len(due)

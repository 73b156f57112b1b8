"""A bound on what an endpoint may send: a token bucket, and a queue for what is over.

The bucket may be emptied below nothing by the frame that finds something in it, so that a large frame passes
a small bucket; it is paid for by what comes after."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue
from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.headers import UNKNOWN, parse
from ringminus.switch.wire import EthernetHeader, Ipv4Header, TcpHeader

BURST_TIME = REFERENCE_HZ // 100
"""How much may be sent at once after a pause: what the limit allows in 10 ms …"""
BURST_BYTES = 16 << 10
"""… but at least so much."""
WAKE_TIME = REFERENCE_HZ // 1000
"""Frames wait for so much to be allowed again, at least, so that there are not more alarms than that."""
QUEUE_FRAMES = 1024
QUEUE_BYTES = 4 << 20
"""Frames, and bytes, that may wait."""

_LEAST_HEADERS = EthernetHeader.SIZE + Ipv4Header.SIZE + TcpHeader.SIZE


def charge(frame: Frame) -> int:
    """Bytes of a frame, or of all the frames that a large one stands for."""
    size, segment = len(frame.data), frame.segment_size
    if segment <= 0:
        return size
    headers = parse(frame.data)
    begin = headers.payload if headers is not None and headers.payload != UNKNOWN else _LEAST_HEADERS
    segments = max(1, -(-(size - begin) // segment))
    return size + (segments - 1) * begin


class TokenBucket:
    """Fills by `rate` bits per second up to its burst, full at first. Time is given in units of 100 ns, and
    the level counted in bits × `REFERENCE_HZ`, so that nothing is rounded."""

    def __init__(self, rate: int, now: int) -> None:
        self._now = now
        self.rate = rate
        self._level = self._most = self._burst()

    def _burst(self) -> int:
        return max(self.rate * BURST_TIME, BURST_BYTES * 8 * REFERENCE_HZ)

    def set_rate(self, rate: int, now: int) -> None:
        """Another rate from now on."""
        self.fill(now)
        self.rate = rate
        self._most = self._burst()
        self._level = min(self._level, self._most)

    def fill(self, now: int) -> None:
        """Add what time has brought."""
        self._level = min(self._most, self._level + (now - self._now) * self.rate)
        self._now = now

    @property
    def open(self) -> bool:
        """Whether a frame may pass."""
        return self._level > 0

    def take(self, size: int) -> None:
        """So many bytes have passed."""
        self._level -= size * 8 * REFERENCE_HZ

    def wait(self) -> int:
        """How long until it is open."""
        return max(WAKE_TIME, -(self._level - 1) // self.rate + 1)


class Shaper:
    """The limit of a port. `admit` is given the frames that may pass, `drop` counts those that may not. After
    frames that had to wait have gone, `released` is told whether those were all, so that an endpoint whose
    `send` said False may go on."""

    def __init__(
        self,
        rate: int,
        clock: ReferenceClock,
        timers: TimerQueue,
        admit: Callable[[Frame], None],
        drop: Callable[[Drop, int], None],
        released: Callable[[bool], None],
    ) -> None:
        self._clock = clock
        self._timer = timers.timer(self._expired)
        self._bucket = TokenBucket(rate, clock.reference_time())
        self._queue: deque[Frame] = deque()
        self._bytes = 0
        self._admit = admit
        self._drop = drop
        self._released = released

    def __len__(self) -> int:
        """Frames that wait."""
        return len(self._queue)

    def send(self, frame: Frame) -> bool:
        """As `Port.send`."""
        if not self._queue:
            bucket = self._bucket
            bucket.fill(self._clock.reference_time())
            if bucket.open:
                bucket.take(charge(frame))
                self._admit(frame)
                return True
        if len(self._queue) >= QUEUE_FRAMES or self._bytes + len(frame.data) > QUEUE_BYTES:
            self._drop(Drop.LIMIT, 1)
            return False
        self._queue.append(frame)
        self._bytes += len(frame.data)
        if self._timer.deadline is None:
            self._arm()
        return False

    def set_rate(self, rate: int) -> None:
        """Another limit; what waits is let go by it."""
        self._bucket.set_rate(rate, self._clock.reference_time())
        if self._queue:
            self._arm()

    def release(self) -> None:
        """No limit any more: what waits goes now."""
        self._timer.disarm()
        if self._queue:
            while self._queue:
                self._admit(self._next())
            self._released(True)

    def close(self, reason: Drop) -> None:
        """What waits does not go any more."""
        self._timer.disarm()
        if self._queue:
            self._drop(reason, len(self._queue))
        self._queue.clear()
        self._bytes = 0

    def _next(self) -> Frame:
        frame = self._queue.popleft()
        self._bytes -= len(frame.data)
        return frame

    def _arm(self) -> None:
        self._timer.arm(self._clock.reference_time() + self._bucket.wait())

    def _expired(self, now: int) -> None:
        bucket = self._bucket
        bucket.fill(self._clock.reference_time())
        while self._queue and bucket.open:
            frame = self._next()
            bucket.take(charge(frame))
            self._admit(frame)
        if self._queue:
            self._arm()
        self._released(not self._queue)

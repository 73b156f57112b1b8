"""What an adapter tells of its frames and RNDIS messages while somebody listens, and lets be changed.

What changers may do is said at `events.NetworkFrame` and `events.DeviceMessage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ringminus.clock import ReferenceClock
from ringminus.devices.network import rndis_wire
from ringminus.devices.network.rndis_wire import HEADER_SIZE, MessageType, Packet
from ringminus.switch.frame import Checksum, Frame
from ringminus.tap import DeviceMessage, Event, NetworkFrame, Tap

BY_ADDON = "addon"
"""Why frames are dropped that somebody wanted dropped who changes events."""
RNDIS = "rndis"
_PACKET = int(MessageType.PACKET)
_FRAME_AT = Packet.offset_of("data_offset")


def messages(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The RNDIS messages one after another, each with how many of its bytes come before a frame's; what
    cannot be taken apart comes as one at the end."""
    position, end = 0, len(data)
    while position < end:
        length = end - position
        if length >= HEADER_SIZE:
            _, claimed = rndis_wire.HEADER.unpack_from(data, position)
            if HEADER_SIZE <= claimed < length:
                length = claimed
        one = data[position : position + length]
        yield one, _before_frame(one)
        position += length


def _before_frame(message: bytes) -> int:
    """All that is not the frame that a packet message ends with."""
    size = len(message)
    if size < HEADER_SIZE + Packet.SIZE:
        return size
    kind, _, offset, length, *_ = rndis_wire.HOT_PACKET.unpack_from(message)
    begin: int = HEADER_SIZE + offset
    if kind != _PACKET or begin < HEADER_SIZE + Packet.SIZE or begin > size or begin + length < size - 8:
        return size  # the frame is not at the end, but for padding
    return begin


class Watched:
    """One adapter's; `title` is what it is called."""

    def __init__(self, title: Callable[[], str], tap: Tap, clock: ReferenceClock) -> None:
        self.tap = tap
        self._title = title
        self._clock = clock

    def frame(
        self, frame: Frame, act: Callable[[Frame], None], dropped: Callable[[str], None], *, to_guest: bool
    ) -> None:
        """A frame comes; `act(frame)` passes on what becomes of it, `dropped(reason)` counts it if nothing
        does."""
        event = NetworkFrame(
            *(self._clock.reference_time(), 0, self._title(), to_guest, frame.data, frame.tci),
            *(frame.checksum.name, frame.segment_size),
        )
        if event.POINT not in self.tap.changers:
            self.tap.tell(event)
            with self.within(event):
                act(frame)
            return
        verdict = self.tap.submit(event, lambda one: act(_rebuilt(frame, one)))
        if verdict is not None and verdict.dropped:
            dropped(BY_ADDON)

    @contextmanager
    def within(self, event: Event | None) -> Iterator[None]:
        """What happens meanwhile is caused by that event, if there is one."""
        if event is None:
            yield
            return
        scope = self.tap.within(event)
        try:
            yield
        finally:
            self.tap.leave(scope)

    @contextmanager
    def because_of(self, cause: int) -> Iterator[None]:
        """What happens meanwhile has waited since an event with that number; 0: none that was watched."""
        before, self.tap.cause = self.tap.cause, cause or self.tap.cause
        try:
            yield
        finally:
            self.tap.cause = before

    def _message(self, message: bytes, shown: int, *, to_guest: bool) -> tuple[DeviceMessage, bytes | None]:
        """An RNDIS message comes of which the first `shown` bytes are told; gives what becomes of it, None
        if nothing does."""
        payload = message[:shown]
        now, size = self._clock.reference_time(), len(message)
        event = DeviceMessage(now, 0, self._title(), RNDIS, to_guest, payload, size)
        if event.POINT not in self.tap.changers:
            self.tap.tell(event)
            return event, message
        dropped = self.tap.decide(event, event.POINT).dropped
        event.size = len(event.payload) + size - shown
        self.tap.tell(event)
        return event, None if dropped else event.payload + message[shown:]

    def from_guest(self, data: bytes) -> Sequence[tuple[DeviceMessage | None, bytes]]:
        """The messages that a packet of the guest carries, each with its event; all at once without while
        nobody listens."""
        if self.tap.device is None:
            return ((None, data),)
        passed = [self._message(one, shown, to_guest=False) for one, shown in messages(data)]
        return [(event, one) for event, one in passed if one is not None]

    def to_guest(self, messages: Sequence[bytes], room: int) -> tuple[DeviceMessage | None, Sequence[bytes]]:
        """The messages of one packet for the guest, each of which may have `room` bytes, and the event of the
        first one."""
        passed = [self._message(one, _before_frame(one), to_guest=True) for one in messages]
        found = [(event, one[:room]) for event, one in passed if one is not None]
        return found[0][0] if found else None, [one for _, one in found]


def _rebuilt(frame: Frame, event: NetworkFrame) -> Frame:
    """The frame as it is after it was changed."""
    checksum = Checksum[event.checksum]
    if event.data != frame.data and checksum is frame.checksum is Checksum.VALID:
        checksum = Checksum.UNKNOWN
    return Frame(event.data, frame.tci, checksum, event.segment_size)

"""The sending half of an adapter: a guest's packets, on their way to the port.

What the guest sends is read when the port takes it. While the port wants no more, the guest's packets wait
here, not read and not completed: they are still the guest's memory, so what waits is a few numbers each, and
bounded by what a channel may owe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ringminus.devices.network import wire
from ringminus.devices.network.buffers import SendBuffer
from ringminus.devices.network.control import RndisControl, State
from ringminus.devices.network.counters import AdapterCounters
from ringminus.devices.network.transmit import frames
from ringminus.devices.network.watched import Watched
from ringminus.devices.network.wire import MessageType, Status
from ringminus.errors import GuestError
from ringminus.memory import KIB, GuestMemory
from ringminus.switch.frame import Frame
from ringminus.switch.port import Port
from ringminus.vmbus.device import Channel
from ringminus.vmbus.gpa import GpaRange

LARGEST_PACKET = 256 * KIB
"""Bytes of one packet of the guest: far more than the messages that it may put there."""
UNPLUGGED, LINK_DOWN, NOT_READY = "unplugged", "link down", "not ready"
_INITIALIZED = State.INITIALIZED


class Sending(NamedTuple):
    """A packet of the guest that waits: where its bytes are, on which channel it is completed, and the number
    of its event if it was watched."""

    channel: int
    transaction_id: int
    section: int
    size: int
    ranges: Sequence[GpaRange]
    cause: int = 0


class Sender:
    """`buffer` is the guest's while it has one, `channels` are those that are open, by index. The adapter
    gives `watched` when it has one."""

    def __init__(
        self,
        control: RndisControl,
        counters: AdapterCounters,
        channels: Mapping[int, Channel],
    ) -> None:
        self.port: Port | None = None
        self.link = False
        self.watched: Watched | None = None
        self.buffer: SendBuffer | None = None
        self._control = control
        self._counters = counters
        self._channels = channels
        self._largest = 0
        self._done = b""
        self._unflushed = False
        self._held = False  # whether the port wants no more for now
        self._waiting: deque[Sending] = deque()
        self._withheld: list[tuple[int, int]] = []

    @property
    def waiting(self) -> int:
        """Packets that are not completed because the port wants no more."""
        return len(self._waiting) + len(self._withheld)

    def begin(self, buffer: SendBuffer | None, version: int, largest_frame: int) -> None:
        """The guest gave a buffer, or took it back. `largest_frame` counts the bytes of a frame that is not
        large."""
        self.buffer = buffer
        self._largest = largest_frame
        self._done = wire.message(
            MessageType.SEND_RNDIS_PKT_COMPLETE,
            wire.SendRndisPacketComplete(status=Status.SUCCESS),
            version,
        )

    def plug(self, port: Port | None) -> None:
        """Frames go to this port from now on; None: to none."""
        self.port = port
        self._held = self._unflushed = False

    # ------------------------------------------------------------ packets

    def send(
        self, channel: Channel, transaction_id: int, section: int, size: int, ranges: Sequence[GpaRange]
    ) -> None:
        """Take a packet with frames, which is completed now or later; raises `GuestError`."""
        if self._held and self.link and self._control.state is _INITIALIZED:
            cause = self.watched.tap.cause if self.watched is not None else 0
            self._waiting.append(Sending(channel.index, transaction_id, section, size, ranges, cause))
            return
        if self._send_frames(self.read(channel.memory, section, size, ranges)):
            self._withheld.append((channel.index, transaction_id))
        else:
            channel.complete(transaction_id, self._done)

    def complete(self, channel: Channel, transaction_id: int) -> None:
        """A packet has done its service."""
        channel.complete(transaction_id, self._done)

    def read(self, memory: GuestMemory, section: int, size: int, ranges: Sequence[GpaRange]) -> bytes:
        """A copy of what a packet carries: guest memory may change at any time, and is read once. Raises
        `GuestError`."""
        pieces: list[memoryview] = []
        if section != wire.NO_SECTION:
            if self.buffer is None:
                raise GuestError(f"section {section} without a send buffer")
            if not ranges:
                return self.buffer.read(section, size)
            pieces = self.buffer.views(section, size)
        elif size:
            raise GuestError(f"{size} bytes of no section")
        for one in ranges:
            size += one.byte_count
            if size > LARGEST_PACKET:
                raise GuestError(f"a packet of more than {LARGEST_PACKET} bytes")
            pieces += one.views(memory)
        return b"".join(pieces)

    def _send_frames(self, data: bytes) -> bool:
        """Tells whether the packet is to be completed later."""
        port, counters, watched = self.port, self._counters, self.watched
        if watched is not None and (watched.tap.device is not None or watched.tap.frames is not None):
            return self._send_watched(watched, data)
        found = frames(data, self._largest, counters)
        if not self.link or port is None or self._control.state is not _INITIALIZED:
            if found:
                counters.drop_sent(self._why_not(), len(found))
            return False
        for frame in found:
            counters.sent_frames += 1
            counters.sent_bytes += len(frame.data)
            if not port.send(frame):
                self._held = True
        self._unflushed = True
        return self._held

    def _send_watched(self, watched: Watched, data: bytes) -> bool:
        """The same, message by message: each is the cause of its frames."""
        messages = [
            (event, frames(one, self._largest, self._counters)) for event, one in watched.from_guest(data)
        ]
        if not self._may_send():
            count = sum(len(found) for _, found in messages)
            if count:
                self._counters.drop_sent(self._why_not(), count)
            return False
        for event, found in messages:
            with watched.within(event):
                for frame in found:
                    if watched.tap.frames is None:
                        self._send_one(frame)
                    else:
                        watched.frame(frame, self._send_one, self._counters.drop_sent, to_guest=False)
        return self._held

    def _may_send(self) -> bool:
        return self.link and self.port is not None and self._control.state is _INITIALIZED

    def _send_one(self, frame: Frame) -> None:
        """A frame that was watched, and perhaps held back until now."""
        if not self._may_send() or self.port is None:
            return self._counters.drop_sent(self._why_not())
        self._counters.sent_frames += 1
        self._counters.sent_bytes += len(frame.data)
        if not self.port.send(frame):
            self._held = True
        self._unflushed = True
        return None

    def _why_not(self) -> str:
        if self._control.state is not _INITIALIZED:
            return NOT_READY
        return UNPLUGGED if self.port is None else LINK_DOWN

    def flush(self) -> None:
        """No more comes for now."""
        if self._unflushed and self.port is not None:
            self._unflushed = False
            self.port.flush()

    # ------------------------------------------------------------ what waits

    def resume(self) -> None:
        """The port takes frames again."""
        self._held = False
        withheld, self._withheld = self._withheld, []
        for one in withheld:
            self._complete(*one)
        while self._waiting and not self._held:
            sending = self._waiting.popleft()
            if sending.cause and self.watched is not None:
                with self.watched.because_of(sending.cause):
                    self._send_waiting(sending)
            else:
                self._send_waiting(sending)
        self.flush()

    def _send_waiting(self, sending: Sending) -> None:
        channel = self._channels.get(sending.channel)
        if channel is not None:
            try:
                self.send(channel, sending.transaction_id, sending.section, sending.size, sending.ranges)
            except GuestError as error:
                channel.fail(str(error))

    def abandon(self, reason: str, index: int | None = None) -> None:
        """What waits, on one channel or on all, is dropped and completed."""
        withheld, self._withheld = self._withheld, []
        waiting, self._waiting = self._waiting, deque()
        for one in withheld:
            if index is None or one[0] == index:
                self._complete(*one)
            else:
                self._withheld.append(one)
        for sending in waiting:
            if index is None or sending.channel == index:
                self._counters.drop_sent(reason, self._count(sending))
                self._complete(sending.channel, sending.transaction_id)
            else:
                self._waiting.append(sending)

    def _count(self, sending: Sending) -> int:
        """How many frames a packet has; one that breaks the protocol counts once."""
        channel = self._channels.get(sending.channel)
        if channel is None:
            return 1
        try:
            data = self.read(channel.memory, sending.section, sending.size, sending.ranges)
            return len(frames(data, self._largest, self._counters))
        except GuestError:
            return 1

    def _complete(self, index: int, transaction_id: int) -> None:
        channel = self._channels.get(index)
        if channel is not None:
            channel.complete(transaction_id, self._done)

    # ------------------------------------------------------------ state

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        return {
            "withheld": [list(one) for one in self._withheld],
            "waiting": [
                [*sending[:4], [[one.byte_count, one.byte_offset, list(one.pfns)] for one in sending.ranges]]
                for sending in self._waiting
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave; what waits goes on with `resume`."""
        self._withheld = [(index, number) for index, number in state["withheld"]]
        self._waiting = deque(
            Sending(
                channel,
                number,
                section,
                size,
                tuple(GpaRange(count, offset, tuple(pfns)) for count, offset, pfns in ranges),
            )
            for channel, number, section, size, ranges in state["waiting"]
        )
        self._held = bool(self._withheld or self._waiting)

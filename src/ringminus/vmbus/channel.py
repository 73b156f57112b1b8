"""An open channel: two rings, the doorbell between them, and the device that is served.

The guest's doorbell drains the incoming ring inside the guest's own hypercall, packet by packet, into the
device; what the device answers meanwhile is shown to the guest at the end, all together, with at most one
interrupt. Answers that come later are shown at once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ringminus.errors import GuestError
from ringminus.hypervisor.status import HvStatus
from ringminus.memory import GuestMemory
from ringminus.tap import Tap
from ringminus.vmbus.counters import Counters
from ringminus.vmbus.device import Device, Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.moderation import Moderation, Patience
from ringminus.vmbus.observed import Done, Observed, Waiting
from ringminus.vmbus.ring import IncomingRing, OutgoingRing, RingEmpty, RingFull, packet_size
from ringminus.vmbus.ring_wire import RANGE_HEADER, TRANSFER_HEADER, page_numbers
from ringminus.vmbus.wire import PacketType

log = logging.getLogger(__name__)

COMPLETION, INBAND = int(PacketType.COMPLETION), int(PacketType.DATA_INBAND)
XFER_PAGES = int(PacketType.DATA_USING_XFER_PAGES)
GPA_DIRECT = int(PacketType.DATA_USING_GPA_DIRECT)
# requests that a guest may have unanswered on one channel before we stop taking more
OWED_LIMIT = 4096


class OpenChannel:
    """See `device.Channel`. `interrupt()` signals the guest, `failed(reason)` tells the bus of a failure."""

    def __init__(
        self,
        device: Device,
        index: int,
        relid: int,
        version: int,
        user_data: bytes,
        memory: GuestMemory,
        rings: tuple[IncomingRing, OutgoingRing],
        tap: Tap,
        now: Callable[[], int],
        interrupt: Callable[[], None],
        failed: Callable[[str], None],
        gpadl: Callable[[int], Sequence[GpaRange]],
        holding: set[OpenChannel],
    ) -> None:
        self.device = device
        self.index = index
        self.relid = relid
        self.version = version
        self.user_data = user_data
        self.memory = memory
        self.gpadl = gpadl
        self.counters = Counters()
        self.timed = False
        self._incoming, self._outgoing = rings
        self._tap = tap
        self._now = now
        self._interrupt = interrupt
        self._failed = failed
        self._observed = Observed(self, tap, now)
        self._backlog: deque[Waiting] = deque()
        self._owed = 0
        self._held = False  # whether that many answers are owed that no more packets are taken
        self._inside = False
        self._ringing = False
        self._untold = False
        self._moderation = (Moderation() if device.awaited else Patience()) if device.moderated else None
        self._holding = holding
        self._alive = True
        # give room back to the guest within a long batch, too
        self._publish_at = self._incoming.size // 4
        # a guest may give the same pages again, as we left them when its last channel failed
        self._incoming.mask(False)
        self._outgoing.wait_for(0)

    @property
    def rings(self) -> tuple[IncomingRing, OutgoingRing]:
        """From the guest and to it, for who looks at them."""
        return self._incoming, self._outgoing

    # ------------------------------------------------------------ from the guest

    def doorbell(self, flag: int = 0) -> HvStatus:
        """The guest signalled: there are packets for us, or room for ours."""
        self.counters.signals_in += 1
        self._ringing = True
        try:
            self.process()
        finally:
            self._ringing = False
        if self._untold and self._alive:
            self._tell_or_hold()
        return HvStatus.SUCCESS

    def process(self) -> None:
        """Send what waits, then take what is there."""
        if self._inside or not self._alive:
            return
        started = time.perf_counter_ns() if self.timed else 0
        self._inside = True
        try:
            if self._backlog:
                self._send_backlog()
            self._drain()
            # answers at the end of the batch have made room for more, and no signal will come for it
            while self._held and self._owed < OWED_LIMIT and self._alive and not self._backlog:
                self._drain()
        except GuestError as error:
            self.fail(str(error))
        finally:
            self._inside = False
            self._publish()
            if started:
                self.counters.ns += time.perf_counter_ns() - started

    def _drain(self) -> None:
        incoming, device, counters = self._incoming, self.device, self.counters
        read = incoming.read if self._tap.packets is None else incoming.read_marked
        incoming.mask(True)
        taken = False
        while self._alive and not self._backlog and self._owed < OWED_LIMIT:
            try:
                packet = read()
            except RingEmpty:
                incoming.mask(False)
                if not incoming.has_packet():
                    break
                incoming.mask(True)
                continue
            taken = True
            counters.packets_in += 1
            counters.bytes_in += len(packet.payload)
            if packet.wants_completion and packet.kind != COMPLETION:
                self._owed += 1
            if self._tap.packets is not None:
                self._observed.incoming(packet)
            elif packet.kind == COMPLETION:
                device.completion(self, packet.transaction_id, packet.payload)
            else:
                device.packet(self, packet)
            if incoming.unpublished() > self._publish_at and incoming.publish():
                self._signal()
        self._held = self._owed >= OWED_LIMIT
        if taken and self._alive:
            device.drained(self)

    def hand_over(self, packet: Packet) -> None:
        """Give the device a packet, or the completion of one of its own."""
        if packet.kind == COMPLETION:
            self.device.completion(self, packet.transaction_id, packet.payload)
        else:
            self.device.packet(self, packet)

    def late(self, act: Callable[[], None]) -> None:
        """Let the device do something for a packet that does not come from the ring now."""
        if self._inside:
            return act()
        if not self._alive:
            return None
        self._inside = True
        try:
            act()
            self.device.drained(self)
        except GuestError as error:
            self.fail(str(error))
        finally:
            self._inside = False
            self._publish()
        if self._held:
            self.process()
        return None

    def owe(self, change: int) -> None:
        """So many answers more (or less) are owed to the guest than its packets say."""
        self._owed += change
        if change < 0 and self._held and self._owed < OWED_LIMIT and not self._inside:
            self.process()

    # ------------------------------------------------------------ to the guest

    def send(self, payload: bytes, transaction_id: int = 0, *, wants_completion: bool = False) -> None:
        """Send an in-band packet (type 6)."""
        self._send(INBAND, transaction_id, payload, wants_completion)

    def send_transfer(
        self,
        pageset: int,
        ranges: Sequence[tuple[int, int]],
        payload: bytes,
        transaction_id: int,
        *,
        wants_completion: bool = True,
    ) -> None:
        """Send a transfer-page packet (type 7); `ranges` are (byte_count, byte_offset)."""
        header = TRANSFER_HEADER.pack(pageset, 0, 0, len(ranges))
        header += b"".join(RANGE_HEADER.pack(*one) for one in ranges)
        self._send(XFER_PAGES, transaction_id, payload, wants_completion, header)

    def send_gpa_direct(
        self,
        ranges: Sequence[GpaRange],
        payload: bytes,
        transaction_id: int,
        *,
        wants_completion: bool = True,
    ) -> None:
        """Send a GPA-direct packet (type 9)."""
        header = RANGE_HEADER.pack(0, len(ranges))  # a reserved word, then the count
        for one in ranges:
            header += RANGE_HEADER.pack(one.byte_count, one.byte_offset)
            header += page_numbers(len(one.pfns)).pack(*one.pfns)
        self._send(GPA_DIRECT, transaction_id, payload, wants_completion, header)

    def complete(self, transaction_id: int, payload: bytes = b"") -> None:
        """Send the completion (type 11) of the guest's packet with that id."""
        self._send(COMPLETION, transaction_id, payload, False)
        self._owed -= 1
        if self._owed == OWED_LIMIT - 1 and not self._inside:
            self.process()

    def _send(
        self, kind: int, transaction_id: int, payload: bytes, wants_completion: bool, header: bytes = b""
    ) -> None:
        """What is sent on a channel that is gone is dropped: the guest does not look any more."""
        if not self._alive:
            return
        waiting = Waiting(kind, transaction_id, payload, wants_completion, header)
        if self._tap.packets is not None:
            self._observed.send(waiting)
        else:
            self.put(waiting)

    def put(self, waiting: Waiting) -> None:
        """Write a packet, now or when there is room."""
        try:
            if self._backlog or not self._write(waiting):
                self._backlog.append(waiting)
                if len(self._backlog) == 1:
                    self._send_backlog()
        except GuestError as error:
            self.fail(str(error))
            return
        if not self._inside:
            self._publish()

    def _write(self, waiting: Waiting) -> bool:
        kind, transaction_id, payload, wants_completion, header = waiting
        try:
            self._outgoing.write(kind, transaction_id, payload, wants_completion, header)
        except RingFull:
            return False
        counters = self.counters
        counters.packets_out += 1
        counters.bytes_out += len(payload)
        return True

    def _send_backlog(self) -> None:
        """Write what waits, in order; where the room ends, ask to be signalled when there is more."""
        backlog, outgoing = self._backlog, self._outgoing
        while backlog:
            if self._write(backlog[0]):
                backlog.popleft()
                continue
            size = packet_size(len(backlog[0].header), len(backlog[0].payload))
            outgoing.wait_for(size)
            if outgoing.room() <= size:
                return
        outgoing.wait_for(0)

    def _publish(self) -> None:
        """Show the guest what we wrote and the room of what we read."""
        if self._alive:
            room = self._incoming.publish()
            if self._outgoing.publish() or room:
                self._signal()
            elif not self._untold:
                self._observed.first = None  # the guest finds what it is shown without being told

    def _signal(self) -> None:
        if self._ringing:
            self._untold = True  # until the doorbell has been answered
            return
        if self._untold and self._moderation is not None:
            self._moderation.came()
        self._interrupt_guest()

    def _tell_or_hold(self) -> None:
        moderation = self._moderation
        if moderation is None or moderation.tell_now(self._now() if moderation.needs_time else 0):
            self._interrupt_guest()
        else:
            self._holding.add(self)

    def _interrupt_guest(self) -> None:
        """Now."""
        self._untold = False
        if self._moderation is not None:
            self._moderation.told()
        self._holding.discard(self)
        self.counters.signals_out += 1
        told = self._observed.first
        if told is None:
            self._interrupt()
            return
        scope = self._tap.within(told)
        self._observed.first = None
        self._interrupt()
        self._tap.leave(scope)

    def guest_left(self, halted: bool) -> None:
        """The guest is not running any more: what was held back goes out, if it does not wait for more."""
        if self._moderation is None or self._moderation.guest_left(self._now(), halted):
            self._let_go()

    def nothing_came(self) -> None:
        """The guest idles, and no more comes: what is held back goes out."""
        if self._moderation is not None:
            self._moderation.nothing_came()
        self._let_go()

    def _let_go(self) -> None:
        if self._untold and self._alive:
            self._interrupt_guest()

    def retarget(self, interrupt: Callable[[], None]) -> None:
        """Signal the guest this way from now on."""
        self._interrupt = interrupt

    # ------------------------------------------------------------ the end

    @property
    def alive(self) -> bool:
        """Whether it is served: it has neither failed nor been closed."""
        return self._alive

    def fail(self, reason: str) -> None:
        """Serve the channel no more: the guest broke a protocol."""
        if self._alive:
            self.close()
            self._failed(reason)

    def close(self) -> None:
        """Let go of the guest's memory; the device hears of it once."""
        if self._alive:
            self._alive = False
            self._holding.discard(self)
            self._backlog.clear()
            self.device.closed(self)

    # ------------------------------------------------------------ injection and state

    def inject(
        self,
        payload: bytes,
        transaction_id: int | None = None,
        *,
        to_guest: bool,
        completion: bool = False,
        done: Done | None = None,
    ) -> int:
        """See `Observed.inject`."""
        return self._observed.inject(
            payload, transaction_id, to_guest=to_guest, completion=completion, done=done
        )

    def save(self) -> dict[str, Any]:
        """What is not in guest memory, as plain data."""
        return {
            "backlog": [list(waiting) for waiting in self._backlog],
            "owed": self._owed,
            "alive": self._alive,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self._backlog = deque(Waiting(*waiting) for waiting in state["backlog"])
        self._owed, self._alive = state["owed"], state["alive"]
        if self._alive and self._backlog:
            self._send_backlog()  # asks for room anew

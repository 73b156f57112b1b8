"""A channel's packets while somebody listens to them, changes them, or has some of his own.

The channel comes here when `tap.packets` is not None. Who only listens is told and nothing else happens; what
changers may do is said at `events.RingPacket`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from ringminus.changes import INJECTED, ChangeError
from ringminus.memory import GuestMemory
from ringminus.tap import RingPacket, Tap
from ringminus.vmbus.contents import Contents
from ringminus.vmbus.device import Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import PacketType

if TYPE_CHECKING:
    from ringminus.vmbus.channel import OpenChannel

COMPLETION = int(PacketType.COMPLETION)
FIRST_OWN_ID = 0xFFFF_ADD0_0000_0000
"""Of the packets that are injected without an id: far from what guests and devices use."""
MOST_REMEMBERED = 1 << 13
"""Packets to the guest that wait for their completion: a watcher may leave before it comes."""
Done = Callable[[bytes], None]


class Waiting(NamedTuple):
    """A packet for the guest's ring; it may have to wait for room."""

    kind: int
    transaction_id: int
    payload: bytes
    wants_completion: bool
    header: bytes


class RangeData:
    """The guest memory of a packet's ranges, one after the other; see `changes.GuestData`."""

    def __init__(self, memory: GuestMemory, ranges: Sequence[GpaRange]) -> None:
        self.changed = False
        self._memory = memory
        self._ranges = ranges

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(one.byte_count for one in self._ranges)

    def _extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ChangeError(f"{length} bytes at {offset} of a packet's {self.size} bytes of memory")
        found: list[tuple[int, int]] = []
        for one in self._ranges:
            within = min(max(one.byte_count - offset, 0), length)
            if within:
                found += one.extents(offset, within)
            offset, length = max(offset - one.byte_count, 0), length - within
        return found

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """A copy of a part, or of all from `offset` on."""
        length = max(self.size - offset, 0) if length is None else length
        return b"".join(self._memory.read(gpa, size) for gpa, size in self._extents(offset, length))

    def write(self, data: bytes, offset: int = 0) -> None:
        """Change a part."""
        position, self.changed = 0, True
        for gpa, size in self._extents(offset, len(data)):
            self._memory.write(gpa, data[position : position + size])
            position += size


class Observed:
    """One channel's. `first` is the packet that an interrupt would tell of: the first that the guest has not
    been shown yet, or was shown without being told."""

    def __init__(self, channel: OpenChannel, tap: Tap, now: Callable[[], int]) -> None:
        self.first: RingPacket | None = None
        self._channel = channel
        self._tap = tap
        self._now = now
        # by a request's id: its event's number, and the memory that it names
        self._causes: dict[int, int] = {}
        self._sent: dict[int, int] = {}  # the same of packets to the guest
        self._memory: dict[int, RangeData] = {}
        self._contents = Contents(channel.memory)
        self._late: set[int] = set()  # the numbers of completions that are held back
        self._own: dict[int, Done | None] = {}  # injected requests to the device
        self._foreign: dict[int, Done | None] = {}  # injected packets to the guest that it completes
        self._ids = count(FIRST_OWN_ID)
        self._watches = False

    def _event(
        self,
        to_guest: bool,
        kind: int,
        transaction_id: int,
        payload: bytes,
        wants: bool,
        ranges: tuple[int, ...],
    ) -> RingPacket:
        channel = self._channel
        device = channel.device
        return RingPacket(
            *(self._now(), 0, channel.relid, device.title, to_guest, kind, transaction_id, payload, ranges),
            *(device.interface, channel.index, wants),
        )

    # ------------------------------------------------------------ from the guest

    def incoming(self, packet: Packet) -> None:
        """A packet has been taken from the ring."""
        ranges = tuple(one.byte_count for one in packet.ranges)
        wants = packet.wants_completion and packet.kind != COMPLETION
        payload = bytes(packet.payload)
        event = self._event(False, packet.kind, packet.transaction_id, payload, wants, ranges)
        event.header = self._channel.rings[0].header(packet)
        if ranges and self._tap.keeps_data:
            self._contents.ask(event, packet, self._channel.device.brings_data(packet))
        if packet.kind == COMPLETION:
            event.cause = self._sent.pop(packet.transaction_id, 0)
        if packet.kind == COMPLETION and self._foreign and packet.transaction_id in self._foreign:
            return self._completed(event)
        if event.POINT not in self._tap.changers:
            self._tap.tell(event)
            scope = self._tap.within(event)
            try:
                self._hand_over(packet, event.sequence)
            finally:
                self._tap.leave(scope)
            return None
        return self._change_incoming(event, packet, wants)

    def _hand_over(self, packet: Packet, number: int) -> None:
        if packet.wants_completion and packet.kind != COMPLETION:
            self._causes[packet.transaction_id] = number
        self._channel.hand_over(packet)

    def _change_incoming(self, event: RingPacket, packet: Packet, wants: bool) -> None:
        event.names(RangeData(self._channel.memory, packet.ranges) if packet.ranges else None)
        verdict = self._tap.submit(event, partial(self._pass_incoming, packet))
        if verdict is None or not wants:
            return
        if verdict.answer is not None:
            self.send(Waiting(COMPLETION, event.transaction_id, verdict.answer, False, b""), INJECTED)
        if verdict.answer is not None or verdict.dropped:
            self._channel.owe(-1)
        elif verdict.copies:
            self._channel.owe(verdict.copies)

    def _pass_incoming(self, packet: Packet, event: RingPacket) -> None:
        """What is left of a packet goes to the device, now or much later."""
        payload = memoryview(event.payload)
        made = Packet(
            *(packet.kind, event.transaction_id, packet.wants_completion, payload),
            *(packet.ranges, packet.pageset, packet.transfer),
        )
        if isinstance(event.memory, RangeData) and event.wants_completion:
            self._memory[event.transaction_id] = event.memory
        self._channel.late(partial(self._hand_over, made, event.sequence))

    def _completed(self, event: RingPacket) -> None:
        """The guest completed a packet that was injected; the device knows nothing of it."""
        event.changed = INJECTED
        self._tap.tell(event)
        done = self._foreign.pop(event.transaction_id)
        if done is not None:
            done(event.payload)

    # ------------------------------------------------------------ to the guest

    def send(self, waiting: Waiting, changed: str = "") -> None:
        """A packet is to be put into the ring; `changed` says that it comes from who changes events."""
        kind, transaction_id, payload, wants, header = waiting
        event = self._event(True, kind, transaction_id, payload, wants, ())
        event.header = header
        if kind == COMPLETION:
            event.cause = self._causes.pop(transaction_id, 0)
            if self._contents.asked:
                self._contents.answer(event)
            event.names(self._memory.pop(transaction_id, None))
            if not changed and self._own and transaction_id in self._own:
                return self._answered(event)
        if changed or event.POINT not in self._tap.changers:
            event.changed = changed
            self._tap.tell(event)
            self._went(event)
            self._channel.put(waiting)
            return None
        return self._change_outgoing(event, waiting)

    def _change_outgoing(self, event: RingPacket, waiting: Waiting) -> None:
        verdict = self._tap.submit(event, partial(self._pass_outgoing, waiting))
        if verdict is None:
            return
        if verdict.answer is not None:
            answer, number = verdict.answer, event.transaction_id
            self._soon(lambda: self._channel.device.completion(self._channel, number, memoryview(answer)))
        elif verdict.delay and waiting.kind == COMPLETION and not verdict.dropped:
            self._late.add(event.sequence)
            self._channel.owe(1)

    def _pass_outgoing(self, waiting: Waiting, event: RingPacket) -> None:
        channel = self._channel
        if not channel.alive:
            return
        self._went(event)
        channel.put(waiting._replace(transaction_id=event.transaction_id, payload=event.payload))
        if event.sequence in self._late:
            self._late.discard(event.sequence)
            channel.owe(-1)

    def _went(self, event: RingPacket) -> None:
        """It is put into the ring."""
        self.first = self.first or event
        if event.wants_completion:
            self._sent[event.transaction_id] = event.sequence
            if len(self._sent) > MOST_REMEMBERED:
                del self._sent[next(iter(self._sent))]

    def _answered(self, event: RingPacket) -> None:
        """The device completed a request that was injected; the guest knows nothing of it."""
        event.changed = INJECTED
        self._tap.tell(event)
        done = self._own.pop(event.transaction_id)
        if done is not None:
            done(event.payload)

    # ------------------------------------------------------------ injection

    def inject(
        self,
        payload: bytes,
        transaction_id: int | None,
        *,
        to_guest: bool,
        completion: bool,
        done: Done | None,
    ) -> int:
        """Bring a packet of one's own: an in-band one, or the completion of the other side's packet with that
        id. With `done` the packet wants a completion, and `done` gets it: the side in whose name it was
        sent sees none. What is for the guest is there at once, what is for the device in the machine's next
        turn. Gives the id."""
        number = transaction_id
        if number is None:  # as devices and guests do, who give none to what is not answered
            number = next(self._ids) if done is not None else 0
        kind = COMPLETION if completion else int(PacketType.DATA_INBAND)
        wants = done is not None
        if wants and not self._watches:
            self._watches = True  # or completions of what is injected would go where others go
            self._tap.listen(RingPacket, _nothing)
        self._tap.meddled += 1
        if to_guest:
            if wants:
                self._foreign[number] = done
            self.send(Waiting(kind, number, payload, wants, b""), INJECTED)
            return number
        if wants:
            self._own[number] = done
        packet = Packet(PacketType(kind), number, wants, memoryview(payload))
        self._soon(partial(self._inject_incoming, packet))
        return number

    def _inject_incoming(self, packet: Packet) -> None:
        payload = bytes(packet.payload)
        event = self._event(False, packet.kind, packet.transaction_id, payload, packet.wants_completion, ())
        event.changed = INJECTED
        self._tap.tell(event)
        if packet.wants_completion:
            self._channel.owe(1)
        scope = self._tap.within(event)
        try:
            self._hand_over(packet, event.sequence)
        finally:
            self._tap.leave(scope)

    def _soon(self, act: Callable[[], None]) -> None:
        """In the machine's next turn: a device is not called while it calls us."""
        if self._tap.later is not None:
            self._tap.later(0, lambda _now: self._channel.late(act))


def _nothing(_event: RingPacket) -> None:
    """It is enough that somebody listens."""

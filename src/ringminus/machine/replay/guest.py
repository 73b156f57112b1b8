"""The recorded guest against our own device: what it sent is sent again, and what comes back compared.

Time stands where the recording says. Work for host threads is done at once, so that a packet is answered
before the next is sent, and a replay is the same every time. What a guest sent after an answer is sent after
the answer here, too.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ringminus.changes import ANSWERED, DROPPED, INJECTED
from ringminus.errors import GuestError, HostError
from ringminus.machine.replay.compare import Change, Difference, changes, data_changes, name_of
from ringminus.machine.replay.driver import Exhausted, GuestChannel, GuestSide
from ringminus.machine.replay.recording import LARGEST_RING, RecordedDevice, Unknown
from ringminus.machine.replay.result import Result
from ringminus.machine.services import DeviceServices, HostThreads
from ringminus.memory import PAGE_SIZE
from ringminus.tap import (
    ChannelState,
    DeviceMessage,
    Event,
    GpadlChange,
    NetworkFrame,
    RingPacket,
    Violation,
)
from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.device import Device, Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.ring import RingFull
from ringminus.vmbus.wire import PacketType, Version

if TYPE_CHECKING:
    from ringminus.machine.replay.network import NetworkPlay

COMPLETION, INBAND = int(PacketType.COMPLETION), int(PacketType.DATA_INBAND)
GPA_DIRECT = int(PacketType.DATA_USING_GPA_DIRECT)
SENDABLE = {COMPLETION, INBAND, GPA_DIRECT}
DEFAULT_RING = 32
"""In pages, of a channel whose opening was not recorded."""
OWN_GPADL = 0xE1E10000
NEVER_ARRIVED = {DROPPED, ANSWERED}
"""What an addon may have done with a packet so that the other side did not get it."""
PATIENCE = 60 * 10_000_000
"""How long an answer may take in the guest's time, when the recording has it at once (100 ns)."""
LATEST = 365 * 24 * 3600 * 10_000_000
"""Times after that are not believed (100 ns)."""
Progress = Callable[[float], None]


@dataclass(slots=True)
class Sent:
    """A packet that was sent again: the recorded event, what the tap saw of it, and of its answer."""

    recorded: RingPacket
    replayed: RingPacket | None = None
    answer: RingPacket | None = None


class GuestReplay:
    """Plays one device's recording against `device`, which is ours and closed with it."""

    def __init__(
        self,
        recorded: RecordedDevice,
        device: Device,
        version: int = Version.WIN10_V5_3,
        network: NetworkPlay | None = None,
    ) -> None:
        self.result = Result()
        self._recorded = recorded
        self._side = side = GuestSide()
        self._bus = VmBus(side.partition)
        side.tap.keeps_data = True
        side.tap.listen(RingPacket, self._passed)
        side.tap.listen(Violation, self._violated)
        side.tap.listen(DeviceMessage, self._told)
        self._bus.add(device, DeviceServices(side.partition, HostThreads()))
        self._device = device
        self._network = network
        self._messages: deque[DeviceMessage] = deque()
        self._channels: dict[int, GuestChannel] = {}
        self._pages: dict[int, dict[int, GpaRange]] = {}
        self._handles: dict[tuple[int, int], int] = {}
        self._sending: Sent | None = None
        self._by_number: dict[int, Sent] = {}  # of the recorded packets
        self._by_replayed: dict[int, Sent] = {}
        self._latest: dict[tuple[int, int], int] = {}  # the number of the latest packet with an id
        self._own: dict[int, deque[RingPacket]] = {}  # the device's own packets that were not awaited yet
        self._ids: dict[tuple[int, int], int] = {}  # of the device's packets: recorded and replayed
        self._missed: set[tuple[int, int]] = set()  # the ids of its packets that did not come
        self._skipped: Counter[str] = Counter()
        self._without_data = 0
        self._unanswered_before = self._skipped_answers = self._untaken = 0
        if not side.connect(version) and not side.connect(Version.WIN10_V5_3):
            raise HostError("the bus speaks no version of the recorded guest")

    def run(self, progress: Progress | None = None) -> Result:
        """Play it to its end."""
        events = self._recorded.events
        try:
            for index, event in enumerate(events):
                if progress is not None and not index & 0xFF:
                    progress(index / len(events))
                self._step(event)
        finally:
            self._side.partition.tap.keeps_data = False
        self._finish()
        return self.result

    def close(self) -> None:
        """Give everything back."""
        self._bus.close()

    # ------------------------------------------------------------ steps

    def _step(self, event: Event) -> None:
        self._side.pass_time(min(event.time, LATEST))
        try:
            self._act(event)
        except Exhausted as error:
            self._fail(str(error))

    def _act(self, event: Event) -> None:
        if isinstance(event, ChannelState):
            if event.open:
                self._close(event.relid)  # the guest has restarted without a word
                self._open(event.relid, event.channel, event.ring_in, event.ring_out)
            else:
                self._close(event.relid)
        elif isinstance(event, GpadlChange):
            self._gpadl(event)
        elif isinstance(event, RingPacket):
            if event.to_guest:
                self._await(event)
            else:
                self._send(event)
        elif isinstance(event, DeviceMessage) and event.to_guest:
            self._await_message(event)
        elif isinstance(event, NetworkFrame) and event.to_guest:
            self._deliver(event)

    def _offer_of(self, index: int) -> int | None:
        """The relid that the device's channel has here."""
        self._side.poll()
        offer = self._side.offers.get((self._device.instance.bytes_le, index))
        return None if offer is None else offer.child_relid

    def _gpadl(self, event: GpadlChange) -> None:
        relid = self._offer_of(self._recorded.indices.get(event.relid, 0))
        if relid is None:
            return
        lent = self._pages.setdefault(event.relid, {})
        if event.made:
            pages = self._side.lend(relid, event.handle, event.pages)
            if pages is not None:
                lent[event.handle] = pages
        elif event.handle in lent:
            self._side.take_back(relid, event.handle, lent.pop(event.handle))

    def _open(self, recorded: int, index: int, ring_in: int, ring_out: int) -> None:
        if recorded in self._channels:
            return
        relid = self._offer_of(index)
        if relid is None:
            self._fail(f"channel {index} was not offered")
            return
        split, total = ring_in // PAGE_SIZE, (ring_in + ring_out) // PAGE_SIZE
        if not 2 <= split <= LARGEST_RING or not 2 <= total - split <= LARGEST_RING:
            split, total = DEFAULT_RING, 2 * DEFAULT_RING
        lent = self._pages.setdefault(recorded, {})
        handle = next((one for one, pages in reversed(lent.items()) if len(pages.pfns) == total), None)
        if handle is None:
            handle = OWN_GPADL + recorded
            pages = self._side.lend(relid, handle, total)
            if pages is None:
                self._fail(f"the rings of channel {index} were not taken")
                return
            lent[handle] = pages
        user_data = self._recorded.user_data.get(recorded, b"")
        offer = self._side.offers[self._device.instance.bytes_le, index]
        channel = self._side.open(offer, handle, lent[handle], split, user_data)
        if channel is None:
            self._fail(f"channel {index} was not opened")
        else:
            self._channels[recorded] = channel

    def _close(self, recorded: int) -> None:
        channel = self._channels.pop(recorded, None)
        if channel is not None:
            self._side.close_channel(channel.relid)

    # ------------------------------------------------------------ packets

    def _send(self, event: RingPacket) -> None:
        if NEVER_ARRIVED & set(event.changed.split(",")):
            return
        if event.relid not in self._channels:
            self._open(event.relid, event.channel, 0, 0)
        channel = self._channels.get(event.relid)
        if channel is None:
            self._skipped["their channel is not open here"] += 1
            return
        kind, transaction_id = event.kind, event.transaction_id
        if kind not in SENDABLE or not 0 <= transaction_id < 1 << 64:
            self._skipped[f"no guest's driver sends type {kind}"] += 1
            return
        if kind == COMPLETION and (event.relid, transaction_id) in self._missed:
            self._missed.discard((event.relid, transaction_id))
            self._skipped["they complete packets that did not come here"] += 1
            return
        if kind == COMPLETION:
            transaction_id = self._ids.get((event.relid, transaction_id), transaction_id)
        sent = self._sending = Sent(event)
        self._by_number[event.sequence] = sent
        self._latest[event.relid, event.transaction_id] = event.sequence
        try:
            ranges = self._ranges(event)
            channel.send(kind, transaction_id, event.payload, event.wants_completion, ranges)
            self.result.sent += 1
        except Unknown as error:
            self._skipped[str(error)] += 1
        except (Exhausted, GuestError, RingFull) as error:
            self._skipped[f"there is no room for them here ({error})"] += 1
        finally:
            self._sending = None

    def _ranges(self, event: RingPacket) -> list[GpaRange]:
        found, data = [], event.data
        if self._network is not None:
            data = self._network.prepare(event, self._side.memory, self._lent)
        if event.ranges and not data and self._device.brings_data(_packet(event)):
            self._without_data += 1
        for length in event.ranges:
            if length < 0:
                raise Exhausted(f"a range of {length} bytes")
            found.append(self._side.buffer(length, data[:length]))
            data = data[length:]
        return found

    def _lent(self, handle: int) -> GpaRange | None:
        """The memory of a GPADL."""
        return next((lent[handle] for lent in self._pages.values() if handle in lent), None)

    def _drain(self) -> None:
        for channel in self._channels.values():
            channel.drain()

    def _deliver(self, event: NetworkFrame) -> None:
        """A frame came from the network."""
        if self._network is not None and not NEVER_ARRIVED & set(event.changed.split(",")):
            self._network.deliver(event)
            self._drain()

    def _told(self, event: DeviceMessage) -> None:
        """The replay's tap saw a message that a packet names."""
        if event.to_guest:
            self._messages.append(event)

    def _await_message(self, event: DeviceMessage) -> None:
        if not self._messages:
            self._differ("missing", event, None)
            return
        self.result.compared += 1
        found = changes(event, self._messages.popleft())
        if found:
            self._differ("changed", event, None, found)

    def _passed(self, event: RingPacket) -> None:
        """The replay's tap saw a packet."""
        sending = self._sending
        if not event.to_guest:
            if sending is not None and sending.replayed is None:
                sending.replayed = event
                self._by_replayed[event.sequence] = sending
        elif event.kind == COMPLETION:
            asked = self._by_replayed.get(event.cause)
            if asked is not None:
                asked.answer = event
        else:
            recorded = self._relid_of(event.relid)
            self._own.setdefault(recorded, deque()).append(event)

    def _relid_of(self, relid: int) -> int:
        return next((one for one, channel in self._channels.items() if channel.relid == relid), relid)

    def _await(self, event: RingPacket) -> None:
        """The guest got a packet; what it sent afterwards may depend on that."""
        if {INJECTED, *NEVER_ARRIVED} & set(event.changed.split(",")):
            self._skipped_answers += 1
            return
        if event.kind == COMPLETION:
            self._await_answer(event)
            return
        own = self._own.get(event.relid)
        if not own:
            self._differ("missing", event, None, note="the device sends nothing here of its own")
            self._missed.add((event.relid, event.transaction_id))
            return
        replayed = own.popleft()
        if event.transaction_id:
            self._ids[event.relid, event.transaction_id] = replayed.transaction_id
        self._compare(event, replayed, None)

    def _await_answer(self, event: RingPacket) -> None:
        asked = event.cause or self._latest.get((event.relid, event.transaction_id), 0)
        sent = self._by_number.pop(asked, None)
        if sent is None:
            self._unanswered_before += 1  # its request is not in the recording, or was not sent
            return
        if sent.replayed is None:
            self._untaken += 1
            return
        if sent.answer is None:
            until = self._side.clock.reference_time() + PATIENCE
            while sent.answer is None and self._side.partition.timers.next_deadline() <= until:
                self._side.pass_time(self._side.partition.timers.next_deadline())
                self._channels[event.relid].drain()
        del self._by_replayed[sent.replayed.sequence]
        if sent.answer is None:
            self._differ("missing", event, sent, note="the device does not answer")
        else:
            self._compare(event, sent.answer, sent)

    def _compare(self, recorded: RingPacket, replayed: RingPacket, sent: Sent | None) -> None:
        self.result.compared += 1
        request = sent.recorded if sent is not None else None
        found = changes(recorded, replayed, request, sent.replayed if sent is not None else None)
        if sent is not None and (recorded.data or sent.recorded.data):
            before = recorded.data or sent.recorded.data
            now = replayed.data or (sent.replayed.data if sent.replayed is not None else b"")
            found += data_changes(before, now)
        if found:
            self._differ("changed", recorded, sent, found)

    # ------------------------------------------------------------ what is not the same

    def _differ(
        self,
        what: str,
        event: RingPacket | DeviceMessage,
        sent: Sent | None,
        found: tuple[Change, ...] = (),
        note: str = "",
    ) -> None:
        request = sent.recorded if sent is not None else None
        answers = name_of(request) if request is not None else ""
        name = name_of(event, request)
        self.result.differences.append(Difference(what, name, event.sequence, answers, found, note))

    def _fail(self, reason: str) -> None:
        self.result.differences.append(Difference("failed", reason))

    def _violated(self, event: Violation) -> None:
        self._fail(f"the guest broke a protocol: {event.reason}")

    def _finish(self) -> None:
        result = self.result
        told = any(isinstance(one, DeviceMessage) for one in self._recorded.events)
        for own in (*self._own.values(), self._messages if told else ()):
            result.differences += [Difference("extra", name_of(one)) for one in own]
        if self._without_data:
            result.notes.append(
                f"{self._without_data} packets brought data that was not recorded: zeros were sent "
                "(record with ringminus run --capture FILE,data)"
            )
        if not self._recorded.has_data and self._recorded.names_memory:
            result.notes.append(
                "what the device put into the guest's memory was not recorded and not compared"
            )
        for why, count in self._skipped.items():
            result.notes.append(f"{count} packets were not sent: {why}")
        if self._skipped_answers:
            result.notes.append(
                f"{self._skipped_answers} packets to the guest are an addon's doing: not compared"
            )
        if self._unanswered_before:
            result.notes.append(
                f"{self._unanswered_before} answers are to requests that were not recorded, or not sent"
            )
        if self._untaken:
            result.notes.append(f"{self._untaken} packets were not taken: the channel had failed")


def _packet(event: RingPacket) -> Packet:
    """As the device would get it."""
    kind = PacketType(event.kind)
    return Packet(kind, event.transaction_id, event.wants_completion, memoryview(event.payload))

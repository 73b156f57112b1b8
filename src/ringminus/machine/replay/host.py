"""The recorded host against a live guest: a device that offers and answers as the recorded one did.

A packet of the guest that equals a recorded one gets its answer: that of the next one that is expected, else
of one that was expected later, else of one that came before. For what was not recorded there is, for storage,
our own device on the disk as the recording tells of it: it takes part in everything, so that what the guest
writes is there when it reads. Without such a device the answer of the most similar recorded packet has to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ringminus.clock import ReferenceClock, TimerQueue
from ringminus.errors import GuestError
from ringminus.machine.replay.compare import COMPLETION, Difference, changes, key_of, name_of
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.result import Result
from ringminus.machine.replay.script import Script, Step
from ringminus.memory import GuestMemory
from ringminus.tap import RingPacket, Tap
from ringminus.vmbus.device import Channel, Device, Offerer, Packet, Services
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import ChannelFlag, PacketType

T = TypeVar("T")
D = TypeVar("D", bound=Device)
INBAND = int(PacketType.DATA_INBAND)


def new_script() -> Script[RingPacket]:
    """One of packets, without steps."""
    return Script(key_of, name_of)


def scripts_of(recorded: RecordedDevice) -> dict[int, Script[RingPacket]]:
    """The steps of a recording by the channel's number."""
    found: dict[int, Script[RingPacket]] = {}
    by_number: dict[int, Step[RingPacket]] = {}
    latest: dict[tuple[int, int], Step[RingPacket]] = {}
    for packet in recorded.packets:
        script = found.setdefault(packet.channel, new_script())
        if not packet.to_guest:
            step = Step(packet)
            script.add(step)
            by_number[packet.sequence] = step
            latest[packet.relid, packet.transaction_id] = step
        elif packet.kind == COMPLETION:
            asked = by_number.get(packet.cause) or latest.get((packet.relid, packet.transaction_id))
            if asked is not None and asked.answer is None:
                asked.answer = packet
        elif packet.kind == INBAND:
            (script.steps[-1].after if script.steps else script.before).append(packet)
    return found


class HostReplay(Device):
    """The device; see the module. `inner` is ours for what was not recorded, if there is one, and `own` tells
    of a packet whether it asks for what the guest itself has put there."""

    moderated = True

    def __init__(
        self,
        recorded: RecordedDevice,
        result: Result,
        inner: Device | None = None,
        own: Callable[[Packet], bool] = lambda _packet: False,
    ) -> None:
        super().__init__(recorded.instance)
        self.result = result
        self._recorded = recorded
        self._inner, self._own = inner, own
        self._shadows: dict[int, Shadow] = {}
        self._scripts = scripts_of(recorded)
        self._counts = dict.fromkeys(("later", "again", "other data", "own data"), 0)

    @property
    def title(self) -> str:
        return self._recorded.title

    def attach(self, services: Services, bus: Offerer) -> None:
        super().attach(services, bus)
        if self._inner is not None:
            self._inner.attach(AtOnce(services), Passing(self, bus))

    def user_defined(self) -> bytes:
        if self._recorded.offer is not None:
            return self._recorded.offer.offer.user_def
        return b"" if self._inner is None else self._inner.user_defined()

    # ------------------------------------------------------------ channels

    def opened(self, channel: Channel) -> None:
        shadow = self._shadows[channel.index] = Shadow(channel)
        if self._inner is not None:
            self._inner.opened(shadow)
        for packet in self._script(channel).before:
            channel.send(packet.payload)

    def closed(self, channel: Channel) -> None:
        shadow = self._shadows.pop(channel.index, None)
        if shadow is not None and self._inner is not None:
            self._inner.closed(shadow)

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
        self._tell()

    def _script(self, channel: Channel) -> Script[RingPacket]:
        return self._scripts.setdefault(channel.index, new_script())

    # ------------------------------------------------------------ packets

    def packet(self, channel: Channel, packet: Packet) -> None:
        live = self._event(channel, packet)
        script = self._script(channel)
        expected = script.next()
        step, how = script.take(live)
        self.result.compared += 1
        data = self._contents(channel, packet) if packet.ranges else b""
        own = self._ask_inner(channel, packet)
        if step is None:
            step = self._unknown(script, expected, live)
            self._answer(channel, packet, own if own is not None else _payload(step), None)
            return
        if how in self._counts:
            self._counts[how] += 1
        if step.request.data and step.request.data != data and self.brings_data(packet):
            self._counts["other data"] += 1
        brought = None
        if step.answer is not None and packet.ranges:
            brought = step.answer.data or None
            if brought is not None and own == step.answer.payload and self._own(packet):
                self._counts["own data"] += brought != self._contents(channel, packet)
                brought = None
        self._answer(channel, packet, _payload(step), brought)
        if how != "again":
            for one in step.after:
                channel.send(one.payload)

    def brings_data(self, packet: Packet) -> bool:
        return self._inner.brings_data(packet) if self._inner is not None else True

    def _ask_inner(self, channel: Channel, packet: Packet) -> bytes | None:
        """What our own device answers, which it does at once."""
        if self._inner is None:
            return None
        shadow = self._shadows[channel.index]
        shadow.answer = None
        try:
            self._inner.packet(shadow, packet)
        except GuestError as error:
            self.result.differ(Difference("failed", f"the guest broke a protocol: {error}"))
            raise
        return shadow.answer

    def _unknown(
        self, script: Script[RingPacket], expected: Step[RingPacket] | None, live: RingPacket
    ) -> Step[RingPacket] | None:
        similar = script.similar(live)
        about = similar or expected
        name = name_of(live)
        if about is None:
            self.result.differ(
                Difference("extra", name, note="the recording has no more packets of the guest")
            )
        elif similar is None:
            note = f"{name_of(about.request)} was expected"
            self.result.differ(Difference("extra", name, about.request.sequence, note=note))
        else:
            found = changes(about.request, live)
            self.result.differ(Difference("changed", name, about.request.sequence, changes=found))
        return similar

    def _answer(self, channel: Channel, packet: Packet, payload: bytes | None, data: bytes | None) -> None:
        if data:
            position = 0
            for one in packet.ranges:
                length = min(one.byte_count, len(data) - position)
                for view in one.views(channel.memory, 0, length) if length > 0 else ():
                    view[:] = data[position : position + len(view)]
                    position += len(view)
                one.written(channel.memory, max(length, 0))
        if packet.wants_completion:
            channel.complete(packet.transaction_id, payload or b"")
            self.result.sent += 1

    def _contents(self, channel: Channel, packet: Packet) -> bytes:
        views = (view for one in packet.ranges for view in one.views(channel.memory))
        return b"".join(views)

    def _event(self, channel: Channel, packet: Packet) -> RingPacket:
        return RingPacket(
            *(0, 0, 0, self.title, False, int(packet.kind), packet.transaction_id, bytes(packet.payload)),
            *((), self.interface, channel.index, packet.wants_completion),
        )

    # ------------------------------------------------------------ the end

    def _tell(self) -> None:
        notes, counts = self.result.notes, self._counts
        left = sum(script.left for script in self._scripts.values())
        for count, words in (
            (left, "recorded packets of the guest did not come"),
            (counts["later"], "packets came in another order than they were recorded"),
            (counts["again"], "packets came once more than they were recorded, and got the same answer"),
            (counts["other data"], "packets brought other data than was recorded"),
            (
                counts["own data"],
                "answers had what the guest itself has written, which is not what was recorded",
            ),
            (self.result.more, "more differences are not shown"),
        ):
            if count:
                notes.append(f"{count} {words}")


def _payload(step: Step[RingPacket] | None) -> bytes | None:
    return None if step is None or step.answer is None else step.answer.payload


def offered_as(recorded: RecordedDevice, base: type[D], otherwise: type[Device] | None = None) -> type[D]:
    """The class of a device that is offered as the recorded one was; if that is not known, as `otherwise`."""
    offer = recorded.offer.offer if recorded.offer is not None else None
    flags = ChannelFlag(offer.chn_flags) if offer is not None else getattr(otherwise, "flags", ChannelFlag(0))
    megabytes = offer.mmio_megabytes if offer is not None else getattr(otherwise, "mmio_megabytes", 0)
    pipe_mode = getattr(otherwise, "pipe_mode", None) if offer is None else None
    values = {
        "interface": recorded.interface,
        "flags": flags,
        "mmio_megabytes": megabytes,
        "pipe_mode": pipe_mode,
    }
    return type("RecordedHost", (base,), values)


# ------------------------------------------------------------ what our own device sees


class AtOnce:
    """Services whose work is done when it is asked for: the disks are in memory."""

    def __init__(self, services: Services) -> None:
        self.memory: GuestMemory = services.memory
        self.clock: ReferenceClock = services.clock
        self.timers: TimerQueue = services.timers
        self.tap: Tap = services.tap

    def run(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Do it now."""
        try:
            result: T | Exception = work()
        except Exception as error:
            result = error
        done(result)

    def drain(self) -> None:
        """Nothing runs."""


class Passing:
    """The bus, on which the other device stands in our own one's place."""

    def __init__(self, outer: Device, bus: Offerer) -> None:
        self._outer, self._bus = outer, bus

    def offer_subchannels(self, device: Device, count: int) -> None:
        """Offer them of the other one."""
        self._bus.offer_subchannels(self._outer, count)

    def rescind(self, device: Device) -> None:
        """Take the other one away."""
        self._bus.rescind(self._outer)


class Shadow:
    """A channel as our own device sees it: what it answers is kept, and what it sends goes nowhere."""

    def __init__(self, channel: Channel) -> None:
        self.index, self.version, self.user_data = channel.index, channel.version, channel.user_data
        self.memory = channel.memory
        self.answer: bytes | None = None
        self._channel = channel

    def send(self, payload: bytes, transaction_id: int = 0, *, wants_completion: bool = False) -> None:
        """It is in the recording, if it was sent."""

    def send_transfer(self, *_arguments: Any, **_named: Any) -> None:
        """The same."""

    def send_gpa_direct(self, *_arguments: Any, **_named: Any) -> None:
        """The same."""

    def complete(self, transaction_id: int, payload: bytes = b"") -> None:
        """Its answer."""
        self.answer = payload

    def gpadl(self, handle: int) -> Sequence[GpaRange]:
        """The guest's."""
        return self._channel.gpadl(handle)

    def fail(self, reason: str) -> None:
        """The same for both."""
        self._channel.fail(reason)

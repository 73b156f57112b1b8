"""The recorded host of a network adapter against a live guest.

Our own adapter stands inside: the guest's buffers, sections and frames are its matter, and so is a guest
that lies. What it answers to NVSP's messages and to RNDIS's requests is what the recorded host answered to
the same one; the adapter follows those answers, so that it and the guest mean the same buffers. What the
guest sends goes to the `Traffic` of the recording, which has the recorded host's frames.
"""

from __future__ import annotations

from struct import error as StructError
from typing import ClassVar

from ringminus.devices.network import rndis_wire, wire
from ringminus.devices.network.buffers import SECTION_SIZE, ReceiveBuffer, SendBuffer
from ringminus.devices.network.control import LARGEST_MESSAGE, RndisControl
from ringminus.devices.network.handshake import BufferOwner, Handshake, Reply, State
from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.network.rndis_wire import HEADER_SIZE
from ringminus.devices.network.rndis_wire import MessageType as RndisType
from ringminus.devices.network.wire import MessageType, Status, Version
from ringminus.errors import GuestError
from ringminus.machine.replay.compare import (
    COMPLETION,
    Change,
    Difference,
    layer_changes,
    message_of,
    name_of,
    values_of,
)
from ringminus.machine.replay.host import INBAND, offered_as
from ringminus.machine.replay.network import nic_arguments, plug_in
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.result import Result
from ringminus.machine.replay.script import Script, Step
from ringminus.machine.replay.traffic import Traffic
from ringminus.protocol import Layer
from ringminus.protocol.editing import patch
from ringminus.tap import DeviceMessage, RingPacket
from ringminus.vmbus.device import Channel, Offerer, Packet, Services
from ringminus.wire import ShortBuffer

NVSP, RNDIS = "nvsp", "rndis"
CHOSEN = {
    "nvsp.gpadl_handle": "a guest numbers what it lends as it likes",
    "rndis.req_id": "and its requests",
    "padding": "it says nothing",
    "nvsp.padding": "it says nothing",
}
"""Fields that a guest chooses, and why they are not compared."""
LARGEST_NVSP = 4096
"""Bytes of a recorded message that is believed."""
LEAST_ROOM = 128
"""Bytes that a sub-allocation has to have beside a frame."""
SMALLEST_SECTION = 64
Talk = Script[DeviceMessage]
OneStep = Step[DeviceMessage]


def build_adapter(recorded: RecordedDevice, result: Result) -> AdapterReplay:
    """An adapter that plays the recorded host."""
    adapter = offered_as(recorded, AdapterReplay, SyntheticNic)(recorded, result)
    plug_in(adapter, recorded, adapter.traffic)
    return adapter


class Asked:
    """What the guest asks of one protocol, and what the recorded host answered to that."""

    def __init__(self, protocol: str, title: str, script: Talk, result: Result) -> None:
        self._protocol, self._title = protocol, title
        self.script = script
        self.result = result
        self.later = self.again = 0

    def find(self, payload: bytes) -> OneStep | None:
        """The recorded exchange of the same request; None for one that was not recorded, which is told."""
        live = DeviceMessage(0, 0, self._title, self._protocol, False, payload, len(payload))
        expected = self.script.next()
        step, how = self.script.take(live)
        self.result.compared += 1
        if step is None:
            self._tell(live, expected)
            return None
        self.later += how == "later"
        self.again += how == "again"
        return step

    def _tell(self, live: DeviceMessage, expected: OneStep | None) -> None:
        similar = self.script.similar(live)
        name = name_of(live)
        if similar is not None:
            found = _changes(similar.request, live)
            self.result.differ(Difference("changed", name, similar.request.sequence, changes=found))
        elif expected is not None:
            note = f"{name_of(expected.request)} was expected"
            self.result.differ(Difference("extra", name, expected.request.sequence, note=note))
        else:
            note = f"the recording has no more {self._protocol.upper()} requests of the guest"
            self.result.differ(Difference("extra", name, note=note))


class RecordedHandshake(Handshake):
    """NVSP with the recorded answers. `unasked` is what the host sent of its own after the last message."""

    asked: Asked | None = None
    tables: tuple[bytes, ...] = ()
    unasked: tuple[bytes, ...] = ()

    def receive(self, owner: BufferOwner, payload: memoryview) -> Reply:
        own = super().receive(owner, payload)
        self.unasked = ()
        step = self.asked.find(bytes(payload)) if self.asked is not None else None
        if step is None or self.asked is None:
            return own
        self.unasked = tuple(one.payload for one in step.after)
        self.asked.result.sent += step.answer is not None
        answer = step.answer
        if answer is None or len(answer.payload) > LARGEST_NVSP:
            return own
        try:
            return self._follow(owner, payload, answer.payload, own)
        except (ShortBuffer, StructError):
            return Reply(answer.payload, own.subchannels)  # it was cut short, or is no answer to that

    def _follow(self, owner: BufferOwner, request: memoryview, answer: bytes, own: Reply) -> Reply:
        """Mean by the answer what the guest will mean by it."""
        kind = wire.MessageHeader.unpack(request).msg_type
        asked, body = request[wire.MessageHeader.SIZE :], answer[wire.MessageHeader.SIZE :]
        subchannels = own.subchannels
        if kind == MessageType.INIT:
            self._follow_init(wire.InitComplete.unpack(body))
        elif kind == MessageType.SEND_RECV_BUF:
            self._follow_receive_buffer(owner, asked, wire.SendReceiveBufferComplete.unpack(body))
        elif kind == MessageType.SEND_SEND_BUF:
            self._follow_send_buffer(owner, asked, wire.SendSendBufferComplete.unpack(body))
        elif kind == MessageType.SUBCHANNEL:
            done = wire.SubchannelComplete.unpack(body)
            granted = done.num_subchannels if done.status == Status.SUCCESS else 0
            if subchannels:  # else there are some already
                self.subchannels = subchannels = min(granted, self.max_subchannels)
        return Reply(answer, subchannels)

    def _follow_init(self, done: wire.InitComplete) -> None:
        version = done.negotiated_protocol_ver
        if done.status != Status.SUCCESS:
            self.state, self.version = State.INIT, 0
        elif version in Version._value2member_map_:
            self.state, self.version = State.SETUP, version

    def _follow_receive_buffer(
        self, owner: BufferOwner, asked: memoryview, done: wire.SendReceiveBufferComplete
    ) -> None:
        if done.status != Status.SUCCESS or not done.num_sections:
            self.receive_buffer = None
        else:
            given = wire.SendReceiveBuffer.unpack(asked)
            section = wire.ReceiveBufferSection.unpack(done.sections)
            size, current = section.sub_alloc_size, self.receive_buffer
            if size < self.largest_frame + LEAST_ROOM:
                return  # no frame would fit: the guest may believe it, we do not
            if current is None or current.piece_size != size:
                made = ReceiveBuffer(
                    given.gpadl_handle, given.id, owner.gpadl(given.gpadl_handle), owner.memory, size
                )
                current = made if made.count else current
            if current is not None and 0 < section.num_sub_allocs < current.count:
                current.count = section.num_sub_allocs
                current.free = list(range(current.count - 1, -1, -1))
            self.receive_buffer = current
        self._judge()

    def _follow_send_buffer(
        self, owner: BufferOwner, asked: memoryview, done: wire.SendSendBufferComplete
    ) -> None:
        size = done.section_size
        if done.status != Status.SUCCESS:
            self.send_buffer = None
        elif size >= SMALLEST_SECTION and size != SECTION_SIZE:
            given = wire.SendSendBuffer.unpack(asked)
            made = SendBuffer(
                given.gpadl_handle, given.id, owner.gpadl(given.gpadl_handle), owner.memory, size
            )
            self.send_buffer = made if made.count else self.send_buffer
        self._judge()

    def indirection_table(self) -> bytes:
        if not self.tables:
            return super().indirection_table()
        table, *rest = self.tables
        self.tables = tuple(rest) or (table,)
        return table


class RecordedControl(RndisControl):
    """RNDIS's requests with the recorded answers."""

    asked: Asked | None = None

    def receive(self, message: memoryview | bytes) -> list[bytes]:
        before = self.save()
        own = super().receive(message)
        step = self.asked.find(bytes(message)) if self.asked is not None else None
        if step is None or step.answer is None or self.asked is None:
            return own
        found = self._recorded(message, step, own, before)
        self.asked.result.sent += len(found)
        return found

    def _recorded(
        self, message: memoryview | bytes, step: OneStep, own: list[bytes], before: dict[str, object]
    ) -> list[bytes]:
        live = _dissected(bytes(message), to_guest=False)
        assert step.answer is not None and live is not None
        number = live.get("req_id")
        if _refused(step.answer.payload) and own and not _refused(own[0]):
            self.restore(before)  # what the recorded host did not do is not done
        answer = _with_number(step.answer.payload, number)
        return [answer, *(one.payload for one in step.after)]


class AdapterReplay(SyntheticNic):
    """The device; see the module."""

    handshake_class: ClassVar[type[Handshake]] = RecordedHandshake
    control_class: ClassVar[type[RndisControl]] = RecordedControl

    def __init__(self, recorded: RecordedDevice, result: Result) -> None:
        address, instance, title = nic_arguments(recorded)
        super().__init__(address, instance, title=title)
        self.result = result
        self._recorded = recorded
        nvsp, tables = nvsp_script(recorded)
        rndis, unprompted = rndis_script(recorded)
        self._asked = [Asked(NVSP, title, nvsp, result), Asked(RNDIS, title, rndis, result)]
        assert isinstance(self.handshake, RecordedHandshake) and isinstance(self.control, RecordedControl)
        self.shake, self.rndis = self.handshake, self.control
        self.shake.asked, self.rndis.asked = self._asked
        self.shake.tables = tables
        self.traffic = Traffic(recorded, self, result, unprompted)
        self._told = False

    def attach(self, services: Services, bus: Offerer) -> None:
        super().attach(services, bus)
        self.traffic.start(services.clock, services.timers)

    def user_defined(self) -> bytes:
        return b"" if self._recorded.offer is None else self._recorded.offer.offer.user_def

    def packet(self, channel: Channel, packet: Packet) -> None:
        try:
            super().packet(channel, packet)
        except GuestError as error:
            self.result.differ(Difference("failed", f"the guest broke a protocol: {error}"))
            raise
        unasked, self.shake.unasked = self.shake.unasked, ()
        for payload in unasked:
            channel.send(payload)

    def drained(self, channel: Channel) -> None:
        super().drained(channel)
        self.traffic.look()

    def indicate(self, message: bytes) -> None:
        """Say something by RNDIS that the guest has not asked for."""
        try:
            self.receiver.answer([message])
        except GuestError as error:
            if 0 in self._channels:
                self._channels[0].fail(str(error))

    def close(self) -> None:
        super().close()
        if not self._told:
            self._told = True
            self._tell()

    def _tell(self) -> None:
        notes = self.result.notes
        for asked, name in zip(self._asked, ("NVSP messages", "RNDIS requests"), strict=True):
            for count, words in (
                (asked.script.left, "did not come"),
                (asked.later, "came in another order than they were recorded"),
                (asked.again, "came once more than they were recorded, and got the same answer"),
            ):
                if count:
                    notes.append(f"{count} {name} {words}")
        self.traffic.tell()
        if self.result.more:
            notes.append(f"{self.result.more} more differences are not shown")


# ------------------------------------------------------------ from the recording


def nvsp_script(recorded: RecordedDevice) -> tuple[Talk, tuple[bytes, ...]]:
    """The exchanges of NVSP on the primary channel, and the tables of the host."""
    script: Talk = Script(_key, _likeness)
    by_number: dict[int, OneStep] = {}
    latest: dict[int, OneStep] = {}
    tables: list[bytes] = []
    for packet in recorded.packets:
        if packet.channel or len(packet.payload) > LARGEST_NVSP:
            continue
        kind = int.from_bytes(packet.payload[:4], "little")
        if not packet.to_guest and packet.kind == INBAND and kind != MessageType.SEND_RNDIS_PKT:
            step: OneStep = Step(_as_message(packet))
            script.add(step)
            by_number[packet.sequence] = latest[packet.transaction_id] = step
        elif packet.to_guest and packet.kind == COMPLETION:
            asked = by_number.get(packet.cause) or latest.pop(packet.transaction_id, None)
            if asked is not None and asked.answer is None and packet.payload[:4] != _SENT:
                asked.answer = _as_message(packet)
        elif packet.to_guest and packet.kind == INBAND:
            if kind == MessageType.SEND_INDIRECTION_TABLE:
                tables.append(packet.payload)
            elif script.steps:
                script.steps[-1].after.append(_as_message(packet))
    return script, tuple(tables)


_SENT = int(MessageType.SEND_RNDIS_PKT_COMPLETE).to_bytes(4, "little")


def _as_message(packet: RingPacket) -> DeviceMessage:
    return DeviceMessage(
        packet.time,
        packet.vp,
        packet.device,
        NVSP,
        packet.to_guest,
        packet.payload,
        len(packet.payload),
        sequence=packet.sequence,
    )


def rndis_script(recorded: RecordedDevice) -> tuple[Talk, list[DeviceMessage]]:
    """The exchanges of RNDIS's control messages, and what the host said that it was not asked."""
    script: Talk = Script(_key, _likeness)
    by_number: dict[int, OneStep] = {}
    waiting: dict[tuple[int, object], OneStep] = {}
    unprompted: list[DeviceMessage] = []
    for event in recorded.events:
        if not isinstance(event, DeviceMessage) or event.protocol != RNDIS:
            continue
        layer = message_of(event)
        if layer is None or len(event.payload) > LARGEST_MESSAGE or event.size > len(event.payload):
            continue
        number = layer.get("req_id")
        if not event.to_guest:
            if layer.number != RndisType.PACKET:
                step: OneStep = Step(event)
                script.add(step)
                by_number[event.sequence] = waiting[layer.number, number] = step
        elif layer.number & rndis_wire.COMPLETION:
            asked = waiting.pop((layer.number & ~rndis_wire.COMPLETION, number), None)
            if asked is not None:
                asked.answer = event
        elif layer.number == RndisType.INDICATE:
            cause = by_number.get(event.cause)
            (unprompted if cause is None or cause.answer is None else cause.after).append(event)
    return script, unprompted


def _key(message: DeviceMessage) -> tuple[object, ...]:
    layer = message_of(message)
    return (message.protocol, message.payload) if layer is None else values_of(layer, CHOSEN)


def _likeness(message: RingPacket | DeviceMessage) -> str:
    layer = message_of(message)
    oid = layer.get("oid") if layer is not None else None
    return f"{name_of(message)} {oid!r}"


def _changes(recorded: DeviceMessage, live: DeviceMessage) -> tuple[Change, ...]:
    first, second = message_of(recorded), message_of(live)
    return () if first is None or second is None else layer_changes(first, second, CHOSEN)


# ------------------------------------------------------------ answers


def _dissected(payload: bytes, *, to_guest: bool) -> Layer | None:
    return message_of(DeviceMessage(0, 0, "", RNDIS, to_guest, payload, len(payload)))


def _refused(answer: bytes) -> bool:
    layer = _dissected(answer, to_guest=True)
    return layer is not None and layer.get("status") not in (None, 0)


def _with_number(answer: bytes, number: object) -> bytes:
    """The answer as it is to the request of that number."""
    layer = _dissected(answer, to_guest=True)
    if layer is None or not isinstance(number, int) or len(answer) < HEADER_SIZE:
        return answer
    try:
        place = patch(layer, "req_id", number)
    except ValueError:
        return answer  # RESET has none
    return answer[: place.offset] + place.data + answer[place.offset + place.size :]

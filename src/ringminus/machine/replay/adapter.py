"""The recorded host of a network adapter against a live guest.

Our own adapter stands inside: the guest's buffers, sections and frames are its matter, and so is a guest
that lies. What it answers to NVSP's messages and to RNDIS's requests is what the recorded host answered to
the same one; the adapter follows those answers, so that it and the guest mean the same buffers. What the
guest sends goes to the `Traffic` of the recording, which has the recorded host's frames.
"""

from __future__ import annotations

from struct import error as StructError
from typing import ClassVar

from ringminus.devices.network import wire
from ringminus.devices.network.buffers import SECTION_SIZE, ReceiveBuffer, SendBuffer
from ringminus.devices.network.control import LARGEST_MESSAGE, RndisControl
from ringminus.devices.network.handshake import BufferOwner, Handshake, Reply, State
from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.network.rndis_wire import HEADER_SIZE
from ringminus.devices.network.wire import MessageType, Status, Version
from ringminus.errors import GuestError
from ringminus.machine.replay.compare import (
    Difference,
    message_of,
)
from ringminus.machine.replay.host import offered_as
from ringminus.machine.replay.network import nic_arguments, plug_in
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.requests import (
    LARGEST_NVSP,
    NVSP,
    RNDIS,
    Asked,
    OneStep,
    nvsp_script,
    rndis_script,
)
from ringminus.machine.replay.result import Result
from ringminus.machine.replay.traffic import Traffic
from ringminus.protocol import Layer
from ringminus.protocol.editing import patch
from ringminus.tap import DeviceMessage
from ringminus.vmbus.device import Channel, Offerer, Packet, Services
from ringminus.wire import ShortBuffer

LEAST_ROOM = 128
"""Bytes that a sub-allocation has to have beside a frame."""
SMALLEST_SECTION = 64


def build_adapter(recorded: RecordedDevice, result: Result) -> AdapterReplay:
    """An adapter that plays the recorded host."""
    adapter = offered_as(recorded, AdapterReplay, SyntheticNic)(recorded, result)
    plug_in(adapter, recorded, adapter.traffic)
    return adapter


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
            fits = size >= max(
                self.largest_frame + LEAST_ROOM, LARGEST_MESSAGE
            )  # else only the guest believes it
            if fits and (current is None or current.piece_size != size):
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

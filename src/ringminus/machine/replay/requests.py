"""What a recorded guest asked by NVSP and by RNDIS, and what the host answered."""

from __future__ import annotations

from ringminus.devices.network import rndis_wire
from ringminus.devices.network.control import LARGEST_MESSAGE
from ringminus.devices.network.rndis_wire import MessageType as RndisType
from ringminus.devices.network.wire import MessageType
from ringminus.machine.replay.compare import (
    COMPLETION,
    Change,
    Difference,
    layer_changes,
    message_of,
    name_of,
    values_of,
)
from ringminus.machine.replay.host import INBAND
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.result import Result
from ringminus.machine.replay.script import Script, Step
from ringminus.tap import DeviceMessage, RingPacket

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
Talk = Script[DeviceMessage]
OneStep = Step[DeviceMessage]


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

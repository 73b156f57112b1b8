"""Events taken apart: the event itself, then the messages in it, by the declarations of `protocol`.

Which declarations there are is up to who uses the lens: those of the modules that he has imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from ringminus.lens.channels import Channels
from ringminus.protocol import BY_INTERFACE, NAMES, PROTOCOLS, Layer, Value, dissect
from ringminus.tap import (
    BusMessage,
    ChannelState,
    CpuidRead,
    DeviceMessage,
    Event,
    Hypercall,
    MsrAccess,
    NetworkFrame,
    RingPacket,
    SynicMessage,
)

COMPLETION = 11
"""A ring packet's kind (VM_PKT_COMP)."""
REMEMBERED = 1 << 15
"""The latest requests, by which answers are taken apart."""
MESSAGES_REMEMBERED, LARGEST_REMEMBERED = 1 << 10, 1 << 10
"""The same of devices' messages, and how many bytes one has that others answer."""
VMBUS_MESSAGE = 1
"""The SynIC message type of the bus (TLFS: HvMessageType of ports; Linux: VMBUS_MESSAGE)."""


class Decoder:
    """Takes events apart. `note` is to be called with every event, in their order: an answer is taken apart
    by what it answers, and what a channel is called is told once."""

    def __init__(self) -> None:
        self.channels = Channels()
        self._requests: dict[int, RingPacket] = {}
        self._messages: dict[int, DeviceMessage] = {}
        self._latest = 0
        self._noted: Event | None = None
        self._request: RingPacket | DeviceMessage | None = None
        self._carried: Layer | None = None
        self._is_carried = False

    def note(self, event: Event) -> None:
        """The next event, or one of the latest once more."""
        if event is self._noted:
            return
        self._noted, self._request = event, None
        self._carried, self._is_carried = None, False
        kind = type(event)
        if kind is RingPacket:
            self._note_packet(event)  # type: ignore[arg-type]
        elif kind is DeviceMessage:
            self._note_message(event)  # type: ignore[arg-type]
        elif (kind is ChannelState or kind is BusMessage) and (
            not event.sequence or event.sequence >= self._latest
        ):
            self._latest = max(self._latest, event.sequence)
            self.channels.see(event, self.carried(event))

    def _note_packet(self, event: RingPacket) -> None:
        if event.kind == COMPLETION:
            self._request = self._requests.get(event.cause)
        elif not event.to_guest or event.wants_completion:
            self._requests[event.sequence] = event
            if len(self._requests) > REMEMBERED:
                del self._requests[next(iter(self._requests))]

    def _note_message(self, event: DeviceMessage) -> None:
        if event.to_guest:
            self._request = self._messages.get(event.cause)
        elif event.size <= LARGEST_REMEMBERED:
            self._messages[event.sequence] = event
            if len(self._messages) > MESSAGES_REMEMBERED:
                del self._messages[next(iter(self._messages))]

    def renew(self, event: Event) -> None:
        """The event has been changed: it is taken apart anew."""
        if event is self._noted:
            self._carried, self._is_carried = None, False

    def request(self, event: Event) -> RingPacket | DeviceMessage | None:
        """What a completion answers, or a device's message, if that has been noted."""
        self.note(event)
        return self._request

    def carried(self, event: Event) -> Layer | None:
        """The message that an event carries; it may have others within."""
        self.note(event)
        if not self._is_carried:
            self._is_carried = True
            inside = _INSIDE.get(type(event))
            self._carried = inside(event, self._request) if inside is not None else None
        return self._carried

    def channel(self, event: Event) -> ChannelState | None:
        """The channel that an event is about."""
        message = self.carried(event) if type(event) in NAMING else None
        return self.channels.of(event, message)

    def layers(self, event: Event) -> list[Layer]:
        """The event as a layer of its own, then what it carries; layers may have others within."""
        carried = self.carried(event)
        return [EventLayer(event)] if carried is None else [EventLayer(event), carried]


def flat(found: list[Layer]) -> Iterator[Layer]:
    """All layers with those within them, outermost first."""
    for layer in found:
        yield layer
        yield from flat(layer.inner)


class EventLayer(Layer):
    """The event's own fields; those of bytes have their place among the bytes that the event carries. The
    header of a ring's packet is a layer within it."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        super().__init__(event.NAME, "")
        self.event = event

    @property
    def missing(self) -> int:
        """Nothing: the fields are all there."""
        return 0

    def get(self, name: str) -> Any:
        """A field's value."""
        return getattr(self.event, name) if name in _names(type(self.event)) else None

    def _within(self) -> list[Layer]:
        event = self.event
        if type(event) is not RingPacket or not event.header or "ring" not in PROTOCOLS:
            return []
        return [dissect(PROTOCOLS["ring"], event.header, to_guest=event.to_guest, number=event.kind)]

    def _read(self) -> list[Value]:
        found = []
        for name in _names(type(self.event)):
            value: Any = getattr(self.event, name)
            label = NAMES.get(f"{self.protocol}.{name}", {}).get(value, "") if type(value) is int else ""
            found.append(Value(name, value, 0, len(value) if isinstance(value, bytes) else 0, label))
        return found


def _names(kind: type[Event]) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(one.name for one in fields(kind))
    return _NAMES[kind]


def _packet(event: RingPacket, request: RingPacket | None) -> Layer | None:
    protocol = BY_INTERFACE.get(event.interface)
    if protocol is None or (event.kind == COMPLETION and not event.payload):
        return None
    asked = dissect(protocol, request.payload, to_guest=request.to_guest) if request is not None else None
    return dissect(protocol, event.payload, to_guest=event.to_guest, request=asked)


def _synic(event: SynicMessage, _request: object) -> Layer | None:
    if event.message_type == VMBUS_MESSAGE:
        return _told("vmbus", event.payload, to_guest=True)
    return _numbered("synic_message", event.message_type, event.payload)


def _told(name: str, data: bytes, *, to_guest: bool) -> Layer | None:
    protocol = PROTOCOLS.get(name)
    return dissect(protocol, data, to_guest=to_guest) if protocol is not None else None


def _numbered(name: str, number: int, data: bytes) -> Layer | None:
    """A message whose number is not in its bytes; None if there is no form for it."""
    protocol = PROTOCOLS.get(name)
    if protocol is None or (number not in protocol.forms and protocol.otherwise is None):
        return None
    return dissect(protocol, data, number=number)


def _bus(event: BusMessage, _request: object) -> Layer | None:
    return _told("vmbus", event.payload, to_guest=event.to_guest)


def _hypercall(event: Hypercall, _request: object) -> Layer | None:
    if "hypercall_input" not in PROTOCOLS or not event.block:
        return None
    return dissect(PROTOCOLS["hypercall_input"], event.block, number=event.code)


def _msr(event: MsrAccess, _request: object) -> Layer | None:
    if event.fault and not event.write:
        return None
    value = event.value & 0xFFFFFFFFFFFFFFFF  # files may say anything
    return _numbered("msr_value", event.msr, value.to_bytes(8, "little"))


def _cpuid(event: CpuidRead, _request: object) -> Layer | None:
    registers = (event.eax, event.ebx, event.ecx, event.edx)
    data = b"".join((one & 0xFFFFFFFF).to_bytes(4, "little") for one in registers)
    return _numbered("cpuid_leaf", event.leaf, data)


def _device(event: DeviceMessage, request: DeviceMessage | None) -> Layer | None:
    protocol = PROTOCOLS.get(event.protocol)
    if protocol is None:
        return None
    asked = dissect(protocol, request.payload) if request is not None else None
    cut = max(event.size - len(event.payload), 0)
    return dissect(protocol, event.payload, to_guest=event.to_guest, request=asked, cut=cut)


def _frame(event: NetworkFrame, _request: object) -> Layer | None:
    return _told("ethernet", event.data, to_guest=event.to_guest)


NAMING = frozenset((Hypercall, BusMessage))
"""Events that name a channel in the message that they carry."""
_NAMES: dict[type[Event], tuple[str, ...]] = {}
_INSIDE: dict[type[Event], Callable[[Any, Any], Layer | None]] = {
    RingPacket: _packet,
    MsrAccess: _msr,
    CpuidRead: _cpuid,
    SynicMessage: _synic,
    BusMessage: _bus,
    Hypercall: _hypercall,
    DeviceMessage: _device,
    NetworkFrame: _frame,
}

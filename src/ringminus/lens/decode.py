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
    DeviceMessage,
    Event,
    Hypercall,
    NetworkFrame,
    RingPacket,
    SynicMessage,
)

COMPLETION = 11
"""A ring packet's kind (VM_PKT_COMP)."""
REMEMBERED = 1 << 15
"""The latest requests, by which answers are taken apart."""
VMBUS_MESSAGE = 1
"""The SynIC message type of the bus (TLFS: HvMessageType of ports; Linux: VMBUS_MESSAGE)."""


class Decoder:
    """Takes events apart. `note` is to be called with every event, in their order: an answer is taken apart
    by what it answers, and what a channel is called is told once."""

    def __init__(self) -> None:
        self.channels = Channels()
        self._requests: dict[int, RingPacket] = {}
        self._latest = 0
        self._noted: Event | None = None
        self._request: RingPacket | None = None
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
        elif (kind is ChannelState or kind is BusMessage) and (
            not event.sequence or event.sequence >= self._latest
        ):
            self._latest = max(self._latest, event.sequence)
            self.channels.see(event, self.carried(event))

    def _note_packet(self, event: RingPacket) -> None:
        if event.kind == COMPLETION:
            self._request = self._requests.get(event.cause)
        elif not event.to_guest:
            self._requests[event.sequence] = event
            if len(self._requests) > REMEMBERED:
                del self._requests[next(iter(self._requests))]

    def request(self, event: Event) -> RingPacket | None:
        """What a completion answers, if that has been noted."""
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
    """The event's own fields; those of bytes have their place among the bytes that the event carries."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        super().__init__(event.NAME, "")
        self.event = event

    def get(self, name: str) -> Any:
        """A field's value."""
        return getattr(self.event, name) if name in _names(type(self.event)) else None

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
    if protocol is None:
        return None
    asked = dissect(protocol, request.payload) if request is not None else None
    return dissect(protocol, event.payload, to_guest=event.to_guest, request=asked)


def _synic(event: SynicMessage, _request: object) -> Layer | None:
    if event.message_type == VMBUS_MESSAGE and "vmbus" in PROTOCOLS:
        return dissect(PROTOCOLS["vmbus"], event.payload, to_guest=True)
    return None


def _bus(event: BusMessage, _request: object) -> Layer | None:
    if "vmbus" not in PROTOCOLS:
        return None
    return dissect(PROTOCOLS["vmbus"], event.payload, to_guest=event.to_guest)


def _hypercall(event: Hypercall, _request: object) -> Layer | None:
    if "hypercall_input" not in PROTOCOLS or not event.block:
        return None
    return dissect(PROTOCOLS["hypercall_input"], event.block, number=event.code)


def _device(event: DeviceMessage, _request: object) -> Layer | None:
    protocol = PROTOCOLS.get(event.protocol)
    return dissect(protocol, event.payload, to_guest=event.to_guest) if protocol is not None else None


def _frame(event: NetworkFrame, _request: object) -> Layer | None:
    if "ethernet" not in PROTOCOLS:
        return None
    return dissect(PROTOCOLS["ethernet"], event.data, to_guest=event.to_guest)


NAMING = frozenset((Hypercall, BusMessage))
"""Events that name a channel in the message that they carry."""
_NAMES: dict[type[Event], tuple[str, ...]] = {}
_INSIDE: dict[type[Event], Callable[[Any, RingPacket | None], Layer | None]] = {
    RingPacket: _packet,
    SynicMessage: _synic,
    BusMessage: _bus,
    Hypercall: _hypercall,
    DeviceMessage: _device,
    NetworkFrame: _frame,
}

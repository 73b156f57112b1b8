"""Events taken apart: the event itself, then the messages in it, by the declarations of `protocol`.

Which declarations there are is up to who uses the lens: those of the modules that he has imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from ringminus.protocol import BY_INTERFACE, PROTOCOLS, Layer, Value, dissect
from ringminus.tap import (
    BusMessage,
    DeviceMessage,
    Event,
    Hypercall,
    RingPacket,
    SynicMessage,
)

COMPLETION = 11
"""A ring packet's kind (VM_PKT_COMP)."""
REMEMBERED = 1 << 14
"""Requests whose answer is still to come."""
VMBUS_MESSAGE = 1
"""The SynIC message type of the bus (TLFS: HvMessageType of ports; Linux: VMBUS_MESSAGE)."""


class Decoder:
    """Takes events apart, in their order: it remembers which message a completion answers."""

    def __init__(self) -> None:
        self._requests: dict[int, str] = {}

    def layers(self, event: Event) -> list[Layer]:
        """The event as a layer of its own, then what it carries; layers may have others within."""
        found: list[Layer] = [EventLayer(event)]
        if isinstance(event, RingPacket):
            found += self._packet(event)
        else:
            inside = _INSIDE.get(type(event))
            layer = inside(event) if inside is not None else None
            if layer is not None:
                found.append(layer)
        return found

    def _packet(self, event: RingPacket) -> list[Layer]:
        protocol = BY_INTERFACE.get(event.interface)
        if protocol is None:
            return []
        answers = self._requests.pop(event.cause, "") if event.kind == COMPLETION else ""
        layer = dissect(protocol, event.payload, to_guest=event.to_guest, answers=answers)
        if event.kind != COMPLETION and not event.to_guest:
            self._requests[event.sequence] = layer.message
            if len(self._requests) > REMEMBERED:
                del self._requests[next(iter(self._requests))]
        return [layer]


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
            found.append(Value(name, value, 0, len(value) if isinstance(value, bytes) else 0))
        return found


def _names(kind: type[Event]) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(one.name for one in fields(kind))
    return _NAMES[kind]


def _synic(event: SynicMessage) -> Layer | None:
    if event.message_type == VMBUS_MESSAGE and "vmbus" in PROTOCOLS:
        return dissect(PROTOCOLS["vmbus"], event.payload, to_guest=True)
    return None


def _bus(event: BusMessage) -> Layer | None:
    if "vmbus" not in PROTOCOLS:
        return None
    return dissect(PROTOCOLS["vmbus"], event.payload, to_guest=event.to_guest)


def _hypercall(event: Hypercall) -> Layer | None:
    if "hypercall_input" not in PROTOCOLS or not event.block:
        return None
    return dissect(PROTOCOLS["hypercall_input"], event.block, number=event.code)


def _device(event: DeviceMessage) -> Layer | None:
    protocol = PROTOCOLS.get(event.protocol)
    return dissect(protocol, event.payload, to_guest=event.to_guest) if protocol is not None else None


_NAMES: dict[type[Event], tuple[str, ...]] = {}
_INSIDE: dict[type[Event], Callable[[Any], Layer | None]] = {
    SynicMessage: _synic,
    BusMessage: _bus,
    Hypercall: _hypercall,
    DeviceMessage: _device,
}

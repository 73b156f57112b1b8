"""Events taken apart: the event itself, then the messages in it, by the declarations of `protocol`.

Which declarations there are is up to who uses the lens: those of the modules that he has imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
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

VMBUS_MESSAGE = 1
"""The SynIC message type of the bus (TLFS: HvMessageType of ports; Linux: VMBUS_MESSAGE)."""


def layers(event: Event) -> list[Layer]:
    """The event as a layer of its own, then what it carries, outermost first; layers may have others
    within."""
    found = [event_layer(event)]
    inside = _INSIDE.get(type(event))
    if inside is not None:
        layer = inside(event)
        if layer is not None:
            found.append(layer)
    return found


def flat(found: list[Layer]) -> Iterator[Layer]:
    """All layers with those within them, outermost first."""
    for layer in found:
        yield layer
        yield from flat(layer.inner)


def event_layer(event: Event) -> Layer:
    """The event's own fields; those of bytes have their place among the bytes that the event carries."""
    layer = Layer(event.NAME, "", 0, 0)
    for name in _names(type(event)):
        value: Any = getattr(event, name)
        size = len(value) if isinstance(value, bytes) else 0
        layer.values.append(Value(name, value, 0, size))
    return layer


@cache
def _names(kind: type[Event]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


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


def _packet(event: RingPacket) -> Layer | None:
    protocol = BY_INTERFACE.get(event.interface)
    return dissect(protocol, event.payload, to_guest=event.to_guest) if protocol is not None else None


def _device(event: DeviceMessage) -> Layer | None:
    protocol = PROTOCOLS.get(event.protocol)
    return dissect(protocol, event.payload, to_guest=event.to_guest) if protocol is not None else None


_INSIDE: dict[type[Event], Callable[[Any], Layer | None]] = {
    SynicMessage: _synic,
    BusMessage: _bus,
    Hypercall: _hypercall,
    RingPacket: _packet,
    DeviceMessage: _device,
}

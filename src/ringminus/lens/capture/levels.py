"""The interfaces of a capture file: one for each level, each channel, and each network adapter."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any, NamedTuple

from ringminus.lens.capture.pcapng_wire import Direction, LinkType
from ringminus.tap import (
    ChannelState,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    NetworkFrame,
    PortIo,
    RingPacket,
    SynicMessage,
    VmExit,
)


class Level(NamedTuple):
    """An interface: its name, what it is, and the type of its packets."""

    name: str
    description: str
    link_type: LinkType = LinkType.EVENTS


ABOUT = Level("ringminus", "about this file")
_SYNIC = Level("synic", "synthetic interrupt controller: messages, event flags, interrupts")
_IO = Level("io", "I/O ports and memory-mapped registers, the serial ports among them")
LEVELS = {
    "exits": Level("exits", "VM exits"),
    "msrs": Level("msrs", "model-specific registers"),
    "hypercalls": Level("hypercalls", "hypercalls"),
    "messages": _SYNIC,
    "signals": _SYNIC,
    "interrupts": _SYNIC,
    "timers": Level("timers", "synthetic and APIC timers"),
    "cpuid": Level("cpuid", "CPUID leaves"),
    "halts": Level("halts", "waits of virtual processors for interrupts"),
    "faults": Level("faults", "page faults that the guest's kernel deals with"),
    "ports": _IO,
    "mmio": _IO,
    "serial": _IO,
    "bus": Level("vmbus", "VMBus control messages"),
    "gpadls": Level("gpadls", "guest memory that is lent for channels"),
    "violations": Level("violations", "protocols that the guest broke"),
}
"""By the point of the tap; one that is not here is a level of its own."""

# no two are the same: some have numbers, and of the others each has another length
_CHANNEL = attrgetter("relid", "device", "channel")
_DEVICE = attrgetter("device", "protocol")
_ADAPTER = attrgetter("adapter")


def _channel(event: RingPacket | ChannelState) -> Level:
    part = f", sub-channel {event.channel}" if event.channel else ""
    about = f"{event.device}{part}, relid {event.relid}, class {{{event.interface}}}"
    return Level(f"channel {event.relid}", about)


def _device(event: DeviceMessage) -> Level:
    return Level(f"{event.protocol} {event.device}", f"messages of {event.device}: {event.protocol}")


def _adapter(event: NetworkFrame) -> Level:
    return Level(event.adapter, f"frames of the network adapter {event.adapter}", LinkType.ETHERNET)


SEVERAL: dict[type[Event], tuple[Callable[[Any], Hashable], Callable[[Any], Level]]] = {
    RingPacket: (_CHANNEL, _channel),
    ChannelState: (_CHANNEL, _channel),
    DeviceMessage: (_DEVICE, _device),
    NetworkFrame: (_ADAPTER, _adapter),
}
"""Types of events with several interfaces: what they are told apart by, and the interface."""

_TO_GUEST = (SynicMessage, EventSignal, Interrupt)
_TO_HOST = (VmExit, MsrAccess, Hypercall, PortIo, MmioAccess, GpadlChange)


def level_of(event: Event) -> Level:
    """The interface that an event is on."""
    several = SEVERAL.get(type(event))
    if several is not None:
        return several[1](event)
    return LEVELS.get(event.POINT) or Level(event.POINT, event.POINT)


def direction_of(kind: type[Event]) -> Direction:
    """The direction of all events of a type; those with `to_guest` tell each for itself."""
    if kind in _TO_GUEST:
        return Direction.TO_GUEST
    return Direction.TO_HOST if kind in _TO_HOST else Direction.NONE

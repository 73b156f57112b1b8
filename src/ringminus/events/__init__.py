"""The typed events: what crosses the boundary, each with the point of the tap where it passes.

A docstring here is what people read of the event: in `ringminus lens hooks`, in the reference of addons, and
where events are shown. Its first sentence says what has happened; what follows is about its fields.
"""

from __future__ import annotations

from ringminus.events.base import Event
from ringminus.events.devices import DeviceMessage, NetworkFrame, SerialData
from ringminus.events.interrupts import EventSignal, Interrupt, SynicMessage, TimerExpired
from ringminus.events.processor import (
    CpuidRead,
    Halt,
    Hypercall,
    MmioAccess,
    MsrAccess,
    PageFault,
    PortIo,
    VmExit,
)
from ringminus.events.vmbus import NO_INTERFACE, BusMessage, ChannelState, GpadlChange, RingPacket, Violation

__all__ = [
    "EVENTS",
    "NO_INTERFACE",
    "USUAL",
    "BusMessage",
    "ChannelState",
    "CpuidRead",
    "DeviceMessage",
    "Event",
    "EventSignal",
    "GpadlChange",
    "Halt",
    "Hypercall",
    "Interrupt",
    "MmioAccess",
    "MsrAccess",
    "NetworkFrame",
    "PageFault",
    "PortIo",
    "RingPacket",
    "SerialData",
    "SynicMessage",
    "TimerExpired",
    "Violation",
    "VmExit",
]

EVENTS: tuple[type[Event], ...] = (
    VmExit,
    CpuidRead,
    MsrAccess,
    Hypercall,
    SynicMessage,
    EventSignal,
    Interrupt,
    TimerExpired,
    PortIo,
    MmioAccess,
    SerialData,
    PageFault,
    Halt,
    BusMessage,
    ChannelState,
    GpadlChange,
    RingPacket,
    DeviceMessage,
    NetworkFrame,
    Violation,
)
USUAL = tuple(kind for kind in EVENTS if not kind.ON_DEMAND)
"""Those that who asks for all of them gets."""

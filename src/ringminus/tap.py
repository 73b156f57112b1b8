"""The points where the boundary can be watched, and the events that pass them.

Each point of a `Tap` is an attribute that is None while nobody listens, so that the hot path pays one
attribute test and builds no event:

    if tap.msrs is not None:
        tap.msrs(MsrAccess(...))

What happens while an event is dealt with is caused by it: who deals with it says so by `enter` and `leave`.

    scope = tap.enter()
    try:
        ...
    finally:
        tap.leave(scope)
    tap.msrs(MsrAccess(..., sequence=scope.sequence, cause=scope.cause))

An event with a result (an exit, a hypercall, an MSR) passes when it is known, after the events that it caused
and with a lower number than theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar
from uuid import UUID

NO_INTERFACE = UUID(int=0)


@dataclass(slots=True)
class Event:
    """A crossing. `POINT` is where it passes, `NAME` what one such event is called. `time` is the
    partition's reference time (100 ns), `vp` the virtual processor's index.

    The tap adds the rest when the event passes: `sequence` counts from 1, `cause` is the number of the event
    while which it happened (0: none that is watched), `host_ns` the host's clock (ns since 1970)."""

    POINT: ClassVar[str] = ""
    NAME: ClassVar[str] = ""
    time: int
    vp: int
    sequence: int = field(default=0, kw_only=True, compare=False)
    cause: int = field(default=0, kw_only=True, compare=False)
    host_ns: int = field(default=0, kw_only=True, compare=False)


@dataclass(slots=True)
class VmExit(Event):
    """The guest left guest mode and was answered.

    `reason` is the exit's name (`cpuid`, `msr`, `hypercall`, `halt`, `port`, `mmio`, …), `rip` the
    instruction that caused it, `detail` what it was about (a leaf, an MSR, a port, a call code),
    `ns` the time that answering took on the host.
    """

    POINT = "exits"
    NAME = "exit"
    reason: str
    rip: int
    detail: int
    ns: int


@dataclass(slots=True)
class MsrAccess(Event):
    """RDMSR or WRMSR that was intercepted; `fault` tells that the guest was given #GP."""

    POINT = "msrs"
    NAME = "msr"
    msr: int
    name: str
    write: bool
    value: int
    fault: bool


@dataclass(slots=True)
class Hypercall(Event):
    """A hypercall and its answer. `control`, `input`, `output` are RCX, RDX and R8; `result` is RAX.

    `detail` holds the decoded input header where the call is known, `status` the name of the result's status,
    `block` the input's bytes, of memory or registers, as far as they could be read.
    """

    POINT = "hypercalls"
    NAME = "hypercall"
    code: int
    name: str
    control: int
    input: int
    output: int
    result: int
    status: str
    detail: str
    block: bytes = b""


@dataclass(slots=True)
class SynicMessage(Event):
    """A message for a SINT's slot of the message page; `delivered` is False when the slot was busy and it
    had to wait in the queue."""

    POINT = "messages"
    NAME = "message"
    sint: int
    message_type: int
    payload: bytes
    delivered: bool


@dataclass(slots=True)
class EventSignal(Event):
    """An event flag for a SINT was signalled; `raised` is False when the flag was set already."""

    POINT = "signals"
    NAME = "signal"
    sint: int
    flag: int
    raised: bool


@dataclass(slots=True)
class Interrupt(Event):
    """An interrupt vector was requested on a virtual processor; `source` names who asked."""

    POINT = "interrupts"
    NAME = "interrupt"
    vector: int
    source: str


@dataclass(slots=True)
class TimerExpired(Event):
    """A timer fired: `timer` is its name, `deadline` when it was due (100 ns)."""

    POINT = "timers"
    NAME = "timer"
    timer: str
    deadline: int


@dataclass(slots=True)
class PortIo(Event):
    """An access to an I/O port, `size` in bytes."""

    POINT = "ports"
    NAME = "port"
    port: int
    size: int
    write: bool
    value: int


@dataclass(slots=True)
class MmioAccess(Event):
    """An access to guest-physical memory that is no RAM, `size` in bytes."""

    POINT = "mmio"
    NAME = "mmio"
    gpa: int
    size: int
    write: bool
    value: int


@dataclass(slots=True)
class BusMessage(Event):
    """A VMBus control message; `name` as in the table of messages, `to_guest` its direction."""

    POINT = "bus"
    NAME = "bus"
    to_guest: bool
    name: str
    payload: bytes


@dataclass(slots=True)
class RingPacket(Event):
    """A packet taken from or put into a channel's ring.

    `kind` is its type (6, 7, 9, 11), `payload` what follows its headers, `ranges` the lengths of the guest
    memory that it names; `device` is the title of the channel's device, `interface` its class GUID,
    `channel` 0 for the primary channel and the sub-channel's number else. A completion's cause is the packet
    that it completes.
    """

    POINT = "packets"
    NAME = "packet"
    relid: int
    device: str
    to_guest: bool
    kind: int
    transaction_id: int
    payload: bytes
    ranges: tuple[int, ...]
    interface: UUID = NO_INTERFACE
    channel: int = 0


@dataclass(slots=True)
class ChannelState(Event):
    """A channel was opened, or closed (`open` is False); a watcher who comes later is told of those that are
    open.

    The guest signals it on `connection_id`, and is signalled by `event_flag` of the bus's SINT. `instance` is
    the device's, `ring_in` and `ring_out` are the sizes of the rings to the host and to the guest, in bytes
    with their control pages."""

    POINT = "channels"
    NAME = "channel"
    relid: int
    device: str
    open: bool
    interface: UUID
    instance: UUID
    channel: int
    connection_id: int
    event_flag: int
    ring_in: int
    ring_out: int


@dataclass(slots=True)
class GpadlChange(Event):
    """Guest memory was lent to us for a channel, in pages of 4 KiB, or taken back (`made` is False)."""

    POINT = "gpadls"
    NAME = "gpadl"
    relid: int
    device: str
    handle: int
    made: bool
    pages: int


@dataclass(slots=True)
class DeviceMessage(Event):
    """A message of a device's that is not in a ring's packet, but in memory that a packet names: RNDIS.

    `protocol` is the name of its declaration; `payload` may leave out bulk data at its end, of `size` bytes
    in all."""

    POINT = "device"
    NAME = "device"
    device: str
    protocol: str
    to_guest: bool
    payload: bytes
    size: int


@dataclass(slots=True)
class NetworkFrame(Event):
    """An Ethernet frame between a network adapter and its port of a switch.

    `data` begins with the destination address and has no 802.1Q tag; `tci` is the tag's control
    information. `segment_size` above 0 says that it is a large TCP frame that stands for several,
    `checksum` what is known of its TCP or UDP checksum (`UNKNOWN`, `VALID`, `MISSING`)."""

    POINT = "frames"
    NAME = "frame"
    adapter: str
    to_guest: bool
    data: bytes
    tci: int | None
    checksum: str
    segment_size: int


@dataclass(slots=True)
class Violation(Event):
    """The guest broke a protocol: a message of the bus (`relid` 0) was dropped, or a channel was not opened
    or is served no more. `device` is the title of the channel's device."""

    POINT = "violations"
    NAME = "violation"
    relid: int
    device: str
    reason: str


EVENTS: tuple[type[Event], ...] = (
    VmExit,
    MsrAccess,
    Hypercall,
    SynicMessage,
    EventSignal,
    Interrupt,
    TimerExpired,
    PortIo,
    MmioAccess,
    BusMessage,
    ChannelState,
    GpadlChange,
    RingPacket,
    DeviceMessage,
    NetworkFrame,
    Violation,
)
E = TypeVar("E", bound=Event)


class Scope(NamedTuple):
    """The number of an event that is being dealt with, and of its own cause."""

    sequence: int
    cause: int


class Tap:
    """One machine's points of observation; each is None or a function that takes its event."""

    def __init__(self) -> None:
        self.exits: Callable[[VmExit], None] | None = None
        self.msrs: Callable[[MsrAccess], None] | None = None
        self.hypercalls: Callable[[Hypercall], None] | None = None
        self.messages: Callable[[SynicMessage], None] | None = None
        self.signals: Callable[[EventSignal], None] | None = None
        self.interrupts: Callable[[Interrupt], None] | None = None
        self.timers: Callable[[TimerExpired], None] | None = None
        self.ports: Callable[[PortIo], None] | None = None
        self.mmio: Callable[[MmioAccess], None] | None = None
        self.bus: Callable[[BusMessage], None] | None = None
        self.channels: Callable[[ChannelState], None] | None = None
        self.gpadls: Callable[[GpadlChange], None] | None = None
        self.packets: Callable[[RingPacket], None] | None = None
        self.device: Callable[[DeviceMessage], None] | None = None
        self.frames: Callable[[NetworkFrame], None] | None = None
        self.violations: Callable[[Violation], None] | None = None
        self.on_change: Callable[[], None] | None = None
        self.cause = 0
        """The number of the event that is being dealt with; 0 for none."""
        self._sequence = 0
        self._listeners: dict[str, list[Callable[[Any], None]]] = {}

    def enter(self) -> Scope:
        """An event is dealt with from now on: its number, and what it happened in."""
        self._sequence += 1
        scope = Scope(self._sequence, self.cause)
        self.cause = scope.sequence
        return scope

    def within(self, event: Event) -> Scope:
        """The same for an event that has passed: what it leads to follows."""
        scope = Scope(event.sequence, self.cause)
        self.cause = event.sequence
        return scope

    def leave(self, scope: Scope) -> None:
        """It has been dealt with."""
        self.cause = scope.cause

    def listen(self, event: type[E], listener: Callable[[E], None]) -> Callable[[], None]:
        """Call `listener` with every event of that type; the result ends it."""
        listeners = self._listeners.setdefault(event.POINT, [])
        listeners.append(listener)
        self._publish(event.POINT)

        def leave() -> None:
            if listener in listeners:
                listeners.remove(listener)
                self._publish(event.POINT)

        return leave

    def _publish(self, point: str) -> None:
        listeners = tuple(self._listeners[point])
        now = time.time_ns

        def tell(event: Event) -> None:
            if not event.sequence:
                self._sequence += 1
                event.sequence = self._sequence
                event.cause = event.cause or self.cause
            event.host_ns = now()
            for listener in listeners:
                listener(event)

        setattr(self, point, tell if listeners else None)
        if self.on_change is not None:
            self.on_change()

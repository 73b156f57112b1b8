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

Where events may be changed before the host acts on them, points use `submit` and `decide` (see `changes`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ringminus.changes import BEFORE, ChangePoints, Changer
from ringminus.events import (
    EVENTS as EVENTS,
)
from ringminus.events import (
    NO_INTERFACE as NO_INTERFACE,
)
from ringminus.events import (
    USUAL as USUAL,
)
from ringminus.events import (
    BusMessage as BusMessage,
)
from ringminus.events import (
    ChannelState as ChannelState,
)
from ringminus.events import (
    CpuidRead as CpuidRead,
)
from ringminus.events import (
    DeviceMessage as DeviceMessage,
)
from ringminus.events import (
    Event as Event,
)
from ringminus.events import (
    EventSignal as EventSignal,
)
from ringminus.events import (
    GpadlChange as GpadlChange,
)
from ringminus.events import (
    Halt as Halt,
)
from ringminus.events import (
    Hypercall as Hypercall,
)
from ringminus.events import (
    Interrupt as Interrupt,
)
from ringminus.events import (
    MmioAccess as MmioAccess,
)
from ringminus.events import (
    MsrAccess as MsrAccess,
)
from ringminus.events import (
    NetworkFrame as NetworkFrame,
)
from ringminus.events import (
    PageFault as PageFault,
)
from ringminus.events import (
    PortIo as PortIo,
)
from ringminus.events import (
    RingPacket as RingPacket,
)
from ringminus.events import (
    SerialData as SerialData,
)
from ringminus.events import (
    SynicMessage as SynicMessage,
)
from ringminus.events import (
    TimerExpired as TimerExpired,
)
from ringminus.events import (
    Violation as Violation,
)
from ringminus.events import (
    VmExit as VmExit,
)

E = TypeVar("E", bound=Event)


class Scope(NamedTuple):
    """The number of an event that is being dealt with, and of its own cause."""

    sequence: int
    cause: int


class Tap(ChangePoints):
    """One machine's points of observation; each is None or a function that takes its event."""

    def __init__(self) -> None:
        super().__init__()
        self.exits: Callable[[VmExit], None] | None = None
        self.cpuid: Callable[[CpuidRead], None] | None = None
        self.msrs: Callable[[MsrAccess], None] | None = None
        self.hypercalls: Callable[[Hypercall], None] | None = None
        self.messages: Callable[[SynicMessage], None] | None = None
        self.signals: Callable[[EventSignal], None] | None = None
        self.interrupts: Callable[[Interrupt], None] | None = None
        self.timers: Callable[[TimerExpired], None] | None = None
        self.ports: Callable[[PortIo], None] | None = None
        self.mmio: Callable[[MmioAccess], None] | None = None
        self.serial: Callable[[SerialData], None] | None = None
        self.faults: Callable[[PageFault], None] | None = None
        self.halts: Callable[[Halt], None] | None = None
        self.bus: Callable[[BusMessage], None] | None = None
        self.channels: Callable[[ChannelState], None] | None = None
        self.gpadls: Callable[[GpadlChange], None] | None = None
        self.packets: Callable[[RingPacket], None] | None = None
        self.device: Callable[[DeviceMessage], None] | None = None
        self.frames: Callable[[NetworkFrame], None] | None = None
        self.violations: Callable[[Violation], None] | None = None
        self.on_change: Callable[[], None] | None = None
        self.keeps_data = False
        """Whether ring packets carry what the guest memory held that they name: `RingPacket.data`."""
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

    def change(
        self,
        event: type[E],
        changer: Callable[[E], None],
        failed: Callable[[E, Exception], None],
        *,
        before: bool = False,
    ) -> Callable[[], None]:
        """Let `changer` have every event of that type before the host acts on it, after those who were here
        earlier; the result ends it. Hypercalls and MSR accesses pass twice, `before` they are carried out and
        with their results. `failed(event, error)` is told what it raised or set to what cannot be."""
        key = BEFORE + event.POINT if before else event.POINT
        made = Changer(changer, failed)
        self.changers[key] = (*self.changers.get(key, ()), made)
        self._publish(event.POINT)

        def leave() -> None:
            left = tuple(one for one in self.changers.get(key, ()) if one is not made)
            if left:
                self.changers[key] = left
            else:
                self.changers.pop(key, None)
            self._publish(event.POINT)

        return leave

    def number(self, event: Event) -> None:
        if not event.sequence:
            self._sequence += 1
            event.sequence = self._sequence
            event.cause = event.cause or self.cause

    def tell(self, event: Event) -> None:
        point = getattr(self, event.POINT)
        if point is not None:
            point(event)

    def _publish(self, point: str) -> None:
        listeners = tuple(self._listeners.get(point, ()))
        now = time.time_ns

        def tell(event: Event) -> None:
            if not event.sequence:
                self._sequence += 1
                event.sequence = self._sequence
                event.cause = event.cause or self.cause
            event.host_ns = now()
            for listener in listeners:
                listener(event)

        used = listeners or point in self.changers or BEFORE + point in self.changers
        setattr(self, point, tell if used else None)
        if self.on_change is not None:
            self.on_change()

"""What the hypervisor gives a guest: messages, event flags, interrupts, timers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ringminus.changes import DELAY, DROP, DUPLICATE, Kind
from ringminus.events.base import Event


@dataclass(slots=True, eq=False, repr=False)
class SynicMessage(Event):
    """A message for a SINT's slot of the message page; `delivered` is False when the slot was busy and it
    had to wait in the queue.

    It can be changed when its slot is free, before it is put there and the SINT's interrupt is raised.
    Dropped, it is lost, and the next one takes the slot; a delayed one goes to the end of the queue
    then."""

    POINT = "messages"
    NAME = "message"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"message_type": 32, "payload": bytes}
    sint: int
    message_type: int
    payload: bytes
    delivered: bool


@dataclass(slots=True, eq=False, repr=False)
class EventSignal(Event):
    """An event flag for a SINT was signalled; `raised` is False when the flag was set already.

    It can be changed before the flag is set and the SINT's interrupt is raised. Dropped, neither happens:
    what it tells of lies in the ring until the next signal."""

    POINT = "signals"
    NAME = "signal"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"sint": 4, "flag": 11}
    sint: int
    flag: int
    raised: bool


@dataclass(slots=True, eq=False, repr=False)
class Interrupt(Event):
    """An interrupt vector was requested on a virtual processor; `source` names who asked.

    It can be changed before the local APIC gets it. A second one is lost while the first waits, as on any
    APIC."""

    POINT = "interrupts"
    NAME = "interrupt"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"vector": 8}
    vector: int
    source: str


@dataclass(slots=True, eq=False, repr=False)
class TimerExpired(Event):
    """A timer fired: `timer` is its name, `deadline` when it was due (100 ns).

    Dropped, its message or interrupt does not come; a timer that is not periodic does not fire again by
    itself."""

    POINT = "timers"
    NAME = "timer"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    timer: str
    deadline: int

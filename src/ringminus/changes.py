"""What may be done with an event before the host acts on it.

Somebody who changes events (an addon, a breakpoint) sees each one at its point before anything happens. He
may set its fields (those of `SETTABLE`), and ask for what its type allows (`MAY`): that it is dropped,
delayed, duplicated, or answered in place of who would get it. Listeners then see what really passed, marked
by `changed`.

A point decides on its slow path whether somebody changes events there:

    if tap.packets is not None:
        tap.submit(event, act)       # act(event) now, later, several times, or never

Who changes an event cannot break the machine: what he raises, or sets to a value that cannot be, is his own
error; the event then passes as if he had not seen it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ringminus.clock import REFERENCE_HZ

if TYPE_CHECKING:
    from ringminus.events import Event

CHANGED, DROPPED, ANSWERED = "changed", "dropped", "answered"
DELAYED, DUPLICATED, INJECTED = "delayed", "duplicated", "injected"
DROP, DELAY, DUPLICATE, ANSWER = "drop", "delay", "duplicate", "answer"
MOST_COPIES = 1000
LONGEST_DELAY = 3600.0
HEADER = frozenset(("time", "vp", "sequence", "cause", "host_ns"))
"""What all events have, and stays as it is whatever somebody sets."""
BEFORE = "before "
"""What the key of a point begins with where events pass it before they have their result."""
E = TypeVar("E", bound="Event")
Kind = int | type[bytes] | type[bool] | tuple[str, ...]
"""What a field may be set to: an integer of so many bits, bytes, a truth value, or one of these words."""


class ChangeError(Exception):
    """What was asked for cannot be done with that event; the message says what can."""


class GuestData(Protocol):
    """Guest memory that an event names, as one stretch of bytes."""

    changed: bool
    """Whether it was written to, for who has to know."""

    @property
    def size(self) -> int:
        """In bytes."""

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """A copy of a part, or of all from `offset` on; raises `ChangeError` outside of it."""

    def write(self, data: bytes, offset: int = 0) -> None:
        """Change a part; raises `ChangeError`."""


class Verdict:
    """What is to become of an event: `delay` is in 100 ns, `copies` come beside the event, `answer` is what
    is given in the place of who would have got it."""

    __slots__ = ("answer", "copies", "delay", "dropped")

    def __init__(self) -> None:
        self.dropped = False
        self.delay = self.copies = 0
        self.answer: bytes | None = None


class Changeable:
    """What events have for who changes them. `verdict` is there while they may be changed, `original` is the
    event as it was if it has been, `memory` the guest's memory that it names, while it may be touched."""

    __slots__ = ("memory", "original", "verdict")
    NAMES_MEMORY: ClassVar[bool] = False
    MAY: ClassVar[frozenset[str]] = frozenset()
    SETTABLE: ClassVar[Mapping[str, Kind]] = {}
    verdict: Verdict | None
    original: Changeable | None
    memory: GuestData | None

    def __getattr__(self, name: str) -> Any:
        if name in ("memory", "original", "verdict"):
            return None
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def was(self, original: Changeable | None) -> None:
        """It was another one before it was changed."""
        self.original = original

    def names(self, memory: GuestData | None) -> None:
        """That is the memory that it names."""
        self.memory = memory

    def settle(self, memory: GuestData) -> None:
        """The memory that it names was written to."""

    def drop(self) -> None:
        """Nobody gets it."""
        self._may(DROP).dropped = True

    def delay(self, seconds: float) -> None:
        """It passes after that time of the guest's clock; what comes after it does not wait for it. Delays
        add up."""
        verdict = self._may(DELAY)
        if not 0 <= seconds <= LONGEST_DELAY:
            raise ChangeError(f"a delay of {seconds} seconds: 0 to {LONGEST_DELAY:g} are possible")
        verdict.delay += round(seconds * REFERENCE_HZ)

    def duplicate(self, times: int = 1) -> None:
        """It passes so many times more, one right after the other."""
        verdict = self._may(DUPLICATE)
        if not 0 <= verdict.copies + times <= MOST_COPIES:
            raise ChangeError(f"{verdict.copies + times} copies of an event: 0 to {MOST_COPIES} are possible")
        verdict.copies += times

    def _may(self, what: str) -> Verdict:
        """The verdict, if that can be asked for; raises `ChangeError`."""
        verdict = self.verdict
        name = type(self).__name__
        if verdict is None:
            raise ChangeError(f"this {name} has passed: it can be changed only while its hook runs")
        if what not in self.MAY:
            able = ", ".join(sorted(self.MAY)) or "nothing but being looked at"
            raise ChangeError(f"{name} does not allow {what}: it allows {able}")
        return verdict


def _values(kind: type[Event]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """An event's fields: their names, and what reads them all."""
    found = _VALUES.get(kind)
    if found is None:
        names = tuple(one.name for one in fields(kind) if one.name not in HEADER)
        found = _VALUES[kind] = names, attrgetter(*names)
    return found


_VALUES: dict[type[Event], tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]] = {}


def _checked(event: Event, name: str, value: Any) -> Any:
    """The value as the host takes it; raises `ChangeError`."""
    kind = event.SETTABLE.get(name)
    where = f"{type(event).__name__}.{name}"
    if kind is None:
        able = ", ".join(event.SETTABLE) or "none"
        raise ChangeError(f"{where} tells a fact: setting it changes nothing; fields to set are {able}")
    if kind is bool:
        if isinstance(value, bool | int) and value in (0, 1):
            return bool(value)
        raise ChangeError(f"{where} is True or False, not {value!r}")
    if kind is bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise ChangeError(f"{where} is bytes, not {type(value).__name__}")
    if isinstance(kind, tuple):
        if value in kind:
            return value
        raise ChangeError(f"{where} is {' or '.join(kind)}, not {value!r}")
    if isinstance(kind, int) and isinstance(value, int) and 0 <= value < 1 << kind:
        return int(value)
    raise ChangeError(f"{where} is a number of {kind} bits, not {value!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Changer:
    """Who changes events: `failed` is told what he did wrong, and with which event."""

    change: Callable[[Any], None]
    failed: Callable[[Any, Exception], None]


class ChangePoints:
    """The changing half of a `Tap`. `changers` has who changes events, by the key of the point: its name, or
    its name after `BEFORE`. Where nobody does there is no entry."""

    def __init__(self) -> None:
        self.changers: dict[str, tuple[Changer, ...]] = {}
        self.cause = 0
        """The number of the event that is being dealt with; 0 for none."""
        self.meddled = 0
        """Events that did not pass as they came, of all kinds, and what was injected."""
        self.later: Callable[[int, Callable[[int], None]], None] | None = None
        """The partition's: call a function with the reference time after so many 100 ns."""

    # of the tap's other half

    def number(self, event: Event) -> None:
        """Give the event its number and cause, unless it has them."""
        raise NotImplementedError

    def tell(self, event: Event) -> None:
        """Tell the listeners of its point."""
        raise NotImplementedError

    # ------------------------------------------------------------ deciding

    def decide(self, event: Event, key: str) -> Verdict:
        """Let the changers of a point have an event. What they have set is in it then, and in `changed`; what
        they ask for is the result. After one who drops or answers it no other sees it."""
        self.number(event)
        names, values = _values(type(event))
        first = before = values(event)
        event.verdict = verdict = Verdict()  # type: ignore[misc]
        header = event.sequence, event.cause, event.time, event.vp
        for changer in self.changers.get(key, ()):
            wish = verdict.delay, verdict.copies
            try:
                changer.change(event)
                after = values(event)
                if after != before:
                    for name, old, new in zip(names, before, after, strict=True):
                        if old != new or type(old) is not type(new):
                            setattr(event, name, _checked(event, name, new))
                    before = values(event)
            except Exception as error:
                for name, value in zip(names, before, strict=True):
                    setattr(event, name, value)
                verdict.dropped, verdict.answer = False, None
                verdict.delay, verdict.copies = wish
                changer.failed(event, error)
            if verdict.dropped or verdict.answer is not None:
                break
        event.verdict = None  # type: ignore[misc]
        event.sequence, event.cause, event.time, event.vp = header
        if event.NAMES_MEMORY:
            memory = event.memory
            if memory is not None and memory.changed:
                memory.changed = False
                event.settle(memory)
                mark(event, CHANGED)
        if before is not first and before != first:
            event.was(_with(event, names, first))
            if not event.changed and verdict.answer is None:
                mark(event, CHANGED)
        if verdict.answer is not None:
            mark(event, ANSWERED)
        elif verdict.dropped:
            mark(event, DROPPED)
        else:
            if verdict.delay:
                mark(event, DELAYED)
            if verdict.copies:
                mark(event, DUPLICATED)
        if event.changed:
            self.meddled += 1
        return verdict

    def submit(self, event: E, act: Callable[[E], None]) -> Verdict | None:
        """An event comes to its point: what changers ask for happens, listeners are told, and `act(event)`
        does what the host does with it. None if nobody changes events there."""
        if event.POINT not in self.changers:
            self._pass(event, act, 0)
            return None
        verdict = self.decide(event, event.POINT)
        if verdict.dropped or verdict.answer is not None:
            self.tell(event)
        elif verdict.delay and self.later is not None:
            self.later(verdict.delay, partial(self._released, event, act, verdict.copies))
        else:
            self._pass(event, act, verdict.copies)
        return verdict

    def _released(self, event: E, act: Callable[[E], None], copies: int, now: int) -> None:
        """The time of a delayed event has come."""
        event.time = now
        self._pass(event, act, copies)

    def _pass(self, event: E, act: Callable[[E], None], copies: int) -> None:
        extra = [_copied(event) for _ in range(copies)] if copies else ()
        for one in (event, *extra):
            self.tell(one)
            before, self.cause = self.cause, one.sequence
            try:
                act(one)
            finally:
                self.cause = before


def mark(event: Event, word: str) -> None:
    """Say in `changed` what was done with it."""
    event.changed = f"{event.changed},{word}" if event.changed else word


def _with(event: Event, names: tuple[str, ...], values: tuple[Any, ...]) -> Event:
    """The event with other values."""
    made = copy.copy(event)
    for name, value in zip(names, values, strict=True):
        setattr(made, name, value)
    return made


def _copied(event: E) -> E:
    """A copy that is an event of its own, caused by the first."""
    made = copy.copy(event)
    made.cause, made.sequence = event.sequence, 0
    made.was(event.original)
    made.names(event.memory)
    return made

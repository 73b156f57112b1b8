"""Breakpoints at events: which there are, and when one is met.

An event is met before the host acts on it, where that is possible, and after the addons have had it.
Hypercalls and writes of MSRs are met before they are carried out, or with their result if a filter asks for
that.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ringminus.errors import ConfigError
from ringminus.lens.decode import Decoder
from ringminus.lens.filter import Filter, compile_filter
from ringminus.tap import (
    BusMessage,
    ChannelState,
    DeviceMessage,
    Event,
    EventSignal,
    Hypercall,
    Interrupt,
    MsrAccess,
    NetworkFrame,
    RingPacket,
    SynicMessage,
    Tap,
)

KEPT = 4096
"""The latest events, for `tree`."""
RECORDED: tuple[type[Event], ...] = (
    *(Hypercall, BusMessage, SynicMessage, RingPacket, DeviceMessage, NetworkFrame, EventSignal, Interrupt),
    ChannelState,
)
TWICE = frozenset((Hypercall, MsrAccess))
"""Events that pass before they are carried out, and once more with their results."""
_RESULT = re.compile(r"\b(hypercall\.(result|status)|msr\.fault)\b", re.I)


@dataclass(slots=True)
class Breakpoint:
    """`number` is how it is named, `once` goes when it was met. `skip` so many are passed first."""

    number: int
    filter: Filter
    once: bool = False
    hits: int = 0
    skip: int = 0

    @property
    def text(self) -> str:
        return self.filter.text or "every event"

    @property
    def wants_results(self) -> bool:
        """Whether it is about what is known only when the event is over."""
        return _RESULT.search(self.filter.text) is not None


class Breakpoints:
    """All of a run. `met(event, breakpoint)` is called on the machine's thread, within the event."""

    def __init__(self, tap: Tap, decoder: Decoder, met: Callable[[Event, Breakpoint], None]) -> None:
        self.decoder = decoder
        self.recent: deque[Event] = deque(maxlen=KEPT)
        self._tap = tap
        self._met = met
        self._numbers = 0
        self._points: dict[int, Breakpoint] = {}
        self._wired: dict[tuple[type[Event], bool], Callable[[], None]] = {}
        self._recording: list[Callable[[], None]] = []
        self._results: Callable[[], None] | None = None
        self._inside = False

    def __iter__(self) -> Iterator[Breakpoint]:
        return iter(self._points.values())

    def add(self, text: str, *, once: bool = False) -> Breakpoint:
        """A breakpoint at events that satisfy a filter; raises `FilterError`."""
        made = compile_filter(text, self.decoder)
        if not made.events:
            raise ConfigError(f"no event can satisfy {text!r}")
        self._numbers += 1
        point = self._points[self._numbers] = Breakpoint(self._numbers, made, once)
        self._wire()
        return point

    def delete(self, number: int | None = None) -> bool:
        """Take one away, or all; False if there is none of that number."""
        if number is None:
            self._points.clear()
        elif self._points.pop(number, None) is None:
            return False
        self._wire()
        return True

    def find(self, number: int) -> Breakpoint | None:
        return self._points.get(number)

    def forget_once(self) -> None:
        """The guest stopped: those that were for the next stop are done."""
        for number in [one.number for one in self if one.once]:
            self.delete(number)

    # ------------------------------------------------------------ the tap

    def _wire(self) -> None:
        """Be at the points that are needed, and at no others."""
        wanted: set[tuple[type[Event], bool]] = set()
        for point in self:
            for kind in point.filter.events:
                if kind.ON_DEMAND and not point.filter.text:
                    continue  # who asks for all does not mean those
                wanted.add((kind, False))
                if kind in TWICE and not point.wants_results:
                    wanted.add((kind, True))
        for key in self._wired.keys() - wanted:
            self._wired.pop(key)()
        for kind, before in sorted(wanted - self._wired.keys(), key=lambda key: (key[0].NAME, key[1])):
            if kind.MAY or kind.SETTABLE:
                meet = self._before if before else self._at
                end = self._tap.change(kind, meet, _raise, before=before)
            else:
                end = self._tap.listen(kind, self._at)
            self._wired[kind, before] = end
        if any(one.wants_results and MsrAccess in one.filter.events for one in self):
            if self._results is None:
                self._results = self._tap.listen(MsrAccess, self._written)
        elif self._results is not None:
            self._results()
            self._results = None
        self._record(bool(self._points))

    def _record(self, on: bool) -> None:
        if on and not self._recording:
            self._recording = [self._tap.listen(kind, self._keep) for kind in RECORDED]
            self._recording.append(self._tap.change(Hypercall, self.recent.append, _raise, before=True))
        elif not on:
            for end in self._recording:
                end()
            self._recording = []

    def _keep(self, event: Event) -> None:
        self.decoder.note(event)
        if type(event) is not Hypercall or event.changed:
            self.recent.append(event)

    # ------------------------------------------------------------ meeting

    def _before(self, event: Event) -> None:
        self._meet(event, before=True)

    def _at(self, event: Event) -> None:
        self._meet(event, before=False)

    def _written(self, event: MsrAccess) -> None:
        """Writes of MSRs have passed when their result is known."""
        if event.write:
            self._meet(event, before=False)

    def _meet(self, event: Event, *, before: bool) -> None:
        if self._inside:
            return
        self.decoder.note(event)
        for point in tuple(self):
            if type(event) in TWICE and _is_early(event, before) is point.wants_results:
                continue
            if point.filter(event):
                point.hits += 1
                if point.skip:
                    point.skip -= 1
                    continue
                self._inside = True
                try:
                    self._met(event, point)
                finally:
                    self._inside = False
                return


def _is_early(event: Event, before: bool) -> bool:
    """Whether that is the earliest that an event can be met: MSRs are read before they pass."""
    return before or (isinstance(event, MsrAccess) and not event.write)


def _raise(_event: Event, error: Exception) -> None:
    """What is raised here is a mistake of ours."""
    raise error

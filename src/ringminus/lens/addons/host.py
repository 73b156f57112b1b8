"""Calls addons' hooks: one after another for each event, isolated from the guest and from each other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ringminus.clock import REFERENCE_HZ
from ringminus.errors import ConfigError
from ringminus.lens.addons.context import Context
from ringminus.lens.addons.hooks import HOOKS, Hook
from ringminus.lens.addons.loading import Addon
from ringminus.lens.addons.only import wanted
from ringminus.lens.decode import Decoder
from ringminus.lens.filter import Filter, FilterError, compile_filter
from ringminus.lens.lines import line
from ringminus.lens.reach import Reach
from ringminus.tap import BusMessage, ChannelState, Event, Tap

MOST_FAILURES = 10
"""After so many an addon is switched off."""
FRAMES_SHOWN = 3
Call = Callable[[Any, Context], object]


class Running:
    """An addon with its context, and how it fares. `ends` take its hooks out again."""

    def __init__(self, addon: Addon, context: Context) -> None:
        self.addon = addon
        self.context = context
        self.failures = 0
        self.ends: list[Callable[[], None]] = []

    @property
    def is_off(self) -> bool:
        return self.failures >= MOST_FAILURES


class AddonHost:
    """All addons of a run. `say` prints a line for a person, `break_here` opens the prompt. Guests come and
    go by `attach` and `detach`. Raises `ConfigError` for a filter that is wrong."""

    def __init__(
        self,
        tap: Tap,
        addons: Sequence[Addon],
        say: Callable[[str], None],
        break_here: Callable[[], None],
        decoder: Decoder | None = None,
    ) -> None:
        self.decoder = decoder or Decoder()
        self.reach: Reach | None = None
        self.say = say
        self.break_here = break_here
        self.current: Event | None = None
        """The event that an addon was given last."""
        self._tap = tap
        self._channels_are_noted = False
        self.running = [Running(one, Context(self, one.name, one.options)) for one in addons]
        for one in self.running:
            self._connect(one)

    # ------------------------------------------------------------ guests

    def attach(self, reach: Reach) -> None:
        """A guest is about to run."""
        self.reach = reach
        for one in self.running:
            self._call(one, "start")
            if "tick" in one.addon.hooks:
                self._tick_later(one, reach)

    def detach(self) -> None:
        """It has ended."""
        if self.reach is not None:
            for one in self.running:
                self._call(one, "stop")
            self.reach = None

    def _call(self, running: Running, name: str) -> None:
        hook = running.addon.hooks.get(name)
        if hook is not None and not running.is_off:
            try:
                hook(running.context)
            except Exception as error:
                self._failed(running, name, None, error)

    def _tick_later(self, running: Running, reach: Reach) -> None:
        delay = max(round(running.addon.tick_seconds * REFERENCE_HZ), 1)
        reach.later(delay, lambda _now: self._tick(running, reach))

    def _tick(self, running: Running, reach: Reach) -> None:
        if self.reach is reach and not running.is_off:
            self._call(running, "tick")
            self._tick_later(running, reach)

    # ------------------------------------------------------------ events

    def _connect(self, running: Running) -> None:
        """Listen to the points that its hooks need, and to no others."""
        points: dict[tuple[type[Event], bool], list[tuple[Hook, Call]]] = {}
        for name, method in running.addon.hooks.items():
            hook = HOOKS[name]
            if hook.event is not None:
                call = self._filtered(running, name, method)
                points.setdefault((hook.event, hook.before), []).append((hook, call))
        for (kind, before), calls in points.items():
            act = _either(calls, running.context, self._enter)
            failed = partial(self._event_failed, running)
            if calls[0][0].changes:
                running.ends.append(self._tap.change(kind, act, failed, before=before))
            else:
                running.ends.append(self._tap.listen(kind, partial(_guarded, act, failed)))

    def _enter(self, event: Event) -> None:
        """An addon gets an event."""
        self.current = event
        self.decoder.note(event)

    def _filtered(self, running: Running, name: str, method: Call) -> Call:
        """The method, called only with what its filter wants."""
        text = wanted(method)
        if not text:
            return method
        try:
            wants = compile_filter(text, self.decoder)
        except FilterError as error:
            raise ConfigError(f"--addon {running.addon.file}: the filter of {name}: {error}") from None
        if not wants.events & {HOOKS[name].event}:
            names = ", ".join(sorted(one.NAME for one in wants.events))
            where = f"--addon {running.addon.file}: the filter of {name}"
            raise ConfigError(f"{where} is never true: it is about {names} events")
        self._note_channels(wants)

        def call(event: Any, context: Context) -> None:
            if wants(event):
                method(event, context)

        return call

    def _note_channels(self, wants: Filter) -> None:
        """What channels are called is told by other events than those that the filter is about."""
        if not self._channels_are_noted and ChannelState.POINT in wants.points:
            self._channels_are_noted = True
            self._tap.listen(ChannelState, self.decoder.note)
            self._tap.listen(BusMessage, self.decoder.note)

    # ------------------------------------------------------------ failures

    def guard(self, name: str, act: Callable[[], object]) -> None:
        """Call something of an addon's outside of its hooks."""
        running = next(one for one in self.running if one.addon.name == name)
        try:
            act()
        except Exception as error:
            self._failed(running, "a function that it gave", None, error)

    def _event_failed(self, running: Running, event: Event, error: Exception) -> None:
        self._failed(running, "", event, error)

    def _failed(self, running: Running, where: str, event: Event | None, error: Exception) -> None:
        """Tell what happened in a few lines; one who goes on failing is switched off."""
        if running.is_off:
            return
        running.failures += 1
        name = running.addon.name
        own = str(Path(running.addon.file).parent)
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename.startswith(own)]
        hook = where or next((one.name for one in frames if one.name in HOOKS), "a hook")
        about = f" at event {event.sequence}" if event is not None else ""
        self.say(f"addon {name} failed in {hook}{about}: {type(error).__name__}: {error}")
        if event is not None:
            self.say(f"  {self._line(event)}")
        for frame in frames[-FRAMES_SHOWN:]:
            self.say(f"  {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}")
        if running.is_off:
            for end in running.ends:
                end()
            self.say(f"addon {name} has failed {MOST_FAILURES} times and is switched off; the guest goes on")

    def _line(self, event: Event) -> str:
        decoder = self.decoder
        return line(event, decoder.layers(event), decoder.channel(event)).plain


def _guarded(act: Callable[[Any], None], failed: Callable[[Any, Exception], None], event: Any) -> None:
    try:
        act(event)
    except Exception as error:
        failed(event, error)


def _either(
    calls: list[tuple[Hook, Call]], context: Context, note: Callable[[Event], None]
) -> Callable[[Any], None]:
    """Calls the one of an addon's methods for a point that is meant for an event."""
    if len(calls) == 1 and not calls[0][0].attribute:
        (_, method), *_ = calls

        def always(event: Any) -> None:
            note(event)
            method(event, context)

        return always
    attribute = calls[0][0].attribute
    table = {hook.value: method for hook, method in calls}

    def one(event: Any) -> None:
        note(event)
        method = table.get(getattr(event, attribute))
        if method is not None:
            method(event, context)

    return one

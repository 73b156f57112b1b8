"""The line on top: what is looked at, how far it has been read, how many events there are."""

from __future__ import annotations

from rich.text import Text

from ringminus.lens.lines import Line, Part
from ringminus.lens.tui.intake import Intake
from ringminus.lens.tui.store import Store
from ringminus.lens.tui.view import View

BAR = 12
LITTLE = 5000
"""Events that a filter may be behind without a bar: of a guest that runs it always is a little."""


def bar(part: float) -> str:
    """A bar of progress."""
    full = round(min(max(part, 0.0), 1.0) * BAR)
    return "█" * full + "░" * (BAR - full)


def status(intake: Intake, store: Store, view: View, *, follows: bool, marked: int) -> Text:
    """The line."""
    parts = [Part(intake.source.partition or "guest", "who"), Part(" ")]
    parts += _state(intake, follows=follows, paused=view.paused_at is not None)
    parts.append(Part(f"  {store.count:,} events"))
    if store.first:
        parts.append(Part(f", the first {store.first:,} given up", "bad"))
    if intake.source.lost:
        parts.append(Part(f", {intake.source.lost:,} lost", "bad"))
    if view.filter is not None:
        parts.append(Part(f"  {view.matches:,} match", "value"))
        if store.count - view.searched > LITTLE:
            parts.append(Part(f" {bar(view.searched / store.count)}", "time"))
        if not view.only:
            parts.append(Part(", all shown", "time"))
        parts.append(Part(f"  {view.filter.text}", "protocol"))
    if marked:
        parts.append(Part(f"  {marked} marked", "name"))
    return Line(parts).rich()


def _state(intake: Intake, *, follows: bool, paused: bool) -> list[Part]:
    if intake.failure:
        return [Part("failed", "bad")]
    if paused:
        return [Part("paused", "bad")]
    if intake.done:
        return [Part(intake.ended or "all read", "time")]
    if intake.live:
        return [Part("live, follows" if follows else "live", "name")]
    part = intake.progress
    if part is None:
        return [Part("reading", "name")]
    return [Part(f"reading {bar(part)} {part:4.0%}", "name")]

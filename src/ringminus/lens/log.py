"""Events as lines of text."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

from ringminus.errors import ConfigError, HostError
from ringminus.tap import (
    EVENTS,
    Event,
    EventSignal,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    PortIo,
    SynicMessage,
    Tap,
    TimerExpired,
    VmExit,
)

REFERENCE_HZ = 10_000_000
ALIASES = {"msr": "msrs", "hypercall": "hypercalls", "exit": "exits"}


def parse_points(text: str) -> list[type[Event]]:
    """The event types that a comma-separated list names; raises `ConfigError`."""
    known = {event.POINT: event for event in EVENTS}
    chosen: list[type[Event]] = []
    for word in text.split(","):
        name = ALIASES.get(word.strip(), word.strip())
        if name == "all":
            return list(EVENTS)
        if name not in known:
            raise ConfigError(f"--log knows no {word!r}: say {', '.join(known)} or all")
        chosen.append(known[name])
    return chosen


def describe(event: Event) -> str:
    """An event's own part of its line."""
    match event:
        case VmExit():
            return f"exit       {event.reason} {event.detail:#x} at {event.rip:#x}, {event.ns / 1000:.1f} us"
        case MsrAccess():
            arrow = "<-" if event.write else "->"
            return f"{'wrmsr' if event.write else 'rdmsr':<10} {event.name} {arrow} {'#GP' if event.fault else hex(event.value)}"
        case Hypercall():
            detail = (
                f" {event.detail}" if event.detail else f" input {event.input:#x} output {event.output:#x}"
            )
            return f"hypercall  {event.name}{detail} -> {event.status}"
        case SynicMessage():
            how = "delivered" if event.delivered else "queued"
            return (
                f"message    SINT{event.sint} type {event.message_type:#x} {event.payload[:32].hex()} {how}"
            )
        case EventSignal():
            return f"signal     SINT{event.sint} flag {event.flag}{'' if event.raised else ' (was set)'}"
        case Interrupt():
            return f"interrupt  vector {event.vector:#x} by {event.source}"
        case TimerExpired():
            return f"timer      {event.timer} due {event.deadline / REFERENCE_HZ:.7f}"
        case PortIo():
            arrow = "<-" if event.write else "->"
            return f"{'out' if event.write else 'in':<10} {event.port:#x} {arrow} {event.value:#0{2 * event.size + 2}x}"
        case MmioAccess():
            arrow = "<-" if event.write else "->"
            return f"{'store' if event.write else 'load':<10} {event.gpa:#x}/{event.size} {arrow} {event.value:#x}"
        case _:
            return repr(event)


def format_event(event: Event) -> str:
    """One line: seconds since the partition began, virtual processor, what happened."""
    return f"{event.time / REFERENCE_HZ:12.7f} vp{event.vp} {describe(event)}\n"


class EventLog:
    """Prints events of the given types to `path`, or to standard error, while the `with` block lasts."""

    def __init__(self, tap: Tap, events: list[type[Event]], path: Path | None) -> None:
        try:
            self._file: TextIO = sys.stderr if path is None else path.open("w", buffering=1 << 16)
        except OSError as error:
            raise HostError(f"cannot write {path}: {error.strerror}") from error
        self._owned = path is not None
        self._leave = [tap.listen(event, self._print) for event in events]

    def _print(self, event: Event) -> None:
        self._file.write(format_event(event))

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for leave in self._leave:
            leave()
        if self._owned:
            self._file.close()
        else:
            self._file.flush()

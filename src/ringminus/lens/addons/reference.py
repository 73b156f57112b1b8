"""The reference of addons in Markdown, made from the declarations, so that it says what is so."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from ringminus.changes import GuestData
from ringminus.lens.addons.context import Context, Injector
from ringminus.lens.addons.hooks import ALL
from ringminus.lens.addons.message import Fields, Message
from ringminus.tap import EVENTS, Event

CLASSES: tuple[tuple[str, type[Any]], ...] = (
    ("ctx", Context),
    ("ctx.inject", Injector),
    ("ctx.data(event)", GuestData),
    ("ctx.message(event)", Message),
    ("ctx.message(event).PROTOCOL", Fields),
)


def markdown() -> str:
    """Hooks, then events, then what hooks are given beside them."""
    parts = ["## Hooks", "\n".join(_hooks()), "## Events", *_events(), "## The context", *_context()]
    return "\n\n".join(parts) + "\n"


def _hooks() -> Iterator[str]:
    yield "| Hook | Event | When |"
    yield "|---|---|---|"
    for hook in ALL:
        event = f"[{hook.event.__name__}](#{hook.event.__name__.lower()})" if hook.event is not None else ""
        yield f"| `{hook.call}` | {event} | {hook.when} |"


def _events() -> Iterator[str]:
    used = {hook.event for hook in ALL}
    for event in EVENTS:
        if event in used:
            yield f"### {event.__name__}"
            yield inspect.cleandoc(event.__doc__ or "")
            if event.MAY or event.SETTABLE:
                yield "\n".join(_can(event))


def _can(event: type[Event]) -> Iterator[str]:
    listed = ", ".join(f"`{name}` ({_words(kind)})" for name, kind in event.SETTABLE.items())
    if listed:
        yield f"- Fields to set: {listed}."
    for name in sorted(event.MAY):
        method = getattr(event, name)
        yield f"- `event.{name}{_signature(method)}`: {_first(method)}"


def _words(kind: Any) -> str:
    if isinstance(kind, tuple):
        return " or ".join(kind)
    return f"{kind} bits" if isinstance(kind, int) else {bytes: "bytes", bool: "yes or no"}[kind]


def _context() -> Iterator[str]:
    for how, kind in CLASSES:
        yield f"### `{how}`"
        yield inspect.cleandoc(kind.__doc__ or "")
        members = list(_members(kind))
        if members:
            yield "\n".join(members)


def _members(kind: type[Any]) -> Iterator[str]:
    for name, member in vars(kind).items():
        if name.startswith("_") or name in ("reach", "put"):
            continue
        if isinstance(member, property):
            yield f"- `{name}`: {_first(member)}"
        elif callable(member):
            yield f"- `{name}{_signature(member)}`: {_first(member)}"


def _signature(method: Any) -> str:
    """Without `self` and types."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return str(inspect.Signature([one.replace(annotation=inspect.Parameter.empty) for one in parameters]))


def _first(member: Any) -> str:
    """Its docstring in one paragraph."""
    return re.sub(r"\s+", " ", inspect.cleandoc(member.__doc__ or "")).strip()

"""The catalogue of fields in words: for people, programs, and the reference."""

from __future__ import annotations

from typing import Any

from ringminus.lens.fields import Field, Kind, catalogue

VALUES_SHOWN = 12
CHANNEL_PREFIX = "vmbus.channel."
HEAD = ("| Field | Holds | Values |", "|---|---|---|")


def describe() -> list[dict[str, Any]]:
    """All fields that an event can have, as plain data."""
    return [_about(one) for one in catalogue().fields.values() if one.events]


def _about(field: Field) -> dict[str, Any]:
    labels = field.labels
    return {
        "name": field.name,
        "kind": "time" if field.unit is not None else field.kind.value,
        "about": field.title,
        "events": sorted(one.NAME for one in field.events),
        "flags": labels is not None and labels.flags,
        "values": labels.identifiers() if labels is not None else [],
    }


def field_lines(found: list[dict[str, Any]], *, with_values: bool) -> list[str]:
    """Fields in lines; `with_values` for all names of their values."""
    width = max(len(one["name"]) for one in found)
    lines = []
    for one in found:
        more = one["about"] or _some(one["values"])
        lines.append(f"{one['name']:<{width}}  {one['kind']:<10}  {more}".rstrip())
        if with_values:
            lines += [f"  {value}" for value in one["values"]]
    return lines


def _some(values: list[str]) -> str:
    more = f", … ({len(values)} in all)" if len(values) > VALUES_SHOWN else ""
    return ", ".join(values[:VALUES_SHOWN]) + more


def table() -> str:
    """The catalogue as the tables of the reference, in Markdown."""
    lines = ["### All events", "", *HEAD]
    every = describe()
    lines += [_row(one) for one in every if _is_common(one)]
    for one in every:
        if one["kind"] == Kind.THERE.value:
            fields = [_row(other) for other in every if _belongs(other, one["name"])]
            about = one["about"].rstrip(".").replace("|", "\\|")
            where = ", ".join(f"`{name}`" for name in one["events"])
            lines += ["", f"### `{one['name']}`", "", f"{about}."]
            if one["events"] != [one["name"]]:
                lines[-1] += f" In events: {where}."
            lines += ["", *HEAD, *fields] if fields else []
    lines += ["", "### The channel that an event is about", "", *HEAD]
    lines += [_row(one) for one in every if one["name"].startswith(CHANNEL_PREFIX)]
    return "\n".join(lines) + "\n"


def _is_common(one: dict[str, Any]) -> bool:
    return one["kind"] != Kind.THERE.value and "." not in one["name"]


def _belongs(one: dict[str, Any], group: str) -> bool:
    name = one["name"]
    return bool(name.startswith(f"{group}.")) and not name.startswith(CHANNEL_PREFIX)


def _row(one: dict[str, Any]) -> str:
    about = one["about"].replace("|", "\\|") or _some([f"`{value}`" for value in one["values"]])
    flags = " (flags)" if one["flags"] else ""
    return f"| `{one['name']}` | {one['kind']}{flags} | {about} |".replace("|  |", "| |")

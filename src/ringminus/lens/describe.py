"""The catalogue of fields in words: for people, programs, and the reference."""

from __future__ import annotations

from typing import Any

from ringminus.lens.fields import Field, catalogue

VALUES_SHOWN = 12


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
    lines: list[str] = []
    group = ""
    for one in describe():
        first, dot, _ = one["name"].partition(".")
        if first != group and (not dot or first not in group):
            group = first if not _is_common(one) else "common"
        lines += _rows(one)
    return "\n".join(lines) + "\n"


def _is_common(one: dict[str, Any]) -> bool:
    return one["kind"] != "is there" and "." not in one["name"]


def _rows(one: dict[str, Any]) -> list[str]:
    """A heading where an event or a protocol begins, and a row of its table."""
    if one["kind"] == "is there":
        where = ", ".join(one["events"])
        about = one["about"].rstrip(".")
        heading = ["", f"### `{one['name']}`", "", f"{about}. In: {where}.", "", "| Field | Holds | Values |"]
        return [*heading, "|---|---|---|"]
    about = one["about"].replace("|", "\\|") or _some([f"`{value}`" for value in one["values"]])
    flags = " (flags)" if one["flags"] else ""
    return [f"| `{one['name']}` | {one['kind']}{flags} | {about} |"]

"""Wireshark's dissector of captures: a Lua script, made from the declarations of events and messages.

What is in the folder `dissector` takes messages apart by what is declared, as `ringminus.protocol` does; here
what is declared becomes a table for it. Which declarations there are is up to who makes it: those that he has
imported.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum, IntEnum, IntFlag
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import msgspec

from ringminus import __version__
from ringminus.lens import record
from ringminus.lens.capture.pcapng_wire import FORMAT_VERSION
from ringminus.lens.decode import COMPLETION, VMBUS_MESSAGE
from ringminus.lens.fields import UNITS, Unit
from ringminus.protocol import (
    BY_INTERFACE,
    NAMES,
    PADDING,
    PROTOCOLS,
    REST,
    Ones,
    Pages,
    Part,
    Place,
    Plan,
    Protocol,
    Show,
    Told,
    laid_out,
)
from ringminus.tap import EVENTS, Event
from ringminus.wire import Array, Bytes, Int

PARTS = ("fields", "messages", "tree", "events")
"""Of the script, in their order."""
SCRIPT = "ringminus.lua"
"""What the dissector's file is called."""
_TICKS = Unit(100, 10**9)
_BYTES = {
    Show.MAC: "mac",
    Show.IPV4: "ipv4",
    Show.IPV6: "ipv6",
    Show.GUID: "guid",
    Show.UTF16: "text",
    Show.TEXT: "text",
}
_EVENT_TYPES: dict[Any, str] = {str: "text", bytes: "bytes", bool: "flag", UUID: "guid"}
_SIZES = {"b": 1, "h": 2, "i": 4, "q": 8}
_HEXADECIMAL = frozenset(
    (
        *("rip", "detail", "msr", "value", "code", "control", "input", "output", "result", "port", "gpa"),
        *("transaction_id", "handle", "connection_id", "vector", "address", "error_code", "cr3", "gva"),
    )
)
"""Fields of events that are read so."""
Lua = str | int | bool | None | list[Any] | dict[Any, Any]


def dissector() -> str:
    """The script, for what is declared now."""
    parts = (Path(__file__).with_name("dissector") / f"{name}.lua" for name in PARTS)
    body = "\n".join(part.read_text(encoding="utf-8") for part in parts)
    spec = _Spec().made()
    text = body.replace("local SPEC = {} -- SPEC", "local SPEC = " + _lua(spec), 1)
    checksum = zlib.crc32(text.encode())
    return text.replace("-- VERSION", f"-- ringminus {__version__}, {checksum:08x}", 1)


def version_of(script: str) -> str:
    """What a script says that it is; "" if it is none of ours."""
    found = re.search(r"^-- (ringminus \S+, [0-9a-f]{8})$", script, re.MULTILINE)
    return found[1] if found is not None else ""


# ------------------------------------------------------------ Lua


def _lua(value: Lua, depth: int = 0) -> str:
    """A value as Lua writes it; tables of two levels have a line for each element."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        items = [_lua(one, depth + 1) for one in value]
    else:
        items = [f"{_key(key)} = {_lua(one, depth + 1)}" for key, one in value.items() if one is not None]
    if depth < 3 and items:
        indent = "  " * depth
        lines = "".join(f"{indent}  {one},\n" for one in items)
        return f"{{\n{lines}{indent}}}"
    return "{ " + ", ".join(items) + " }" if items else "{}"


def _quoted(text: str) -> str:
    return (
        '"'
        + "".join(
            f"\\{byte:03}" if byte < 32 or byte in b'"\\' or byte > 126 else chr(byte)
            for byte in text.encode()
        )
        + '"'
    )


def _key(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{int(key)}]"
    return (
        key
        if re.fullmatch(r"[a-z_]+", key) and key not in ("end", "repeat", "function")
        else f"[{_quoted(key)}]"
    )


# ------------------------------------------------------------ what is declared


class _Spec:
    """The table; labels are in it once, by a name."""

    def __init__(self) -> None:
        self._labels: dict[str, Lua] = {}
        self._known: dict[Any, str] = {}

    def made(self) -> dict[str, Lua]:
        schema = record.schema()
        header = {one.name for one in fields(Event)}
        protocols = {name: self._protocol(one) for name, one in sorted(PROTOCOLS.items())}
        return {
            "version": __version__,
            "format": FORMAT_VERSION,
            "schema_crc": zlib.crc32(schema),
            "schema": msgspec.msgpack.decode(schema),
            "completion": COMPLETION,
            "vmbus_message": VMBUS_MESSAGE,
            "header": [
                self._event_field(Event, "", name) for name in get_type_hints(Event) if name in header
            ],
            "events": {
                kind.NAME: [
                    self._event_field(kind, f"{kind.NAME}.", one.name)
                    for one in fields(kind)
                    if one.name not in header
                ]
                for kind in EVENTS
            },
            "interfaces": {one.bytes.hex(): protocol.name for one, protocol in BY_INTERFACE.items()},
            "protocols": protocols,
            "labels": self._labels,
        }

    # -------------------------------------------------------- events

    def _event_field(self, kind: type[Event], prefix: str, name: str) -> Lua:
        hint, full = get_type_hints(kind)[name], prefix + name
        if UNITS.get(full) == _TICKS:
            return [name, "time"]
        names = NAMES.get(full)
        labels = self._names(full, names) if names else None
        return [name, _EVENT_TYPES.get(hint, "u64"), labels or "", name in _HEXADECIMAL]

    def _names(self, name: str, names: Mapping[int, str]) -> str:
        self._labels[name] = {"names": dict(names)}
        return name

    def _enum(self, labels: type[Enum] | None) -> str | None:
        """Labels by a name of their own."""
        if labels is None:
            return None
        if labels not in self._known:
            name = self._known[labels] = f"{labels.__name__} {len(self._known)}"
            if issubclass(labels, IntFlag):
                flags: list[Lua] = [[one.value, one.name or ""] for one in labels if one.value]
                self._labels[name] = {"flags": True, "of": flags}
            elif issubclass(labels, IntEnum):
                self._labels[name] = {"names": {one.value: one.name for one in labels}}
        return self._known[labels]

    # -------------------------------------------------------- protocols

    def _protocol(self, protocol: Protocol) -> dict[str, Lua]:
        forms = {number: laid_out(protocol, number) for number in protocol.forms}
        bare = laid_out(protocol, None)
        otherwise = laid_out(protocol, _unused(protocol)) if protocol.otherwise is not None else ()
        every = [*bare, *(one for several in forms.values() for one in several), *otherwise]
        named = _Fields(self._enum, every)
        selector = bare[0].places.get(protocol.selector)
        return {
            "title": protocol.title,
            "header": protocol.header.SIZE if protocol.header is not None else None,
            "selector": protocol.selector,
            "selector_labels": self._enum(protocol.labels.get(protocol.selector)),
            "select": _place(selector, named) if selector is not None else None,
            "padded": protocol.padded,
            "asked": sorted({part.number for plan in every for part in plan.parts.values() if part.number}),
            "fields": named.all(),
            "bare": [_plan(one, named) for one in bare],
            "otherwise": [_plan(one, named) for one in otherwise] or None,
            "forms": {number: [_plan(one, named) for one in made] for number, made in forms.items()},
        }


class _Fields:
    """The fields of a protocol. Integers of one name have the type that has room for all their values; where
    fields of a name differ in labels, or in more than size, they are several of Wireshark's, too."""

    def __init__(self, enum: Callable[[type[Enum] | None], str | None], plans: list[Plan]) -> None:
        self._enum = enum
        self._sizes: dict[tuple[str, str], str] = {}
        self._numbers: dict[tuple[str, str, type[Enum] | None, bool], int] = {}
        for plan in plans:
            for place in plan.places.values():
                self._see(place.name, _type(place.kind, place.show, place.width), place.labels, place.show)
            for part in plan.parts.values():
                self._see(part.name, *_part_type(plan, part))
        for name in (REST, PADDING):
            self._see(name, "bytes", None, None)

    def _see(self, name: str, kind: str, labels: type[Enum] | None, show: Show | None) -> None:
        family = _family(kind)
        self._sizes[name, family] = _wider(self._sizes.get((name, family)), kind)
        self._numbers.setdefault((name, family, labels, show is Show.HEX), len(self._numbers) + 1)

    def number(self, name: str, kind: str, labels: type[Enum] | None, show: Show | None) -> int:
        """The place of a field in `all`, from 1 on."""
        return self._numbers[name, _family(kind), labels, show is Show.HEX]

    def all(self) -> list[Lua]:
        """Name, type, labels, whether it is hexadecimal."""
        return [
            [name, self._sizes[name, family], self._enum(labels) or "", hexadecimal]
            for name, family, labels, hexadecimal in self._numbers
        ]


def _plan(plan: Plan, named: _Fields) -> dict[str, Lua]:
    form = plan.form
    made: dict[str, Lua] = {
        "fixed": plan.end,
        "least": plan.least,
        "big": plan.order == ">",
        "total": _amount(plan.size),
        "places": [_place(one, named) for one in plan.places.values()],
        "parts": [_part(plan, one, named) for one in plan.parts.values()] or None,
    }
    if form is not None:
        inner = [[name, within, form.lengths.get(name)] for name, within in form.inner.items()]
        made |= {
            "message": form.name,
            "to_guest": form.to_guest,
            "answers": form.answers or None,
            "when": dict(form.when) or None,
            "inner": list(inner) or None,
        }
    return made


def _place(place: Place, named: _Fields) -> dict[str, Lua]:
    made: dict[str, Lua] = {
        "name": place.name,
        "field": named.number(
            place.name, _type(place.kind, place.show, place.width), place.labels, place.show
        ),
        "offset": place.offset,
        "size": place.size,
        "kind": "bytes",
    }
    if isinstance(place.kind, Bytes):
        return made | {"utf16": place.show is Show.UTF16}
    code = place.kind.code
    made |= {"kind": "int", "signed": code.islower(), "big": place.order == ">"}
    if isinstance(place.kind, Array):
        made |= {"kind": "array", "step": _SIZES[code.lower()]}
    if place.width:
        made |= {"shift": place.shift, "width": place.width}
    return made


def _unused(protocol: Protocol) -> int:
    """A number without a form."""
    return max(protocol.forms, default=0) + 1


def _type(kind: Int | Bytes | Array, show: Show | None, width: int) -> str:
    """A type of Wireshark's fields, as the script calls it."""
    if isinstance(kind, Bytes):
        return _BYTES.get(show, "bytes") if show is not None else "bytes"
    bits = 8 * _SIZES[kind.code.lower()]
    if width:
        return f"u{next(one for one in (8, 16, 32, 64) if width <= one)}"
    return f"{'i' if kind.code.islower() else 'u'}{bits}"


def _part_type(plan: Plan, part: Part) -> tuple[str, type[Enum] | None, Show | None]:
    """A part's type, labels, and how it is read."""
    show = plan.shows.get(part.name)
    kind = _type(part.of if isinstance(part.of, Int) else Bytes(0), show, 0)
    return kind, plan.labels.get(part.name), show


def _family(kind: str) -> str:
    """All integers are of one."""
    return "integer" if kind[1:].isdigit() else kind


def _wider(one: str | None, other: str) -> str:
    """The type that has room for the values of both."""
    if one is None or one == other:
        return other
    if one[0] == other[0]:
        return max(one, other, key=lambda name: int(name[1:]))
    return "i64"


def _part(plan: Plan, part: Part, named: _Fields) -> dict[str, Lua]:
    show = plan.shows.get(part.name)
    made: dict[str, Lua] = {
        "name": part.name,
        "field": named.number(part.name, *_part_type(plan, part)),
        "at": _amount(part.at),
        "size": _amount(part.size),
        "count": _amount(part.count),
        "number": part.number or None,
        "continued": part.continued,
        "when": dict(part.when) or None,
        "unless": dict(part.unless) or None,
        "utf16": show is Show.UTF16,
    }
    if isinstance(part.of, Int):
        code = part.of.code
        return made | {"step": _SIZES[code.lower()], "signed": code.islower()}
    return made | {"of": part.of}


def _amount(told: Any) -> Lua:
    """A number, or how it is told."""
    if isinstance(told, str):
        return {"field": told, "times": 1, "plus": 0}
    if isinstance(told, Told):
        return {"field": told.field, "times": told.times, "plus": told.plus}
    if isinstance(told, Ones):
        return {"field": told.field, "ones": True}
    if isinstance(told, Pages):
        return {"offset": told.offset, "length": told.length}
    number: int | None = told
    return number

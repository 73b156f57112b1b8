"""Events as bytes, and back: what files of events and live sockets carry.

A record is one byte, the event's number in a schema, then the values of its fields as one MessagePack array
(https://github.com/msgpack/msgpack), in the schema's order. A schema is a list of [NAME, [field, …]], one for
each type of event. A file keeps the schema that its records were written by (`schema`), so that whatever
fields events have by then, `Reader` finds what it knows: new fields have their type's empty value, and what
there is no more is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from operator import attrgetter
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from ringminus.errors import HostError
from ringminus.tap import EVENTS, NO_INTERFACE, Event

MOST_TYPES = 256
Schema = list[tuple[str, list[str]]]
_EMPTY: dict[Any, Any] = {int: 0, str: "", bytes: b"", bool: False, UUID: NO_INTERFACE}


class BadRecord(HostError):
    """Bytes that are no event, or not by this schema."""


class UnknownEvent(BadRecord):
    """A type of event that this version of ringminus does not have."""


def _field_types(kind: type[Event]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind) if one.init}


_TYPES = {kind: _field_types(kind) for kind in EVENTS}
"""The types of events' fields, by name."""


def _empty(kind: type[Event], name: str) -> Any:
    """The value of a field that an old file does not have."""
    field = next(one for one in fields(kind) if one.name == name)
    if field.default is not MISSING:
        return field.default
    wanted = _TYPES[kind][name]
    if NoneType in get_args(wanted):
        return None
    return () if get_origin(wanted) is tuple else _EMPTY.get(wanted)


SCHEMA: Schema = [(kind.NAME, list(_TYPES[kind])) for kind in EVENTS]
"""This version's."""
_ENCODER = msgspec.msgpack.Encoder(uuid_format="bytes")
_WRITERS = {kind: (bytes((number,)), attrgetter(*_TYPES[kind])) for number, kind in enumerate(EVENTS)}


def encode(event: Event) -> bytes:
    """The event as a record by `SCHEMA`."""
    number, values = _WRITERS[type(event)]
    return number + _ENCODER.encode(values(event))


def encoder(kind: type[Event], prefix: bytes = b"") -> Callable[[Event], bytes]:
    """`encode` for events of one type, with something before the record: for who writes very many."""
    number, values = _WRITERS[kind]
    begin, encoded = prefix + number, _ENCODER.encode

    def made(event: Event) -> bytes:
        return begin + encoded(values(event))

    return made


def schema() -> bytes:
    """`SCHEMA` for the beginning of a file or a connection."""
    return _ENCODER.encode(SCHEMA)


def _assigner(kind: type[Event], names: Sequence[str]) -> Callable[[Any, tuple[Any, ...]], None]:
    """Puts values of these fields into an event, compiled as dataclasses compile `__init__`: files have
    millions of events. What the event does not have goes nowhere."""
    types = _TYPES[kind]
    targets = ", ".join(f"event.{name}" if name in types else "_" for name in names)
    namespace: dict[str, Any] = {}
    exec(f"def assign(event, values):\n    [{targets}] = values\n", namespace)
    made: Callable[[Any, tuple[Any, ...]], None] = namespace["assign"]
    return made


class _Form:
    """How to make one type of event of its values by a schema."""

    def __init__(self, kind: type[Event], names: Sequence[str]) -> None:
        types = _TYPES[kind]
        self.kind = kind
        self._assign = _assigner(kind, names)
        self._missing = [(name, _empty(kind, name)) for name in types if name not in names]
        shape: Any = tuple.__class_getitem__(tuple(types.get(name, Any) for name in names))
        self._decode = msgspec.msgpack.Decoder(shape).decode

    def make(self, data: memoryview) -> Event:
        """Raises `msgspec.MsgspecError`."""
        values = self._decode(data)
        event = self.kind.__new__(self.kind)
        self._assign(event, values)
        for name, value in self._missing:
            setattr(event, name, value)
        return event


class Reader:
    """Reads records that were written by the schema of those bytes; raises `BadRecord` if it is none."""

    def __init__(self, written_by: bytes | None = None) -> None:
        try:
            found = SCHEMA if written_by is None else msgspec.msgpack.decode(written_by, type=Schema)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRecord(f"that is no schema of events: {error}") from None
        known = {kind.NAME: kind for kind in EVENTS}
        self._names = [name for name, _ in found]
        if len(found) > MOST_TYPES or any(len(set(names)) < len(names) for _, names in found):
            raise BadRecord("that is no schema of events: it names a field twice, or too many types")
        self._forms = [_Form(known[name], names) if name in known else None for name, names in found]

    def decode(self, data: bytes | memoryview) -> Event:
        """The event of a record; raises `BadRecord`, and `UnknownEvent` for a type that there is not."""
        if not data or data[0] >= len(self._forms):
            raise BadRecord("that is no event: its type is not in the schema")
        form = self._forms[data[0]]
        if form is None:
            raise UnknownEvent(f"this version of ringminus knows no event {self._names[data[0]]!r}")
        try:
            return form.make(memoryview(data)[1:])
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise BadRecord(f"that is no {form.kind.NAME} event: {error}") from None


_CURRENT = Reader()


def decode(data: bytes | memoryview) -> Event:
    """The event of a record by `SCHEMA`; raises `BadRecord`."""
    return _CURRENT.decode(data)

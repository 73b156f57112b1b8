"""Where the fields of a form lie: found out once, for all messages of that form."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import NamedTuple

from ringminus.protocol.declaration import Form, Part, Protocol, Show
from ringminus.wire import Array, Bytes, Int, Struct

UNUSED = ("reserved", "padding")
"""Fields whose names begin so say nothing, and are none of a message's."""
OTHER = -1
"""Stands for the numbers that have no forms."""


class Place(NamedTuple):
    """Where a field lies in a message, from its beginning; `kind` tells how to read it. A field of bits is
    `width` bits of the integer there, `shift` above its lowest; of others `width` is 0. `order` is the byte
    order of integers, as `struct` writes it."""

    name: str
    offset: int
    size: int
    kind: Int | Bytes | Array
    read: Callable[[bytes, int], tuple[int, ...]] | None
    labels: type[IntEnum] | type[IntFlag] | None
    show: Show | None = None
    shift: int = 0
    width: int = 0
    order: str = "<"

    def value(self, data: bytes) -> int | bytes | tuple[int, ...]:
        """It must be there."""
        if self.read is None:
            return bytes(data[self.offset : self.offset + self.size])
        found = self.read(data, self.offset)
        if isinstance(self.kind, Array):
            return found
        if self.width:
            return found[0] >> self.shift & (1 << self.width) - 1
        return found[0]


class Plan:
    """A form laid out: its fields in order, with those of structures within and of words, and its parts by
    name. `end` is where its fixed fields end, `least` how many bytes it must have at least, `size` tells
    how many it has. Without a form it is the header alone."""

    def __init__(self, protocol: Protocol, form: Form | None) -> None:
        self.form = form
        self.places: dict[str, Place] = {}
        self.parts: dict[str, Part] = {part.name: part for part in form.parts} if form is not None else {}
        self.end = 0
        self.order = "<"
        self.selector = protocol.selector
        self.labels = protocol.labels if form is None else {**protocol.labels, **form.labels}
        self.shows, self.padded = protocol.shows, protocol.padded
        self._words = protocol.words if form is None else {**protocol.words, **form.words}
        if protocol.header is not None and not (form is not None and form.whole):
            self._add(protocol, protocol.header, 0, "")
            self.end = protocol.header.SIZE
        if form is not None and form.structure is not None:
            self._add(protocol, form.structure, self.end, "")
            self.end += form.structure.SIZE
        self.size = protocol.size
        self.least = self.end if form is None or form.least is None else form.least

    def _add(self, protocol: Protocol, structure: type[Struct], base: int, prefix: str) -> None:
        self.order = structure.order()
        for one in structure.FIELDS:
            name, offset = prefix + one.name, base + one.offset
            if one.name.startswith(UNUSED):
                continue
            if not isinstance(one.kind, Int | Bytes | Array):
                # the header is the message's own, wherever it is declared
                inside = prefix if one.kind is protocol.header else name + "."
                self._add(protocol, one.kind, offset, inside)
                continue
            read = structure.reader(one)
            labels, show = self.labels.get(one.name), protocol.shows.get(one.name)
            place = Place(name, offset, one.size, one.kind, read, labels, show, order=structure.order())
            self.places[name] = place
            for bits in self._words.get(one.name, ()):
                path = f"{prefix if bits.alone else name + '.'}{bits.name}"
                self.places[path] = place._replace(
                    name=path,
                    labels=bits.labels,
                    show=bits.show,
                    shift=bits.shift,
                    width=bits.width,
                )


def laid_out(protocol: Protocol, number: int | None) -> tuple[Plan, ...]:
    """The forms of the message of that number, at least one; None is the header's own."""
    plans: dict[int | None, tuple[Plan, ...]] = protocol.plans
    found = plans.get(number)
    if found is not None:
        return found
    several = protocol.forms.get(number) if number is not None else None
    if several is None and number is not None:
        # numbers without forms have a plan together: guests make them up
        if protocol.otherwise is None:
            return laid_out(protocol, None)
        if OTHER in plans:
            return plans[OTHER]
        number, several = OTHER, protocol.otherwise
    forms = several if isinstance(several, tuple) else (several,)
    plans[number] = made = tuple(Plan(protocol, one) for one in forms)
    return made

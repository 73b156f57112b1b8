"""Taking messages apart."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ringminus.protocol.declaration import PROTOCOLS, Form, Protocol, Show
from ringminus.protocol.parts import DEEPEST, Extent, amount, lay_out
from ringminus.protocol.plan import Plan, laid_out
from ringminus.protocol.text import label_of, shown
from ringminus.wire import Int

REST = "rest"
"""The name of the bytes that follow a message's structure and parts."""
PADDING = "padding"
"""The name of bytes that say nothing: those to the size of the protocol's messages, and between parts."""
MOST_NUMBERS = 1 << 16


class Value(NamedTuple):
    """A field's value; `offset` counts from the beginning of the outermost message, `label` is the value's
    name, "" if it has none. A field of bits has the place of its word, in which it is `width` bits, `shift`
    above the lowest."""

    name: str
    value: int | str | bytes | tuple[int, ...]
    offset: int
    size: int
    label: str = ""
    show: Show | None = None
    shift: int = 0
    width: int = 0

    @property
    def text(self) -> str:
        """As a person reads it."""
        return self.label or shown(self.value, self.show)


class Layer:
    """A message that has been taken apart: `number` is its number in the protocol, `request` what it answers,
    `depth` how many messages it is in. What is in it is read when it is asked for."""

    __slots__ = (
        *("protocol", "message", "number", "offset", "size", "request", "depth"),
        *("_cut", "_data", "_extents", "_inner", "_plan", "_to_guest", "_values"),
    )

    def __init__(
        self,
        protocol: str,
        message: str,
        data: bytes = b"",
        plan: Plan | None = None,
        *,
        number: int = 0,
        offset: int = 0,
        to_guest: bool = False,
        request: Layer | None = None,
        cut: int = 0,
    ) -> None:
        self.protocol = protocol
        self.message = message
        self.number = number
        self.offset = offset
        self.size = len(data)
        self._data = data
        self._plan = plan
        self._to_guest = to_guest
        self.request = request
        self.depth = 0
        self._cut = cut
        self._values: list[Value] | None = None
        self._inner: list[Layer] | None = None
        self._extents: list[Extent] | None = None

    @property
    def form(self) -> Form | None:
        """The form that the message has, None for one that is not known."""
        return self._plan.form if self._plan is not None else None

    @property
    def values(self) -> list[Value]:
        """The fields that are there, then parts, then the bytes that nothing explains."""
        if self._values is None:
            self._values = self._read()
        return self._values

    @property
    def inner(self) -> list[Layer]:
        """The messages in it."""
        if self._inner is None:
            self._inner = self._within()
        return self._inner

    @property
    def missing(self) -> int:
        """How many bytes are not there that should be, other than those that were left out on purpose."""
        plan, size = self._plan, self.size
        if plan is None:  # not even its header is there
            known = PROTOCOLS.get(self.protocol)
            return max(known.header.SIZE - size, 1) if known is not None and known.header is not None else 1
        short = max(plan.least, self.told_size) - size
        if plan.parts:
            short = max((short, *(one.missing for one in self.extents)))
        return max(short - self._cut, 0)

    @property
    def told_size(self) -> int:
        """The size that the message says it has; 0 if it does not say."""
        told = self._plan.size if self._plan is not None else None
        return 0 if told is None else max(amount(self, told) or 0, 0)

    @property
    def end(self) -> int:
        """Where what is explained ends, as far as it is there."""
        return min(max(self._fixed, *(one.end for one in self.extents), 0), self.size)

    @property
    def extents(self) -> list[Extent]:
        """The parts that there are."""
        if self._extents is None:
            self._extents = []  # what looks for a part that is laid out only later finds nothing
            for one in lay_out(self, self._plan) if self._plan is not None and self._plan.parts else ():
                self._extents.append(one)
        return self._extents

    @property
    def _fixed(self) -> int:
        return self._plan.end if self._plan is not None else 0

    def get(self, name: str) -> int | str | bytes | tuple[int, ...] | None:
        """A field's value; that of the protocol's selector is the message's number."""
        plan, size = self._plan, self.size
        if plan is None:
            return next((one.value for one in self.values if one.name == name), None)
        place = plan.places.get(name)
        if place is not None:
            return place.value(self._data) if place.offset + place.size <= size else None
        head, _, path = name.partition(".")
        if path:
            within = (one for extent in self.extents if extent.part.name == head for one in extent.layers)
            return next((value for one in within if (value := one.get(path)) is not None), None)
        if name in plan.parts or name in (REST, PADDING):
            return next((one.value for one in self.values if one.name == name), None)
        return self.number if name == plan.selector and self.message else None

    def message_at(
        self, protocol: Protocol, start: int, end: int, number: int | None = None, cut: int = 0
    ) -> Layer:
        """Take apart what is there as a message of that protocol."""
        data, at = self._data[start:end], self.offset + start
        made = dissect(protocol, data, to_guest=self._to_guest, number=number, offset=at, cut=cut)
        made.depth = self.depth + 1
        return made

    # ------------------------------------------------------------ reading

    def _read(self) -> list[Value]:
        data, size, base, plan = self._data, self.size, self.offset, self._plan
        if plan is None:
            return [Value(REST, bytes(data), base, size)] if size else []
        found: list[Value] = []
        for one in plan.places.values():
            offset, extent = one.offset, one.size
            if offset + extent <= size:
                value = one.value(data)
                label = "" if one.labels is None else label_of(one.labels, value)
                place = base + offset
                found.append(Value(one.name, value, place, extent, label, one.show, one.shift, one.width))
        end = self._read_parts(plan, found) if plan.parts or plan.padded else plan.end
        if end < size:
            found.append(Value(REST, bytes(data[end:]), base + end, size - end))
        return found

    def _read_parts(self, plan: Plan, found: list[Value]) -> int:
        """Parts, and what lies between them; gives where they end."""
        position = plan.end
        for one in sorted(self.extents, key=lambda extent: extent.start):
            if one.start > position:
                found.append(self._padding(position, one.start))
            if not one.layers and one.end > one.start:
                found.append(self._part(plan, one))
            position = max(position, one.end)
        end = min(plan.padded, self.size)
        if position < end:
            found.append(self._padding(position, end))
            position = end
        return position

    def _padding(self, start: int, end: int) -> Value:
        return Value(PADDING, bytes(self._data[start:end]), self.offset + start, end - start)

    def _part(self, plan: Plan, extent: Extent) -> Value:
        part, start, end = extent.part, extent.start, extent.end
        labels, show = plan.labels.get(part.name), plan.shows.get(part.name)
        value: bytes | tuple[int, ...] = bytes(self._data[start:end])
        label = ""
        if isinstance(part.of, Int):
            step = struct.calcsize(part.of.code)
            count = min((end - start) // step, MOST_NUMBERS)
            value = struct.unpack_from(f"{plan.order}{count}{part.of.code}", self._data, start)
            if labels is not None:
                label = ",".join(label_of(labels, one) or f"{one:#x}" for one in value)
        return Value(part.name, value, self.offset + start, end - start, label, show)

    def _within(self) -> list[Layer]:
        found: list[Layer] = []
        form = self._plan.form if self._plan is not None else None
        if form is None or self._plan is None:
            return found
        for name, within in form.inner.items() if self.depth < DEEPEST else ():
            inside, at = self.get(name), self._place_of(name)
            if within not in PROTOCOLS or not isinstance(inside, bytes):
                continue
            length = self.get(form.lengths[name]) if name in form.lengths else None
            size = min(length, len(inside)) if isinstance(length, int) else len(inside)
            if size > 0:
                found.append(self.message_at(PROTOCOLS[within], at, at + size))
        for extent in self.extents if form.parts else ():
            found += extent.layers
        return found

    def _place_of(self, name: str) -> int:
        """Where in the message a field of bytes is, if it is there."""
        place = self._plan.places.get(name) if self._plan is not None else None
        if place is not None:
            return place.offset
        return next((one.offset - self.offset for one in self.values if one.name == name), 0)

    def __repr__(self) -> str:
        return f"Layer({self.protocol!r}, {self.message!r}, {self.values!r}, {self.inner!r})"


def dissect(
    protocol: Protocol,
    data: bytes,
    *,
    to_guest: bool = False,
    number: int | None = None,
    request: Layer | None = None,
    offset: int = 0,
    cut: int = 0,
) -> Layer:
    """Take a message apart. `number` is its number where the bytes do not tell, `request` the message that it
    answers, if that is known; `offset` is where `data` begins in the outermost message, and `cut` how many
    bytes were left out at its end. What is not known, or is cut short, is shown as far as it goes."""
    size = len(data)
    header = protocol.header
    if number is None:
        if header is None or size < header.SIZE:
            number = 0
            if protocol.selector:
                return Layer(protocol.name, "", data, offset=offset)
        elif protocol.selector:
            value = laid_out(protocol, None)[0].places[protocol.selector].value(data)
            number = value if isinstance(value, int) else 0
        else:
            number = 0
    plans = laid_out(protocol, number)
    plan = plans[0] if len(plans) == 1 else _fitting(plans, data, to_guest, request)
    name = plan.form.name if plan.form is not None else ""
    return Layer(
        protocol.name,
        name or _number_name(protocol, number),
        data,
        plan,
        number=number,
        offset=offset,
        to_guest=to_guest,
        request=request,
        cut=cut,
    )


def _fitting(plans: tuple[Plan, ...], data: bytes, to_guest: bool, request: Layer | None) -> Plan:
    last = plans[-1]  # rather than nothing, for a message in the wrong direction
    for plan in plans:
        one = plan.form
        assert one is not None
        if one.to_guest not in (None, to_guest):
            continue
        if one.answers and (request is None or one.answers != request.message):
            continue
        if len(data) >= plan.least and all(_has(plan, data, *wanted) for wanted in one.when.items()):
            return plan
        if len(data) < plan.least and not one.when:
            last = plan
    return last


def _has(plan: Plan, data: bytes, name: str, value: int) -> bool:
    place = plan.places[name]
    return place.offset + place.size <= len(data) and place.value(data) == value


def _number_name(protocol: Protocol, number: int) -> str:
    labels = protocol.labels.get(protocol.selector)
    return label_of(labels, number) or f"{number:#x}"

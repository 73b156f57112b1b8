"""Taking messages apart."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ringminus.protocol.declaration import PROTOCOLS, Amount, Form, Ones, Pages, Part, Protocol, Show, Told
from ringminus.protocol.plan import Plan, laid_out
from ringminus.protocol.text import label_of, shown
from ringminus.wire import Int

REST = "rest"
"""The name of the bytes that follow a message's structure and parts."""
PADDING = "padding"
"""The name of bytes that say nothing: those to the size of the protocol's messages, and between parts."""
PAGE = 4096
MOST_NUMBERS = 1 << 16
ALL = 1 << 32
"""As the bytes that were left out: whatever is missing."""


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


class Extent(NamedTuple):
    """Where a part lies in a message, as far as it is there; `missing` bytes of it are not. `layers` are the
    messages in it."""

    part: Part
    start: int
    end: int
    missing: int
    layers: list[Layer]


class Layer:
    """A message that has been taken apart: `number` is its number in the protocol. What is in it is read when
    it is asked for."""

    __slots__ = (
        *("protocol", "message", "number", "offset", "size"),
        *("_cut", "_data", "_extents", "_inner", "_plan", "_request", "_to_guest", "_values"),
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
        self._request = request
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
        return 0 if told is None else max(self.amount(told) or 0, 0)

    @property
    def end(self) -> int:
        """Where what is explained ends, as far as it is there."""
        return min(max(self._fixed, *(one.end for one in self.extents), 0), self.size)

    @property
    def extents(self) -> list[Extent]:
        """The parts that there are."""
        if self._extents is None:
            self._extents = []  # what looks for a part that is laid out only later finds nothing
            for one in self._lay_out() if self._plan is not None and self._plan.parts else ():
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

    def amount(self, told: Amount | None) -> int | None:
        """A number that the message tells; None if it does not."""
        if told is None or isinstance(told, int):
            return told
        if isinstance(told, Pages):
            offset, length = self.get(told.offset), self.get(told.length)
            if not isinstance(offset, int) or not isinstance(length, int):
                return None
            return (offset + length + PAGE - 1) // PAGE
        value = self.get(told if isinstance(told, str) else told.field)
        if not isinstance(value, int):
            return None
        if isinstance(told, Told):
            return value * told.times + told.plus
        return value.bit_count() if isinstance(told, Ones) else value

    # ------------------------------------------------------------ parts

    def _lay_out(self) -> Iterator[Extent]:
        plan, position = self._plan, self._fixed
        assert plan is not None
        told = self.told_size
        stop = min(told, self.size) if told else self.size
        for part in plan.parts.values():
            start = position if part.at is None else self.amount(part.at)
            size, count = self.amount(part.size), self.amount(part.count)
            if not self._is_there(part):
                continue
            unknown = start is None or (part.size is not None and size is None)
            unknown = unknown or (part.count is not None and count is None)
            if unknown or start is None or size == 0 or count == 0:
                continue
            start = max(start, 0)
            end = self._told_end(part, start, size, count, stop)
            extent = self._extent(part, min(start, stop), min(end, stop), max(end - stop, 0), count)
            position = extent.end
            if extent.end > extent.start or extent.missing:
                yield extent

    def _is_there(self, part: Part) -> bool:
        if any(self.get(name) != value for name, value in part.when.items()):
            return False
        return not part.unless or any(self.get(name) != value for name, value in part.unless.items())

    def _told_end(self, part: Part, start: int, size: int | None, count: int | None, stop: int) -> int:
        if size is not None:
            return start + max(size, 0)
        if count is not None and isinstance(part.of, Int):
            return start + count * struct.calcsize(part.of.code)
        return max(start, stop)

    def _extent(self, part: Part, start: int, end: int, missing: int, count: int | None) -> Extent:
        protocol = PROTOCOLS.get(part.of) if isinstance(part.of, str) else None
        layers: list[Layer] = []
        if protocol is not None and end > start:
            number = self._number_of(part)
            if part.count == 1 and (number is not None or not part.number):
                layers = [self._message(protocol, start, end, number, ALL if part.continued else 0)]
            elif not part.number or number is not None:
                layers, stopped = self._messages(protocol, start, end, count, number)
                if count is not None and len(layers) < count:
                    missing = max(missing, 1)
                end = stopped if part.size is None else end
        return Extent(part, start, end, 0 if part.continued else missing, layers)

    def _number_of(self, part: Part) -> int | None:
        if not part.number:
            return None
        value = self.get(part.number)
        if value is None and self._request is not None:
            value = self._request.get(part.number)
        return value if isinstance(value, int) else None

    def _message(self, protocol: Protocol, start: int, end: int, number: int | None, cut: int = 0) -> Layer:
        data, at = self._data[start:end], self.offset + start
        return dissect(protocol, data, to_guest=self._to_guest, number=number, offset=at, cut=cut)

    def _messages(
        self, protocol: Protocol, start: int, end: int, count: int | None, number: int | None
    ) -> tuple[list[Layer], int]:
        """One after the other, and where they end."""
        found: list[Layer] = []
        least = max(protocol.header.SIZE if protocol.header is not None else 0, 1)
        while start < end and (count is None or len(found) < count):
            one = self._message(protocol, start, end, number)
            size = one.told_size or one.end
            if size < end - start:
                if size < least:
                    break
                one = self._message(protocol, start, start + size, number)
            found.append(one)
            start = min(start + max(size, least), end)
        return found, start

    # ------------------------------------------------------------ reading

    def _read(self) -> list[Value]:
        data, size, base, plan = self._data, self.size, self.offset, self._plan
        if plan is None:
            return [Value(REST, bytes(data), base, size)] if size else []
        found = []
        for one in plan.places.values():
            if one.offset + one.size <= size:
                value = one.value(data)
                label = label_of(one.labels, value)
                place = base + one.offset
                found.append(Value(one.name, value, place, one.size, label, one.show, one.shift, one.width))
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
        for name, within in form.inner.items():
            inside, at = self.get(name), self._offset_of(name)
            if within not in PROTOCOLS or not isinstance(inside, bytes):
                continue
            length = self.get(form.lengths[name]) if name in form.lengths else None
            if isinstance(length, int):
                inside = inside[:length]
            if inside:
                found.append(dissect(PROTOCOLS[within], inside, to_guest=self._to_guest, offset=at))
        for extent in self.extents if form.parts else ():
            found += extent.layers
        return found

    def _offset_of(self, name: str) -> int:
        """Where a field of bytes is, if it is there."""
        place = self._plan.places.get(name) if self._plan is not None else None
        if place is not None:
            return self.offset + place.offset
        return next((one.offset for one in self.values if one.name == name), self.offset)

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

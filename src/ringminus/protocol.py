"""Declaring protocols: which structure a message has, so that it can be shown by name.

The wire modules declare structures; a `Protocol` says which of them a message is, by a number in its
header. Everything that shows messages (logs, filters, captures, Wireshark's dissector) is made from these
declarations: declaring a message is all it takes to see it. Nothing here takes part in what a device does.

    NVSP = declare(
        Protocol(
            "nvsp",
            "Hyper-V network adapter (NVSP)",
            MessageHeader,
            "msg_type",
            {1: Form("INIT", wire.Init), ...},
            labels={"status": wire.Status},
            interfaces=(INTERFACE,),
        )
    )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from functools import cache
from typing import NamedTuple
from uuid import UUID

from ringminus.wire import Array, Bytes, Int, Struct

Labels = Mapping[str, type[IntEnum] | type[IntFlag]]
REST = "rest"
"""The name of the bytes that follow a message's structure."""


@dataclass(frozen=True, slots=True)
class Form:
    """One layout of a message. `structure` follows the protocol's header, or includes it when `whole`; None
    is a message without fields. `to_guest` restricts it to one direction, `answers` to answers to the
    message of that name, `when` to messages with such values in the structure. `inner` names the protocols
    of what lies in its fields of bytes, or in the `REST` after it, and `lengths` the fields that tell how
    many of such bytes count."""

    name: str
    structure: type[Struct] | None = None
    whole: bool = False
    to_guest: bool | None = None
    answers: str = ""
    when: Mapping[str, int] = field(default_factory=dict)
    inner: Mapping[str, str] = field(default_factory=dict)
    lengths: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Protocol:
    """See the module. `selector` is the field of `header` that tells a message's number. A message with
    several forms has the first one that fits its direction and length. `labels` name the values of fields,
    by the field's name. Packets of devices with these `interfaces` are of this protocol. `header` is None
    where the number does not lie in the bytes, as a hypercall's code."""

    name: str
    title: str
    header: type[Struct] | None
    selector: str
    forms: Mapping[int, Form | tuple[Form, ...]]
    labels: Labels = field(default_factory=dict)
    interfaces: tuple[UUID, ...] = ()
    _plans: dict[int | None, tuple[Plan, ...]] = field(default_factory=dict, repr=False, compare=False)

    def laid_out(self, number: int | None) -> tuple[Plan, ...]:
        """The forms of the message of that number, at least one; None is the header's own."""
        found = self._plans.get(number)
        if found is None:
            forms = self.forms.get(number) if number is not None else None
            if forms is None and number is not None:
                return self.laid_out(None)
            several = forms if isinstance(forms, tuple) else (forms,)
            found = self._plans[number] = tuple(Plan(self, one) for one in several)
        return found


class Value(NamedTuple):
    """A field's value; `offset` counts from the beginning of the outermost message, `label` is the value's
    name, "" if it has none."""

    name: str
    value: int | str | bytes | tuple[int, ...]
    offset: int
    size: int
    label: str = ""


class Place(NamedTuple):
    """Where a field lies in a message, from its beginning; `kind` tells how to read it."""

    name: str
    offset: int
    size: int
    kind: Int | Bytes | Array
    read: Callable[[bytes, int], tuple[int, ...]] | None
    labels: type[IntEnum] | type[IntFlag] | None

    def value(self, data: bytes) -> int | bytes | tuple[int, ...]:
        """It must be there."""
        if self.read is None:
            return bytes(data[self.offset : self.offset + self.size])
        found = self.read(data, self.offset)
        return found if isinstance(self.kind, Array) else found[0]


class Plan:
    """A form laid out: its fields in order, with those of structures within, and where the `REST` begins.
    Reserved bytes are none of them. Without a form it is the header alone."""

    def __init__(self, protocol: Protocol, form: Form | None) -> None:
        self.form = form
        self.places: dict[str, Place] = {}
        self.end = 0
        if protocol.header is not None and not (form is not None and form.whole):
            self._add(protocol.header, 0, protocol.labels, "")
            self.end = protocol.header.SIZE
        if form is not None and form.structure is not None:
            self._add(form.structure, self.end, protocol.labels, "")
            self.end += form.structure.SIZE

    def _add(self, structure: type[Struct], base: int, labels: Labels, prefix: str) -> None:
        for one in structure.FIELDS:
            name, offset = prefix + one.name, base + one.offset
            if one.name.startswith(("reserved", "padding")):
                continue
            if isinstance(one.kind, Int | Bytes | Array):
                read = structure.reader(one)
                self.places[name] = Place(name, offset, one.size, one.kind, read, labels.get(one.name))
            else:
                self._add(one.kind, offset, labels, name + ".")


class Layer:
    """A message that has been taken apart: `number` is its number in the protocol, `missing` how many bytes
    are not there. What is in it is read when it is asked for."""

    __slots__ = (
        *("protocol", "message", "number", "offset", "size", "missing"),
        *("_data", "_inner", "_plan", "_to_guest", "_values"),
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
        missing: int = 0,
        to_guest: bool = False,
    ) -> None:
        self.protocol = protocol
        self.message = message
        self.number = number
        self.offset = offset
        self.size = len(data)
        self.missing = missing
        self._data = data
        self._plan = plan
        self._to_guest = to_guest
        self._values: list[Value] | None = None
        self._inner: list[Layer] | None = None

    @property
    def values(self) -> list[Value]:
        """The fields that are there, then the bytes after them."""
        if self._values is None:
            self._values = self._read()
        return self._values

    @property
    def inner(self) -> list[Layer]:
        """The messages in it."""
        if self._inner is None:
            self._inner = self._within()
        return self._inner

    def get(self, name: str) -> int | str | bytes | tuple[int, ...] | None:
        """A field's value; that of the protocol's selector is the message's number."""
        plan, size = self._plan, self.size
        if plan is not None:
            place = plan.places.get(name)
            if place is not None:
                return place.value(self._data) if place.offset + place.size <= size else None
            if name == REST:
                return bytes(self._data[plan.end :]) if plan.end < size else None
        else:
            found = next((one.value for one in self.values if one.name == name), None)
            if found is not None:
                return found
        known = PROTOCOLS.get(self.protocol)
        return self.number if known is not None and name == known.selector and self.message else None

    def _read(self) -> list[Value]:
        data, size, base, found = self._data, self.size, self.offset, []
        end = 0
        if self._plan is not None:
            end = self._plan.end
            for one in self._plan.places.values():
                if one.offset + one.size <= size:
                    value = one.value(data)
                    label = label_of(one.labels, value)
                    found.append(Value(one.name, value, base + one.offset, one.size, label))
        if end < size:
            found.append(Value(REST, bytes(data[end:]), base + end, size - end))
        return found

    def _within(self) -> list[Layer]:
        found: list[Layer] = []
        form = self._plan.form if self._plan is not None else None
        if form is None or self._plan is None:
            return found
        for name, within in form.inner.items():
            inside = self.get(name)
            if within not in PROTOCOLS or not isinstance(inside, bytes):
                continue
            begin = self._plan.end if name == REST else self._plan.places[name].offset
            length = self.get(form.lengths[name]) if name in form.lengths else None
            if isinstance(length, int):
                inside = inside[:length]
            at = self.offset + begin
            found.append(dissect(PROTOCOLS[within], inside, to_guest=self._to_guest, offset=at))
        return found

    def __repr__(self) -> str:
        return f"Layer({self.protocol!r}, {self.message!r}, {self.values!r}, {self.inner!r})"


PROTOCOLS: dict[str, Protocol] = {}
"""All that have been declared by modules that were imported, by name."""
BY_INTERFACE: dict[UUID, Protocol] = {}
NAMES: dict[str, dict[int, str]] = {}
"""Names of the values of events' own fields, by `event.field`; those of modules that were imported."""


def declare(protocol: Protocol) -> Protocol:
    """Make a protocol known."""
    if protocol.name in PROTOCOLS:
        raise ValueError(f"there are two protocols {protocol.name}")
    PROTOCOLS[protocol.name] = protocol
    for interface in protocol.interfaces:
        BY_INTERFACE[interface] = protocol
    return protocol


def dissect(
    protocol: Protocol,
    data: bytes,
    *,
    to_guest: bool = False,
    number: int | None = None,
    answers: str = "",
    offset: int = 0,
) -> Layer:
    """Take a message apart. `number` is its number where the bytes do not tell, `answers` the name of the
    message that it answers, if that is known; `offset` is where `data` begins in the outermost message. What
    is not known, or is cut short, is shown as far as it goes."""
    size = len(data)
    header = protocol.header
    if number is None:
        if header is None or size < header.SIZE:
            missing = max(0 if header is None else header.SIZE - size, 1)
            return Layer(protocol.name, "", data, offset=offset, missing=missing)
        value = protocol.laid_out(None)[0].places[protocol.selector].value(data)
        number = value if isinstance(value, int) else 0
    plans = protocol.laid_out(number)
    plan = plans[0] if len(plans) == 1 else _fitting(plans, data, to_guest, answers)
    name = plan.form.name if plan.form is not None else _number_name(protocol, number)
    missing = plan.end - size if plan.end > size else 0
    return Layer(
        protocol.name, name, data, plan, number=number, offset=offset, missing=missing, to_guest=to_guest
    )


def _fitting(plans: tuple[Plan, ...], data: bytes, to_guest: bool, answers: str) -> Plan:
    last = plans[-1]  # rather than nothing, for a message in the wrong direction
    for plan in plans:
        one = plan.form
        assert one is not None
        if one.to_guest not in (None, to_guest) or (one.answers and one.answers != answers):
            continue
        if one.structure is None or len(data) >= plan.end:
            if all(plan.places[name].value(data) == value for name, value in one.when.items()):
                return plan
        elif not one.when:
            last = plan
    return last


def _number_name(protocol: Protocol, number: int) -> str:
    labels = protocol.labels.get(protocol.selector)
    return label_of(labels, number) or f"{number:#x}" if labels is not None else f"{number:#x}"


@cache
def _names_of(labels: type[IntEnum] | type[IntFlag]) -> tuple[bool, dict[int, str]]:
    """Whether they are flags, and the names of the values."""
    return issubclass(labels, IntFlag), {one.value: one.name or "" for one in labels}


def label_of(labels: type[IntEnum] | type[IntFlag] | None, value: object) -> str:
    """The name of a value, "" if it has none."""
    if labels is None or not isinstance(value, int):
        return ""
    flags, names = _names_of(labels)
    if not flags:
        return names.get(value, "")
    return "|".join(name for flag, name in names.items() if flag and value & flag == flag)

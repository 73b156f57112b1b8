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

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
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


class Value(NamedTuple):
    """A field's value; `offset` counts from the beginning of the outermost message, `label` is the value's
    name, "" if it has none."""

    name: str
    value: int | str | bytes | tuple[int, ...]
    offset: int
    size: int
    label: str = ""


@dataclass(slots=True)
class Layer:
    """A message that has been taken apart. `missing` is how many bytes are not there."""

    protocol: str
    message: str
    offset: int
    size: int
    values: list[Value] = field(default_factory=list)
    inner: list[Layer] = field(default_factory=list)
    missing: int = 0

    def get(self, name: str) -> int | str | bytes | tuple[int, ...] | None:
        """A field's value."""
        return next((one.value for one in self.values if one.name == name), None)


PROTOCOLS: dict[str, Protocol] = {}
"""All that have been declared by modules that were imported, by name."""
BY_INTERFACE: dict[UUID, Protocol] = {}


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
    layer = Layer(protocol.name, "", offset, len(data))
    header = protocol.header
    begin = 0 if header is None else header.SIZE
    if number is None:
        if header is None or len(data) < begin:
            layer.missing = max(begin - len(data), 1)
            return _finished(layer, data, 0, None, to_guest)
        value = getattr(header.unpack(data), protocol.selector)
        number = value if isinstance(value, int) else 0
    form = _form(protocol, number, data, to_guest, answers)
    if form is None:
        layer.message = _number_name(protocol, number)
        if header is not None:
            _values(layer, header, data, 0, protocol.labels)
        return _finished(layer, data, begin, None, to_guest)
    layer.message = form.name
    if header is not None and not form.whole:
        _values(layer, header, data, 0, protocol.labels)
    start = 0 if form.whole else begin
    end = start
    if form.structure is not None:
        end = start + form.structure.SIZE
        layer.missing = max(end - len(data), 0)
        _values(layer, form.structure, data, start, protocol.labels)
    return _finished(layer, data, end, form, to_guest)


def _form(protocol: Protocol, number: int, data: bytes, to_guest: bool, answers: str) -> Form | None:
    forms = protocol.forms.get(number)
    if forms is None or isinstance(forms, Form):
        return forms
    begin = 0 if protocol.header is None else protocol.header.SIZE
    last = forms[-1]  # rather than nothing, for a message in the wrong direction
    for one in forms:
        if one.to_guest not in (None, to_guest) or (one.answers and one.answers != answers):
            continue
        start = 0 if one.whole else begin
        if one.structure is None or len(data) >= start + one.structure.SIZE:
            if not one.when or _matches(one, data, start):
                return one
        elif not one.when:
            last = one
    return last


def _matches(form: Form, data: bytes, start: int) -> bool:
    assert form.structure is not None
    decoded = form.structure.unpack(data, start)
    return all(getattr(decoded, name) == value for name, value in form.when.items())


def _number_name(protocol: Protocol, number: int) -> str:
    labels = protocol.labels.get(protocol.selector)
    return label_of(labels, number) or f"{number:#x}" if labels is not None else f"{number:#x}"


def _values(
    layer: Layer, structure: type[Struct], data: bytes, start: int, labels: Labels, prefix: str = ""
) -> None:
    """Add the fields that are there; those of a structure within follow with its name before theirs."""
    decoded = structure.unpack(bytes(data[start:]).ljust(structure.SIZE, b"\0"))
    _add_values(layer, decoded, len(data) - start, layer.offset + start, labels, prefix)


def _add_values(layer: Layer, decoded: Struct, there: int, base: int, labels: Labels, prefix: str) -> None:
    for one in decoded.FIELDS:
        if one.offset + one.size > there or one.name.startswith(("reserved", "padding")):
            continue
        value = getattr(decoded, one.name)
        if isinstance(one.kind, Int | Bytes | Array):
            label = label_of(labels.get(one.name), value)
            layer.values.append(Value(prefix + one.name, value, base + one.offset, one.size, label))
        else:
            inside = there - one.offset
            _add_values(layer, value, inside, base + one.offset, labels, f"{prefix}{one.name}.")


def label_of(labels: type[IntEnum] | type[IntFlag] | None, value: object) -> str:
    """The name of a value, "" if it has none."""
    if labels is None or not isinstance(value, int):
        return ""
    if issubclass(labels, IntFlag):
        names = [one.name or "" for one in labels if one.value and value & one.value == one.value]
        return "|".join(names)
    known = labels._value2member_map_.get(value)
    return known.name if isinstance(known, IntEnum) else ""


def _finished(layer: Layer, data: bytes, end: int, form: Form | None, to_guest: bool) -> Layer:
    """Add what follows the structure, and take apart what lies inside."""
    if end < len(data):
        rest = bytes(data[end:])
        layer.values.append(Value(REST, rest, layer.offset + end, len(rest)))
    if form is None:
        return layer
    for name, within in form.inner.items():
        found = next((one for one in layer.values if one.name == name), None)
        if found is None or not isinstance(found.value, bytes) or within not in PROTOCOLS:
            continue
        inside = found.value
        length = layer.get(form.lengths[name]) if name in form.lengths else None
        if isinstance(length, int):
            inside = inside[:length]
        layer.inner.append(dissect(PROTOCOLS[within], inside, to_guest=to_guest, offset=found.offset))
    return layer

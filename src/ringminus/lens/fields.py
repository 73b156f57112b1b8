"""The fields of events, by name: what filters compare, columns show, and people complete.

A field of an event's own is called `event.field`, as `packet.relid`; a field of a message that an event
carries `protocol.field`, as `scsi.lba`; `protocol.message` is the name of the message. What all events have
needs no prefix. The names of an event and of a protocol alone ask whether it is one, or carries one. All come
from the declarations of events and protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum, IntEnum, IntFlag
from typing import Any, NamedTuple, get_type_hints
from uuid import UUID

from ringminus.lens.decode import Decoder, EventLayer, flat
from ringminus.lens.drivers import DRIVERS
from ringminus.lens.labels import Labels
from ringminus.protocol import (
    BY_INTERFACE,
    NAMES,
    PROTOCOLS,
    REST,
    Form,
    Layer,
    Plan,
    Protocol,
    Show,
    laid_out,
    shown,
)
from ringminus.tap import (
    EVENTS,
    BusMessage,
    ChannelState,
    CpuidRead,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    Hypercall,
    MsrAccess,
    NetworkFrame,
    RingPacket,
    SynicMessage,
    Violation,
)
from ringminus.wire import Array, Bytes, Int

Values = Callable[[Decoder, Event], Sequence[Any]]
"""The values of a field in an event: none, one, or several where there are several such messages."""
GUID_SIZE = 16
ALL = frozenset(EVENTS)
CHANNEL_EVENTS: frozenset[type[Event]] = frozenset(
    (
        *(RingPacket, ChannelState, GpadlChange, Violation, EventSignal),
        *(Hypercall, BusMessage, DeviceMessage, NetworkFrame),
    )
)
ROOTS: tuple[tuple[type[Event], str], ...] = (
    (SynicMessage, "vmbus"),
    (SynicMessage, "synic_message"),
    (BusMessage, "vmbus"),
    (RingPacket, "ring"),
    (MsrAccess, "msr_value"),
    (CpuidRead, "cpuid_leaf"),
    (Hypercall, "hypercall_input"),
    (NetworkFrame, "ethernet"),
)
"""Events whose messages are of these protocols, whatever the device."""


class Kind(Enum):
    """What a field holds."""

    NUMBER = "number"
    NUMBERS = "numbers"
    TEXT = "text"
    BYTES = "bytes"
    FLAG = "yes or no"
    GUID = "GUID"
    THERE = "is there"


KINDS: dict[Any, Kind] = {
    int: Kind.NUMBER,
    str: Kind.TEXT,
    bytes: Kind.BYTES,
    bool: Kind.FLAG,
    UUID: Kind.GUID,
}


@dataclass(frozen=True, slots=True)
class Unit:
    """What a time counts, in ns; a number without a unit is `bare` ns."""

    ns: int
    bare: int


UNITS = {
    "time": Unit(100, 10**9),
    "timer.deadline": Unit(100, 10**9),
    "host_ns": Unit(1, 1),
    "exit.ns": Unit(1, 1),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A field. `events` are those that may have it. `own` is the attribute of an event's own field;
    `channels` tells that it takes what is known of channels."""

    name: str
    kind: Kind
    events: frozenset[type[Event]]
    values: Values
    labels: Labels | None = None
    unit: Unit | None = None
    own: str = ""
    title: str = ""
    channels: bool = False

    @property
    def points(self) -> frozenset[str]:
        """The points of the tap where such events pass."""
        return frozenset(one.POINT for one in self.events)


class Catalogue:
    """All fields by name, for the protocols that are declared now."""

    def __init__(self) -> None:
        self.fields: dict[str, Field] = {}
        self._reach = _reach()
        for name, title in HEADER.items():
            self._own(name, name, ALL, title)
        for kind in EVENTS:
            self._event(kind)
        for _, protocol in sorted(PROTOCOLS.items()):
            self._protocol(protocol)
        for name, (read, kind_, title) in CHANNEL.items():
            path, values = f"vmbus.channel.{name}", _of_channel(read)
            self._add(Field(path, kind_, CHANNEL_EVENTS, values, title=title, channels=True))

    def _add(self, field: Field) -> None:
        self.fields.setdefault(field.name, field)

    def _own(self, name: str, attribute: str, events: frozenset[type[Event]], title: str = "") -> None:
        hint = get_type_hints(next(iter(events)))[attribute] if attribute != "event" else str
        kind = KINDS.get(hint, Kind.NUMBER if hint == int | None else Kind.NUMBERS)
        names = NAMES.get(NAMED_BY.get(name, name))
        labels = Labels(names) if names is not None else None
        if attribute == "event":
            self._add(Field(name, kind, events, lambda _, event: (event.NAME,), title=title))
        elif attribute in ("device", "adapter"):
            known = events <= {RingPacket, ChannelState}  # they tell the device's class themselves
            self._add(Field(name, kind, events, _titles_in(events), title=title, channels=not known))
        else:
            read = _attribute(events, attribute)
            self._add(Field(name, kind, events, read, labels, UNITS.get(name), attribute, title))

    def _event(self, kind: type[Event]) -> None:
        events = frozenset((kind,))
        there: Values = lambda _, event: (True,) if type(event) is kind else ()  # noqa: E731
        title = (kind.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ")
        self._add(Field(kind.NAME, Kind.THERE, events, there, title=title))
        for one in fields(kind):
            if one.name not in HEADER:
                self._own(f"{kind.NAME}.{one.name}", one.name, events)

    def _protocol(self, protocol: Protocol) -> None:
        name, roots = protocol.name, self._reach.get(protocol.name, frozenset())
        events = frozenset(event for event, _ in roots)
        layers = _layers_of(name, frozenset(root for _, root in roots), events)
        self._add(
            Field(
                name, Kind.THERE, events, lambda d, e: (True,) if layers(d, e) else (), title=protocol.title
            )
        )
        forms = list(_forms(protocol))
        messages = Labels(dict(enumerate(dict.fromkeys(form.name for _, form in forms))))
        message: Values = lambda d, e: [one.message for one in layers(d, e)]  # noqa: E731
        self._add(Field(f"{name}.message", Kind.TEXT, events, message, messages, title="the message's name"))
        for path, (kind, labels, show) in _paths(protocol, forms).items():
            named = Labels.of(labels) if labels is not None else None
            if path == protocol.selector:
                numbers = Labels({number: form.name for number, form in forms})
                named = numbers if named is None else numbers.merged((named,))
            self._add(Field(f"{name}.{path}", kind, events, _in_layers(layers, path, kind, show), named))

    def find(self, name: str) -> Field | None:
        """The field of that name, or of another name that people use for it."""
        found = self.fields.get(name)
        if found is None:
            prefix, dot, rest = name.partition(".")
            found = self.fields.get(f"{ALIASES.get(prefix, prefix)}{dot}{rest}")
        return found


HEADER = {
    "event": "what the event is called",
    "time": "the partition's reference time, in seconds",
    "vp": "the virtual processor's index",
    "sequence": "the event's number",
    "cause": "the number of the event while which it happened, or that it answers",
    "host_ns": "the host's clock, in ns since 1970",
    "changed": "what an addon or a breakpoint did with it",
}
"""What all events have."""
NAMED_BY = {"msr.name": "msr.msr", "hypercall.name": "hypercall.code"}
"""Text that is a name of another field's values."""
ALIASES = {"hypercall": "hypercall_input", "bus": "vmbus"}
"""Other prefixes for fields of protocols, where the event has no field of that name."""
ReadChannel = Callable[[ChannelState], Sequence[Any]]
CHANNEL: dict[str, tuple[ReadChannel, Kind, str]] = {
    "device": (lambda one: titles(one.device, one.interface), Kind.TEXT, "its device, also by its driver"),
    "relid": (lambda one: (one.relid,), Kind.NUMBER, "its number on the bus"),
    "index": (lambda one: (one.channel,), Kind.NUMBER, "0 for the primary one, a sub-channel's number else"),
    "interface": (lambda one: (one.interface,), Kind.GUID, "the class of its device"),
    "instance": (lambda one: (one.instance,), Kind.GUID, "its device's own GUID"),
    "connection": (lambda one: (one.connection_id,), Kind.NUMBER, "by which the guest signals it"),
}
"""Of the channel that an event is about, whatever names it there."""


def titles(device: str, interface: UUID | None) -> tuple[str, ...]:
    """What a device is called: by us, and by its driver in Linux."""
    return (device, *DRIVERS.get(interface, ())) if interface is not None else (device,)


def _titles_in(events: frozenset[type[Event]]) -> Values:
    def values(decoder: Decoder, event: Any) -> Sequence[Any]:
        if type(event) not in events:
            return ()
        title = event.adapter if type(event) is NetworkFrame else event.device
        channel = decoder.channel(event)
        return titles(title, channel.interface if channel is not None else None)

    return values


def _of_channel(read: ReadChannel) -> Values:
    def values(decoder: Decoder, event: Event) -> Sequence[Any]:
        channel = decoder.channel(event)
        return read(channel) if channel is not None else ()

    return values


def _attribute(events: frozenset[type[Event]], attribute: str) -> Values:
    def values(_decoder: Decoder, event: Event) -> Sequence[Any]:
        return (getattr(event, attribute),) if type(event) in events else ()

    return values


LayersOf = Callable[[Decoder, Event], list[Layer]]


def _layers_of(name: str, roots: frozenset[str], events: frozenset[type[Event]]) -> LayersOf:
    """Finds the layers of a protocol; what cannot have one is not taken apart."""

    in_header = "ring" in roots

    def layers(decoder: Decoder, event: Event) -> list[Layer]:
        if type(event) not in events:
            return []
        if in_header and type(event) is RingPacket and event.header:
            return [one for one in flat(EventLayer(event).inner) if one.protocol == name and one.message]
        carried = decoder.carried(event)
        if carried is None or carried.protocol not in roots:
            return []
        if carried.protocol == name:
            return [carried] if carried.message else []
        return [one for one in flat(carried.inner) if one.protocol == name and one.message]

    return layers


def _in_layers(layers: LayersOf, path: str, kind: Kind, show: Show | None) -> Values:
    def values(decoder: Decoder, event: Event) -> Sequence[Any]:
        return [value for one in layers(decoder, event) if (value := one.get(path)) is not None]

    def converted(decoder: Decoder, event: Event) -> Sequence[Any]:
        return [_converted(value, kind, show) for value in values(decoder, event)]

    return converted if kind in (Kind.TEXT, Kind.GUID) else values


def _converted(value: Any, kind: Kind, show: Show | None) -> Any:
    """Bytes as what they stand for; a GUID that is cut short stays bytes."""
    if not isinstance(value, bytes):
        return value
    if kind is Kind.GUID:
        return UUID(bytes_le=value) if len(value) == GUID_SIZE else value
    return shown(value, show)


def _forms(protocol: Protocol) -> Iterator[tuple[int, Form]]:
    for number, forms in protocol.forms.items():
        for form in (forms,) if isinstance(forms, Form) else forms:
            yield number, form


class Path(NamedTuple):
    """A field of a protocol's messages: what it holds, how its values are named, and how it is read."""

    kind: Kind
    labels: type[IntEnum] | type[IntFlag] | None = None
    show: Show | None = None


def _paths(protocol: Protocol, forms: Iterable[tuple[int, Form]]) -> dict[str, Path]:
    """The fields of all messages of a protocol."""
    found: dict[str, Path] = {}
    if protocol.selector:
        found[protocol.selector] = Path(Kind.NUMBER, protocol.labels.get(protocol.selector))
    others = () if protocol.otherwise is None else ((0, protocol.otherwise),)
    for plan in (*laid_out(protocol, None), *(Plan(protocol, form) for _, form in (*forms, *others))):
        for place in plan.places.values():
            kind = Kind.NUMBER
            if isinstance(place.kind, Bytes):
                kind = _SHOWN.get(place.show, Kind.BYTES)
            elif isinstance(place.kind, Array):
                kind = Kind.NUMBERS
            found.setdefault(place.name, Path(kind, place.labels, place.show))
        for part in plan.parts.values():
            if part.of not in PROTOCOLS:
                show = protocol.shows.get(part.name)
                kind = Kind.NUMBERS if isinstance(part.of, Int) else _SHOWN.get(show, Kind.BYTES)
                found.setdefault(part.name, Path(kind, protocol.labels.get(part.name), show))
    found[REST] = Path(Kind.BYTES)
    return found


_SHOWN: dict[Show | None, Kind] = {Show.GUID: Kind.GUID, Show.TEXT: Kind.TEXT, Show.UTF16: Kind.TEXT}
"""What bytes are that are read in another way."""


def _reach() -> dict[str, frozenset[tuple[type[Event], str]]]:
    """For each protocol the events that may carry it, and the protocol of the outermost message then."""
    found: dict[str, set[tuple[type[Event], str]]] = {name: set() for name in PROTOCOLS}
    within = {
        name: {one for _, form in _forms(protocol) for one in form.within}
        for name, protocol in PROTOCOLS.items()
    }
    roots = [(RingPacket, one.name) for one in BY_INTERFACE.values()] + list(ROOTS)
    taken = {name for _, name in roots} | set().union(*within.values())
    roots += [(DeviceMessage, name) for name in PROTOCOLS if name not in taken]
    for event, root in roots:
        waiting = [root] if root in PROTOCOLS else []
        while waiting:
            name = waiting.pop()
            if (event, root) not in found[name]:
                found[name].add((event, root))
                waiting += [one for one in within[name] if one in PROTOCOLS]
    return {name: frozenset(events) for name, events in found.items()}


_made: tuple[object, Catalogue] | None = None


def catalogue() -> Catalogue:
    """The fields of what is declared now."""
    global _made
    declared = tuple(PROTOCOLS), tuple(BY_INTERFACE), tuple(NAMES)
    if _made is None or _made[0] != declared:
        _made = declared, Catalogue()
    return _made[1]


def value(event: Event, layers: list[Layer], name: str) -> Any:
    """The first value of a field in an event that was taken apart, None if there is none."""
    if name in HEADER:
        return event.NAME if name == "event" else getattr(event, name)
    for layer in flat(layers):
        if name.startswith(layer.protocol + "."):
            path = name[len(layer.protocol) + 1 :]
            found = layer.message if path == "message" else layer.get(path)
            if found is not None:
                return found
    return None

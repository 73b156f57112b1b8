"""The messages in an event by the names of their fields, which can be set: `message.scsi.lba = 0`.

Setting a field changes the event's bytes at once, by the declarations: no offsets, no lengths, no byte order.
What depends on a field (a length, a checksum) is not made to agree with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ringminus.changes import ChangeError
from ringminus.lens.decode import Decoder, flat
from ringminus.lens.labels import Labels, identifier
from ringminus.protocol import PROTOCOLS, Layer
from ringminus.protocol.editing import labels_of, patch
from ringminus.tap import Event, MsrAccess

BYTES = ("payload", "block", "data")
"""The field of events that holds the message that they carry."""
VALUE_SIZE = 8
"""Bytes of a register's value."""


def carried_bytes(event: Event) -> bytes:
    """The bytes of the message that an event carries."""
    if isinstance(event, MsrAccess):
        return event.value.to_bytes(VALUE_SIZE, "little")
    found: bytes = getattr(event, _carrier(event), b"")
    return found


def set_carried_bytes(event: Event, data: bytes) -> None:
    """Change them; raises `ChangeError` if there are none."""
    if isinstance(event, MsrAccess):
        event.value = int.from_bytes(data, "little")
    elif _carrier(event):
        setattr(event, _carrier(event), data)
    else:
        raise ChangeError(f"{type(event).__name__} carries no message that can be set")


def _carrier(event: Event) -> str:
    """The field that has them; "" for none."""
    return next((name for name in BYTES if event.SETTABLE.get(name) is bytes), "")


class Message:
    """What an event carries. `message.scsi` is the first message of a protocol, `message.all("rndis")` are
    all of them, `"scsi" in message` tells whether there is one, `message["scsi.lba"]` is a field."""

    __slots__ = ("_decoder", "_event")

    def __init__(self, event: Event, decoder: Decoder) -> None:
        self._event = event
        self._decoder = decoder

    def _layers(self) -> list[Layer]:
        carried = self._decoder.carried(self._event)
        return [] if carried is None else list(flat([carried]))

    def _at(self, number: int) -> Layer:
        found = self._layers()
        if number >= len(found):
            raise ChangeError("what was changed has made the message another one: ask for it once more")
        return found[number]

    @property
    def protocols(self) -> list[str]:
        """Those of the messages in it, outermost first."""
        return [one.protocol for one in self._layers()]

    def all(self, protocol: str) -> list[Fields]:
        """All messages of a protocol."""
        return [Fields(self, number) for number, one in enumerate(self._layers()) if one.protocol == protocol]

    def __contains__(self, protocol: object) -> bool:
        return any(one.protocol == protocol and one.message for one in self._layers())

    def __iter__(self) -> Iterator[Fields]:
        return (Fields(self, number) for number in range(len(self._layers())))

    def __getattr__(self, protocol: str) -> Fields:
        for number, one in enumerate(self._layers()):
            if one.protocol == protocol:
                return Fields(self, number)
        if protocol.startswith("__"):
            raise AttributeError(protocol)
        there = ", ".join(self.protocols) or "none that is known"
        known = "" if protocol in PROTOCOLS else f" ({protocol} is no protocol at all)"
        raise ChangeError(f"there is no {protocol} message here{known}: messages here are {there}")

    def _field_of(self, name: str) -> tuple[Fields, str]:
        protocol, dot, path = name.partition(".")
        if not dot or not path:
            raise ChangeError(f"{name!r} names no field: write it as protocol.field, such as scsi.lba")
        return getattr(self, protocol), path

    def __getitem__(self, name: str) -> Any:
        fields, path = self._field_of(name)
        return fields[path]

    def __setitem__(self, name: str, value: object) -> None:
        fields, path = self._field_of(name)
        fields[path] = value

    def put(self, number: int, name: str, value: object) -> None:
        """Set a field of message `number`."""
        layer = self._at(number)
        if isinstance(value, str):
            value = _named(layer, name, value)
        try:
            change = patch(layer, name, value)
        except ValueError as error:
            raise ChangeError(f"{layer.protocol}.{name}: {error}") from None
        before = carried_bytes(self._event)
        end = change.offset + change.size
        if len(change.data) != change.size and end != len(before):
            raise ChangeError(f"{layer.protocol}.{name} has {change.size} bytes here: more may follow it")
        set_carried_bytes(self._event, before[: change.offset] + change.data + before[end:])
        self._decoder.renew(self._event)

    def __repr__(self) -> str:
        return (
            " | ".join(f"{one.protocol} {one.message}" for one in self._layers()) or "nothing that is known"
        )


class Fields:
    """One message: its fields are attributes, or items where a name has dots. `name` is the message's."""

    __slots__ = ("_message", "_number")
    _message: Message
    _number: int

    def __init__(self, message: Message, number: int) -> None:
        object.__setattr__(self, "_message", message)
        object.__setattr__(self, "_number", number)

    def _layer(self) -> Layer:
        return self._message._at(self._number)

    @property
    def name(self) -> str:
        """What the message is called, such as WRITE_10."""
        return self._layer().message

    @property
    def protocol(self) -> str:
        """Its protocol's name."""
        return self._layer().protocol

    def fields(self) -> dict[str, Any]:
        """All that are there, by name."""
        return {one.name: one.value for one in self._layer().values}

    def __getitem__(self, name: str) -> Any:
        layer = self._layer()
        found = layer.get(name)
        if found is None:
            there = ", ".join(one.name for one in layer.values) or "none"
            raise ChangeError(f"{layer.protocol} {layer.message} has no field {name}: it has {there}")
        return found

    def __setitem__(self, name: str, value: object) -> None:
        self._message.put(self._number, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def __repr__(self) -> str:
        layer = self._layer()
        shown = ", ".join(f"{one.name}={one.text}" for one in layer.values)
        return f"{layer.protocol} {layer.message}({shown})"


def _named(layer: Layer, name: str, word: str) -> object:
    """The number that a word stands for; the word itself where numbers have no names."""
    labels = labels_of(layer, name)
    if labels is None:
        return word
    known = Labels.of(labels)
    found = known.values(word)
    if len(found) == 1:
        return next(iter(found))
    names = ", ".join(identifier(one) for one in known.names.values())
    raise ChangeError(f"{layer.protocol}.{name} is never {word!r}: it is one of {names}")

"""Setting fields of messages that were taken apart: where the bytes go, and what they are."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

from ringminus.protocol.layer import REST, Layer
from ringminus.protocol.plan import Place
from ringminus.wire import Array, Bytes, Int


class Patch(NamedTuple):
    """`size` bytes from `offset` on, from the beginning of the outermost message, become `data`. Only what
    ends the outermost message may have another size."""

    offset: int
    size: int
    data: bytes


def place_of(layer: Layer, name: str) -> Place | None:
    """Where a fixed field lies in its message."""
    return layer._plan.places.get(name) if layer._plan is not None else None


def labels_of(layer: Layer, name: str) -> type[IntEnum] | type[IntFlag] | None:
    """The names of a field's values, if it has some."""
    place = place_of(layer, name)
    return place.labels if place is not None else None


def patch(layer: Layer, name: str, value: object) -> Patch:
    """What sets a field of a message; raises `ValueError` with what is wrong."""
    place = place_of(layer, name)
    if place is not None:
        if place.offset + place.size > layer.size:
            raise ValueError(f"the message is cut short before {name}")
        before = bytes(layer._data[place.offset : place.offset + place.size])
        return Patch(layer.offset + place.offset, place.size, _encoded(place, before, name, value))
    for one in layer.values:
        if one.name == name:
            if not isinstance(value, bytes):
                raise ValueError(f"{name} is {one.size} bytes, not {_shown(value)}")
            if name != REST and len(value) != one.size:
                raise ValueError(f"{name} has {one.size} bytes here, not {len(value)}")
            return Patch(one.offset, one.size, value)
    raise ValueError(f"this message has no field {name}")


def _encoded(place: Place, before: bytes, name: str, value: object) -> bytes:
    kind = place.kind
    if isinstance(kind, Bytes):
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ValueError(f"{name} is {kind.length} bytes, not {_shown(value)}")
        if len(data) > kind.length:
            raise ValueError(f"{name} has {kind.length} bytes, not {len(data)}")
        return bytes(data).ljust(kind.length, b"\0")
    if isinstance(kind, Array):
        numbers = value if isinstance(value, tuple | list) else None
        if numbers is None or len(numbers) != kind.count:
            raise ValueError(f"{name} is {kind.count} numbers, not {_shown(value)}")
        return _packed(place.order, f"{kind.count}{kind.code}", name, *numbers)
    if not isinstance(value, int):
        raise ValueError(f"{name} is a number, not {_shown(value)}")
    return _packed(place.order, kind.code, name, _in_word(place, before, kind, name, value))


def _in_word(place: Place, before: bytes, kind: Int, name: str, value: int) -> int:
    """The whole number in which a field of bits lies."""
    if not place.width:
        return value
    mask = (1 << place.width) - 1
    if not 0 <= value <= mask:
        raise ValueError(f"{name} has {place.width} bits, too few for {value:#x}")
    (word,) = struct.unpack(place.order + kind.code, before)
    found: int = word & ~(mask << place.shift) | value << place.shift
    return found


def _packed(order: str, code: str, name: str, *numbers: object) -> bytes:
    codec = struct.Struct(order + code)
    try:
        return codec.pack(*numbers)
    except struct.error:
        words = " ".join(_shown(one) for one in numbers)
        raise ValueError(f"{name} has {codec.size} bytes, which cannot hold {words}") from None


def _shown(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else repr(value)[:60]

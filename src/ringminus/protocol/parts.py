"""Where the parts of a message are: what its fields tell of them, followed as far as the bytes go."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ringminus.protocol.declaration import PROTOCOLS, Amount, Ones, Pages, Part, Protocol, Told
from ringminus.wire import Int

if TYPE_CHECKING:
    from ringminus.protocol.layer import Layer
    from ringminus.protocol.plan import Plan

PAGE = 4096
ALL = 1 << 32
"""As the bytes that were left out: whatever is missing."""
DEEPEST = 32
"""Messages within messages; guests can wrap a packet into a packet for ever."""


class Extent(NamedTuple):
    """Where a part lies in a message, as far as it is there; `missing` bytes of it are not. `layers` are the
    messages in it."""

    part: Part
    start: int
    end: int
    missing: int
    layers: list[Layer]


def amount(layer: Layer, told: Amount) -> int | None:
    """A number that a message tells; None if it does not."""
    if isinstance(told, int):
        return told
    if isinstance(told, Pages):
        offset, length = layer.get(told.offset), layer.get(told.length)
        if not isinstance(offset, int) or not isinstance(length, int):
            return None
        return (offset + length + PAGE - 1) // PAGE
    if isinstance(told, str):
        value = layer.get(told)
        return value if isinstance(value, int) else None
    value = layer.get(told.field)
    if not isinstance(value, int):
        return None
    if isinstance(told, Told):
        return value * told.times + told.plus
    return value.bit_count() if isinstance(told, Ones) else None


def lay_out(layer: Layer, plan: Plan) -> Iterator[Extent]:
    """The parts that there are, in their order."""
    position, told, size = plan.end, layer.told_size, layer.size
    stop = min(told, size) if told else size
    for part in plan.parts.values():
        if (part.when or part.unless) and not _is_there(layer, part):
            continue
        start: int | None = position
        if part.at is not None:
            start = amount(layer, part.at)
        length = count = None
        if part.size is not None:
            length = amount(layer, part.size) or 0
        if part.count is not None:
            count = amount(layer, part.count) or 0
        if start is None or length == 0 or count == 0:
            continue
        start = max(start, 0)
        if length is not None:
            end = start + max(length, 0)
        elif count is not None and isinstance(part.of, Int):
            end = start + count * struct.calcsize(part.of.code)
        else:
            end = max(start, stop)
        extent = _extent(layer, part, min(start, stop), min(end, stop), max(end - stop, 0), count)
        position = extent.end
        if extent.end > extent.start or extent.missing:
            yield extent


def _is_there(layer: Layer, part: Part) -> bool:
    if any(layer.get(name) != value for name, value in part.when.items()):
        return False
    return not part.unless or any(layer.get(name) != value for name, value in part.unless.items())


def _extent(layer: Layer, part: Part, start: int, end: int, missing: int, count: int | None) -> Extent:
    protocol = PROTOCOLS.get(part.of) if isinstance(part.of, str) else None
    layers: list[Layer] = []
    if protocol is not None and end > start and layer.depth < DEEPEST:
        number = _number_of(layer, part) if part.number else None
        if part.number and number is None:
            pass  # they stay bytes
        elif part.count == 1:
            layers = [layer.message_at(protocol, start, end, number, ALL if part.continued else 0)]
        else:
            layers, stopped = _messages(layer, protocol, start, end, count, number)
            if count is not None and len(layers) < count:
                missing = max(missing, 1)
            end = stopped if part.size is None else end
    return Extent(part, start, end, 0 if part.continued else missing, layers)


def _number_of(layer: Layer, part: Part) -> int | None:
    value = layer.get(part.number)
    if value is None and layer.request is not None:
        value = layer.request.get(part.number)
    return value if isinstance(value, int) else None


def _messages(
    layer: Layer, protocol: Protocol, start: int, end: int, count: int | None, number: int | None
) -> tuple[list[Layer], int]:
    """One after the other, and where they end."""
    found: list[Layer] = []
    least = max(protocol.header.SIZE if protocol.header is not None else 0, 1)
    while start < end and (count is None or len(found) < count):
        one = layer.message_at(protocol, start, end, number)
        size = one.told_size or one.end
        if size < end - start:
            if size < least:
                break
            one = layer.message_at(protocol, start, start + size, number)
        found.append(one)
        start = min(start + max(size, least), end)
    return found, start

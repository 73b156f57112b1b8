"""An event in full, for the prompt: its fields and messages by name, its bytes, what caused it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringminus.lens.addons.message import carried_bytes
from ringminus.lens.decode import Decoder
from ringminus.lens.lines import line
from ringminus.protocol import Layer, Value
from ringminus.tap import Event

COMMON = ("sequence", "cause", "vp", "time", "host_ns", "changed")
WIDTH = 16
LONGEST_VALUE = 72


def one_line(event: Event, decoder: Decoder, *, colored: bool = False) -> str:
    """The event in one line."""
    made = line(event, decoder.layers(event), decoder.channel(event))
    return made.colored() if colored else made.plain


def fields(event: Event, decoder: Decoder) -> Iterator[str]:
    """All fields, of the event and of the messages in it."""
    own, *carried = decoder.layers(event)
    yield from _layer(own, 0, skip=COMMON)
    for layer in carried:
        yield from _layer(layer, 1)


def _layer(layer: Layer, depth: int, skip: Iterable[str] = ()) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}{layer.protocol} {layer.message}".rstrip()
    values = [one for one in layer.values if one.name not in skip and one.value not in (b"", "", ())]
    width = max((len(one.name) for one in values), default=0)
    for one in values:
        yield f"{indent}  {one.name:<{width}}  {_value(one)}"
    for within in layer.inner:
        yield from _layer(within, depth + 1)


def _value(one: Value) -> str:
    value = one.value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        number = str(value) if abs(value) < 10 else f"{value} ({value:#x})"
        return f"{number} {one.label}" if one.label else number
    if isinstance(value, bytes):
        shown = value.hex()
        more = "…" if len(shown) > LONGEST_VALUE else ""
        return f"{shown[:LONGEST_VALUE]}{more} [{len(value)} bytes]"
    text = one.text or str(value)
    return text if text.isprintable() else repr(text)


def dump(data: bytes, first: int = 0, digits: int = 4) -> Iterator[str]:
    """Bytes in hexadecimal and as text."""
    for start in range(0, len(data), WIDTH):
        row = data[start : start + WIDTH]
        text = "".join(chr(one) if 32 <= one < 127 else "." for one in row)
        yield f"{first + start:0{digits}x}  {row.hex(' '):<47}  {text}"


def octets(event: Event) -> Iterator[str]:
    """What the event carries, in hexadecimal."""
    data = carried_bytes(event)
    yield from dump(data) if data else ("it carries no bytes",)


def causes(event: Event, recent: Iterable[Event], decoder: Decoder) -> Iterator[str]:
    """The events that led to one, outermost first, and what it has led to so far."""
    known = {one.sequence: one for one in recent if one.sequence}
    chain, cause = [event], event.cause
    while cause and cause in known and len(chain) < WIDTH * 4:
        chain.append(known[cause])
        cause = known[cause].cause
    depth = 0
    if cause:
        yield f"event {cause}: not over yet, or not watched"
        depth = 1
    for one in reversed(chain):
        mark = "* " if one is event else "  "
        yield f"{mark}{'  ' * depth}{one.sequence:>6} {one_line(one, decoder)}"
        depth += 1
    for one in known.values():
        if one.cause == event.sequence and one is not event:
            yield f"  {'  ' * depth}{one.sequence:>6} {one_line(one, decoder)}"

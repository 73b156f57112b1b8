"""The pieces of a line: who, what, and messages with their fields, in words and colours."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ringminus.lens.channels import title_of
from ringminus.lens.decode import flat
from ringminus.lens.labels import keys
from ringminus.protocol import PADDING, PROTOCOLS, REST, Layer, Show, Value

if TYPE_CHECKING:
    from rich.text import Text

FIELDS_SHOWN, FIELDS_OUTSIDE = 8, 2
BYTES_SHOWN = 16
GUID_SIZE = 16
LONGEST_VALUE = 64
LARGEST_DECIMAL = 0xFFFF
LARGEST_ACCESS = 8
TO_HOST, TO_GUEST, INSIDE = "→", "←", " "
COMMON = frozenset(("time", "vp", "sequence", "cause", "host_ns", "changed"))
AS_EXPECTED = ("SUCCESS", "GOOD", "NONE")
WHO = 10
"""Columns of who it is about."""
COLORS = {
    "time": "\x1b[2m",
    "arrow": "\x1b[1m",
    "who": "\x1b[36m",
    "protocol": "\x1b[34m",
    "name": "\x1b[1;32m",
    "field": "",
    "value": "\x1b[33m",
    "bad": "\x1b[1;31m",
    "": "",
}
RICH = {
    "time": "dim",
    "arrow": "bold",
    "who": "cyan",
    "protocol": "blue",
    "name": "bold green",
    "value": "yellow",
    "bad": "bold red",
}
"""The same for `rich`."""


class Part(NamedTuple):
    """A piece of a line; `style` is a key of `COLORS`."""

    text: str
    style: str = ""


class Line:
    """A line in its parts; nothing in it moves the cursor, whatever the guest said."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = [
            part if part.text.isprintable() else Part(_printable(part.text), part.style) for part in parts
        ]

    @property
    def plain(self) -> str:
        """Without colours."""
        return "".join(part.text for part in self.parts)

    def colored(self, width: int = 0) -> str:
        """For a terminal, at most `width` columns of it (0: all)."""
        left, found = width or 1 << 30, []
        for text, style in self.parts:
            if left <= 0:
                break
            code = COLORS[style]
            found.append(f"{code}{text[:left]}\x1b[0m" if code else text[:left])
            left -= len(text)
        return "".join(found)

    def rich(self) -> Text:
        """For `rich` and Textual."""
        from rich.text import Text

        text = Text(no_wrap=True)
        for part in self.parts:
            text.append(part.text, RICH.get(part.style))
        return text


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


# ------------------------------------------------------------ messages


def messages(layers: list[Layer]) -> list[Part]:
    """The messages that were taken apart, outermost first."""
    found: list[Part] = []
    for layer in flat(layers):
        if found:
            found.append(Part(" | ", "time"))
        found.append(Part(layer.protocol + " ", "protocol"))
        found.append(Part(layer.message or "message", "name"))
        found += fields(layer)
        if layer.missing:
            found.append(Part(f" {layer.missing} bytes are missing", "bad"))
    return found


def fields(layer: Layer) -> list[Part]:
    """Those that say something; of what has a message in it only those whose values have names."""
    wraps = bool(layer.inner)
    found: list[Part] = []
    shown = 0
    for one in layer.values:
        if not _tells(layer, one) or (wraps and not _is_named(layer, one)):
            continue
        if shown == (FIELDS_OUTSIDE if wraps else FIELDS_SHOWN):
            if not wraps:
                found.append(Part(" …"))
            break
        shown += 1
        name = one.name.rpartition(".")[2]
        if one.name == REST:
            found.append(Part(f"{',' if shown > 1 else ''} and {len(one.value)} bytes", "field"))  # type: ignore[arg-type]
            continue
        found.append(Part(f"{',' if shown > 1 else ''} {name} ", "field"))
        text = _text(one)
        found.append(Part(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…", "value"))
    return found


def _text(one: Value) -> str:
    if one.show is Show.GUID and isinstance(one.value, bytes):
        return _title_of(one.value) or one.text
    return one.text if one.label or one.show is not None else value_text(one.value)


def _tells(layer: Layer, one: Value) -> bool:
    """Whether a field says more than the message's name; zeros, what is as it should be, and lengths of what
    is shown say nothing."""
    if one.label:
        dull = one.value == 0 and one.label in AS_EXPECTED
        return not dull and keys(one.label).isdisjoint(keys(layer.message))
    if layer.form is not None and one.name in layer.form.lengths.values():
        return False
    if one.name == PADDING:
        return False
    if isinstance(one.value, int):
        protocol = PROTOCOLS.get(layer.protocol)
        selector = protocol.selector if protocol is not None else ""
        return one.value != 0 and one.name.rpartition(".")[2] != selector
    return any(one.value) if isinstance(one.value, bytes | tuple) else bool(one.value)


def _is_named(layer: Layer, one: Value) -> bool:
    """Whether it has one value of those that have names, and is no set of flags."""
    protocol = PROTOCOLS.get(layer.protocol)
    labels = protocol.labels.get(one.name.rpartition(".")[2]) if protocol is not None else None
    return bool(one.label) and labels is not None and not issubclass(labels, IntFlag)


def value_text(value: object) -> str:
    """A value as a person reads it, in a few words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if abs(value) <= LARGEST_DECIMAL else f"{value:#x}"
    if isinstance(value, bytes):
        return octets_text(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def octets_text(data: bytes) -> str:
    """Bytes in hexadecimal, the first ones of many."""
    title = _title_of(data)
    if title:
        return title
    short = data.rstrip(b"\0") or data[:1]
    more = "…" if len(short) > BYTES_SHOWN else ""
    return f"{short[:BYTES_SHOWN].hex()}{more}" + (f"[{len(data)}]" if len(short) < len(data) or more else "")


def _title_of(data: bytes) -> str:
    """What devices of the class are called whose GUID this is; "" if there are none."""
    if len(data) != GUID_SIZE:
        return ""
    guid = UUID(bytes_le=data)
    title = title_of(guid)
    return title if title != str(guid) else ""

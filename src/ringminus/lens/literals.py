"""Values as they are written in filters, as what they are compared with."""

from __future__ import annotations

import ast
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from uuid import UUID

SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TIMES = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number, or a decimal one; `text` is how it was written."""

    value: Fraction
    text: str

    def octets(self) -> bytes:
        """The bytes that are written so in hexadecimal, as 0x0a0b."""
        digits = self.text[2:] if self.text[:2].lower() == "0x" else f"{int(self.value):x}"
        return bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))


@dataclass(frozen=True, slots=True)
class Time:
    """A time with its unit."""

    ns: Fraction


@dataclass(frozen=True, slots=True)
class Octets:
    """Bytes: 0a:0b, a hardware address."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """Text in quotes; in `raw` backslashes are as they were written, as regular expressions want them."""

    value: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word: a label, or yes and no."""

    value: str


@dataclass(frozen=True, slots=True)
class Guid:
    """A GUID."""

    value: UUID


@dataclass(frozen=True, slots=True)
class Ip:
    """An IP address, or all of a network."""

    value: Network


Literal = Number | Time | Octets | Text | Word | Guid | Ip


def _time(text: str) -> Time:
    unit = next(one for one in TIMES if text.endswith(one) and text[: -len(one)][-1:].isdigit())
    return Time(Fraction(text[: -len(unit)]) * TIMES[unit])


def _size(text: str) -> Number:
    digits = text.rstrip("iBbKMGTkmgt")
    return Number(Fraction(int(digits) * SIZES[text[len(digits)].upper()]), text)


def _number(text: str) -> Number:
    whole = text[:2].lower() == "0x"
    return Number(Fraction(int(text, 16)) if whole else Fraction(text), text)


def _string(text: str) -> Text:
    raw = text[1:-1]
    try:
        return Text(str(ast.literal_eval(text)), raw)
    except (SyntaxError, ValueError):  # a backslash that means nothing in Python
        return Text(raw, raw)


READERS: dict[str, Callable[[str], Literal]] = {
    "TIME": _time,
    "SIZE": _size,
    "NUMBER": _number,
    "GUID": lambda text: Guid(UUID(text)),
    "IPV4": lambda text: Ip(ipaddress.ip_network(text, strict=False)),
    "IPV6": lambda text: Ip(ipaddress.ip_network(text, strict=False)),
    "OCTETS": lambda text: Octets(bytes.fromhex(text.replace(":", ""))),
    "STRING": _string,
    "NAME": Word,
}


def literal(terminal: str, text: str) -> Literal:
    """The value of a token of the grammar; raises `ValueError` for what only looks like one."""
    return READERS[terminal](text)

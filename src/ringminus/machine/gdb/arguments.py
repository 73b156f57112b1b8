"""What stands behind a command's name in a packet, taken apart and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ringminus.machine.gdb.points import Point, PointType

DIGITS = re.compile(rb"[0-9A-Fa-f]{1,16}")
THREAD = re.compile(rb"-1|[0-9A-Fa-f]{1,8}")


class Malformed(Exception):
    """The arguments of a packet make no sense."""


@dataclass(frozen=True, slots=True)
class Resume:
    """How the guest goes on: `stepping` by one instruction of processor `index`, or by more as long as RIP
    is within `inside`."""

    index: int = 0
    stepping: bool = False
    inside: range = range(0)


def thread_of(text: bytes, count: int) -> int | None:
    """The index of one of `count` threads, which gdb numbers from 1 on; None for any."""
    if THREAD.fullmatch(text) is None:
        raise Malformed
    number = int(text, 16)
    if number in (-1, 0):
        return None
    if not 1 <= number <= count:
        raise Malformed
    return number - 1


def action_of(text: bytes, index: int) -> Resume:
    """An action of `vCont` for processor `index`."""
    kind, rest = text[:1], text[1:]
    if (kind == b"c" and not rest) or (kind == b"C" and number_of(rest) >= 0):
        return Resume(index)
    if (kind == b"s" and not rest) or (kind == b"S" and number_of(rest) >= 0):
        return Resume(index, stepping=True)
    if kind == b"r":
        start, end = numbers_of(rest, 2)
        return Resume(index, stepping=True, inside=range(start, end))
    raise Malformed


def number_of(text: bytes) -> int:
    """A number of up to 64 bits in hexadecimal digits."""
    if DIGITS.fullmatch(text) is None:
        raise Malformed
    return int(text, 16)


def numbers_of(text: bytes, count: int) -> list[int]:
    """That many of them, with commas between."""
    numbers = list(map(number_of, text.split(b",")))
    if len(numbers) != count:
        raise Malformed
    return numbers


def bytes_of(digits: bytes) -> bytes:
    """Bytes of two hexadecimal digits each."""
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        raise Malformed from None


def point_of(rest: bytes) -> Point | None:
    """What `Z` and `z` name; None for a type that we do not have. Conditions, which may follow a semicolon,
    were not offered."""
    kind, address, length = numbers_of(rest.partition(b";")[0], 3)
    if kind not in set(PointType):
        return None
    if PointType(kind) not in (PointType.SOFTWARE_BREAKPOINT, PointType.HARDWARE_BREAKPOINT) and not length:
        raise Malformed
    return PointType(kind), address, length

"""What an operator does with a field of a kind: each gives a test of one value of the field."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from ringminus.lens.drivers import DRIVERS
from ringminus.lens.fields import Kind, Unit
from ringminus.lens.labels import Labels, identifier, keys
from ringminus.lens.literals import Guid, Ip, Literal, Number, Octets, Text, Time, Word

Check = Callable[[Any], bool]
ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
YES, NO = ("true", "yes", "1"), ("false", "no", "0")
MOST_NEAR = 3
MOST_KNOWN = 4096
"""Texts of which is remembered whether they are the wanted name."""


class Mismatch(ValueError):
    """The value cannot be compared so; the text says what can."""


def near(word: str, known: list[str]) -> str:
    """A hint at names that are like this one, "" if there are none."""
    return did_you_mean(difflib.get_close_matches(word.lower(), known, MOST_NEAR, 0.6))


def did_you_mean(names: list[str]) -> str:
    """The hint, "" without any names."""
    return f": did you mean {' or '.join(names)}?" if names else ""


def check(kind: Kind, labels: Labels | None, unit: Unit | None, sign: str, value: Literal) -> Check:
    """The test for `field sign value`; `!=` is left to the caller, who has all values of the field. Raises
    `Mismatch`."""
    if sign == "matches":
        return _matches(kind, labels, value)
    return _CHECKS[kind](labels, unit, sign, value)


def between(unit: Unit | None, labels: Labels | None, low: Literal, high: Literal) -> Check:
    """The test for a number in `low..high`, both included. Raises `Mismatch`."""
    first, last = _bound(labels, unit, low), _bound(labels, unit, high)
    return lambda found: isinstance(found, int) and first <= found <= last


# ------------------------------------------------------------ numbers


def _number(labels: Labels | None, unit: Unit | None, sign: str, value: Literal) -> Check:
    if sign == "contains":
        bits = sum(_exact(labels, unit, value))
        return lambda found: isinstance(found, int) and found & bits == bits
    if sign in ORDERED:
        compare, bound = ORDERED[sign], _bound(labels, unit, value)
        return lambda found: isinstance(found, int) and compare(found, bound)
    return _exact(labels, unit, value).__contains__


def _exact(labels: Labels | None, unit: Unit | None, value: Literal) -> frozenset[int]:
    """All numbers that the value stands for."""
    if isinstance(value, Text | Word):
        return _labelled(labels, value.value)
    number = _bound(labels, unit, value)
    return frozenset((number,))


def _labelled(labels: Labels | None, word: str) -> frozenset[int]:
    if labels is None:
        raise Mismatch(f"{word} is no number, and its values have no names")
    found = labels.values(word)
    if not found:
        raise Mismatch(f"none of its values is called {word}" + near(identifier(word), labels.identifiers()))
    return found


def _bound(labels: Labels | None, unit: Unit | None, value: Literal) -> int:
    """The one number that the value stands for, in the field's unit. What lies between two of its numbers
    counts as the lower one."""
    if isinstance(value, Text | Word):
        found = _labelled(labels, value.value)
        if len(found) > 1:
            raise Mismatch(f"several of its values are called {value.value}")
        return next(iter(found))
    if isinstance(value, Time):
        if unit is None:
            raise Mismatch("it is no time")
        return int(value.ns / unit.ns)
    if isinstance(value, Number):
        if unit is not None:
            return int(value.value * unit.bare / unit.ns)
        if value.value.denominator != 1:
            raise Mismatch("it is a whole number")
        return int(value.value)
    if isinstance(value, Ip) and value.value.version == 4 and value.value.num_addresses == 1:
        return int(value.value.network_address)
    raise Mismatch("it is a number, such as 16, 0x10 or 4K" + (", or one of its names" if labels else ""))


# ------------------------------------------------------------ text


def _text(labels: Labels | None, _unit: Unit | None, sign: str, value: Literal) -> Check:
    if sign in ORDERED:
        raise Mismatch(f"it is text, which has no order: say == or contains instead of {sign}")
    if isinstance(value, Word | Text):
        word = value.value
    elif isinstance(value, Number):
        word = value.text
    else:
        raise Mismatch("it is text: put the value in quotes")
    if sign == "contains":
        part = word.casefold()
        return lambda found: part in found.casefold()
    if labels is not None and not labels.values(word) and not word.startswith("0x"):
        raise Mismatch(f"there is no {word} among its values" + near(identifier(word), labels.identifiers()))
    if isinstance(value, Text) and labels is None:
        whole = word.casefold()
        return lambda found: bool(found.casefold() == whole)
    wanted, known = keys(word), {}  # type: frozenset[str], dict[str, bool]

    def named(found: str) -> bool:
        same = known.get(found)
        if same is None:
            if len(known) >= MOST_KNOWN:
                known.clear()
            same = known[found] = not wanted.isdisjoint(keys(found))
        return same

    return named


def _matches(kind: Kind, labels: Labels | None, value: Literal) -> Check:
    if not isinstance(value, Text | Word):
        raise Mismatch('matches takes a regular expression in quotes, as in matches "^read_(6|10)$"')
    text = value.raw if isinstance(value, Text) else value.value
    try:
        pattern = re.compile(text, re.IGNORECASE)
        binary = re.compile(text.encode(), re.IGNORECASE | re.DOTALL)
    except (re.error, OverflowError) as error:
        raise Mismatch(f"that is no regular expression: {error}") from None
    if kind is Kind.TEXT:
        return lambda found: pattern.search(found) is not None
    if kind is Kind.BYTES:
        return lambda found: isinstance(found, bytes) and binary.search(found) is not None
    if kind is Kind.GUID:
        return lambda found: pattern.search(str(found)) is not None
    if labels is None:
        raise Mismatch(f"it is a {kind.value}: matches is for text, bytes, and names of values")
    names = labels
    return lambda found: isinstance(found, int) and _finds(pattern, names.name(found))


def _finds(pattern: re.Pattern[str], label: str) -> bool:
    return bool(label) and bool(pattern.search(label) or pattern.search(identifier(label)))


# ------------------------------------------------------------ bytes, flags, GUIDs


def _bytes(_labels: Labels | None, _unit: Unit | None, sign: str, value: Literal) -> Check:
    if sign in ORDERED:
        raise Mismatch(f"they are bytes, which have no order: say == or contains instead of {sign}")
    if isinstance(value, Ip):
        network = value.value
        size, first, last = network.max_prefixlen // 8, network.network_address, network.broadcast_address
        low, high = first.packed, last.packed
        if sign != "contains":
            return lambda found: isinstance(found, bytes) and len(found) == size and low <= found <= high
        wanted = low
    else:
        wanted = _octets(value)
    if sign == "contains":
        return lambda found: isinstance(found, bytes) and wanted in found
    return lambda found: bool(found == wanted)


def _octets(value: Literal) -> bytes:
    if isinstance(value, Octets):
        return value.value
    if isinstance(value, Text):
        return value.value.encode()
    if isinstance(value, Guid):
        return value.value.bytes_le
    if isinstance(value, Number) and value.value.denominator == 1:
        return value.octets()
    if isinstance(value, Word):
        try:
            return bytes.fromhex(value.value)
        except ValueError:
            pass
    raise Mismatch('they are bytes, such as 0a:0b, 0x0a0b or "text"')


def _flag(_labels: Labels | None, _unit: Unit | None, sign: str, value: Literal) -> Check:
    word = value.text if isinstance(value, Number) else getattr(value, "value", "")
    word = word.lower() if isinstance(word, str) else ""
    if sign not in ("==", "!=") or word not in YES + NO:
        raise Mismatch("it is true or false: the name alone asks whether it is true")
    wanted = word in YES
    return lambda found: found is wanted


def _guid(_labels: Labels | None, _unit: Unit | None, sign: str, value: Literal) -> Check:
    if sign not in ("==", "!="):
        raise Mismatch(f"it is a GUID: say == instead of {sign}")
    if isinstance(value, Guid):
        return frozenset((value.value,)).__contains__
    if not isinstance(value, Text | Word):
        raise Mismatch("it is a GUID, or the name of a driver, such as netvsc")
    try:
        return frozenset((UUID(value.value),)).__contains__
    except ValueError:
        pass
    wanted = frozenset(guid for guid, names in DRIVERS.items() if value.value.lower() in names)
    if not wanted:
        known = sorted({name for names in DRIVERS.values() for name in names})
        raise Mismatch(f"there is no driver {value.value}" + near(value.value, known))
    return wanted.__contains__


def _there(_labels: Labels | None, _unit: Unit | None, _sign: str, _value: Literal) -> Check:
    raise Mismatch("it has no value: compare one of its fields")


_CHECKS: dict[Kind, Callable[[Labels | None, Unit | None, str, Literal], Check]] = {
    Kind.NUMBER: _number,
    Kind.NUMBERS: _number,
    Kind.TEXT: _text,
    Kind.BYTES: _bytes,
    Kind.FLAG: _flag,
    Kind.GUID: _guid,
    Kind.THERE: _there,
}

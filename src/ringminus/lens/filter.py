"""Filters: `scsi.op == write_10 and scsi.lba > 0x1000`, compiled to a test of events.

    wanted = compile_filter('hypercall.code == signal_event and vmbus.channel.device == "netvsc"')
    wanted.points        # the points of the tap that it needs
    [event for event in events if wanted(event)]

A comparison is true if one of the field's values satisfies it; an event that does not have the field
satisfies none, not even `!=`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from ringminus.errors import ConfigError
from ringminus.lens.comparisons import MOST_NEAR, Check, Mismatch, between, check, did_you_mean, near
from ringminus.lens.decode import Decoder
from ringminus.lens.fields import ALL, Field, Kind, catalogue
from ringminus.lens.literals import literal
from ringminus.tap import BusMessage, ChannelState, Event

Test = Callable[[Event], bool]
Node = Tree[Token]
LONGEST = 10_000
DEEPEST = 100
"""Parentheses and `not` within each other."""
_VALUE_TOKENS = {"TIME", "SIZE", "NUMBER", "GUID", "IPV4", "IPV6", "OCTETS", "STRING"}


class FilterError(ConfigError):
    """What is wrong in a filter, and where: `length` characters of `text` from `start` on."""

    def __init__(self, problem: str, text: str, start: int, length: int = 1) -> None:
        self.problem, self.text, self.start, self.length = problem, text, start, max(length, 1)
        shown = "".join(char if char.isprintable() else " " for char in text)
        super().__init__(f"{problem}\n  {shown}\n  {' ' * start}{'^' * self.length}")


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled part. `events` are those for which it can be true, `cost` orders parts of an `and`; `asked`
    are events whose fields are named."""

    test: Test
    events: frozenset[type[Event]]
    cost: int
    channels: bool = False
    asked: frozenset[type[Event]] = frozenset()


class Filter:
    """A compiled filter; call it with every event, in their order. `events` are the types of events that it
    can be true for, `points` the points of the tap that it needs: of events on demand only those whose fields
    it asks for."""

    def __init__(self, text: str, part: Part, decoder: Decoder) -> None:
        self.text = text
        self.events = part.events
        self._note = decoder.note if part.cost else None
        self._test = part.test
        needed = {one for one in part.events if not one.ON_DEMAND or one in part.asked}
        if part.channels:
            needed |= {ChannelState, BusMessage}
        self.points = frozenset(one.POINT for one in needed)

    def __call__(self, event: Event) -> bool:
        """Whether the event satisfies it."""
        if self._note is not None:
            self._note(event)
        return type(event) in self.events and self._test(event)


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=True)


def compile_filter(text: str, decoder: Decoder | None = None) -> Filter:
    """Compile a filter; an empty one is true. Who takes events apart himself gives his decoder, so that it is
    done once. Raises `FilterError`."""
    decoder = decoder or Decoder()
    if not text.strip():
        return Filter(text, Part(lambda _: True, ALL, 0), decoder)
    return Filter(text, _Compiler(text, decoder).whole(), decoder)


class _Compiler:
    def __init__(self, text: str, decoder: Decoder) -> None:
        self._text = text
        self._decoder = decoder
        self._depth = 0

    def whole(self) -> Part:
        if len(self._text) > LONGEST:
            raise FilterError(f"a filter has at most {LONGEST} characters", self._text[:60], 59)
        try:
            tree = _parser().parse(self._text)
        except UnexpectedInput as error:
            raise self._syntax(error) from None
        return self._part(_node(tree.children[0]))

    # ------------------------------------------------------------ errors

    def _syntax(self, error: UnexpectedInput) -> FilterError:
        if isinstance(error, UnexpectedToken):
            token, expected = error.token, set(error.expected)
            if token.type == "$END":
                end = len(self._text.rstrip())
                return FilterError(f"the filter ends too early: {_wanted(expected)}", self._text, end)
            start, length = token.start_pos or 0, len(token)
            if token.type == "RPAR" and expected == {"$END"}:
                return FilterError("no parenthesis was opened for this one", self._text, start)
        else:
            expected = set(error.allowed or ()) if isinstance(error, UnexpectedCharacters) else set()
            start, length = error.pos_in_stream or 0, 1
            if self._text[start] in "\"'":
                return FilterError("the quotation mark is not closed", self._text, start)
        if self._text[start] == "=" and "COMPARISON" in expected:
            return FilterError("a comparison is written ==", self._text, start, length)
        if self._text.startswith("..", start):
            return FilterError("a range stands in braces: in {1..3}", self._text, start, 2)
        return FilterError(f"that was not expected: {_wanted(expected)}", self._text, start, length)

    def _error(self, problem: str, where: Node | Token) -> FilterError:
        if isinstance(where, Token):
            return FilterError(problem, self._text, where.start_pos or 0, len(where))
        start, end = where.meta.start_pos, where.meta.end_pos
        return FilterError(problem, self._text, start, end - start)

    # ------------------------------------------------------------ logic

    def _part(self, tree: Node) -> Part:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"more than {DEEPEST} parts lie within each other here", tree)
        try:
            return getattr(self, f"_{tree.data}")(tree)  # type: ignore[no-any-return]
        finally:
            self._depth -= 1

    def _any(self, tree: Node) -> Part:
        parts = [self._part(_node(one)) for one in tree.children]
        if len(parts) == 1:
            return parts[0]
        tests = [one.test for one in sorted(parts, key=lambda one: one.cost)]
        events = frozenset().union(*(one.events for one in parts))
        return _joined(parts, lambda event: any(test(event) for test in tests), events)

    def _every(self, tree: Node) -> Part:
        parts: list[Part] = []
        events = ALL
        for child in tree.children:
            part = self._part(_node(child))
            if events and part.events and not events & part.events:
                raise self._error(
                    f"this is never true together with what is before it: it is about "
                    f"{_named(part.events)}, that about {_named(events)}",
                    _node(child),
                )
            events &= part.events
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        first, *rest = [one.test for one in sorted(parts, key=lambda one: one.cost)]
        if len(rest) == 1:
            (second,) = rest
            return _joined(parts, lambda event: first(event) and second(event), events)
        return _joined(parts, lambda event: first(event) and all(test(event) for test in rest), events)

    def _negated(self, tree: Node) -> Part:
        part = self._part(_node(tree.children[0]))
        test, events = part.test, part.events
        made = _joined([part], lambda event: not (type(event) in events and test(event)), ALL)
        return replace(made, asked=frozenset())

    # ------------------------------------------------------------ fields

    def _field(self, token: Token) -> Field:
        known = catalogue()
        field = known.find(token)
        if field is None:
            raise self._error(f"there is no field {token}{_like(token, list(known.fields))}", token)
        if not field.events:
            raise self._error(f"no event can have {token}: its messages are not those of a device", token)
        return field

    def _operand(self, tree: Node) -> tuple[Field, Token, Callable[[Any], Any] | None, Kind]:
        """The field, its name's place, what is done with its values, and what they are then."""
        token = _token(tree.children[0])
        field = self._field(token)
        if tree.data == "operand":
            return field, token, None, field.kind
        if tree.data == "length":
            if field.kind not in (Kind.BYTES, Kind.TEXT, Kind.NUMBERS):
                raise self._error(f"{field.name} is a {field.kind.value}, and has no length", token)
            return field, token, len, Kind.NUMBER
        if field.kind not in (Kind.BYTES, Kind.TEXT):
            raise self._error(f"{field.name} is a {field.kind.value}, and has no parts", token)
        numbers = [None if one is None else self._index(_token(one)) for one in tree.children[1:]]
        if tree.data == "slice_one":
            numbers.append((numbers[0] or 0) + 1)
        elif tree.data == "slice_first":
            numbers.insert(0, 0)
        piece = slice(numbers[0], numbers[1])
        return field, token, lambda found: found[piece], field.kind

    def _index(self, token: Token) -> int:
        if not token.isdigit() and not token.lower().startswith("0x"):
            raise self._error("a place among bytes is a whole number", token)
        return int(token, 0) if token.lower().startswith("0x") else int(token)

    def _there(self, tree: Node) -> Part:
        field, token, change, kind = self._operand(_node(tree.children[0]))
        if change is not None and kind is Kind.NUMBER:
            raise self._error("a length is compared, as in len(packet.payload) > 100", token)
        wanted: Check = bool if field.kind is Kind.FLAG or change is not None else _is_there
        return self._test(field, change, wanted, negated=False)

    def _compare(self, tree: Node) -> Part:
        operand, sign, written = tree.children
        field, token, change, kind = self._operand(_node(operand))
        word = str(sign).lower()
        made = self._check(field, token, change, kind, word, _node(written))
        return self._test(field, change, made, negated=word == "!=")

    def _among(self, tree: Node) -> Part:
        field, token, change, kind = self._operand(_node(tree.children[0]))
        checks: list[Check] = []
        for item in map(_node, tree.children[1:]):
            if item.data == "item":
                checks.append(self._check(field, token, change, kind, "==", _node(item.children[0])))
                continue
            if kind not in (Kind.NUMBER, Kind.NUMBERS):
                raise self._error(f"{field.name} is {kind.value}: only numbers have ranges", item)
            low, high = (self._literal(_node(one)) for one in item.children)
            try:
                checks.append(between(None if change else field.unit, field.labels, low, high))
            except Mismatch as error:
                raise self._error(f"{field.name}: {error}", item) from None
        if len(checks) == 1:
            return self._test(field, change, checks[0], negated=False)
        return self._test(field, change, lambda found: any(one(found) for one in checks), negated=False)

    def _literal(self, tree: Node) -> Any:
        token = _token(tree.children[0])
        try:
            return literal(token.type, token)
        except ValueError as error:
            raise self._error(f"that is no value: {error}", token) from None

    def _check(
        self,
        field: Field,
        token: Token,
        change: Callable[[Any], Any] | None,
        kind: Kind,
        sign: str,
        written: Node,
    ) -> Check:
        value = self._literal(written)
        labels, unit = (field.labels, field.unit) if change is None else (None, None)
        try:
            return check(kind, labels, unit, sign, value)
        except Mismatch as error:
            where = token if kind is Kind.THERE else written
            raise self._error(f"{token}: {error}", where) from None

    def _test(self, field: Field, change: Callable[[Any], Any] | None, made: Check, *, negated: bool) -> Part:
        """The test of an event by one of a value of its field."""
        if change is not None:
            plain, changed = made, change
            made = lambda found: plain(changed(found))  # noqa: E731
        if field.own and field.kind is not Kind.NUMBERS:
            return _own_test(field, made, negated)
        read, decoder = field.values, self._decoder
        several = field.kind is Kind.NUMBERS and change is None

        def test(event: Event) -> bool:
            values: Sequence[Any] = read(decoder, event)
            if several:
                values = [one for found in values for one in found]
            for one in values:
                if made(one):
                    return not negated
            return negated and bool(values)

        asked = field.events if field.events != ALL else frozenset()
        return Part(test, field.events, 2 if field.channels else 1, field.channels, asked)


def _own_test(field: Field, made: Check, negated: bool) -> Part:
    read = attrgetter(field.own)
    if field.events == ALL:
        if negated:
            return Part(lambda event: not made(read(event)), ALL, 0)
        return Part(lambda event: made(read(event)), ALL, 0)
    (kind,) = field.events
    test: Test = lambda event: type(event) is kind and made(read(event))  # noqa: E731
    if negated:
        test = lambda event: type(event) is kind and not made(read(event))  # noqa: E731
    return Part(test, field.events, 0, asked=field.events)


def _is_there(found: object) -> bool:
    return found is not None


def _joined(parts: list[Part], test: Test, events: frozenset[type[Event]]) -> Part:
    asked = frozenset().union(*(one.asked for one in parts))
    return Part(test, events, max(one.cost for one in parts), any(one.channels for one in parts), asked)


def _node(found: object) -> Node:
    assert isinstance(found, Tree)
    return found


def _token(found: object) -> Token:
    assert isinstance(found, Token)
    return found


def _like(name: str, known: list[str]) -> str:
    """A hint at fields that may have been meant: of the same protocol with that word in them, or with a name
    that is written like this one, or that are called so elsewhere."""
    protocol, _, word = name.lower().rpartition(".")
    within = [one for one in known if one.startswith(f"{protocol}.") and word in one] if protocol else []
    elsewhere = [one for one in known if one.endswith(f".{word}")]
    return did_you_mean(within[:MOST_NEAR]) or near(name, known) or did_you_mean(elsewhere[:MOST_NEAR])


def _named(events: frozenset[type[Event]]) -> str:
    names = sorted(one.NAME for one in events)
    return names[0] + " events" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} events"


def _wanted(expected: set[str]) -> str:
    """What may stand there, in words."""
    if expected >= _VALUE_TOKENS:
        return "a value may follow here: a number, a name, or text in quotes"
    words = []
    if "NAME" in expected:
        words.append("the name of a field")
    if "COMPARISON" in expected:
        words.append("an operator such as ==")
    if "_AND" in expected:
        words.append("and, or")
    if "RPAR" in expected:
        words.append("a closing parenthesis")
    if "RBRACE" in expected:
        words.append("a comma or }")
    if "NUMBER" in expected and not words:
        words.append("a number")
    return f"what may follow here is {', '.join(words)}" if words else "nothing may follow here"

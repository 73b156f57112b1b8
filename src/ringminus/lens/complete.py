"""What can follow in a filter that somebody types."""

from __future__ import annotations

import re
from typing import NamedTuple

from ringminus.lens.fields import Field, Kind, catalogue

_LAST_WORD = re.compile(r"[\w.-]*$")
_OPERATOR = re.compile(r"([A-Za-z_][\w.-]*)\s*(==|!=|<=|>=|<|>|\bcontains\b|\bin\s*\{(?:[^{}]*,)?)\s*$", re.I)
_COMPLETE = re.compile(r"(\"|'|\}|\)|\]|[\w.:-])\s+$")
WORDS = {"and": "both", "or": "one of both"}


class Completion(NamedTuple):
    """The whole filter with the last word completed, and what that is."""

    text: str
    help: str


def complete(text: str) -> list[Completion]:
    """The ways to complete the last word of a filter, or to go on after it."""
    found = _LAST_WORD.search(text)
    assert found is not None
    word, before = found.group(), text[: found.start()]
    operator = _OPERATOR.search(before)
    if operator is not None:
        field = catalogue().find(operator.group(1))
        values = _values(field) if field is not None else []
        return [Completion(before + one, "") for one in values if one.startswith(word.lower())]
    if _COMPLETE.search(before) and not re.search(r"\b(and|or|not)\s+$|[(!]\s*$|&&\s*$|\|\|\s*$", before):
        return [Completion(before + one, what) for one, what in WORDS.items() if one.startswith(word)]
    fields = [one for name, one in catalogue().fields.items() if name.startswith(word) and one.events]
    return [Completion(before + one.name, one.title or one.kind.value) for one in fields]


def _values(field: Field) -> list[str]:
    if field.kind is Kind.FLAG:
        return ["true", "false"]
    return field.labels.identifiers() if field.labels is not None else []

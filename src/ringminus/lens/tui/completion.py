"""Completing what is written in the filter line, one part of a dotted name after the other."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import NamedTuple

from ringminus.lens.complete import complete as completions

_WORD = re.compile(r"[\w.-]*$")


class Completion(NamedTuple):
    """What may stand for the characters from `start` on; `common` is what all candidates begin with."""

    start: int
    common: str
    candidates: list[str]


def complete(text: str) -> Completion:
    """Complete the end of a filter."""
    found = _WORD.search(text)
    assert found is not None
    start, length = found.start(), len(text) - found.start()
    words = set()
    for one in completions(text):
        word = one.text[start:]
        dot = word.find(".", length)
        words.add(word if dot < 0 else word[: dot + 1])
    fitting = sorted(words)
    return Completion(start, _common(fitting), fitting)


def _common(words: list[str]) -> str:
    """What all of them begin with."""
    same = takewhile(lambda chars: len(set(chars)) == 1, zip(*words, strict=False))
    return "".join(chars[0] for chars in same)

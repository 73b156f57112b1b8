"""The reference of filters has the fields that there are, and its examples are filters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.describe import table
from ringminus.lens.filter import compile_filter
from ringminus.tap import EVENTS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "filters.md"
MARK = "<!-- What follows is made by tools/filters-reference. -->\n\n"
EXAMPLES = re.search(r"^```\n(.*?)^```", PAGE.read_text(), re.M | re.S)
FILTERS = EXAMPLES.group(1).splitlines() if EXAMPLES is not None else []


def test_its_tables_are_made_from_the_declarations() -> None:
    assert PAGE.read_text().partition(MARK)[2] == table(), "run tools/filters-reference"


@pytest.mark.parametrize("text", FILTERS)
def test_its_examples_are_filters(text: str) -> None:
    compile_filter(text)


def test_every_event_is_told_of_where_one_learns_to_watch() -> None:
    page = (ROOT / "docs" / "how-to" / "watch-the-boundary.md").read_text()
    assert [kind.POINT for kind in EVENTS if f"| `{kind.POINT}` |" not in page] == []
    for text in re.findall(r"^\$ ringminus lens (?:show|watch|tree) \S+ '([^']+)'", page, re.M):
        compile_filter(text)


def test_there_are_examples() -> None:
    assert len(FILTERS) == 5

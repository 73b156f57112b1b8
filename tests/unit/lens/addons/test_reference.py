"""What is written of addons is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from ringminus.cli.lens_hooks import hooks
from ringminus.errors import ConfigError
from ringminus.lens.addons.hooks import ALL, HOOKS
from ringminus.lens.addons.reference import markdown
from ringminus.tap import EVENTS

ROOT = Path(__file__).parents[4]


def test_the_reference_is_made_from_the_declarations() -> None:
    """If not: from "## Hooks" on the page is what `ringminus lens hooks --markdown` prints."""
    page = (ROOT / "docs" / "reference" / "addons.md").read_text()
    assert page[page.index("## Hooks") :] == markdown()


def test_the_code_of_the_how_to_is_the_examples() -> None:
    page = (ROOT / "docs" / "how-to" / "write-an-addon.md").read_text()
    examples = "".join(path.read_text() for path in (ROOT / "examples" / "addons").glob("*.py"))
    shown = re.findall(r"^```python\n((?:class|    @only).*?)^```", page, re.M | re.S)
    assert len(shown) == 3
    assert all(block in examples for block in shown)


def test_every_event_has_a_hook_and_every_hook_its_words() -> None:
    assert {one.event for one in ALL if one.event is not None} == set(EVENTS)
    result = CliRunner().invoke(hooks)
    assert [line.split("(")[0] for line in result.output.splitlines()] == list(HOOKS)
    told = CliRunner().invoke(hooks, ["packet_to_guest"]).output
    assert "A completion that is dropped leaves its request open for ever" in " ".join(told.split())
    assert "event can: set transaction_id, payload; answer; delay; drop; duplicate" in told


def test_a_hook_that_there_is_not() -> None:
    result = CliRunner().invoke(hooks, ["paket_to_guest"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "there is no hook paket_to_guest: did you mean packet_to_guest?"

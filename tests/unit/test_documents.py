"""What the documentation shows is what the repository has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md"]


def test_the_device_of_the_how_to_is_the_examples() -> None:
    page = (ROOT / "docs" / "how-to" / "write-a-device.md").read_text()
    example = (ROOT / "examples" / "digest" / "digest.py").read_text()
    shown = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert len(shown) == 2
    assert all(block in example for block in shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]

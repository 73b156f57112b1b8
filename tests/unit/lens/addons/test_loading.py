"""Loading addons: what a file may have, what options become, and what is told of mistakes."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Protocol

import pytest

from ringminus.errors import ConfigError
from ringminus.lens.addons.loading import Addon, load_addons


class Load(Protocol):
    def __call__(self, source: str, options: str = "") -> list[Addon]: ...


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loading(source: str, options: str = "") -> list[Addon]:
        path = tmp_path / "my_addon.py"
        path.write_text(dedent(source))
        return load_addons([f"{path}{options}"])

    return loading


@pytest.fixture
def refused(load: Load) -> Load:
    """The same, for what is refused; gives the message as the name of an addon."""

    def refuse(source: str, options: str = "") -> list[Addon]:
        with pytest.raises(ConfigError) as error:
            load(source, options)
        return [Addon(str(error.value), "", {}, {})]

    return refuse


def test_classes_with_hooks_are_addons(load: Load) -> None:
    one, two = load("""
        class Plain:
            x = 1
        class First:
            def signal(self, event, ctx): ...
        class Second:
            def start(self, ctx): ...
            def _helper(self): ...
    """)
    assert (one.name, list(one.hooks)) == ("my_addon.First", ["signal"])
    assert (two.name, list(two.hooks)) == ("my_addon.Second", ["start"])


def test_functions_are_an_addon(load: Load) -> None:
    (addon,) = load(
        """
        tick_seconds = 0.5
        def tick(ctx): ...
        def packet_to_guest(event, ctx): ...
        def helper(text): ...
        """,
        ",word=x,,y",
    )
    assert (addon.name, sorted(addon.hooks)) == ("my_addon", ["packet_to_guest", "tick"])
    assert (addon.tick_seconds, addon.options) == (0.5, {"word": "x,y"})


def test_the_list_addons_says_what_they_are(load: Load) -> None:
    (addon, other) = load("""
        class A:
            def __init__(self, number): self.number = number
            def stop(self, ctx): return self.number
        addons = [A(5), A(6)]
    """)
    assert [one.hooks["stop"](None) for one in (addon, other)] == [5, 6]


def test_options_are_parameters_by_their_annotations(load: Load) -> None:
    (addon,) = load(
        """
        class A:
            def __init__(self, every: int, seconds: float = 1.0, name="x", loud: bool = False):
                self.got = (every, seconds, name, loud)
            def stop(self, ctx): return self.got
        """,
        ",every=0x10,seconds=0.25,loud=yes",
    )
    assert addon.hooks["stop"](None) == (16, 0.25, "x", True)


def test_names_of_files_may_have_commas(tmp_path: Path) -> None:
    path = tmp_path / "a,b.py"
    path.write_text("def start(ctx): ...\n")
    (addon,) = load_addons([str(path).replace(",", ",,")])
    assert addon.name == "a,b"


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("class A:\n  def paket_to_guest(self, event, ctx): ...\n", "", "did you mean packet_to_guest?"),
        ("def hypercal(event, ctx): ...\n", "", "the file has hypercal, which is no hook: did you mean"),
        (
            "class A:\n  def start(self, ctx): ...\n  def _x(self): ...\n  def reckon(self): ...\n",
            "",
            "class A has reckon, which is no hook (what is no hook begins with an underscore)",
        ),
        ("def whatever(event, ctx): ...\n", "", "has whatever, which is no hook"),
        ("class A:\n  def signal(self, event): ...\n", "", "signal of class A has to take (event, ctx)"),
        ("def tick(event, ctx): ...\n", "", "tick of the file has to take (ctx)"),
        ("x = 1\n", "", "it has no addon: a class, or functions, named after hooks"),
        ("addons = []\n", "", "its `addons` is no list of addons"),
        ("addons = [object()]\n", "", "class object has no hook"),
        ("class A:\n  def start(self, ctx): ...\n", ",speed=1", "nothing there takes the option speed"),
        ("class A:\n  def start(self, ctx): ...\n", ",speed", "'speed' is no KEY=VALUE"),
        (
            "class A:\n  def __init__(self, n: int): ...\n  def start(self, ctx): ...\n",
            "",
            "A needs the option n: add ,n=VALUE",
        ),
        (
            "class A:\n  def __init__(self, n: int): ...\n  def start(self, ctx): ...\n",
            ",n=x",
            "n=x: it is a whole number",
        ),
        (
            "class A:\n  def __init__(self): 1 / 0\n  def start(self, ctx): ...\n",
            "",
            r"A\(\) raised ZeroDivisionError in .*my_addon.py, line 2: division by zero",
        ),
        ("import nonsense_that_is_not_there\n", "", "raised ModuleNotFoundError in .*my_addon.py, line 1"),
        ("def start(ctx:\n", "", "my_addon.py, line 1: SyntaxError"),
        ("class A:\n  tick_seconds = 0\n  def tick(self, ctx): ...\n", "", "tick_seconds of A is 0"),
    ],
)
def test_mistakes_are_told_when_it_is_loaded(refused: Load, source: str, options: str, words: str) -> None:
    (message,) = refused(source, options)
    assert message.name.startswith("--addon ")
    assert words in message.name or re.search(words, message.name), message.name


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*gone.py"):
        load_addons([str(tmp_path / "gone.py")])

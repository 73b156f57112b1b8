"""The keys that one may press now, in the last line: as many of them as fit."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.events import Click
from textual.screen import Screen
from textual.widget import Widget

KEY = Style(color="cyan", bold=True)
LAST = 2
"""How many from the end are shown on any screen: help, and how to leave."""


class Key(NamedTuple):
    """A key, what it is called, and what it is for."""

    key: str
    title: str
    about: str

    @property
    def width(self) -> int:
        """Its columns, with the space behind it."""
        return cell_len(self.title) + cell_len(self.about) + 2


class KeyBar(Widget):
    """One widget for all keys, which are also buttons. Textual's own footer makes new widgets for them
    whenever another panel has the focus."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[Key] = []

    def on_mount(self) -> None:
        """Know when other keys have a meaning."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Text:
        """The line."""
        keys: dict[str, Key] = {}
        for _, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and enabled and binding.action not in keys:
                title = self.app.get_key_display(binding)
                keys[binding.action] = Key(binding.key, title, binding.description)
        self._shown = fitting(list(keys.values()), self.size.width)
        text = Text(no_wrap=True, overflow="crop")
        for one in self._shown:
            text.append(one.title, KEY)
            text.append(f" {one.about} ")
        return text

    def on_click(self, event: Click) -> None:
        """As if that key had been pressed."""
        end = 0
        for one in self._shown:
            end += one.width
            if event.x < end:
                self.app.simulate_key(one.key)
                return


def fitting(keys: list[Key], width: int) -> list[Key]:
    """If they do not fit, some before the last ones are left out."""
    while len(keys) > LAST and sum(one.width for one in keys) - 1 > width:
        del keys[-LAST - 1]
    return keys

"""The keys that one may press now, in the last line: as many of them as fit."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.binding import Binding
from textual.screen import Screen
from textual.widget import Widget

KEY = Style(color="cyan", bold=True)
LAST = 2
"""How many from the end are shown on any screen: help, and how to leave."""


class KeyBar(Widget):
    """One widget for all keys, which are also buttons. Textual's own footer makes new widgets for them
    whenever another panel has the focus."""

    ALLOW_SELECT = False

    def on_mount(self) -> None:
        """Know when other keys have a meaning."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Text:
        """The line."""
        keys: dict[str, Text] = {}
        for _, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and enabled and binding.action not in keys:
                keys[binding.action] = self._key(binding)
        return fitting(list(keys.values()), self.size.width)

    def _key(self, binding: Binding) -> Text:
        click = Style(meta={"@click": f"app.simulate_key({binding.key!r})"})
        text = Text(self.app.get_key_display(binding), KEY)
        text.append(" " + binding.description)
        text.stylize(click)
        return text


def fitting(keys: list[Text], width: int) -> Text:
    """The keys with a space between them; if they do not fit, some before the last ones are left out."""
    while len(keys) > LAST and sum(one.cell_len + 1 for one in keys) - 1 > width:
        del keys[-LAST - 1]
    return Text(" ", no_wrap=True, overflow="crop").join(keys)

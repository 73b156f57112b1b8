"""The screen with all keys."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
 Events
   ↑ ↓ j k  PgUp PgDn     select an event            ← →   the rest of long lines
   Home g   End G         the first, the last        f     follow the newest one
   space                  pause: what comes is kept, and shown when you go on

 Find
   /        filter: show only what matches; Tab completes names; empty: everything
   a        show all events, with matches marked; once more: only matches
   n  N     the next match, the one before           (language: docs/reference/filters.md)

 One event
   Tab      to its fields, to its bytes, and back; the selected field's bytes are lit
   t        what led to it, and what it led to, as a tree; Enter goes to an event there
   c  e     go to its cause, to its first effect     b     back to where you were
   z        the panel alone on the screen; Esc or z: all again

 Keep
   m        mark it, or not                          M     no marks
   x        write the marked events, or this one, to a file, one JSON object in a line
   y        the same to the clipboard

 Views
   1  2  3  events, channels, exits; Enter on a row there shows its events
   q  Ctrl-C  leave
"""


class HelpScreen(ModalScreen[None]):
    """Any of its keys takes it away."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter,space", "dismiss", "back")]

    def compose(self) -> ComposeResult:
        """The keys."""
        with VerticalScroll(id="help"):
            yield Static(Text(HELP, no_wrap=True))

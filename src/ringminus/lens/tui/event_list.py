"""The list of events. Only those on the screen are taken apart."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ringminus.lens.lines import RICH
from ringminus.lens.tui.dissection import Dissection
from ringminus.lens.tui.view import View

CACHED_LINES = 1000
SHIFT = 8
"""Columns that the lines go to the side at once."""
STYLES = {name: Style.parse(style) for name, style in RICH.items()}
PLAIN = Style()
CURSOR = Style(reverse=True)
MARKED = Style(color="magenta", bold=True)
MATCH = Style(color="yellow", bold=True)


class EventList(ScrollView, can_focus=True):
    """One line an event. `cursor` is the position of the selected event, `marked` are those that were marked;
    while `follows`, the newest one is selected."""

    ALLOW_MAXIMIZE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home,g", "end(-1)", "first", show=False),
        Binding("end,G", "end(1)", "last", show=False),
        Binding("left", "shift(-1)", "left", show=False),
        Binding("right", "shift(1)", "right", show=False),
    ]

    class Moved(Message):
        """Another event is selected, or none."""

    def __init__(self, view: View, dissection: Dissection) -> None:
        super().__init__(id="list")
        self.cursor = 0
        self.follows = False
        self.marked: set[int] = set()
        self._view, self._dissection = view, dissection
        self._shift = 0
        self._lines: OrderedDict[int, list[Segment]] = OrderedDict()
        self._told = -1

    # ------------------------------------------------------------ what is shown

    def update(self, *, anew: bool = False) -> None:
        """Events have come, or others are shown now (`anew`)."""
        rows = self._measure()
        if anew:
            self.refresh()
        if not rows:
            self._tell(-1)
            return
        if self.follows:
            position = self._view.position(rows - 1)
            self.cursor = self.cursor if position is None else position
            self._scroll(rows - 1)
        elif not self._view.shows(self.cursor):
            position = self._view.position(self._view.row(self.cursor))
            self.cursor = self.cursor if position is None else position
            self._scroll(self._view.row(self.cursor))
        elif anew:
            self._scroll(self._view.row(self.cursor), middle=True)
        self._tell(self.cursor)

    def _measure(self) -> int:
        """How many rows there are now; one can scroll to all of them."""
        rows = self._view.rows
        size = Size(self.size.width, rows)
        if self.virtual_size != size:
            self.virtual_size = size
            self.refresh()
        return rows

    def select(self, position: int) -> None:
        """Select an event that has a row."""
        self._measure()
        self.follows = False
        self.cursor = position
        self._scroll(self._view.row(position), middle=True)
        self.refresh()
        self._tell(position)

    def toggle_mark(self) -> None:
        """Mark the selected event, or take the mark away, and go on."""
        if self._view.rows:
            self.marked ^= {self.cursor}
            self.refresh()
            self.action_move(1)

    def _tell(self, position: int) -> None:
        if position != self._told:
            self._told = position
            self.post_message(self.Moved())

    def _scroll(self, row: int, *, middle: bool = False) -> None:
        height = max(self.scrollable_content_region.height, 1)
        top = round(self.scroll_y)
        if row < top or row >= top + height:
            above = height // 2 if middle else 0 if row < top else height - 1
            self.scroll_to(y=max(row - above, 0), animate=False, immediate=True, force=True)

    def render_line(self, y: int) -> Strip:
        """The line on that row of the screen."""
        width = self.scrollable_content_region.width
        position = self._view.position(y + round(self.scroll_y))
        if position is None:
            return Strip.blank(width, PLAIN)
        mark, style = " ", PLAIN
        if position in self.marked:
            mark, style = "●", MARKED
        elif not self._view.only and self._view.is_match(position):
            mark, style = "▸", MATCH
        strip = Strip(self._segments(position))
        strip = strip.crop_extend(self._shift, self._shift + max(width - 2, 0), PLAIN)
        strip = Strip.join((Strip([Segment(mark + " ", style)], 2), strip))
        return strip.apply_style(CURSOR) if position == self.cursor else strip

    def _segments(self, position: int) -> list[Segment]:
        found = self._lines.get(position)
        if found is None:
            shown = self._dissection.at(position)
            parts = shown.line().parts if shown is not None else ()
            found = [Segment(text, STYLES.get(style, PLAIN)) for text, style in parts]
            self._lines[position] = found
            if len(self._lines) > CACHED_LINES:
                self._lines.popitem(last=False)
        return found

    # ------------------------------------------------------------ keys and mouse

    def action_move(self, rows: int) -> None:
        """Select the event so many rows further down."""
        count = self._measure()
        if not count:
            return
        row = min(max(self._view.row(self.cursor) + rows, 0), count - 1)
        position = self._view.position(row)
        if position is not None:
            self.follows = self.follows and row == count - 1
            self.cursor = position
            self._scroll(row)
            self.refresh()
            self._tell(position)

    def action_page(self, pages: int) -> None:
        """The same in screens."""
        self.action_move(pages * max(self.scrollable_content_region.height - 1, 1))

    def action_end(self, direction: int) -> None:
        """Select the first or the last one."""
        self.action_move(direction * max(self._view.rows, 1))

    def action_shift(self, steps: int) -> None:
        """Show what is left or right of the lines' part on the screen."""
        self._shift = max(self._shift + steps * SHIFT, 0)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Select the event under the pointer."""
        position = self._view.position(event.y + round(self.scroll_y))
        if position is not None:
            self.action_move(self._view.row(position) - self._view.row(self.cursor))

    def on_resize(self, _event: events.Resize) -> None:
        """Keep the selected event on the screen."""
        if self._view.rows:
            self._scroll(self._view.row(self.cursor))

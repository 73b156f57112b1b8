"""The application: what is on the screen, and what keys do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, Static

from ringminus.errors import HostError, RingminusError
from ringminus.lens.filter import compile_filter
from ringminus.lens.objects import as_object
from ringminus.lens.source import Source
from ringminus.lens.tui.causes_tree import CausesTree
from ringminus.lens.tui.detail import DetailTree
from ringminus.lens.tui.dissection import Dissection
from ringminus.lens.tui.event_list import EventList
from ringminus.lens.tui.export import write_lines
from ringminus.lens.tui.filter_line import FilterLine
from ringminus.lens.tui.help import HelpScreen
from ringminus.lens.tui.hex_view import HexView
from ringminus.lens.tui.intake import Intake
from ringminus.lens.tui.key_bar import KeyBar
from ringminus.lens.tui.panes import ChannelPane, ExitPane, Pane
from ringminus.lens.tui.status import status
from ringminus.lens.tui.store import Store
from ringminus.lens.tui.traffic import Traffic
from ringminus.lens.tui.view import View

TICK = 0.1
"""Seconds between looks for what has come."""
TELLING = 0.5
"""Seconds between questions about rings."""
SETTLED = 0.05
"""Seconds that an event is selected before it is taken apart."""
SWITCH_INTERVAL = 0.0005
"""Seconds that the threads which read and search keep us waiting."""
EXPORTED = "events.jsonl"
MOST_BACK = 100


class LensApp(App[None]):
    """Shows the events of a source, which it closes. `text` is the filter to begin with."""

    TITLE = "ringminus lens"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("n", "match(1)", "next"),
        Binding("N", "match(-1)", "previous match", show=False),
        Binding("a", "all", "all", show=False),
        Binding("c", "cause", "cause"),
        Binding("e", "effect", "effect"),
        Binding("b", "return", "back", show=False),
        Binding("t", "tree", "tree"),
        Binding("m", "mark", "mark", show=False),
        Binding("M", "no_marks", "no marks", show=False),
        Binding("x", "export", "export", show=False),
        Binding("y", "copy", "copy", show=False),
        Binding("space", "pause", "pause", key_display="␣"),
        Binding("f", "follow", "follow", show=False),
        Binding("z", "zoom", "zoom", show=False),
        Binding("1", "view('events')", "events", show=False),
        Binding("2", "view('channels')", "rings"),
        Binding("3", "view('exits')", "exits"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]

    def __init__(
        self, source: Source, text: str = "", *, live: bool = False, store: Store | None = None
    ) -> None:
        super().__init__(ansi_color=True)  # so that it is as readable as all else in this terminal
        self.theme = "ansi-dark"
        self.store = store if store is not None else Store()
        self.traffic = Traffic()
        self.dissection = Dissection(self.store)
        self.intake = Intake(source, self.store, self.dissection, self.traffic, live=live)
        self.view = View(self.store)
        self.events = EventList(self.view, self.dissection)
        self.events.follows = live
        self.detail, self.hex = DetailTree(), HexView()
        self.causes = CausesTree(self.store, self.dissection)
        self.channel_pane = ChannelPane(self.traffic, live=live)
        self.exit_pane = ExitPane(self.traffic, live=live)
        self.asking = FilterLine(compile_filter)
        self.status = Static(id="status")
        self.views = ContentSwitcher(id="views", initial="events")
        self.one = ContentSwitcher(id="one", initial="fields")
        self.live = live
        self._text = text
        self._back: list[int] = []
        self._failure = ""
        self._switch_interval = sys.getswitchinterval()

    def compose(self) -> ComposeResult:
        """The status, the views, the line for filters, the keys."""
        yield self.status
        with self.views:
            with Vertical(id="events"):
                yield self.events
                with self.one:
                    with Horizontal(id="fields"):
                        yield self.detail
                        yield self.hex
                    yield self.causes
            yield self.channel_pane
            yield self.exit_pane
        yield self.asking
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
                asyncio.get_running_loop().add_signal_handler(number, self.exit)
        if self._text.strip():
            self.view.set_filter(compile_filter(self._text))
        self.events.focus()
        self.intake.start()
        self.set_interval(TICK, self._tick)
        sys.setswitchinterval(SWITCH_INTERVAL)
        if hasattr(self.intake.source, "request"):
            self.run_worker(self._ask_for_rings(), exclusive=True, group="rings")

    def on_unmount(self) -> None:
        """End the threads."""
        sys.setswitchinterval(self._switch_interval)
        self.view.close()
        self.intake.close()

    # ------------------------------------------------------------ what comes

    def _tick(self) -> None:
        self.events.update()
        follows, marked = self.events.follows, len(self.events.marked)
        text = status(self.intake, self.store, self.view, follows=follows, marked=marked)
        if text != self.status.content:
            self.status.update(text, layout=False)
        shown = self.views.current
        if shown == "channels":
            self.channel_pane.update()
        elif shown == "exits":
            self.exit_pane.update()
        failure = self.intake.failure or self.view.failure
        if failure and failure != self._failure:
            self._failure = failure
            self.notify(failure, severity="error", timeout=30, markup=False)

    async def _ask_for_rings(self) -> None:
        """What the guest's process tells of its channels, while somebody looks at them."""
        request = self.intake.source.request  # type: ignore[attr-defined]
        while not self.intake.done:
            if self.views.current == "channels":
                try:
                    facts = await asyncio.to_thread(request, "describe")
                    self.channel_pane.told = facts.get("channels", [])
                except RingminusError:
                    self.channel_pane.told = []
            await asyncio.sleep(TELLING)
        self.channel_pane.told = []

    def on_event_list_moved(self) -> None:
        """Take the selected event apart, once it stays selected."""
        self.set_timer(SETTLED, self._show_one)

    def _show_one(self) -> None:
        if not self.is_running or not self.detail.is_attached:
            return
        shown = self.dissection.at(self.events.cursor) if self.view.rows else None
        if shown is None or self.detail.shown is None or shown.position != self.detail.shown.position:
            self.detail.show(shown)
            if shown is not None and self.one.current == "causes":
                self.causes.show(shown.position)

    def on_detail_tree_selected(self, event: DetailTree.Selected) -> None:
        """Light its bytes."""
        self.hex.show(*event.place)

    # ------------------------------------------------------------ finding

    def action_filter(self) -> None:
        """Ask for a filter."""
        self.asking.ask("filter", "filter: ", self.view.filter.text if self.view.filter is not None else "")

    def on_filter_line_said(self, event: FilterLine.Said) -> None:
        """Use what was written."""
        if event.purpose == "filter":
            self._filter(event.text)
        elif event.purpose == "export" and event.text:
            try:
                count = write_lines(Path(event.text), self._as_json())
            except HostError as error:
                self.asking.complain(str(error))
                return
            self.notify(f"{count} event{'s' * (count != 1)} written to {event.text}", markup=False)
        self.asking.leave()
        self.action_view("events")

    def on_pane_wanted(self, event: Pane.Wanted) -> None:
        """Show the events of a row."""
        self._filter(event.text)
        self.action_view("events")

    def _filter(self, text: str) -> None:
        self.view.set_filter(compile_filter(text) if text else None)
        self.events.update(anew=True)

    def action_all(self) -> None:
        """Show all events, or only those that match."""
        self.view.only = not self.view.only
        self.events.update(anew=True)

    def action_match(self, step: int) -> None:
        """The next match, or the one before."""
        if self.view.filter is None:
            self.notify("/ says what to look for", severity="warning")
            return
        found = self.view.next_match(self.events.cursor, step)
        if found is None:
            more = " so far" if self.view.searched < self.store.count else ""
            self.notify(f"there is no {'later' if step > 0 else 'earlier'} match{more}", severity="warning")
        else:
            self.events.select(found)

    def action_cause(self) -> None:
        """Go to the cause."""
        cause = self.store.cause(self.events.cursor)
        found = self.store.find(cause)
        if not cause:
            self.notify("nothing that was watched caused it", severity="warning")
        elif found is None:
            self.notify(f"its cause, {cause}, was not recorded, or is not kept", severity="warning")
        else:
            self._go(found)

    def action_effect(self) -> None:
        """Go to the first effect."""
        found = next(self.store.effects(self.store.sequence(self.events.cursor)), None)
        if found is None:
            self.notify("it caused nothing that was watched", severity="warning")
        else:
            self._go(found)

    def on_causes_tree_chosen(self, event: CausesTree.Chosen) -> None:
        """Go there."""
        self._go(event.position)

    def _go(self, position: int) -> None:
        """Select an event; all are shown if it does not match."""
        self._back = [*self._back, self.events.cursor][-MOST_BACK:]
        self._select(position)

    def action_return(self) -> None:
        """To where one was before."""
        if self._back:
            self._select(self._back.pop())

    def _select(self, position: int) -> None:
        if position >= self.view.end:
            self.view.paused_at = None
        if not self.view.shows(position):
            self.view.only = False
            self.events.update(anew=True)
        self.events.select(position)

    # ------------------------------------------------------------ panels

    def action_view(self, name: str) -> None:
        """Show events, channels, or exits."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        self.views.current = name
        {"events": self.events, "channels": self.channel_pane, "exits": self.exit_pane}[name].focus()
        self._tick()

    def action_tree(self) -> None:
        """Show causes and effects, or fields and bytes."""
        if self.one.current == "causes":
            self.one.current = "fields"
            self.events.focus()
        else:
            self.one.current = "causes"
            if self.view.rows:
                self.causes.show(self.events.cursor)
            self.causes.focus()

    def action_zoom(self) -> None:
        """One panel alone, or all."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self.focused in (self.detail, self.hex, self.causes):
            self.screen.maximize(self.focused, container=False)

    def action_pause(self) -> None:
        """Let nothing new come onto the screen, or go on."""
        self.view.paused_at = self.store.count if self.view.paused_at is None else None
        self.events.update()
        self._tick()

    def action_follow(self) -> None:
        """Select what is newest, from now on."""
        self.events.follows = not self.events.follows
        if self.events.follows:
            self.view.paused_at = None
        self.events.update()

    def action_help(self) -> None:
        """All keys."""
        self.push_screen(HelpScreen())

    # ------------------------------------------------------------ keeping

    def action_mark(self) -> None:
        """Mark the selected event."""
        self.events.toggle_mark()

    def action_no_marks(self) -> None:
        """Take all marks away."""
        self.events.marked.clear()
        self.events.refresh()

    def action_export(self) -> None:
        """Ask for the name of a file."""
        if self.view.rows:
            number = len(self.events.marked) or 1
            self.asking.ask("export", f"write {number} event{'s' * (number != 1)} to: ", EXPORTED)

    def action_copy(self) -> None:
        """To the clipboard, by the terminal."""
        if self.view.rows:
            lines = list(self._as_json())
            self.copy_to_clipboard("\n".join(lines) + "\n")
            self.notify(
                f"{len(lines)} event{'s' * (len(lines) != 1)} to the clipboard, if the terminal has one"
            )

    def _as_json(self) -> Iterator[str]:
        """The marked events, or the selected one."""
        for position in sorted(self.events.marked) or [self.events.cursor]:
            shown = self.dissection.at(position)
            if shown is not None:
                name = self.intake.source.partition
                found = as_object(shown.event, shown.layers, shown.channel, name)
                yield json.dumps(found, separators=(",", ":"))

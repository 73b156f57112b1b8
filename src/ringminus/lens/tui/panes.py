"""Tables of what passes: channels with their rings, and exits by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.lines import Line, Part
from ringminus.lens.tui.traffic import Passed, Traffic

BARS = " ▁▂▃▄▅▆▇█"
GAUGE_PARTS = " ▏▎▍▌▋▊▉█"
GAUGE = 8
"""Columns of a gauge."""
SPARKS = 16
LIVE_SPAN = 30 * REFERENCE_HZ
"""What rates of a guest that runs are shown of."""
MOST_ROWS = 200
FULL = 0.9


def sparkline(rates: Sequence[float]) -> str:
    """Bars for rates, the highest of them full; what is not zero has one."""
    most = max(rates, default=0.0)
    return "".join(BARS[min(int(one / most * 7.999) + 1, 8) if one > 0 else 0] for one in rates)


def gauge(used: int, size: int) -> Text:
    """How full a ring is."""
    part = min(max(used / size, 0.0), 1.0) if size else 0.0
    eighths = round(part * GAUGE * 8)
    if used > 0:
        eighths = max(eighths, 1)
    bar = "█" * (eighths // 8) + (GAUGE_PARTS[eighths % 8] if eighths % 8 else "")
    text = Text("▕", "dim")
    text.append(f"{bar:<{GAUGE}}", "red" if part >= FULL else "green")
    text.append("▏", "dim")
    text.append(f"{part * 100:3.0f}%")
    return text


def amount(number: float) -> str:
    """A number in at most six columns."""
    for unit in ("", "k", "M", "G"):
        if number < 10_000:
            return f"{number:.0f}{unit}" if number >= 100 or number == int(number) else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.0f}T"


def plain(text: str, style: str = "") -> Text:
    """Text of the guest's for a cell; nothing in it moves the cursor."""
    return Line((Part(text, style),)).rich()


class Pane(DataTable[Text]):
    """A table that is filled again as numbers change; its selected row stays. `Wanted` tells of a filter that
    a row was chosen for."""

    COLUMNS: ClassVar[tuple[str, ...]] = ()
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "its events")]

    class Wanted(Message):
        """Show what this filter is true for."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    def __init__(self, traffic: Traffic, *, live: bool, name: str) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, id=name)
        self.filters: dict[str, str] = {}
        """What rows show when they are chosen, by their keys."""
        self._traffic, self._live = traffic, live

    @property
    def span(self) -> tuple[int, int | None]:
        """How much time rates are shown of (100 ns), and up to when: of a file all."""
        return (LIVE_SPAN, self._traffic.now) if self._live else (0, None)

    def rate(self, rates: Sequence[float]) -> float:
        """That of now, or the mean of a file's. The newest column is not whole yet."""
        if self._live and len(rates) > 1:
            return rates[-2]
        return sum(rates) / max(len(rates), 1)

    def fill(self, rows: Iterable[tuple[str, Sequence[Text]]]) -> None:
        """Show these rows, by their keys."""
        if not self.columns:
            self.add_columns(*self.COLUMNS)
        there = [key.value for key in self.rows]
        wanted = dict(rows)
        if there != list(wanted)[: len(there)]:
            self._fill_anew(wanted)
            return
        for key, cells in wanted.items():
            if key not in self.rows:
                self.add_row(*cells, key=key)
                continue
            for column, cell in zip(self.columns, cells, strict=True):
                if self.get_cell(key, column) != cell:
                    self.update_cell(key, column, cell, update_width=True)

    def _fill_anew(self, rows: Mapping[str, Sequence[Text]]) -> None:
        """Other rows, or in another order."""
        keys = [key.value for key in self.rows]
        selected = keys[self.cursor_row] if self.cursor_row < len(keys) else None
        top = self.scroll_y
        self.clear()
        for key, cells in rows.items():
            self.add_row(*cells, key=key)
        if selected is not None and selected in rows:
            self.move_cursor(row=list(rows).index(selected), animate=False, scroll=False)
        self.scroll_to(y=top, animate=False, immediate=True)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Tell which filter is wanted."""
        event.stop()
        text = self.filters.get(event.row_key.value or "")
        if text:
            self.post_message(self.Wanted(text))


class ChannelPane(Pane):
    """Channels: what has passed, at which rate, and how full the rings are where its process tells."""

    COLUMNS = ("channel", "relid", "to host", "to guest", "bytes", "ring in", "ring out", "per second")

    def __init__(self, traffic: Traffic, *, live: bool) -> None:
        super().__init__(traffic, live=live, name="channels")
        self.told: list[Mapping[str, Any]] = []
        """The channels as the guest's process describes them."""

    def update(self) -> None:
        """Show the numbers of now."""
        shape = self._traffic.packet_rates.shape(SPARKS, *self.span)
        rings = {(one["relid"], one["device"]): one for one in self.told}
        rows = []
        for key, one in list(self._traffic.channels.items())[:MOST_ROWS]:
            rates = shape.rates(key)
            name = one.device + (f" /{one.channel}" if one.channel else "")
            told = rings.get(key, {})
            cells = (
                plain(name[:24], "cyan" if one.open else "dim"),
                plain(str(one.relid)),
                plain(f"{amount(one.packets[0]):>6}"),
                plain(f"{amount(one.packets[1]):>6}"),
                plain(f"{amount(sum(one.octets)):>6}"),
                self._ring(one, 0, told.get("ring_in")),
                self._ring(one, 1, told.get("ring_out")),
                plain(f"{amount(self.rate(rates)):>6} {sparkline(rates)}", "yellow"),
            )
            row = f"{one.relid} {one.device}"
            self.filters[row] = f"vmbus.channel.relid == {one.relid}"
            rows.append((row, cells))
        self.fill(rows)

    def _ring(self, row: Passed, side: int, told: Mapping[str, int] | None) -> Text:
        """A gauge where it is known, the ring's size else."""
        if not row.open:
            return plain("closed", "dim")
        if told is not None:
            return gauge(told["used"], told["size"])
        return plain(f"{row.rings[side] >> 10} KiB" if row.rings[side] else "")


class ExitPane(Pane):
    """Exits by reason: how many, how long they took, and how many in a second."""

    COLUMNS = ("exit", "count", "mean µs", "of time", "per second", "")

    def __init__(self, traffic: Traffic, *, live: bool) -> None:
        super().__init__(traffic, live=live, name="exits")

    def update(self) -> None:
        """Show the numbers of now."""
        series = self._traffic.exit_rates
        shape = series.shape(max(self.size.width - 58, SPARKS), *self.span)
        elapsed = max(series.last - series.first, 1) * 1e9 / REFERENCE_HZ
        rows = []
        found = sorted(self._traffic.exits.items(), key=lambda item: -item[1][0])
        for reason, (count, ns) in found[:MOST_ROWS]:
            rates = shape.rates(reason)
            cells = (
                plain(reason[:20], "cyan"),
                plain(f"{count:>9,}"),
                plain(f"{ns / 1000 / count:>8.2f}"),
                plain(f"{ns / elapsed:>7.2%}"),
                plain(f"{amount(self.rate(rates)):>8}"),
                plain(sparkline(rates), "yellow"),
            )
            self.filters[reason] = f'exit.reason == "{_quoted(reason)}"'
            rows.append((reason, cells))
        self.fill(rows)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')

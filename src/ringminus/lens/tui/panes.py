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
LEAST_GAUGE, MOST_GAUGE = 4, 8
"""Columns of a gauge's bar."""
GAUGE_FRAME = 7
"""What is around it, the per cent, and a space."""
RATE = 11
SPARKS = 16
LIVE_SPAN = 30 * REFERENCE_HZ
"""What rates of a guest that runs are shown of."""
MOST_ROWS = 200
FULL = 0.9


def sparkline(rates: Sequence[float]) -> str:
    """Bars for rates, the highest of them full; what is not zero has one."""
    most = max(rates, default=0.0)
    return "".join(BARS[min(int(one / most * 7.999) + 1, 8) if one > 0 else 0] for one in rates)


def gauge(used: int, size: int, columns: int = MOST_GAUGE) -> Text:
    """How full a ring is: only a full one has a full bar and 100%."""
    part = min(max(used / size, 0.0), 1.0) if size else 0.0
    eighths = round(part * columns * 8)
    if used > 0:
        eighths = max(eighths, 1)
    if used < size:
        eighths = min(eighths, columns * 8 - 1)
    bar = "█" * (eighths // 8) + (GAUGE_PARTS[eighths % 8] if eighths % 8 else "")
    text = Text("▕", "dim")
    text.append(f"{bar:<{columns}}", "red" if part >= FULL else "green")
    text.append("▏", "dim")
    text.append(f"{int(part * 100):3}%" if not 0 < part < 0.01 else " <1%")
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
        super().__init__(cursor_type="row", zebra_stripes=False, cell_padding=0, id=name)
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

    def fill(self, widths: Sequence[int], rows: Iterable[tuple[str, Sequence[Text]]]) -> None:
        """Show these rows, by their keys."""
        there = [key.value for key in self.rows]
        wanted = dict(rows)
        if list(widths) != [column.width for column in self.columns.values()]:
            self._fill_anew(wanted, widths)
            return
        if there != list(wanted)[: len(there)]:
            self._fill_anew(wanted)
            return
        for key, cells in wanted.items():
            if key not in self.rows:
                self.add_row(*cells, key=key)
                continue
            for column, cell in zip(self.columns, cells, strict=True):
                if self.get_cell(key, column) != cell:
                    self.update_cell(key, column, cell)

    def _fill_anew(self, rows: Mapping[str, Sequence[Text]], widths: Sequence[int] = ()) -> None:
        """Other rows, or in another order, or columns of other widths."""
        keys = [key.value for key in self.rows]
        selected = keys[self.cursor_row] if self.cursor_row < len(keys) else None
        top = self.scroll_y
        self.clear(columns=bool(widths))
        for label, width in zip(self.COLUMNS, widths, strict=False):
            self.add_column(label, width=width)
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

    COLUMNS = ("channel", "relid", "to host", "to guest", "bytes", "ring in", "ring out", "per second", "")

    def __init__(self, traffic: Traffic, *, live: bool) -> None:
        super().__init__(traffic, live=live, name="channels")
        self.told: list[Mapping[str, Any]] = []
        """The channels as the guest's process describes them."""

    def update(self) -> None:
        """Show the numbers of now."""
        found = list(self._traffic.channels.items())[:MOST_ROWS]
        names = [(one.device + (f" /{one.channel}" if one.channel else ""))[:24] for _, one in found]
        widths = self._widths(max(map(len, names), default=0))
        shape = self._traffic.packet_rates.shape(widths[-1], *self.span)
        rings = {(one["relid"], one["device"]): one for one in self.told}
        rows = []
        for (key, one), name in zip(found, names, strict=True):
            rates = shape.rates(key)
            told = rings.get(key, {})
            cells = (
                plain(name, "cyan" if one.open else "dim"),
                plain(f"{one.relid:>5}"),
                plain(f"{amount(one.packets[0]):>7}"),
                plain(f"{amount(one.packets[1]):>8}"),
                plain(f"{amount(one.amount):>6}"),
                self._ring(one, 0, told.get("ring_in"), widths[5]),
                self._ring(one, 1, told.get("ring_out"), widths[6]),
                plain(f"{amount(self.rate(rates)):>10}"),
                plain(sparkline(rates), "yellow"),
            )
            row = f"{one.relid} {one.device}"
            self.filters[row] = f"vmbus.channel.relid == {one.relid}"
            rows.append((row, cells))
        self.fill(widths, rows)

    def _widths(self, name: int) -> tuple[int, ...]:
        """Of the columns: gauges and rates over time have what others leave."""
        others = (max(name, 7) + 1, 6, 8, 9, 7)
        left = self.size.width - sum(others) - RATE - 1
        bar = min(max(left // 2 - GAUGE_FRAME, LEAST_GAUGE), MOST_GAUGE)
        ring = bar + GAUGE_FRAME
        return (*others, ring, ring, RATE, min(max(left - 2 * ring, 1), SPARKS))

    def _ring(self, row: Passed, side: int, told: Mapping[str, int] | None, width: int) -> Text:
        """A gauge where it is known, the ring's size else."""
        if not row.open:
            return plain("closed", "dim")
        if told is not None:
            return gauge(told["used"], told["size"], width - GAUGE_FRAME)
        return plain(f"{row.rings[side] >> 10} KiB" if row.rings[side] else "")


class ExitPane(Pane):
    """Exits by reason: how many, how long they took, and how many in a second."""

    COLUMNS = ("exit", "      count", "  mean µs", " of time", "per second", "")

    def __init__(self, traffic: Traffic, *, live: bool) -> None:
        super().__init__(traffic, live=live, name="exits")

    def update(self) -> None:
        """Show the numbers of now."""
        series = self._traffic.exit_rates
        found = sorted(self._traffic.exits.items(), key=lambda item: -item[1][0])[:MOST_ROWS]
        widths = self._widths(max((len(reason[:20]) for reason, _ in found), default=0))
        shape = series.shape(widths[-1], *self.span)
        elapsed = max(series.last - series.first, 1) * 1e9 / REFERENCE_HZ
        rows = []
        for reason, (count, ns) in found:
            rates = shape.rates(reason)
            cells = (
                plain(reason[:20], "cyan"),
                plain(f"{count:>11,}"),
                plain(f"{ns / 1000 / count:>9.2f}"),
                plain(f"{ns / elapsed:>8.2%}"),
                plain(f"{amount(self.rate(rates)):>10}"),
                plain(sparkline(rates), "yellow"),
            )
            self.filters[reason] = f'exit.reason == "{_quoted(reason)}"'
            rows.append((reason, cells))
        self.fill(widths, rows)

    def _widths(self, name: int) -> tuple[int, ...]:
        """Of the columns: rates over time have what others leave."""
        others = (max(name, 4) + 1, 12, 10, 9, RATE)
        return (*others, max(self.size.width - sum(others) - 1, 1))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')

"""Bytes in hexadecimal, with those of a field lit."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

WIDTHS = (32, 16, 8, 4)
"""Bytes in a row; the first that fits."""
PLAIN, LIT, ADDRESS, ZERO = Style(), Style(reverse=True, bold=True), Style(dim=True), Style(dim=True)


class HexView(ScrollView, can_focus=True):
    """Shows bytes; only the rows on the screen are made."""

    def __init__(self) -> None:
        super().__init__(id="hex")
        self.data = b""
        self.lit = range(0)

    def show(self, data: bytes, lit: range) -> None:
        """Show these bytes, those in `lit` marked, and scroll to them."""
        moved = data is not self.data or lit != self.lit
        self.data, self.lit = data, lit
        self._measure()
        if moved:
            row = lit.start // self.octets
            top, height = round(self.scroll_y), max(self.scrollable_content_region.height, 1)
            if not lit or not top <= row < top + height:
                y = max(row - height // 3, 0) if lit else 0
                self.scroll_to(y=y, animate=False, immediate=True, force=True)
        self.refresh()

    @property
    def octets(self) -> int:
        """Bytes in a row."""
        width = self.scrollable_content_region.width
        return next((one for one in WIDTHS if self._digits + 3 + 4 * one <= width), WIDTHS[-1])

    @property
    def _digits(self) -> int:
        return max(len(f"{len(self.data):x}"), 4)

    def _measure(self) -> None:
        self.virtual_size = Size(self.size.width, -(-len(self.data) // self.octets))

    def on_resize(self) -> None:
        """Rows have another length."""
        self._measure()

    def render_line(self, y: int) -> Strip:
        """The row that is there on the screen."""
        count = self.octets
        start = (y + round(self.scroll_y)) * count
        row = self.data[start : start + count]
        if not row:
            return Strip.blank(self.size.width, PLAIN)
        segments = [Segment(f"{start:0{self._digits}x} ", ADDRESS)]
        text = []
        for at, octet in enumerate(row, start):
            style = self._style(at, octet)
            segments.append(
                Segment(" ", LIT if at in self.lit and at - 1 in self.lit and at > start else PLAIN)
            )
            segments.append(Segment(f"{octet:02x}", style))
            text.append(Segment(chr(octet) if 32 <= octet < 127 else ".", style))
        segments.append(Segment("   " * (count - len(row)) + "  ", PLAIN))
        return Strip(segments + text).adjust_cell_length(self.size.width, PLAIN)

    def _style(self, at: int, octet: int) -> Style:
        if at in self.lit:
            return LIT
        return PLAIN if octet else ZERO

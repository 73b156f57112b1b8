"""`ringminus lens show`, `watch` and `tree`: events in lines, as objects, or as trees of causes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ringminus.cli.lens_note import ReadingNote
from ringminus.cli.lens_source import (
    compiled,
    complete_either,
    either_argument,
    filter_argument,
    guest_argument,
    is_file,
    open_either,
    open_file,
    open_guest,
    reading,
    tell_end,
)
from ringminus.errors import ConfigError

if TYPE_CHECKING:
    from ringminus.lens.decode import Decoder
    from ringminus.lens.source import Source
    from ringminus.tap import Event

F = TypeVar("F", bound=Callable[..., Any])
HEX_WIDTH = 16
FLUSH_LINES = 256


@dataclass(frozen=True, slots=True)
class Look:
    """How events are shown; `most` is how many, 0 for all."""

    as_json: bool = False
    as_hex: bool = False
    most: int = 0
    colored: bool = False
    width: int = 0


def look_options(command: F) -> F:
    """The options of commands that show events."""
    for option in (
        click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto"),
        click.option(
            *("--count", "-c"),
            type=click.IntRange(min=1),
            callback=lambda _context, _parameter, count: count or 0,
            help="End after so many.",
        ),
        click.option("--hex", "as_hex", is_flag=True, help="Show the bytes that events carry, too."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each, in a line."),
    ):
        command = option(command)
    return command


def _look(as_json: bool, as_hex: bool, count: int, color: str) -> Look:
    if as_json and as_hex:
        raise ConfigError("--hex with --json: JSON has all bytes in it already")
    terminal = sys.stdout.isatty()
    colored = color == "always" or (color == "auto" and terminal and "NO_COLOR" not in os.environ)
    return Look(as_json, as_hex, count, colored, os.get_terminal_size().columns if terminal else 0)


class Printer:
    """Prints events as `look` has them, the lines of a guest that runs as soon as there are no more."""

    def __init__(self, look: Look, decoder: Decoder, partition: str, note: ReadingNote) -> None:
        self._look = look
        self._note = note
        self._decoder = decoder
        self._partition = partition
        self._lines: list[str] = []

    def add(self, event: Event) -> None:
        """Print an event, soon."""
        self._lines.append(self._text(event))
        if len(self._lines) >= FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Print what was added."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._note.clear()
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()

    def _text(self, event: Event) -> str:
        from ringminus.lens.lines import line

        layers, channel = self._decoder.layers(event), self._decoder.channel(event)
        if self._look.as_json:
            from ringminus.lens.objects import as_object

            return json.dumps(as_object(event, layers, channel, self._partition), separators=(",", ":"))
        made = line(event, layers, channel)
        text = made.colored(self._look.width) if self._look.colored else made.plain
        return "\n".join([text, *hex_lines(event)]) if self._look.as_hex else text


def hex_lines(event: Event) -> list[str]:
    """The bytes that an event carries, 16 in a line, with their places and as text."""
    data = next((found for name in ("payload", "data", "block") if (found := getattr(event, name, b""))), b"")
    lines = []
    for start in range(0, len(data), HEX_WIDTH):
        piece = data[start : start + HEX_WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{'':8}{start:04x}  {piece[:8].hex(' '):<23}  {piece[8:].hex(' '):<23}  {text}")
    return lines


def _print(
    source: Source,
    wanted: Callable[[Event], bool],
    decoder: Decoder,
    look: Look,
    *,
    live: bool,
) -> None:
    from ringminus.lens.order import in_order

    note = ReadingNote(source)
    printer = Printer(look, decoder, source.partition, note)
    note.before = printer.flush  # few lines are not kept until there are many
    pending = getattr(source, "pending", lambda: False)
    shown = 0
    try:
        for event in note.events() if live else in_order(note.events()):
            decoder.note(event)
            if wanted(event):
                printer.add(event)
                shown += 1
                if shown == look.most:
                    break
            if live and not pending():
                printer.flush()
    finally:
        printer.flush()


@click.command()
@click.argument("file", shell_complete=complete_either)
@filter_argument
@look_options
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written later.")
@click.option("--tree", "as_tree", is_flag=True, help="Show what caused what, as ringminus lens tree does.")
def show(
    file: str,
    words: tuple[str, ...],
    as_json: bool,
    as_hex: bool,
    count: int,
    color: str,
    follow: bool,
    as_tree: bool,
) -> None:
    """Print the events of a capture, one in a line.

    A line has the partition's reference time in seconds, the virtual processor, the direction (→ to the host,
    ← to the guest), who it is about, and what passed. FILTER chooses events: see ringminus lens fields, and
    docs/reference/filters.md. A file "-" is standard input.

    \b
    Examples:
      ringminus lens show boot.pcapng
      ringminus lens show boot.pcapng 'scsi.op == write_10 and scsi.lba > 0x1000'
      ringminus lens show boot.pcapng 'hypercall.code == signal_event and vmbus.channel.device == "netvsc"'
      ringminus lens show --json boot.pcapng nvsp | jq .messages[0]
    """
    from ringminus.lens.decode import Decoder

    look, decoder = _look(as_json, as_hex, count, color), Decoder()
    wanted = compiled(words, decoder)
    source = open_file(file, follow=follow)
    with reading(source):
        if as_tree:
            _print_trees(source, wanted, decoder, look)
        else:
            _print(source, wanted, decoder, look, live=follow)
    tell_end(source)


@click.command()
@guest_argument
@filter_argument
@look_options
def watch(guest: str, words: tuple[str, ...], as_json: bool, as_hex: bool, count: int, color: str) -> None:
    """Print the events of a guest that runs, as they pass.

    Only those points of the guest are watched that FILTER needs. A guest never waits for who watches it:
    events for which there was no time are counted, and the number is printed at the end. A call that returns
    a result is printed when it has returned, after what it caused.

    \b
    Examples:
      ringminus lens watch root 'scsi.op == write_10'
      ringminus lens watch root 'packet and not vstor' --hex
      ringminus lens watch root exit --count 1000 --json | jq -r .fields.reason | sort | uniq -c
    """
    from ringminus.lens.decode import Decoder

    look, decoder = _look(as_json, as_hex, count, color), Decoder()
    wanted = compiled(words, decoder)
    source = open_guest(guest, wanted.points | {"channels"})
    given = bool(words)
    with reading(source):
        keep = wanted if given else _is_news
        _print(source, keep, decoder, look, live=True)
    tell_end(source)


def _is_news(event: Event) -> bool:
    """Not what a watcher is told of before he came."""
    return event.sequence != 0


@click.command()
@either_argument
@filter_argument
@look_options
def tree(what: str, words: tuple[str, ...], as_json: bool, as_hex: bool, count: int, color: str) -> None:
    """Show the way of requests as trees of causes, with the times between the steps.

    Each tree begins with what the guest did, such as an exit or a hypercall, and has under it what that
    caused: packets taken from rings, messages, completions, event signals, interrupts. With FILTER only
    trees in which an event satisfies it are shown, and of those only what is about it. Times behind a + are
    since the tree's beginning, on the partition's reference clock.

    \b
    Examples:
      ringminus lens tree boot.pcapng 'scsi.op == read_10' --count 1
      ringminus lens tree root nvsp
    """
    from ringminus.lens.decode import Decoder
    from ringminus.tap import USUAL

    look, decoder = _look(as_json, as_hex, count, color), Decoder()
    wanted = compiled(words, decoder)
    source = open_either(what, {kind.POINT for kind in USUAL} | wanted.points)
    with reading(source):
        _print_trees(source, wanted, decoder, look, live=not is_file(what))
    tell_end(source)


def _print_trees(
    source: Source, wanted: Callable[[Event], bool], decoder: Decoder, look: Look, *, live: bool = False
) -> None:
    from ringminus.cli.lens_trees import print_trees

    print_trees(source, wanted, decoder, look, live=live)

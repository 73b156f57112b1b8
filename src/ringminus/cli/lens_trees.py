"""Trees of causes, printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ringminus.cli.lens_note import ReadingNote
from ringminus.cli.lens_show import Look, hex_lines
from ringminus.clock import REFERENCE_HZ
from ringminus.lens.causes import Node, trees
from ringminus.lens.decode import Decoder
from ringminus.lens.lines import Line, Part, line
from ringminus.lens.objects import as_object
from ringminus.tap import Event

if TYPE_CHECKING:
    from ringminus.lens.source import Source

LIVE_LOOKS, FILE_LOOKS = 64, 4096
"""After how many events it is looked which trees are finished."""
MICROSECONDS = REFERENCE_HZ / 1e6
DEEPEST = 60
"""Levels that are indented; causes of causes of … may go on."""


def print_trees(
    source: Source, wanted: Callable[[Event], bool], decoder: Decoder, look: Look, *, live: bool
) -> None:
    """Print the trees in which there is a wanted event."""

    note = ReadingNote(source)

    def judged() -> Iterator[tuple[Event, bool]]:
        for event in note.events():
            decoder.note(event)
            yield event, wanted(event)

    found = trees(judged(), every=LIVE_LOOKS if live else FILE_LOOKS)
    for shown, root in enumerate(found, 1):
        lines = [_json(root, decoder, source.partition)] if look.as_json else _lines(root, decoder, look)
        note.clear()
        sys.stdout.write("\n".join(lines) + ("\n" if look.as_json else "\n\n"))
        sys.stdout.flush()
        if shown == look.most:
            return


def _lines(root: Node, decoder: Decoder, look: Look) -> list[str]:
    found: list[str] = []
    began = next((one.event.time for one in root.walk() if one.event is not None), 0)
    waiting = [(root, "", "", 0)]
    while waiting:
        node, before, below, depth = waiting.pop()
        made = Line(_parts(node, decoder, began, before))
        found.append(made.colored(look.width) if look.colored else made.plain)
        if look.as_hex and node.event is not None:
            found += hex_lines(node.event)
        last = len(node.caused) - 1
        for place, one in reversed(list(enumerate(node.caused))):
            deeper = depth < DEEPEST
            branch, rest = ("└─ ", "   ") if place == last else ("├─ ", "│  ")
            waiting.append(
                (one, below + branch if deeper else before, below + rest if deeper else below, depth + 1)
            )
    return found


def _parts(node: Node, decoder: Decoder, began: int, before: str) -> list[Part]:
    event = node.event
    if event is None:
        return [Part(f"{'':>16}", "time"), Part(before), Part("(what caused this was not watched)", "time")]
    made = line(event, decoder.layers(event), decoder.channel(event)).parts[1:]
    first = f"{event.time / REFERENCE_HZ:12.7f} vp{event.vp}"
    later = f"+{(event.time - began) / MICROSECONDS:.1f} µs"
    arrow, title, *rest = made
    return [
        Part(f"{later if before else first:>16} ", "time"),
        Part(before),
        arrow,
        Part(f" {title.text.strip()} ", title.style),
        *rest,
    ]


def _json(root: Node, decoder: Decoder, partition: str) -> str:
    """The tree as one object, in which each event has what it caused."""
    made: dict[int, dict[str, Any]] = {}
    for node in reversed(list(root.walk())):
        event = node.event
        found: dict[str, Any] = {"sequence": node.number}
        if event is not None:
            found = as_object(event, decoder.layers(event), decoder.channel(event), partition)
        if node.caused:
            found["caused"] = [made[one.number] for one in node.caused]
        made[node.number] = found
    return json.dumps(made[root.number], separators=(",", ":"))

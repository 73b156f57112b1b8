"""The selected event as a tree: its layers, their fields, and where these lie among its bytes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from rich.text import Text
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.decode import EventLayer
from ringminus.lens.lines import COMMON, Line, Part, octets_text, value_text
from ringminus.lens.tui.dissection import Shown
from ringminus.protocol import PROTOCOLS, Layer, Value
from ringminus.tap import DeviceMessage, Event, Hypercall

MOST_CHILDREN = 300
DEEPEST = 32
LONGEST = 200
COUNTS = {"sequence", "cause", "ns"}
"""An event's own numbers that are no addresses."""
LATEST = 10**19
"""ns since 1970; what is later is no time, but damage."""


class Place(NamedTuple):
    """Bytes of the event, and those of them that belong to what is selected."""

    data: bytes
    lit: range


def carried_bytes(event: Event) -> bytes:
    """The bytes in which fields of messages have their places."""
    if isinstance(event, Hypercall):
        return event.block
    found = getattr(event, "payload", None)
    found = getattr(event, "data", b"") if found is None else found
    return found if isinstance(found, bytes) else b""


class DetailTree(Tree[Place]):
    """Tells by `Selected` which bytes to light."""

    class Selected(Message):
        """Other bytes are to be shown."""

        def __init__(self, place: Place) -> None:
            self.place = place
            super().__init__()

    def __init__(self) -> None:
        super().__init__("", id="detail")
        self.show_root = False
        self.guide_depth = 2
        self.shown: Shown | None = None
        self._opens_event = False

    def show(self, shown: Shown | None) -> None:
        """Show an event."""
        self.shown = shown
        self.clear()
        if shown is None:
            self.post_message(self.Selected(Place(b"", range(0))))
            return
        data = carried_bytes(shown.event)
        for layer in shown.layers:
            self._add(self.root, shown.event, layer, data, 0)
        self.post_message(self.Selected(Place(data, range(0))))

    def _add(self, parent: TreeNode[Place], event: Event, layer: Layer, data: bytes, depth: int) -> None:
        about = isinstance(layer, EventLayer)
        opened = not about or self._opens_event or len(self.shown.layers if self.shown else ()) == 1
        node = parent.add(_title(layer), Place(data, _range(layer, data)), expand=opened)
        values = _ordered(layer)
        inside = {one.offset for one in layer.inner}
        for number, value in enumerate(values):
            if number == MOST_CHILDREN:
                node.add_leaf(f"… and {len(values) - number} more")
                break
            if value.offset not in inside or not isinstance(value.value, bytes):
                node.add_leaf(_field(layer, value), _place(layer, event, value, data))
        if depth == DEEPEST:
            node.add_leaf("… it goes deeper")
            return
        for number, one in enumerate(layer.inner):
            if number == MOST_CHILDREN:
                node.add_leaf(f"… and {len(layer.inner) - number} more")
                break
            self._add(node, event, one, data, depth + 1)

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Place]) -> None:
        """Who wants to see an event's own fields wants to see those of the next one."""
        event.stop()
        self._opens_event = self._opens_event or event.node is self.root.children[0]

    def on_tree_node_collapsed(self, event: Tree.NodeCollapsed[Place]) -> None:
        """Or not."""
        event.stop()
        self._opens_event = self._opens_event and event.node is not self.root.children[0]

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Place]) -> None:
        """Tell which bytes it has."""
        event.stop()
        if event.node.data is not None:
            self.post_message(self.Selected(event.node.data))


def _range(layer: Layer, data: bytes) -> range:
    return range(0) if isinstance(layer, EventLayer) else range(layer.offset, layer.offset + layer.size)


def _place(layer: Layer, event: Event, value: Value, data: bytes) -> Place:
    if not isinstance(layer, EventLayer):
        return Place(data, range(value.offset, value.offset + value.size))
    if isinstance(value.value, bytes):
        return Place(value.value, range(0))
    return Place(data, range(0))


def _ordered(layer: Layer) -> list[Value]:
    """An event's own fields before those that all events have."""
    if not isinstance(layer, EventLayer):
        return layer.values
    values = [one for one in layer.values if one.name != "changed" or one.value]
    return sorted(values, key=lambda one: one.name in COMMON)


def _title(layer: Layer) -> Text:
    if isinstance(layer, EventLayer):
        parts = [Part(layer.protocol, "name"), Part("  " + _about(type(layer.event)), "time")]
    else:
        protocol = PROTOCOLS.get(layer.protocol)
        parts = [Part(layer.protocol + " ", "protocol"), Part(layer.message or "message", "name")]
        parts.append(Part(f"  {protocol.title}" if protocol is not None else "", "time"))
    if layer.missing and not isinstance(layer, EventLayer):
        parts.append(Part(f"  {layer.missing} bytes are missing", "bad"))
    return Line(parts).rich()


def _about(kind: type[Event]) -> str:
    return (kind.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ").partition(". ")[0]


def _field(layer: Layer, value: Value) -> Text:
    text = _cut(value.text if value.show is not None else value_text(value.value))
    if isinstance(layer, EventLayer):
        text = _own(layer.event, value, text)
    parts = [Part(value.name, "field"), Part(" = "), Part(text, "value")]
    if value.label:
        parts.append(Part(f"  {_cut(value.label)}", "name"))
    if value.width:
        high = value.shift + value.width - 1
        bits = f"bit {high}" if value.width == 1 else f"bits {value.shift}…{high}"
        parts.append(Part(f"  {bits}", "time"))
    return Line(parts).rich()


def _own(event: Event, value: Value, text: str) -> str:
    """An event's own field: addresses are hexadecimal, times in seconds."""
    if value.name == "time":
        return f"{event.time / REFERENCE_HZ:.7f} s"
    if value.name == "host_ns" and 0 < event.host_ns < LATEST:
        return (
            f"{datetime.fromtimestamp(event.host_ns // 10**9):%Y-%m-%d %H:%M:%S}.{event.host_ns % 10**9:09}"
        )
    if value.name in COUNTS and isinstance(value.value, int):
        return str(value.value)
    if value.name == "size" and isinstance(event, DeviceMessage):
        return f"{event.size} bytes"
    if isinstance(value.value, bytes):
        return f"{octets_text(value.value) or 'empty'}, {len(value.value)} bytes"
    return text


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"

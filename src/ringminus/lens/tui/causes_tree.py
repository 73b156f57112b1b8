"""What led to the selected event, and what it led to, as a tree with times."""

from __future__ import annotations

from collections.abc import Iterator

from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.lines import Line, Part
from ringminus.lens.tui.dissection import Dissection, Shown
from ringminus.lens.tui.store import Store

DEEPEST = 64
MOST_EFFECTS = 500
MOST_OPEN = 200
"""Events that are shown at once; the effects of others when they are opened."""


class CausesTree(Tree[int]):
    """Nodes have the positions of events. `Chosen` tells of one that somebody wants to go to."""

    class Chosen(Message):
        """Go to this event."""

        def __init__(self, position: int) -> None:
            self.position = position
            super().__init__()

    def __init__(self, store: Store, dissection: Dissection) -> None:
        super().__init__("", id="causes")
        self.show_root = False
        self.guide_depth = 2
        self.auto_expand = False
        self._store, self._dissection = store, dissection
        self._began = 0
        self._left = 0
        self._selected = -1

    def show(self, position: int) -> None:
        """The tree that an event belongs to, it selected."""
        self.clear()
        self._selected, self._left = position, MOST_OPEN
        path = self._path(position)
        top = self._dissection.at(path[0])
        if top is None:
            return
        self._began = top.event.time
        node = self._add(self.root, path[0])
        for number, one in enumerate(path):
            if number:
                inside = next((child for child in node.children if child.data == one), None)
                node = inside if inside is not None else self._add(node, one)
            if number < len(path) - 1:
                self._open(node)
        self._open_all(node)
        if self.last_line >= 0:  # by asking, nodes are given their lines
            self.move_cursor(node)

    def _path(self, position: int) -> list[int]:
        """From the first cause to the event."""
        path = [position]
        while len(path) < DEEPEST:
            cause = self._store.find(self._store.cause(path[0]))
            if cause is None or cause in path:
                break
            path.insert(0, cause)
        return path

    def _add(self, parent: TreeNode[int], position: int) -> TreeNode[int]:
        shown = self._dissection.at(position)
        title = self._title(shown) if shown is not None else Line((Part("it is not kept any more", "bad"),))
        above = {position, *_above(parent)}
        more = any(one not in above for one in self._effects(position))
        return parent.add(title.rich(), position, allow_expand=more)

    def _effects(self, position: int) -> Iterator[int]:
        return self._store.effects(self._store.sequence(position))

    def _open(self, node: TreeNode[int]) -> None:
        """Show what it led to."""
        assert node.data is not None
        if not node.children:
            above = _above(node)  # damaged files have events that caused themselves
            found = (position for position in self._effects(node.data) if position not in above)
            for number, position in enumerate(found):
                if number == MOST_EFFECTS:
                    node.add_leaf(f"… more than {MOST_EFFECTS}")
                    break
                self._add(node, position)
                self._left -= 1
        if not node.is_expanded:
            node.expand()

    def _open_all(self, top: TreeNode[int]) -> None:
        waiting, depth = [top], 0
        while waiting and self._left > 0 and depth < DEEPEST:
            for node in waiting:
                if node.data is not None and node.allow_expand and self._left > 0:
                    self._open(node)
            waiting, depth = [child for node in waiting for child in node.children], depth + 1

    def _title(self, shown: Shown) -> Line:
        """When it was, counted from the first one, and what."""
        after = (shown.event.time - self._began) * 1e6 / REFERENCE_HZ
        _stamp, arrow, who, *what = shown.line().parts
        time = Part(f"{after:+.1f} µs " if after else "", "time")
        arrow = Part(arrow.text.strip(), arrow.style)
        title = Part(f" {who.text.strip()} ", who.style)
        selected = Part("● " if shown.position == self._selected else "", "bad")
        return Line((selected, time, arrow, title, *what))

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[int]) -> None:
        """Look for what it led to now."""
        event.stop()
        if event.node.data is not None:
            self._open(event.node)

    def on_tree_node_selected(self, event: Tree.NodeSelected[int]) -> None:
        """Somebody wants to go there."""
        event.stop()
        if event.node.data is not None:
            self.post_message(self.Chosen(event.node.data))


def _above(node: TreeNode[int]) -> set[int | None]:
    """A node's position, and those of all that it is below."""
    found: set[int | None] = set()
    one: TreeNode[int] | None = node
    while one is not None:
        found.add(one.data)
        one = one.parent
    return found

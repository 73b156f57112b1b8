"""What caused what: events as trees, from what the guest did down to the interrupt that tells of the answer.

    doorbell exit
      hypercall HvCallSignalEvent
        the packet with the request, from the ring
          the packet with its completion
            the event flag, which is signalled
              the interrupt

An event that has a result passes after those that it caused, and a completion long after its request: a tree
is given out when nothing has been added to it for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringminus.clock import REFERENCE_HZ
from ringminus.tap import Event

QUIET_EVENTS = 20_000
QUIET_TIME = REFERENCE_HZ
"""A tree is finished when so many other events have passed since the last of it, or so much time."""


class Node:
    """An event and what it caused, in the order in which that began. `wanted` says that it is one of those
    that somebody looks for; `event` is None if it was not seen, but what it caused was."""

    __slots__ = ("caused", "event", "last", "number", "time", "wanted")

    def __init__(self, number: int) -> None:
        self.number = number
        self.event: Event | None = None
        self.caused: list[Node] = []
        self.wanted = False
        self.last = 0
        self.time = 0

    def walk(self) -> Iterator[Node]:
        """It and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.caused)

    def sort(self) -> None:
        """Put what was caused in its order."""
        for node in self.walk():
            node.caused.sort(key=lambda one: one.number)

    def pruned(self) -> Node | None:
        """The part of the tree that is about wanted events: their causes, and all that they caused; None if
        there is none."""
        kept: dict[int, Node] = {}
        for node in reversed(list(self.walk())):
            made = node
            if not node.wanted:
                below = [kept[one.number] for one in node.caused if one.number in kept]
                if not below:
                    continue
                made = Node(node.number)
                made.event, made.caused = node.event, below
            kept[node.number] = made
        return kept.get(self.number)


class Forest:
    """Puts events together. Events without a number belong to nothing."""

    def __init__(self, quiet_events: int = QUIET_EVENTS, quiet_time: int = QUIET_TIME) -> None:
        self._quiet_events, self._quiet_time = quiet_events, quiet_time
        self._nodes: dict[int, Node] = {}
        self._roots: dict[int, Node] = {}
        self._root_of: dict[int, int] = {}
        self._count = 0

    def add(self, event: Event, wanted: bool = False) -> None:
        """One more event."""
        if not event.sequence:
            return
        self._count += 1
        node = self._node(event.sequence)
        if node.event is None:
            node.event = event
        node.wanted = node.wanted or wanted
        if event.cause and event.cause != event.sequence and event.sequence in self._roots:
            self._hang(node, event.cause)
        root = self._root(event.sequence)
        root.last, root.time = self._count, max(root.time, event.time)

    def _node(self, number: int) -> Node:
        node = self._nodes.get(number)
        if node is None:
            node = self._nodes[number] = self._roots[number] = Node(number)
            self._root_of[number] = number
        return node

    def _root(self, number: int) -> Node:
        """The root of an event's tree; the way there is made short for who comes again."""
        way = []
        while (above := self._root_of[number]) != number:
            way.append(number)
            number = above
        for one in way:
            self._root_of[one] = number
        return self._roots[number]

    def _hang(self, node: Node, cause: int) -> None:
        """Below its cause, unless that is below it, which only a damaged file says."""
        parent = self._node(cause)
        root = self._root(cause)
        if root is node:
            return
        parent.caused.append(node)
        del self._roots[node.number]
        self._root_of[node.number] = root.number
        root.last, root.time = max(root.last, node.last), max(root.time, node.time)

    def finished(self, now: int) -> list[Node]:
        """Trees that have been quiet for long enough at the reference time `now`, by their beginnings."""
        old = [
            root
            for root in self._roots.values()
            if self._count - root.last >= self._quiet_events or now - root.time >= self._quiet_time
        ]
        return self._take(old)

    def rest(self) -> list[Node]:
        """All others, at the end."""
        return self._take(list(self._roots.values()))

    def _take(self, roots: list[Node]) -> list[Node]:
        for root in roots:
            del self._roots[root.number]
            for node in root.walk():
                del self._nodes[node.number]
                del self._root_of[node.number]
            root.sort()
        return sorted(roots, key=lambda root: root.number)


def trees(events: Iterable[tuple[Event, bool]], *, every: int = 1024) -> Iterator[Node]:
    """The trees of events, each with whether it is wanted; those without a wanted one are left out, and what
    is not about one. `every` so many events it is looked which are finished."""
    forest = Forest()
    for place, (event, wanted) in enumerate(events, 1):
        forest.add(event, wanted)
        if not place % every:
            yield from _wanted(forest.finished(event.time))
    yield from _wanted(forest.rest())


def _wanted(found: list[Node]) -> Iterator[Node]:
    for root in found:
        kept = root.pruned()
        if kept is not None:
            yield kept

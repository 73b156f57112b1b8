"""How often what crossed the boundary, and what answering cost: what all statistics have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ringminus.tap import Event, Hypercall, Interrupt, MsrAccess, TimerExpired, VmExit

if TYPE_CHECKING:
    from rich.table import Table

LEFT = ("from", "address", "connected to", "dropped", "request", "reason")
"""Columns of text."""


class Counts:
    """Exits by reason with the time in ns that they took, MSRs by name, hypercalls, interrupts, timers."""

    def __init__(self) -> None:
        self.exits: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])  # count, ns
        self.msrs: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])  # reads, writes
        self.hypercalls: defaultdict[str, int] = defaultdict(int)
        self.interrupts: defaultdict[tuple[int, str], int] = defaultdict(int)
        self.timers: defaultdict[str, int] = defaultdict(int)
        self.counters: dict[type[Event], Callable[[Any], None]] = {
            VmExit: self._exit,
            MsrAccess: self._msr,
            Hypercall: self._hypercall,
            Interrupt: self._interrupt,
            TimerExpired: self._timer,
        }
        """What counts each type of event."""

    def _exit(self, event: VmExit) -> None:
        entry = self.exits[event.reason]
        entry[0] += 1
        entry[1] += event.ns

    def _msr(self, event: MsrAccess) -> None:
        self.msrs[event.name][event.write] += 1

    def _hypercall(self, event: Hypercall) -> None:
        self.hypercalls[event.name] += 1

    def _interrupt(self, event: Interrupt) -> None:
        self.interrupts[event.vector, event.source] += 1

    def _timer(self, event: TimerExpired) -> None:
        self.timers[event.timer] += 1

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data; times in seconds."""
        return {
            "exits": {r: {"count": n, "seconds": ns / 1e9} for r, (n, ns) in self.exits.items()},
            "msrs": {name: {"reads": r, "writes": w} for name, (r, w) in self.msrs.items()},
            "hypercalls": self.hypercalls,
            "interrupts": [{"vector": v, "source": s, "count": n} for (v, s), n in self.interrupts.items()],
            "timers": self.timers,
        }

    def tables(self, seconds: float) -> Iterator[tuple[str, Table]]:
        """Titles and tables; shares are of `seconds`."""
        exits = ("reason", "count", "mean µs", "total ms", "of run time")
        yield "VM exits", table(exits, self._exit_rows(seconds))
        registers = sorted(self.msrs.items(), key=lambda item: -sum(item[1]))
        yield "MSRs", table(("name", "reads", "writes"), ((name, *counts) for name, counts in registers))
        yield "Hypercalls", table(("name", "count"), most(self.hypercalls))
        interrupts = ((f"{v:#x}", s, n) for (v, s), n in most(self.interrupts))
        yield "Interrupts", table(("vector", "from", "count"), interrupts)
        yield "Timers", table(("name", "count"), most(self.timers))

    def _exit_rows(self, seconds: float) -> Iterator[tuple[object, ...]]:
        rows = sorted(self.exits.items(), key=lambda item: -item[1][1])
        if rows:
            rows.append(("all", [sum(count for _, (count, _) in rows), sum(ns for _, (_, ns) in rows)]))
        for reason, (count, ns) in rows:
            share = ns / 1e7 / seconds if seconds else 0.0
            yield reason, count, f"{ns / 1000 / count:.2f}", f"{ns / 1e6:.1f}", f"{share:.2f} %"


def most(counts: dict[Any, int]) -> list[tuple[Any, int]]:
    """The largest first."""
    return sorted(counts.items(), key=lambda item: -item[1])


def table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Table:
    """A table without lines; the first column is text, and those of `LEFT`."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        left = number == 0 or column in LEFT
        made.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*map(str, row))
    return made

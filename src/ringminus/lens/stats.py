"""What left the guest, how often, and what it cost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

from ringminus.tap import Hypercall, Interrupt, MsrAccess, Tap, TimerExpired, VmExit

EXCEPTIONS = {
    0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS",
    11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM",
}  # fmt: skip


class Processors(Protocol):
    """The part of a partition that tells how long its processors waited."""

    vps: Any


@dataclass
class Statistics:
    """Listens to a tap and counts; `add_run` tells what a machine knows of itself when it has ended."""

    tap: Tap
    seconds: float = 0.0
    idle_seconds: float = 0.0
    exits: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    msr_reads: Counter[str] = field(default_factory=Counter)
    msr_writes: Counter[str] = field(default_factory=Counter)
    hypercalls: Counter[str] = field(default_factory=Counter)
    interrupts: Counter[tuple[int, str]] = field(default_factory=Counter)
    timers: Counter[str] = field(default_factory=Counter)
    exceptions: Counter[int] = field(default_factory=Counter)
    system_calls: int = 0

    def __post_init__(self) -> None:
        self.tap.listen(VmExit, self._exit)
        self.tap.listen(MsrAccess, self._msr)
        self.tap.listen(Hypercall, self._hypercall)
        self.tap.listen(Interrupt, self._interrupt)
        self.tap.listen(TimerExpired, self._timer)

    def _exit(self, event: VmExit) -> None:
        entry = self.exits[event.reason]
        entry[0] += 1
        entry[1] += event.ns

    def _msr(self, event: MsrAccess) -> None:
        (self.msr_writes if event.write else self.msr_reads)[event.name] += 1

    def _hypercall(self, event: Hypercall) -> None:
        self.hypercalls[event.name] += 1

    def _interrupt(self, event: Interrupt) -> None:
        self.interrupts[event.vector, event.source] += 1

    def _timer(self, event: TimerExpired) -> None:
        self.timers[event.timer] += 1

    def add_run(self, seconds: float, processors: Processors, counters: dict[str, Any]) -> None:
        """A machine ran for that time; `counters` are its engine's."""
        self.seconds += seconds
        self.idle_seconds += sum(vp.idle_time for vp in processors.vps) / 1e7
        self.exceptions.update(counters["exceptions"])
        self.system_calls += counters["system_calls"]

    def as_json(self) -> str:
        """Everything, for programs; times in seconds."""
        data = {
            "seconds": self.seconds,
            "idle_seconds": self.idle_seconds,
            "exits": {r: {"count": n, "seconds": ns / 1e9} for r, (n, ns) in self.exits.items()},
            "msrs": {
                name: {"reads": self.msr_reads[name], "writes": self.msr_writes[name]}
                for name in sorted(self.msr_reads.keys() | self.msr_writes.keys())
            },
            "hypercalls": dict(self.hypercalls),
            "interrupts": [{"vector": v, "source": s, "count": n} for (v, s), n in self.interrupts.items()],
            "timers": dict(self.timers),
            "exceptions": {EXCEPTIONS.get(v, hex(v)): n for v, n in sorted(self.exceptions.items())},
            "system_calls": self.system_calls,
        }
        return json.dumps(data, indent=2)

    def show(self) -> None:
        """Tables for a person, on standard error; colours only on a terminal."""
        from rich.console import Console
        from rich.table import Table

        console = Console(stderr=True)

        def table(title: str, *columns: str) -> Table:
            made = Table(title=title, title_justify="left", box=None, pad_edge=False)
            for number, column in enumerate(columns):
                made.add_column(column, justify="left" if number == 0 else "right")
            return made

        busy = max(self.seconds - self.idle_seconds, 1e-9)
        console.print(f"\nran {self.seconds:.3f} s, of which idle {self.idle_seconds:.3f} s")
        exits = table("VM exits", "reason", "count", "mean µs", "total ms", "share of busy time")
        for reason, (count, ns) in sorted(self.exits.items(), key=lambda item: -item[1][1]):
            share = f"{ns / 1e7 / busy:.2f} %"
            exits.add_row(reason, str(count), f"{ns / 1000 / count:.2f}", f"{ns / 1e6:.1f}", share)
        console.print(exits)
        registers = table("MSRs", "name", "reads", "writes")
        names = self.msr_reads.keys() | self.msr_writes.keys()
        for name in sorted(names, key=lambda n: -(self.msr_reads[n] + self.msr_writes[n])):
            registers.add_row(name, str(self.msr_reads[name]), str(self.msr_writes[name]))
        console.print(registers)
        for title, counts in (("Hypercalls", self.hypercalls), ("Timers", self.timers)):
            if counts:
                rows = table(title, "name", "count")
                for name, count in counts.most_common():
                    rows.add_row(name, str(count))
                console.print(rows)
        vectors = table("Interrupts", "vector", "by", "count")
        for (vector, source), count in self.interrupts.most_common():
            vectors.add_row(hex(vector), source, str(count))
        console.print(vectors)
        faults = table("Exceptions and system calls", "what", "count")
        for vector, count in sorted(self.exceptions.items()):
            faults.add_row(EXCEPTIONS.get(vector, f"INT {vector:#x}"), str(count))
        faults.add_row("SYSCALL", str(self.system_calls))
        console.print(faults)

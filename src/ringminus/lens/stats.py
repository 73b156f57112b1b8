"""What left the guest, how often, and what it cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TextIO

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.counts import Counts, most, table
from ringminus.tap import Tap

if TYPE_CHECKING:
    from rich.table import Table

EXCEPTIONS = {
    0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS",
    11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM",
}  # fmt: skip
# where standard error is no terminal
WIDTH = 110


@dataclass(slots=True)
class ChannelRow:
    """What passed on a device's channel; `index` is 0 for the primary one, `version` the bus's, `opened` how
    often it was opened, `failed` how often it was given up, `ns` the time in our code for guest packets."""

    device: str
    instance: str
    index: int
    version: str
    opened: int
    failed: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    signals_in: int
    signals_out: int
    ns: int

    def add(self, other: ChannelRow) -> None:
        """The same place in a later machine."""
        self.version = other.version or self.version
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def mean_us(self) -> float:
        """Microseconds in our code for each of the guest's packets."""
        return self.ns / 1000 / self.packets_in if self.packets_in else 0.0


COUNTED = tuple(one.name for one in fields(ChannelRow))[4:]


@dataclass(slots=True)
class NicRow:
    """What passed a network adapter, seen from its guest: `sent` is what the guest sent. `dropped` counts
    frames that did not arrive, by reason; `to` is what the adapter is connected to."""

    device: str
    address: str
    to: str
    sent_frames: int
    sent_bytes: int
    received_frames: int
    received_bytes: int
    dropped: dict[str, int]

    def add(self, other: NicRow) -> None:
        """The same adapter in a later machine."""
        self.sent_frames += other.sent_frames
        self.sent_bytes += other.sent_bytes
        self.received_frames += other.received_frames
        self.received_bytes += other.received_bytes
        for reason, frames in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + frames


class Statistics(Counts):
    """Listens to a tap and counts; `add_run` tells what a machine knows of itself when it has ended."""

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self.seconds = 0.0
        self.idle_seconds = 0.0
        self.exceptions: Counter[int] = Counter()
        self.system_calls = 0
        self.channels: dict[tuple[str, str, int], ChannelRow] = {}
        self.nics: dict[str, NicRow] = {}
        for kind, count in self.counters.items():
            tap.listen(kind, count)

    def add_run(
        self,
        seconds: float,
        idle: Iterable[int],
        counters: dict[str, Any],
        channels: Iterable[ChannelRow] = (),
        nics: Iterable[NicRow] = (),
    ) -> None:
        """A machine ran for that time; `idle` has each processor's (100 ns), `counters` are its engine's."""
        self.seconds += seconds
        self.idle_seconds += sum(idle) / REFERENCE_HZ
        self.exceptions.update(counters["exceptions"])
        self.system_calls += counters["system_calls"]
        for row in channels:
            key = row.device, row.instance, row.index
            if key in self.channels:
                self.channels[key].add(row)
            else:
                self.channels[key] = row
        for nic in nics:
            if nic.device in self.nics:
                self.nics[nic.device].add(nic)
            else:
                self.nics[nic.device] = nic

    def as_json(self) -> str:
        """Everything, for programs; times in seconds."""
        data = {
            "seconds": self.seconds,
            "idle_seconds": self.idle_seconds,
            **self.as_dict(),
            "exceptions": {exception(vector): n for vector, n in sorted(self.exceptions.items())},
            "system_calls": self.system_calls,
            "channels": [asdict(row) for row in self.channels.values()],
            "network": [asdict(row) for row in self.nics.values()],
        }
        return json.dumps(data, indent=2)

    def show(self, file: TextIO) -> None:
        """Tables for a person; colours only where `file` is a terminal."""
        from rich.console import Console

        console = Console(file=file, width=None if file.isatty() else WIDTH, highlight=False)
        console.print(f"\nran for {self.seconds:.3f} s, {self.idle_seconds:.3f} s of them idle")
        for title, made in self._tables():
            if made.row_count:
                console.print(f"\n[bold]{title}[/bold]")
                console.print(made)

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield from self.tables(self.seconds)
        faults: list[tuple[object, ...]] = [(exception(v), n) for v, n in most(self.exceptions)]
        if self.system_calls:
            faults.append(("SYSCALL", self.system_calls))
        yield "Exceptions and system calls", table(("what", "count"), faults)

        columns = (
            "channel",
            "version",
            "opened",
            "packets in",
            "out",
            "bytes in",
            "out",
            "signals in",
            "out",
        )
        rows = (self._channel_row(row) for row in self.channels.values())
        yield "Channels, seen from the host", table((*columns, "µs a packet"), rows)
        network = ("adapter", "address", "connected to", "sent", "bytes", "received", "bytes", "dropped")
        yield "Network, seen from the guest", table(network, map(self._nic_row, self.nics.values()))

    @staticmethod
    def _channel_row(row: ChannelRow) -> tuple[object, ...]:
        name = row.device + (f" {row.index}" if row.index else "") + (" (failed)" if row.failed else "")
        counts = row.packets_in, row.packets_out, row.bytes_in, row.bytes_out, row.signals_in, row.signals_out
        return name, row.version, row.opened, *counts, f"{row.mean_us:.1f}"

    @staticmethod
    def _nic_row(row: NicRow) -> tuple[object, ...]:
        dropped = ", ".join(f"{frames} {reason}" for reason, frames in sorted(row.dropped.items()))
        sent, received = (row.sent_frames, row.sent_bytes), (row.received_frames, row.received_bytes)
        return row.device, row.address, row.to, *sent, *received, dropped or 0


def exception(vector: int) -> str:
    """A vector's name: of an exception, or of an INT instruction's."""
    return EXCEPTIONS.get(vector, f"INT {vector:#x}")

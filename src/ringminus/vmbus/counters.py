"""What passed on a channel, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counters:
    """What passed; `ns` is the time spent in our code for the guest's packets while it was measured."""

    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    signals_in: int = 0
    signals_out: int = 0
    ns: int = 0

    def add(self, other: Counters) -> None:
        """Count what `other` counted, too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

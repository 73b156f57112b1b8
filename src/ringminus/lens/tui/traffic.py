"""What passes, counted as it comes: exits by reason, and packets by channel, over the partition's time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ringminus.clock import REFERENCE_HZ
from ringminus.tap import ChannelState, Event, NetworkFrame, RingPacket, VmExit

NARROWEST = REFERENCE_HZ // 10
MOST_SLOTS = 4096
K = TypeVar("K", bound=Hashable)


class Series(Generic[K]):
    """Amounts by key in slots of time. Slots become wider when there are too many."""

    def __init__(self) -> None:
        self.width = NARROWEST
        self._slots: dict[int, Counter[K]] = {}
        self.first = self.last = 0

    def add(self, time: int, key: K, amount: int) -> None:
        """At `time` (100 ns)."""
        number = time // self.width
        slot = self._slots.get(number)
        if slot is None:
            if not self._slots:
                self.first = self.last = time
            elif len(self._slots) >= MOST_SLOTS:
                self._widen()
                number = time // self.width
            slot = self._slots.setdefault(number, Counter())
        slot[key] += amount
        self.first, self.last = min(self.first, time), max(self.last, time)

    def _widen(self) -> None:
        while len(self._slots) > MOST_SLOTS // 2:
            wider: dict[int, Counter[K]] = {}
            for number, counts in self._slots.items():
                wider.setdefault(number // 2, Counter()).update(counts)
            self._slots, self.width = wider, self.width * 2

    def shape(self, columns: int, span: int = 0, now: int | None = None) -> Shape[K]:
        """Rates in at most `columns` columns, the newest last: of `span` before `now`, or of all."""
        slots, width = dict(self._slots), self.width
        if not slots:
            return Shape(columns, REFERENCE_HZ, 0)
        last = max(self.last, self.last if now is None else now) // width
        first = max(last - span // width + 1, self.first // width) if span else self.first // width
        merged = max(-(-(last - first + 1) // columns), 1)
        used = (last - first) // merged + 1
        found: Shape[K] = Shape(used, merged * width, first * width)
        for number, counts in slots.items():
            if first <= number <= last:
                column = (number - first) // merged
                for key, amount in list(counts.items()):
                    found.add(key, column, amount)
        return found


class Shape(Generic[K]):
    """Amounts in columns, each `width` (100 ns) wide, the first from `start` on."""

    def __init__(self, columns: int, width: int, start: int) -> None:
        self.columns, self.width, self.start = columns, width, start
        self._amounts: dict[K, list[int]] = {}

    def add(self, key: K, column: int, amount: int) -> None:
        """In a column."""
        self._amounts.setdefault(key, [0] * self.columns)[column] += amount

    def rates(self, key: K) -> list[float]:
        """Per second, in each column."""
        return [one * REFERENCE_HZ / self.width for one in self._amounts.get(key, [0] * self.columns)]


@dataclass(slots=True)
class Passed:
    """What has passed on a channel, to the host and to the guest."""

    device: str
    channel: int
    relid: int
    packets: list[int] = field(default_factory=lambda: [0, 0])
    octets: list[int] = field(default_factory=lambda: [0, 0])
    frames: int = 0
    """Bytes of an adapter's frames."""
    open: bool = True
    rings: tuple[int, int] = (0, 0)

    @property
    def amount(self) -> int:
        """Bytes: an adapter's frames lie in buffers that packets do not name, so these are counted then."""
        return self.frames or sum(self.octets)


class Traffic:
    """Counts. One thread adds, another may look."""

    def __init__(self) -> None:
        self.now = 0
        """The newest event's time."""
        self.exits: dict[str, list[int]] = {}
        self.exit_rates: Series[str] = Series()
        self.channels: dict[tuple[int, str], Passed] = {}
        self.packet_rates: Series[tuple[int, str]] = Series()
        self._adapters: dict[str, Passed] = {}

    def see(self, event: Event) -> None:
        """Count it."""
        kind = type(event)
        self.now = max(self.now, event.time)
        if kind is VmExit:
            self._exit(event)  # type: ignore[arg-type]
        elif kind is RingPacket:
            self._packet(event)  # type: ignore[arg-type]
        elif kind is ChannelState:
            self._state(event)  # type: ignore[arg-type]
        elif kind is NetworkFrame:
            self._frame(event)  # type: ignore[arg-type]

    def _exit(self, event: VmExit) -> None:
        row = self.exits.setdefault(event.reason, [0, 0])
        row[0] += 1
        row[1] += event.ns
        self.exit_rates.add(event.time, event.reason, 1)

    def _packet(self, event: RingPacket) -> None:
        key = event.relid, event.device
        row = self.channels.get(key) or self._row(key, event)
        row.packets[event.to_guest] += 1
        row.octets[event.to_guest] += len(event.payload) + sum(event.ranges)
        self.packet_rates.add(event.time, key, 1)

    def _state(self, event: ChannelState) -> None:
        key = event.relid, event.device
        row = self.channels.get(key) or self._row(key, event)
        row.open, row.rings = event.open, (event.ring_in, event.ring_out)

    def _frame(self, event: NetworkFrame) -> None:
        row = self._adapters.get(event.adapter)
        if row is not None:
            row.frames += len(event.data)

    def _row(self, key: tuple[int, str], event: RingPacket | ChannelState) -> Passed:
        row = self.channels[key] = Passed(event.device, event.channel, event.relid)
        if not event.channel:
            self._adapters[event.device] = row
        return row

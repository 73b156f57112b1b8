"""Figures from a stream of events: what a guest's use of its host costs, by what, and how long requests take.

Times of requests are from when the packet was taken from the ring until its completion was put into one, on
the partition's reference clock."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.counts import Counts, most, table
from ringminus.lens.decode import COMPLETION, Decoder, flat
from ringminus.lens.latency import Latencies
from ringminus.protocol import BY_INTERFACE, PROTOCOLS, dissect
from ringminus.tap import (
    ChannelState,
    DeviceMessage,
    Event,
    EventSignal,
    Hypercall,
    NetworkFrame,
    RingPacket,
    Violation,
    VmExit,
)

if TYPE_CHECKING:
    from typing import TextIO

    from rich.table import Table

WIDTH = 110
"""Columns, where the output is no terminal."""
HOT_SPOTS = 20
MOST_SPOTS = 1 << 16
"""Instructions that are kept apart; a guest may have any number."""
MICROSECONDS = REFERENCE_HZ / 1e6
PERCENTILES = (0.5, 0.9, 0.99)


class ChannelKey(NamedTuple):
    """A channel, by what people know it by."""

    device: str
    channel: int


class Flow:
    """What passed in one direction of a channel; `bytes` counts payloads and the memory that they name."""

    __slots__ = ("bytes", "packets", "signals")

    def __init__(self) -> None:
        self.packets = self.bytes = self.signals = 0


class Figures(Counts):
    """`add` every event; `decoder` takes them apart, and notes them."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self._decoder = decoder
        self.first = self.last = self.span = 0
        self.events = self.lost = 0
        self.spots: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])  # count, ns
        self.failed_calls: Counter[tuple[str, str]] = Counter()
        self.flows: defaultdict[ChannelKey, tuple[Flow, Flow]] = defaultdict(lambda: (Flow(), Flow()))
        self.requests: defaultdict[tuple[str, str], Latencies] = defaultdict(Latencies)
        self.frames: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        """By adapter: frames and bytes sent, frames and bytes received."""
        self.violations: Counter[str] = Counter()
        self.counters |= {
            VmExit: self._spot,
            Hypercall: self._call,
            RingPacket: self._packet,
            EventSignal: self._signal,
            DeviceMessage: self._answer,
            NetworkFrame: self._frame,
            Violation: self._violation,
        }

    @property
    def points(self) -> frozenset[str]:
        """The points of the tap that this needs."""
        return frozenset(kind.POINT for kind in self.counters) | {ChannelState.POINT}

    @property
    def seconds(self) -> float:
        """The partition's time from the first event to the last, without what a restart takes."""
        return (self.span + self.last - self.first) / REFERENCE_HZ

    def add(self, event: Event) -> None:
        """Count an event."""
        self._decoder.note(event)
        if not event.sequence:
            return
        self.events += 1
        if self.events == 1:
            self.first = self.last = event.time
        elif event.time < self.last - REFERENCE_HZ:  # it was restarted
            self.span += self.last - self.first
            self.first = self.last = event.time
        self.first = min(self.first, event.time)  # an exit passes after what it caused, and began before that
        self.last = max(self.last, event.time)
        count = self.counters.get(type(event))
        if count is not None:
            count(event)

    def _spot(self, event: VmExit) -> None:
        self._exit(event)
        key = event.rip, event.reason
        if key in self.spots or len(self.spots) < MOST_SPOTS:
            entry = self.spots[key]
            entry[0] += 1
            entry[1] += event.ns

    def _call(self, event: Hypercall) -> None:
        self._hypercall(event)
        if event.status != "SUCCESS":
            self.failed_calls[event.name, event.status] += 1
        channel = self._decoder.channel(event)
        if channel is not None and event.name == "HvCallSignalEvent":
            self.flows[ChannelKey(channel.device, channel.channel)][0].signals += 1

    def _packet(self, event: RingPacket) -> None:
        flow = self.flows[ChannelKey(event.device, event.channel)][event.to_guest]
        flow.packets += 1
        flow.bytes += len(event.payload) + sum(event.ranges)
        if event.kind == COMPLETION and event.to_guest:
            self._answer(event)

    def _answer(self, event: RingPacket | DeviceMessage) -> None:
        request = self._decoder.request(event)
        if request is not None:
            self.requests[event.device, name_of(request)].add(max(event.time - request.time, 0))

    def _signal(self, event: EventSignal) -> None:
        channel = self._decoder.channel(event)
        if channel is not None:
            self.flows[ChannelKey(channel.device, channel.channel)][1].signals += 1

    def _frame(self, event: NetworkFrame) -> None:
        entry = self.frames[event.adapter]
        place = 2 * event.to_guest
        entry[place] += 1
        entry[place + 1] += len(event.data)

    def _violation(self, event: Violation) -> None:
        self.violations[event.device] += 1

    # ------------------------------------------------------------ told

    def hot_spots(self) -> list[tuple[int, str, int, int]]:
        """Instructions that exits took most time of: RIP, reason, count, ns."""
        found = sorted(self.spots.items(), key=lambda item: -item[1][1])[:HOT_SPOTS]
        return [(rip, reason, count, ns) for (rip, reason), (count, ns) in found]

    def as_object(self) -> dict[str, Any]:
        """Everything as plain data; times in seconds."""
        return {
            "seconds": self.seconds,
            "events": self.events,
            "lost": self.lost,
            **self.as_dict(),
            "hot_spots": [
                {"rip": f"{rip:#x}", "reason": reason, "count": count, "seconds": ns / 1e9}
                for rip, reason, count, ns in self.hot_spots()
            ],
            "failed_hypercalls": [
                {"name": name, "status": status, "count": n}
                for (name, status), n in self.failed_calls.items()
            ],
            "channels": [self._channel_object(key) for key in sorted(self.flows)],
            "requests": [
                {"device": device, "request": name, **_times(found)}
                for (device, name), found in sorted(self.requests.items())
            ],
            "frames": {
                adapter: dict(zip(("sent", "sent_bytes", "received", "received_bytes"), counts, strict=True))
                for adapter, counts in self.frames.items()
            },
            "violations": self.violations,
        }

    def _channel_object(self, key: ChannelKey) -> dict[str, Any]:
        found: dict[str, Any] = {"device": key.device, "channel": key.channel}
        for name, flow in zip(("to_host", "to_guest"), self.flows[key], strict=True):
            found[name] = {"packets": flow.packets, "bytes": flow.bytes, "signals": flow.signals}
            found[name]["packets_per_signal"] = _ratio(flow.packets, flow.signals)
        return found

    def as_json(self, *, indent: int | None = 2) -> str:
        """The same as text."""
        return json.dumps(self.as_object(), indent=indent)

    def show(self, file: TextIO) -> None:
        """Tables for a person; colours only where `file` is a terminal."""
        from rich.console import Console

        console = Console(file=file, width=None if file.isatty() else WIDTH, highlight=False)
        lost = f", {self.lost} more were lost" if self.lost else ""
        console.print(f"{self.events} events in {self.seconds:.3f} s of the guest's time{lost}")
        for title, made in self._tables():
            if made.row_count:
                console.print(f"\n[bold]{title}[/bold]")
                console.print(made)

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield from self.tables(self.seconds)
        spots = (
            (f"{rip:#x}", reason, count, f"{ns / 1000 / count:.2f}", f"{ns / 1e6:.1f}")
            for rip, reason, count, ns in self.hot_spots()
        )
        yield "Where exits come from", table(("rip", "reason", "count", "mean µs", "total ms"), spots)
        failed = ((name, status, n) for (name, status), n in most(self.failed_calls))
        yield "Hypercalls that failed", table(("name", "reason", "count"), failed)
        side = ("a second", "KiB/s", "a signal")
        columns: tuple[str, ...] = ("channel", "to host", *side, "to guest", *side)
        yield "Channels", table(columns, map(self._channel_row, sorted(self.flows)))
        columns = (
            "device",
            "request",
            "count",
            *(f"p{share * 100:g} µs" for share in PERCENTILES),
            "most µs",
        )
        yield "From request to completion", table(columns, self._request_rows())
        columns = ("adapter", "sent", "KiB", "received", "KiB")
        frames = (
            (name, sent, sent_bytes >> 10, received, received_bytes >> 10)
            for name, (sent, sent_bytes, received, received_bytes) in sorted(self.frames.items())
        )
        yield "Frames, seen from the guest", table(columns, frames)
        yield "Violations", table(("device", "count"), most(self.violations))

    def _channel_row(self, key: ChannelKey) -> tuple[object, ...]:
        row: list[object] = [key.device + (f" {key.channel}" if key.channel else "")]
        for flow in self.flows[key]:
            ratio = _ratio(flow.packets, flow.signals)
            rate, volume = (_ratio(one, self.seconds) or 0.0 for one in (flow.packets, flow.bytes / 1024))
            row += [flow.packets, f"{rate:.1f}", f"{volume:.1f}", "-" if ratio is None else f"{ratio:.1f}"]
        return tuple(row)

    def _request_rows(self) -> Iterator[tuple[object, ...]]:
        for (device, name), found in sorted(self.requests.items()):
            times = [found.percentile(share) for share in PERCENTILES]
            yield device, name, found.count, *(f"{one / MICROSECONDS:.1f}" for one in (*times, found.most))


def name_of(request: RingPacket | DeviceMessage) -> str:
    """What a request is called: its innermost message."""
    if isinstance(request, DeviceMessage):
        protocol, without = PROTOCOLS.get(request.protocol), request.protocol
    else:
        protocol, without = BY_INTERFACE.get(request.interface), f"type {request.kind}"
    if protocol is None:
        return without
    *_, last = flat([dissect(protocol, request.payload, to_guest=request.to_guest)])
    return last.message or without


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 3) if whole else None


def _times(found: Latencies) -> dict[str, Any]:
    times = {f"p{share * 100:g}": found.percentile(share) / REFERENCE_HZ for share in PERCENTILES}
    total = found.total / REFERENCE_HZ
    return {"count": found.count, "seconds": total, **times, "most": found.most / REFERENCE_HZ}

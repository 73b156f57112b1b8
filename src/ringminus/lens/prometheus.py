"""Figures in Prometheus's text format, version 0.0.4 (prometheus.io/docs: exposition formats)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.figures import PERCENTILES, Figures

Labels = Mapping[str, object]
Samples = Iterable[tuple[Labels, float]]
SIDES = ("to_host", "to_guest")


def as_prometheus(figures: Figures, guest: str) -> str:
    """All figures, each with the guest's name as a label."""
    made = _Text(guest)
    made.add("events_total", "counter", "Events that were counted.", [({}, figures.events)])
    made.add("events_lost_total", "counter", "Events that were lost.", [({}, figures.lost)])
    made.add("guest_seconds_total", "counter", "The guest's time.", [({}, figures.seconds)])
    exits = sorted(figures.exits.items())
    made.add("exits_total", "counter", "VM exits.", [({"reason": r}, n) for r, (n, _) in exits])
    spent = [({"reason": r}, ns / 1e9) for r, (_, ns) in exits]
    made.add("exit_seconds_total", "counter", "Time that answering exits took on the host.", spent)
    _hot_spots(made, figures)
    calls = [({"name": name}, n) for name, n in sorted(figures.hypercalls.items())]
    made.add("hypercalls_total", "counter", "Hypercalls.", calls)
    failed = [({"name": name, "status": s}, n) for (name, s), n in sorted(figures.failed_calls.items())]
    made.add("hypercalls_failed_total", "counter", "Hypercalls that did not succeed.", failed)
    msrs = [
        ({"name": name, "access": access}, n)
        for name, counts in sorted(figures.msrs.items())
        for access, n in zip(("read", "write"), counts, strict=True)
    ]
    made.add("msr_accesses_total", "counter", "Intercepted accesses to MSRs.", msrs)
    interrupts = [({"vector": f"{v:#x}", "source": s}, n) for (v, s), n in sorted(figures.interrupts.items())]
    made.add("interrupts_total", "counter", "Interrupts that were requested.", interrupts)
    timers = [({"name": name}, n) for name, n in sorted(figures.timers.items())]
    made.add("timers_total", "counter", "Timers that fired.", timers)
    _channels(made, figures)
    _requests(made, figures)
    _frames(made, figures)
    violations = [({"device": device}, n) for device, n in sorted(figures.violations.items())]
    made.add("violations_total", "counter", "Times that the guest broke a protocol.", violations)
    return made.text


def _hot_spots(made: _Text, figures: Figures) -> None:
    """As many as in the table: a guest may have any number, and each would be a series."""
    spots = [({"rip": f"{rip:#x}", "reason": reason}, n, ns) for rip, reason, n, ns in figures.hot_spots()]
    about = "of the instructions that exits took most time of."
    made.add("hot_spot_exits_total", "counter", f"VM exits {about}", [(one, n) for one, n, _ in spots])
    times = [(one, ns / 1e9) for one, _, ns in spots]
    made.add("hot_spot_seconds_total", "counter", f"Time that answering took {about}", times)


def _frames(made: _Text, figures: Figures) -> None:
    adapters = sorted(figures.frames.items())
    for name, about, first in (("frames", "Ethernet frames.", 0), ("frame_bytes", "Bytes of frames.", 1)):
        samples = [
            ({"adapter": adapter, "direction": side}, counts[first + place])
            for adapter, counts in adapters
            for place, side in ((0, "from_guest"), (2, "to_guest"))
        ]
        made.add(f"{name}_total", "counter", about, samples)


def _channels(made: _Text, figures: Figures) -> None:
    for name, about in (
        ("packets", "Packets in rings."),
        ("bytes", "Bytes of packets, with the memory that they name."),
        ("signals", "Signals."),
    ):
        samples = [
            ({"device": key.device, "channel": key.channel, "direction": side}, float(getattr(flow, name)))
            for key, flows in sorted(figures.flows.items())
            for side, flow in zip(SIDES, flows, strict=True)
        ]
        made.add(f"channel_{name}_total", "counter", about, samples)


def _requests(made: _Text, figures: Figures) -> None:
    name = "request_seconds"
    made.head(name, "summary", "From a request in the ring to its completion.")
    for (device, request), found in sorted(figures.requests.items()):
        labels: Labels = {"device": device, "request": request}
        for share in PERCENTILES:
            made.sample(name, {**labels, "quantile": share}, found.percentile(share) / REFERENCE_HZ)
        made.sample(f"{name}_sum", labels, found.total / REFERENCE_HZ)
        made.sample(f"{name}_count", labels, found.count)


class _Text:
    def __init__(self, guest: str) -> None:
        self._guest = guest
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def head(self, name: str, kind: str, about: str) -> None:
        self._lines += [f"# HELP ringminus_{name} {about}", f"# TYPE ringminus_{name} {kind}"]

    def sample(self, name: str, labels: Labels, value: float) -> None:
        all_labels = {"guest": self._guest, **labels} if self._guest else labels
        inside = ",".join(f'{key}="{_escaped(str(one))}"' for key, one in all_labels.items())
        self._lines.append(f"ringminus_{name}{'{' + inside + '}' if inside else ''} {value:.10g}")

    def add(self, name: str, kind: str, about: str, samples: Samples) -> None:
        self.head(name, kind, about)
        for labels, value in samples:
            self.sample(name, labels, value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

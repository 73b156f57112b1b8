"""What one frame costs in the switch alone: from an endpoint's `send` to the other's `deliver`, which does
nothing.

python bench/switch.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ringminus.clock import MockClock, TimerQueue
from ringminus.switch.frame import Frame
from ringminus.switch.port import BROADCAST, PortSettings
from ringminus.switch.switch import Switch, SwitchPort
from support.endpoints import RecordingEndpoint, access, frame, mac, trunk
from support.ip_packets import ipv4, udp

COUNT, ROUNDS, BATCH = 20_000, 5, 64
GIGABIT = 10**9


class Sink(RecordingEndpoint):
    """Counts frames."""

    count = 0

    def deliver(self, frame: Frame) -> None:
        self.count += 1


def lan(*settings: PortSettings) -> tuple[list[Sink], list[SwitchPort], MockClock]:
    """Ports whose addresses, mac(1) and so on, are all known."""
    clock, sinks = MockClock(), []
    switch = Switch("bench", clock, TimerQueue())
    for one in settings:
        sinks.append(Sink())
        switch.plug(sinks[-1], one)
    for number, port in enumerate(switch.ports(), 1):
        port.send(frame(BROADCAST, mac(number), tci=5 if port.settings.vlan.trunk else None))
    return sinks, list(switch.ports()), clock


def seconds(settings: list[PortSettings], sent: Frame, receivers: int = 1) -> float:
    """The best time of one frame from the first port."""
    sinks, ports, clock = lan(*settings)
    send, flush, best = ports[0].send, ports[0].flush, 1.0
    before = sum(sink.count for sink in sinks)
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(COUNT // BATCH):
            for _ in range(BATCH):
                send(sent)
            flush()
            clock.advance(10_000)
        best = min(best, (time.perf_counter() - started) / (COUNT // BATCH * BATCH))
    assert sum(sink.count for sink in sinks) - before == COUNT // BATCH * BATCH * ROUNDS * receivers
    return best


def secured(number: int) -> PortSettings:
    return PortSettings(address=mac(number))


def main() -> None:
    payload = bytes(1000)
    known = frame(mac(2), mac(1), payload)
    datagram = Frame(ipv4(udp(1024, 53, payload), 17))
    guarded = PortSettings(address=mac(1), dhcp_guard=True, router_guard=True)
    limited = PortSettings(address=mac(1), limit=100 * GIGABIT)
    source, tap = PortSettings(mirror="source"), PortSettings(mirror="destination")
    rows: list[tuple[str, list[PortSettings], Frame, int]] = [
        ("known, secured ports", [secured(1), secured(2)], known, 1),
        ("known, learning ports", [PortSettings(), PortSettings()], known, 1),
        ("known, access to trunk", [PortSettings(vlan=access(5)), PortSettings(vlan=trunk(5))], known, 1),
        ("known, both guards, UDP", [guarded, secured(2)], datagram, 1),
        ("known, bandwidth limit", [limited, secured(2)], known, 1),
        ("known, mirrored", [source, PortSettings(), tap], known, 2),
        ("broadcast to 16", [PortSettings() for _ in range(17)], frame(BROADCAST, mac(1), payload), 16),
    ]
    print(f"{'one frame':<28}{'µs':>8}")
    for name, settings, sent, receivers in rows:
        print(f"{name:<28}{seconds(settings, sent, receivers) * 1e6:>8.2f}")


if __name__ == "__main__":
    main()

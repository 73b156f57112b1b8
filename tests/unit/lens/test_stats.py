"""Statistics count the events of a tap, and tell them to people and to programs."""

from __future__ import annotations

import io
import json

import pytest

from ringminus.lens.stats import ChannelRow, NicRow, Statistics, exception
from ringminus.tap import Hypercall, Interrupt, MsrAccess, PortIo, Tap, TimerExpired, VmExit


def channel(version: str = "5.3", failed: int = 0) -> ChannelRow:
    return ChannelRow("Echo", "8f0e7c5a", 0, version, 1, failed, 10, 20, 300, 400, 5, 6, 70_000)


def nic(**dropped: int) -> NicRow:
    return NicRow("NIC 0", "00:15:5d:00:00:01", "nat", 10, 2000, 30, 4000, dict(dropped))


def tell(tap: Tap, event: object, times: int = 1) -> None:
    """Pass an event, as the hypervisor does."""
    point = getattr(tap, type(event).POINT)  # type: ignore[attr-defined]
    for _ in range(times):
        point(event)


@pytest.fixture
def statistics() -> Statistics:
    tap = Tap()
    made = Statistics(tap)
    tell(tap, VmExit(0, 0, "wrmsr", 0x1000, 0x40000070, 2000), 3)
    tell(tap, VmExit(0, 0, "cpuid", 0x1000, 1, 500))
    tell(tap, MsrAccess(0, 0, 0x40000070, "HV_X64_MSR_EOI", True, 0, False), 3)
    tell(tap, MsrAccess(0, 0, 0x40000070, "HV_X64_MSR_EOI", False, 0, True))
    tell(tap, Hypercall(0, 0, 0x5C, "HvCallPostMessage", 0x5C, 0, 0, 0, "SUCCESS", ""), 2)
    tell(tap, Interrupt(0, 0, 0xED, "stimer0"), 5)
    tell(tap, Interrupt(0, 0, 0xED, "ioapic"), 1)
    tell(tap, TimerExpired(0, 0, "stimer0", 0), 5)
    counters = {"exceptions": {14: 7, 0x80: 1}, "system_calls": 9}
    made.add_run(0.002, [4000], counters, [channel()], [nic(vlan=2)])
    return made


def test_json_has_every_count(statistics: Statistics) -> None:
    assert json.loads(statistics.as_json()) == {
        "seconds": 0.002,
        "idle_seconds": 0.0004,
        "exits": {"wrmsr": {"count": 3, "seconds": 6e-6}, "cpuid": {"count": 1, "seconds": 5e-7}},
        "msrs": {"HV_X64_MSR_EOI": {"reads": 1, "writes": 3}},
        "hypercalls": {"HvCallPostMessage": 2},
        "interrupts": [
            {"vector": 0xED, "source": "stimer0", "count": 5},
            {"vector": 0xED, "source": "ioapic", "count": 1},
        ],
        "timers": {"stimer0": 5},
        "exceptions": {"#PF": 7, "INT 0x80": 1},
        "system_calls": 9,
        "channels": [
            {
                "device": "Echo",
                "instance": "8f0e7c5a",
                "index": 0,
                "version": "5.3",
                "opened": 1,
                "failed": 0,
                "packets_in": 10,
                "packets_out": 20,
                "bytes_in": 300,
                "bytes_out": 400,
                "signals_in": 5,
                "signals_out": 6,
                "ns": 70_000,
            }
        ],
        "network": [
            {
                "device": "NIC 0",
                "address": "00:15:5d:00:00:01",
                "to": "nat",
                "sent_frames": 10,
                "sent_bytes": 2000,
                "received_frames": 30,
                "received_bytes": 4000,
                "dropped": {"vlan": 2},
            }
        ],
    }


def test_channels_add_up_over_restarts_of_the_guest(statistics: Statistics) -> None:
    nothing: dict[str, object] = {"exceptions": {}, "system_calls": 0}
    statistics.add_run(1.0, [], nothing, [channel("", failed=1)])
    (row,) = json.loads(statistics.as_json())["channels"]
    assert (row["version"], row["opened"], row["failed"]) == ("5.3", 2, 1)
    assert (row["packets_in"], row["packets_out"], row["bytes_in"], row["ns"]) == (20, 40, 600, 140_000)
    out = io.StringIO()
    statistics.show(out)
    assert "Echo (failed)" in out.getvalue() and "7.0" in out.getvalue()  # us for each of 20 packets


def test_so_does_the_network(statistics: Statistics) -> None:
    nothing: dict[str, object] = {"exceptions": {}, "system_calls": 0}
    statistics.add_run(1.0, [], nothing, [], [nic(vlan=1, limit=5)])
    (row,) = json.loads(statistics.as_json())["network"]
    assert (row["sent_frames"], row["sent_bytes"]) == (20, 4000)
    assert (row["received_frames"], row["received_bytes"]) == (60, 8000)
    assert row["dropped"] == {"vlan": 3, "limit": 5}
    out = io.StringIO()
    statistics.show(out)
    assert "NIC 0    00:15:5d:00:00:01  nat" in out.getvalue() and "5 limit, 3 vlan" in out.getvalue()


def test_runs_add_up(statistics: Statistics) -> None:
    statistics.add_run(1.0, [10_000_000, 10_000_000], {"exceptions": {14: 1}, "system_calls": 1})
    data = json.loads(statistics.as_json())
    assert data["seconds"] == pytest.approx(1.002)
    assert data["idle_seconds"] == pytest.approx(2.0004)
    assert (data["exceptions"]["#PF"], data["system_calls"]) == (8, 10)


def test_tables_have_count_mean_total_and_share(statistics: Statistics) -> None:
    text = io.StringIO()
    statistics.show(text)
    rows = [line.split() for line in text.getvalue().splitlines()]
    assert ["wrmsr", "3", "2.00", "0.0", "0.30", "%"] in rows
    assert ["cpuid", "1", "0.50", "0.0", "0.03", "%"] in rows
    assert ["HV_X64_MSR_EOI", "1", "3"] in rows
    assert ["0xed", "stimer0", "5"] in rows
    assert ["#PF", "7"] in rows
    assert ["SYSCALL", "9"] in rows
    assert "\x1b" not in text.getvalue()


def test_a_guest_that_did_nothing_can_be_shown() -> None:
    statistics, text = Statistics(Tap()), io.StringIO()
    statistics.show(text)
    assert text.getvalue().strip() == "ran for 0.000 s, 0.000 s of them idle"
    assert json.loads(statistics.as_json())["exits"] == {}


def test_only_what_is_counted_is_listened_to() -> None:
    tap = Tap()
    Statistics(tap)
    assert tap.exits is not None
    assert getattr(tap, PortIo.POINT) is None
    assert tap.mmio is None


def test_exceptions_have_names() -> None:
    assert [exception(v) for v in (0, 13, 14, 0x80)] == ["#DE", "#GP", "#PF", "INT 0x80"]

"""Statistics count the events of a tap, and tell them to people and to programs."""

from __future__ import annotations

import io
import json

import pytest

from ringminus.lens.stats import Statistics, exception
from ringminus.tap import Hypercall, Interrupt, MsrAccess, PortIo, Tap, TimerExpired, VmExit


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
    made.add_run(0.002, [4000], {"exceptions": {14: 7, 0x80: 1}, "system_calls": 9})
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
    }


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

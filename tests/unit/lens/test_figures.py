"""Figures count what crosses the boundary, and how long requests take."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.decode import Decoder
from ringminus.lens.figures import MOST_SPOTS, PERCENTILES, Figures
from ringminus.lens.latency import Latencies
from ringminus.lens.prometheus import as_prometheus
from ringminus.tap import EVENTS, DeviceMessage, Event, Hypercall, NetworkFrame, RingPacket, Violation, VmExit
from support.bus_bed import Bed, echo


def counted(*events: Event) -> Figures:
    figures = Figures(Decoder())
    for number, one in enumerate(events, 1):
        one.sequence = one.sequence or number
        figures.add(one)
    return figures


def packet(time: int, number: int, *, to_guest: bool, cause: int = 0) -> RingPacket:
    kind = 11 if to_guest else 6
    return RingPacket(time, 0, 3, "NIC 0", to_guest, kind, 7, bytes(10), (), sequence=number, cause=cause)


@pytest.fixture
def traffic() -> Figures:
    """What a real bus tells of three requests that are answered at once, the bus being told first."""
    bed = Bed()
    bed.device.answer = echo
    figures = Figures(Decoder())
    for kind in EVENTS:
        bed.guest.partition.tap.listen(kind, figures.add)
    channel = bed.open()
    for _ in range(3):
        channel.send(b"hello", 7, wants_completion=True)
    return figures


def test_a_channel_has_packets_bytes_and_signals_each_way(traffic: Figures) -> None:
    (channel,) = traffic.as_object()["channels"]
    to_host, to_guest = channel["to_host"], channel["to_guest"]
    assert channel["device"] == "recorder"
    assert (to_host["packets"], to_guest["packets"]) == (3, 3)
    assert to_host["bytes"] == to_guest["bytes"] == 3 * 8  # padded to 8
    assert (to_host["signals"], to_guest["signals"]) == (3, 1)  # the guest has read none yet
    assert (to_host["packets_per_signal"], to_guest["packets_per_signal"]) == (1, 3)


def test_requests_are_timed_until_they_are_completed() -> None:
    figures = counted(
        packet(1000, 1, to_guest=False),
        packet(1000, 2, to_guest=False),
        packet(1600, 3, to_guest=True, cause=1),
        packet(2000, 4, to_guest=True, cause=2),
        packet(9999, 5, to_guest=True, cause=77),
    )
    (found,) = figures.as_object()["requests"]
    assert found["device"] == "NIC 0"
    assert (found["request"], found["count"]) == ("type 6", 2)
    assert found["most"] == pytest.approx(100e-6)
    assert found["seconds"] == pytest.approx(160e-6)
    assert found["p50"] == pytest.approx(60e-6, rel=0.04)
    assert found["p99"] == pytest.approx(100e-6, rel=0.04)


def test_instructions_are_ranked_by_what_their_exits_took() -> None:
    figures = counted(
        VmExit(0, 0, "cpuid", 0x10, 0, 100),
        VmExit(0, 0, "cpuid", 0x10, 1, 50),
        VmExit(0, 0, "msr", 0x20, 0, 900),
    )
    assert figures.hot_spots() == [(0x20, "msr", 1, 900), (0x10, "cpuid", 2, 150)]


def test_a_guest_that_jumps_about_does_not_fill_our_memory() -> None:
    figures = Figures(Decoder())
    for number in range(MOST_SPOTS + 100):
        figures.add(VmExit(0, 0, "cpuid", number, 0, 1, sequence=number + 1))
    assert len(figures.spots) == MOST_SPOTS
    assert figures.exits["cpuid"][0] == MOST_SPOTS + 100


def test_the_guests_time_goes_on_over_a_restart() -> None:
    second = 10_000_000
    figures = counted(*(VmExit(time * second, 0, "cpuid", 1, 0, 1) for time in (5, 8, 0, 2)))
    assert figures.seconds == 5


def test_what_a_watcher_is_told_of_before_is_not_counted() -> None:
    figures = Figures(Decoder())
    figures.add(VmExit(0, 0, "cpuid", 1, 0, 1))
    assert figures.events == 0


def many() -> Figures:
    figures = counted(
        VmExit(0, 0, "cpuid", 0x10, 0, 100),
        Hypercall(0, 0, 0x5D, "HvCallSignalEvent", 0x1005D, 0x2003, 0, 0, "INVALID_PORT_ID", "", bytes(8)),
        packet(1000, 3, to_guest=False),
        packet(2000, 4, to_guest=True, cause=3),
        NetworkFrame(3000, 0, 'N"IC\\', False, bytes(60), None, "VALID", 0),
        NetworkFrame(3000, 0, 'N"IC\\', True, bytes(100), None, "VALID", 0),
        DeviceMessage(3000, 0, "NIC 0", "dreams", False, b"", 0),
        Violation(10_000_000, 0, 3, 'N"IC\\', "it lied"),
    )
    figures.lost = 2
    return figures


def test_the_time_begins_with_what_began_first() -> None:
    """An exit passes after what it caused, and began before that."""
    figures = counted(
        packet(1010, 2, to_guest=False), VmExit(1000, 0, "cpuid", 0x10, 0, 9), packet(2000, 3, to_guest=False)
    )
    assert figures.seconds == pytest.approx(100e-6)


def test_figures_are_json_tables_and_prometheus_text() -> None:
    figures = many()
    found = json.loads(figures.as_json())
    assert found["hypercalls"] == {"HvCallSignalEvent": 1}
    assert found["failed_hypercalls"] == [
        {"name": "HvCallSignalEvent", "status": "INVALID_PORT_ID", "count": 1}
    ]
    assert found["frames"] == {'N"IC\\': {"sent": 1, "sent_bytes": 60, "received": 1, "received_bytes": 100}}
    assert (found["events"], found["lost"], found["seconds"]) == (8, 2, 1)
    text = io.StringIO()
    figures.show(text)
    for words in ("8 events in 1.000 s", "2 more were lost", "0x10", "p99 µs", "INVALID_PORT_ID", "100.0"):
        assert words in text.getvalue()
    shown = as_prometheus(figures, "box")
    assert 'ringminus_exits_total{guest="box",reason="cpuid"} 1\n' in shown
    assert 'ringminus_violations_total{guest="box",device="N\\"IC\\\\"} 1\n' in shown
    assert 'ringminus_request_seconds_count{guest="box",device="NIC 0",request="type 6"} 1\n' in shown
    assert 'ringminus_hot_spot_exits_total{guest="box",rip="0x10",reason="cpuid"} 1\n' in shown
    assert 'ringminus_frame_bytes_total{guest="box",adapter="N\\"IC\\\\",direction="to_guest"} 100\n' in shown


def test_prometheus_text_has_the_form_that_it_must_have() -> None:
    label = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
    sample = re.compile(rf"ringminus_[a-z_]+(\{{{label}(,{label})*\}})? -?[0-9.e+-]+")
    described: set[str] = set()
    for line in as_prometheus(many(), "box").splitlines():
        if line.startswith("# "):
            described.add(line.split()[2])
        else:
            assert sample.fullmatch(line), line
            name = re.match(r"\w+", line)
            assert name is not None
            assert name.group() in described or re.sub(r"_(sum|count)$", "", name.group()) in described


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_percentiles_are_at_most_three_per_cent_too_large(values: list[int]) -> None:
    found = Latencies()
    for one in values:
        found.add(one)
    ordered = sorted(values)
    for share in PERCENTILES:
        exact = ordered[max(-(-int(share * 1000) * len(ordered) // 1000) - 1, 0)]
        assert exact <= found.percentile(share) <= exact * 1.032
    assert (found.count, found.total, found.most) == (len(values), sum(values), max(values))
    assert len(found._buckets) < 1000


def test_no_times_have_no_percentiles() -> None:
    assert Latencies().percentile(0.99) == 0

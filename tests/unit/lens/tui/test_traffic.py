"""Counts and rates, and how they are drawn."""

from __future__ import annotations

import pytest

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.tui.panes import amount, gauge, plain, sparkline
from ringminus.lens.tui.traffic import MOST_SLOTS, Series, Traffic
from ringminus.tap import NetworkFrame, RingPacket, VmExit
from support.lens_events import opened, requests


def test_exits_and_packets_are_counted() -> None:
    traffic = Traffic()
    for event in requests(10):
        traffic.see(event)
    assert traffic.exits == {"hypercall": [10, 50_000]}
    (row,) = traffic.channels.values()
    assert (row.device, row.packets, row.open) == ("SCSI 0", [10, 10], True)
    assert row.rings == (128 << 10, 128 << 10)


def test_rates_are_per_second_of_the_partitions_time() -> None:
    series: Series[str] = Series()
    for tenth in range(100):
        for _ in range(3 if tenth < 50 else 6):
            series.add(tenth * REFERENCE_HZ // 10, "exit", 1)
    assert series.shape(10).rates("exit") == [30.0] * 5 + [60.0] * 5
    assert series.shape(4, 4 * REFERENCE_HZ).rates("exit") == [60.0] * 4
    assert series.shape(10).rates("other") == [0.0] * 10


def test_whatever_times_a_file_has_there_are_few_slots() -> None:
    traffic = Traffic()
    for number in range(3 * MOST_SLOTS):
        traffic.see(VmExit(number * REFERENCE_HZ, 0, "halt", 0, 0, 0))
    traffic.see(VmExit(1 << 63, 0, "halt", 0, 0, 0))
    traffic.see(VmExit(-(1 << 62), 0, "halt", 0, 0, 0))
    assert len(traffic.exit_rates._slots) <= MOST_SLOTS
    shape = traffic.exit_rates.shape(20)
    rates = shape.rates("halt")
    assert len(rates) <= 20
    assert sum(rates) * shape.width / REFERENCE_HZ == pytest.approx(3 * MOST_SLOTS + 2)


def test_of_an_adapter_the_bytes_of_its_frames_are_counted() -> None:
    traffic = Traffic()
    told = RingPacket(1, 0, 3, "NIC 0", True, 7, 1, bytes(40), ())
    frame = NetworkFrame(2, 0, "NIC 0", True, bytes(1514), None, "VALID", 0)
    for event in (opened(device="NIC 0"), told, frame):
        traffic.see(event)
    traffic.see(NetworkFrame(2, 0, "NIC 9", True, bytes(9), None, "VALID", 0))
    (row,) = traffic.channels.values()
    assert row.packets == [0, 1]
    assert row.amount == 1514


def test_sparklines_show_the_highest_full_and_the_lowest_at_all() -> None:
    assert sparkline([0, 1, 50, 100]) == " ▁▄█"
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "  "


@pytest.mark.parametrize(
    ("used", "size", "text"),
    [
        (0, 100, "▕        ▏  0%"),
        (1, 10_000, "▕▏       ▏ <1%"),
        (50, 100, "▕████    ▏ 50%"),
        (9_999, 10_000, "▕███████▉▏ 99%"),
        (100, 100, "▕████████▏100%"),
        (500, 100, "▕████████▏100%"),
        (5, 0, "▕▏       ▏  0%"),
    ],
)
def test_gauges_show_how_full_a_ring_is(used: int, size: int, text: str) -> None:
    assert gauge(used, size).plain == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.25, "0.2"), (57.4, "57.4"), (9999, "9999"), (12_345, "12.3k"), (5e9, "5000M")],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert amount(number) == text


def test_names_of_the_guests_do_not_move_the_cursor() -> None:
    assert (
        plain("\x1b[2J\rNIC\n").plain
        == "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}NIC\N{REPLACEMENT CHARACTER}"
    )

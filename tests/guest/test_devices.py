"""A synthetic device in Python, and a real guest that talks to it through Linux's uio_hv_generic.

The device is `support/exchange.py`, the guest's side the program `programs/uio_ring`: each verifies all that
the other sends. What must hold on the way is asserted by both, and by the guest's own counters in sysfs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.command import Run, RunGuest
from support.exchange import Exchange

DEVICE = Path(__file__).parents[1] / "support" / "exchange.py"
BIND = f"echo {Exchange.interface} > /sys/bus/vmbus/drivers/uio_hv_generic/new_id"
TROUBLE = re.compile(r"WARNING:|BUG:|Oops|Call Trace|hung task|soft lockup|unable to handle", re.I)
RING_DATA = 64 << 10  # what uio_hv_generic gives each direction for a device that Linux does not know
SYSFS = "/sys/class/uio/uio0/device"

# kind, packets, smallest and largest content: each kind wraps both rings many times
TRAFFIC = (
    ("echo", 4000, 0, 3000),
    ("echo", 100, 30_000, 60_000),
    ("direct", 1000, 0, 9000),
    ("receive", 4000, 0, 3000),
    ("asked", 3000, 0, 3000),
    ("transfer", 2000, 0, 30_000),
    ("transfer-out", 1000, 0, 30_000),
)


@dataclass(frozen=True)
class Session:
    """One boot with two devices on the bus: what the guest printed, and what we counted."""

    output: str
    channels: dict[str, dict[str, Any]]

    def found(self, pattern: str) -> Iterator[list[int]]:
        """The numbers of each line that matches as a whole."""
        for line in re.finditer(rf"^{pattern}\r?$", self.output, re.M):
            yield [int(number, 0) for number in line.groups()]


def session(run: RunGuest, script: str) -> Session:
    """Run a script in a guest with an `Exchange` (uio0) and an `Other` (uio1)."""
    devices = (f"{DEVICE}:Exchange", f"{DEVICE}:Other")
    options = [word for device in devices for word in ("--device", device)]
    script = f"({BIND}\n{script}\n)\nstatus=$?\ndmesg | grep -E 'WARNING|BUG|Call Trace'\nexit $status"
    ended: Run = run(*options, "--stats", "--json", script=script, words="quiet")
    assert ended.status == 0, ended.errors[-2000:] + ended.output[-2000:]
    assert not TROUBLE.search(ended.output)
    assert "the script ended with status 0" in ended.output, ended.output[-2000:]
    rows = json.loads(ended.errors)["channels"]
    return Session(ended.output, {row["device"]: row for row in rows})


# ---------------------------------------------------------------- traffic


@pytest.fixture(scope="module")
def traffic(run_program_guest: RunGuest) -> Session:
    lines = [
        "set -e",
        *(f"uio_ring /dev/uio0 {' '.join(map(str, one))}" for one in TRAFFIC),
        f"for name in $(ls {SYSFS}/channels/*/ | grep -v ring); do",
        f"echo sysfs $name $(cat {SYSFS}/channels/*/$name); done",
        f"echo connection $(cat {SYSFS}/client_monitor_conn_id)",
    ]
    return session(run_program_guest, "\n".join(lines))


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in TRAFFIC}))
def test_every_kind_of_packet_arrives_whole(traffic: Session, kind: str) -> None:
    done = [numbers[0] for numbers in traffic.found(rf"{kind}: (\d+) (?:done, \d+ bytes|packets)")]
    wanted = [count for one, count, *_ in TRAFFIC if one == kind]
    # what the host sends is asked for by one request
    assert sorted(done) == sorted(wanted if kind in ("echo", "direct", "transfer-out") else [1, *wanted])


def test_rings_wrapped_in_both_directions(traffic: Session) -> None:
    row = traffic.channels["Exchange"]
    assert row["bytes_in"] > 50 * RING_DATA and row["bytes_out"] > 50 * RING_DATA


def test_both_sides_count_the_same_packets(traffic: Session) -> None:
    row = traffic.channels["Exchange"]
    sent = sum(packets for (packets,) in traffic.found(r"interrupts \d+ bells \d+ packets (\d+)"))
    assert row["packets_in"] == sent
    # every request is completed, and besides the host sends what it was asked for
    asked = sum(count for kind, count, *_ in TRAFFIC if kind in ("asked", "transfer"))
    own = asked + sum(count for kind, count, *_ in TRAFFIC if kind == "receive")
    assert row["packets_out"] == sent - asked + own


def test_a_channel_opens_again_after_it_was_closed(traffic: Session) -> None:
    row = traffic.channels["Exchange"]
    assert (row["opened"], row["failed"]) == (len(TRAFFIC), 0)
    assert traffic.channels["Other"]["opened"] == 0


def test_the_guest_is_not_interrupted_more_often_than_it_was_signalled(traffic: Session) -> None:
    interrupts = [numbers[0] for numbers in traffic.found(r"interrupts (\d+) bells \d+ packets \d+")]
    row = traffic.channels["Exchange"]
    assert 0 < interrupts[-1] <= row["signals_out"]
    # far fewer signals than packets, both ways
    assert row["signals_out"] < row["packets_out"] / 4
    assert row["signals_in"] < row["packets_in"] / 4


def test_the_monitor_page_says_what_the_bell_stands_for(traffic: Session) -> None:
    sysfs = dict(re.findall(r"^sysfs (\w+) (\S+)\r?$", traffic.output, re.M))
    assert (sysfs["monitor_id"], sysfs["latency"], sysfs["pending"]) == ("0", "1000", "0")
    # the host is not busy with the ring, the guest's program has masked its own
    assert (sysfs["out_mask"], sysfs["in_mask"]) == ("0", "1")
    assert (sysfs["read_avail"], sysfs["write_avail"]) == ("0", str(RING_DATA))
    assert sysfs["events"] == "0"  # hypercalls that signal
    assert re.search(r"^connection 8193\r?$", traffic.output, re.M)  # relid 1 of SINT 2


# ---------------------------------------------------------------- signals


@pytest.fixture(scope="module")
def signals(run_program_guest: RunGuest) -> Session:
    return session(run_program_guest, "uio_ring /dev/uio0 signals")


def test_the_host_signals_by_the_rules(signals: Session) -> None:
    found = {name: int(count) for name, count in re.findall(r"^signals (\S+) (\d+)", signals.output, re.M)}
    assert found == {
        "masked": 0,
        "unread": 0,  # what came before is still there: the ring was not empty
        "batch": 1,
        "singles": 20,
        "room-wanted": 1,
        "room-unwanted": 0,
        "room-there-before": 0,
        "blocked": 0,
    }


def test_a_host_without_room_waits_to_be_told_and_loses_nothing(signals: Session) -> None:
    ((pending, free, masked),) = signals.found(r"blocked pending (\d+) free (\d+) masked (\d+)")
    assert 0 < free <= pending and masked == 1
    ((packets, bells, still_pending, still_masked),) = signals.found(
        r"blocked packets (\d+) bells (\d+) pending (\d+) masked (\d+)"
    )
    assert (packets, still_pending, still_masked) == (300, 0, 0)
    # the ring holds 63 packets of 1024 bytes, and each time that it has become empty the host is told
    assert bells == 300 // 63


# ---------------------------------------------------------------- a hostile guest


@pytest.fixture(scope="module")
def hostile(run_program_guest: RunGuest) -> Session:
    return session(
        run_program_guest,
        """
        cat /sys/class/uio/uio0/maps/map3/name /sys/class/uio/uio1/maps/map3/name
        uio_ring /dev/uio1 echo 30000 0 1000 > /tmp/other &
        uio_ring - hostile-cases | while read kind name; do
            echo case $kind $name
            uio_ring /dev/uio0 hostile $name || echo failed $name
        done
        wait
        cat /tmp/other
        uio_ring /dev/uio0 echo 500 0 3000 && uio_ring /dev/uio1 direct 500 0 9000
        """,
    )


def cases(hostile: Session, kind: str) -> list[str]:
    return re.findall(rf"^case {kind} (\w+)\r?$", hostile.output, re.M)


def test_what_cannot_be_fails_the_channel(hostile: Session) -> None:
    fatal = cases(hostile, "fatal")
    assert len(fatal) > 30
    assert re.findall(r"^(\w+): dead\r?$", hostile.output, re.M) == fatal
    row = hostile.channels["Exchange"]
    assert row["failed"] == len(fatal)


def test_what_does_no_harm_is_borne(hostile: Session) -> None:
    harmless = cases(hostile, "harmless")
    assert len(harmless) >= 5
    assert re.findall(r"^(\w+): alive\r?$", hostile.output, re.M) == harmless


def test_a_gpadl_of_another_channel_is_none(hostile: Session) -> None:
    ours, others = (numbers[0] for numbers in hostile.found(r"recv:(\d+)"))
    assert others == ours + 2, "the case foreign_gpadl takes this handle"
    assert "foreign_gpadl" in cases(hostile, "fatal")


def test_a_failed_channel_can_be_closed_and_opened_again(hostile: Session) -> None:
    row = hostile.channels["Exchange"]
    assert row["opened"] == len(cases(hostile, "fatal")) + len(cases(hostile, "harmless")) + 1
    assert [500] in list(hostile.found(r"echo: (\d+) done, \d+ bytes"))


def test_other_channels_do_not_notice(hostile: Session) -> None:
    row = hostile.channels["Other"]
    assert (row["opened"], row["failed"], row["packets_in"]) == (2, 0, 30001 + 501)
    assert [30000] in list(hostile.found(r"echo: (\d+) done, \d+ bytes"))

"""The log: a line for each event that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.lens.log import EventLog, parse_points
from ringminus.tap import EVENTS, USUAL, Hypercall, Interrupt, MsrAccess, Tap, VmExit


def test_points_are_named_with_commas() -> None:
    assert parse_points("exits, msr,hypercalls") == [VmExit, MsrAccess, Hypercall]
    assert parse_points("exits,exits,exit") == [VmExit]
    assert parse_points("all") == list(USUAL)
    assert set(parse_points("msrs,all")) == set(USUAL)
    assert set(parse_points("faults,all")) == set(EVENTS)


@pytest.mark.parametrize("text", ["", "exits,", "nothing", "all,nothing"])
def test_unknown_points_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigError, match=r"exits, .*msrs, .* or all"):
        parse_points(text)


def test_a_log_is_written_while_its_block_lasts(tmp_path: Path) -> None:
    tap, path = Tap(), tmp_path / "log"
    with EventLog(tap, [Interrupt], path):
        assert tap.interrupts is not None
        assert tap.exits is None
        for vector in (0x20, 0x21):
            tap.interrupts(Interrupt(0, 0, vector, "test"))
    assert tap.interrupts is None
    lines = path.read_text().splitlines()
    assert [line.split()[-3:] for line in lines] == [["0x20", "from", "test"], ["0x21", "from", "test"]]


def test_a_busy_guest_can_be_followed(tmp_path: Path) -> None:
    tap, path = Tap(), tmp_path / "log"
    with EventLog(tap, [Interrupt], path):
        assert tap.interrupts is not None
        tap.interrupts(Interrupt(0, 0, 0x20, "test"))
        tap.interrupts(Interrupt(10_000_000, 0, 0x21, "test"))
        assert len(path.read_text().splitlines()) == 2


def test_without_a_file_it_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    tap = Tap()
    with EventLog(tap, [Interrupt], None):
        assert tap.interrupts is not None
        tap.interrupts(Interrupt(0, 0, 0x20, "test"))
    assert "vector 0x20 from test" in capfd.readouterr().err


def test_a_full_disk_is_an_error_of_the_host() -> None:
    tap = Tap()
    with (
        pytest.raises(HostError, match="/dev/full: No space left"),
        EventLog(tap, [Interrupt], Path("/dev/full")),
    ):
        assert tap.interrupts is not None
        tap.interrupts(Interrupt(0, 0, 0x20, "test"))
    assert tap.interrupts is None

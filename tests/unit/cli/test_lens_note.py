"""While a capture is read in silence, a terminal is told how far."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ringminus.cli import lens_note
from ringminus.cli.lens_note import ERASE, LOOK_EVERY, ReadingNote
from ringminus.tap import Event, Interrupt

ENOUGH = 4 * LOOK_EVERY


class File:
    """A source of many events; reading one takes `seconds`."""

    partition, lost = "box", 0

    def __init__(self, clock: SimpleNamespace, seconds: float) -> None:
        self._clock, self._seconds, self._read = clock, seconds, 0

    @property
    def progress(self) -> float:
        return self._read / ENOUGH

    def __iter__(self) -> Iterator[Event]:
        for number in range(ENOUGH):
            self._read = number
            self._clock.now += self._seconds
            yield Interrupt(number, 0, 0xF3, "sint2")

    def close(self) -> None: ...

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(lens_note, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def read(clock: SimpleNamespace, seconds: float) -> list[str]:
    told: list[str] = []
    note = ReadingNote(File(clock, seconds), before=lambda: told.append("before"))
    assert len(list(note.events())) == ENOUGH
    return told


def test_what_takes_long_is_told_and_taken_away_at_the_end(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    told = read(clock, 2 / LOOK_EVERY)
    shown = [f"{ERASE}reading: {percent}%" for percent in (25, 50, 75)]
    assert capsys.readouterr().err == "".join(shown) + ERASE
    assert told == ["before"] * 3


def test_nothing_is_told_of_what_is_quick_or_where_there_is_no_terminal(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read(clock, 2 / LOOK_EVERY)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    read(clock, 0.1 / LOOK_EVERY)
    assert capsys.readouterr().err == ""

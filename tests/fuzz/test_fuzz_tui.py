"""Whatever a guest or a file says, and whichever keys a person presses: the terminal interface shows it, and
what it shows moves no cursor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

import ringminus.cli.protocols  # noqa: F401
from ringminus.errors import HostError
from ringminus.lens.tui.app import LensApp
from ringminus.lens.tui.store import Store
from ringminus.protocol import BY_INTERFACE, PROTOCOLS
from ringminus.tap import EVENTS, DeviceMessage, Event
from support.effort import examples
from support.lens_events import Recorded, Watched, request, requests
from support.lens_screen import Screen, session

HOSTILE = (
    "\x1b]0;pwned\x07\x1b[2J",
    "\r\n\t\x00\x7f\x9b31m",
    "[bold red]x[/][/bold] [@click=app.quit]y[/]",
    "\u202egnp.exe\u200b\u2066",
    "\U000f0000\u0301\u0301\u0301 \u4e16\u754c \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "%s {0} \\ \" '",
    "A" * 300,
)
U64 = st.integers(0, 2**64 - 1) | st.integers(0, 40)
TEXT = st.sampled_from(HOSTILE) | st.text(max_size=40)


class Huge(bytes):
    """So many that nobody wants to read them in a report."""

    def __repr__(self) -> str:
        return f"Huge({len(self)})"


HUGE = st.integers(16, 21).map(lambda power: Huge(bytes(range(256)) * (1 << power >> 8)))
"""64 KiB to 2 MiB."""
BYTES = st.binary(max_size=300) | st.sampled_from(HOSTILE).map(lambda text: text.encode("utf-8", "replace"))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: U64,
    str: TEXT,
    bytes: BYTES | BYTES | BYTES | HUGE,
    bool: st.booleans(),
    UUID: st.uuids() | st.sampled_from(sorted(BY_INTERFACE, key=str)),
    tuple[int, ...]: st.lists(U64).map(tuple),
    int | None: st.none() | st.integers(0, 0xFFFF),
}
NUMBERS = st.integers(0, 30) | U64
"""Of events and their causes: some are there twice, some nowhere, and some are their own cause."""


def of_kind(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = get_type_hints(kind)
    named = {one.name: VALUES[hints[one.name]] for one in fields(kind) if one.init}
    return st.builds(kind, **named | {"sequence": NUMBERS, "cause": NUMBERS})


def message(protocol: str) -> st.SearchStrategy[Event]:
    """Bytes of a device's message; if the first ones are small, of a known one."""
    payload = BYTES | st.tuples(st.integers(0, 20), BYTES).map(
        lambda pair: pair[0].to_bytes(4, "little") + pair[1]
    )
    return st.builds(
        lambda data, to_guest, number: DeviceMessage(
            0, 0, "SCSI 0", protocol, to_guest, data, len(data), sequence=number, cause=number - 1
        ),
        payload,
        st.booleans(),
        st.integers(1, 30),
    )


def grown(event: Event) -> Event:
    """With bytes proper in the place of `Huge`; it stays small in reports."""
    made = copy(event)
    for one in fields(event):
        value = getattr(event, one.name)
        if isinstance(value, Huge):
            setattr(made, one.name, bytes(value))
    return made


EVENT = st.sampled_from(EVENTS).flatmap(of_kind) | st.sampled_from(sorted(PROTOCOLS)).flatmap(message)
EVENT_LISTS = st.lists(EVENT, min_size=1, max_size=30).map(lambda made: made + request(10, 1))
NAMED = "up down pageup pagedown home end left right slash space question_mark enter escape tab shift+tab"
KEYS = st.sampled_from([*NAMED.split(), *"jknNacebtmMxyfz123"])  # not q
WORDS = st.sampled_from(
    ("scsi.op == read_10", "vmbus.channel.", "not exit", '"', "exit.reason ~ '('", "interrupt and (")
) | st.text("abc.=()[]\"'", max_size=8)
SIZES = st.tuples(st.integers(1, 200), st.integers(1, 60))
STEPS = st.lists(KEYS | KEYS | KEYS | st.tuples(st.just("type"), WORDS) | SIZES, max_size=40)
FUZZ = settings(
    deadline=None,
    max_examples=examples(30),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(screen: Screen) -> None:
    """What is on the screen fits it, and has no character that a terminal does something for."""
    size = screen.app.size
    lines = screen.lines
    assert len(lines) <= size.height
    for line in lines:
        assert all(char.isprintable() for char in line), ascii(line)
        assert cell_len(line) <= size.width, line


def use(app: LensApp, steps: list[Any], begin: Callable[[], None] = lambda: None) -> None:
    with session(app, (100, 30)) as play:

        async def scenario(screen: Screen) -> None:
            begin()
            await screen.until(lambda: app.intake.done or app.live)
            app._tick()
            await screen.settle()
            for step in steps:
                if isinstance(step, str):
                    await screen.press(step)
                elif step[0] == "type":
                    await screen.type(step[1])
                else:
                    await screen.resize(*step)
                check(screen)
            for position in range(app.store.first, app.store.count):
                app.events.select(position)
                app._show_one()
            app._tick()
            await screen.settle()
            check(screen)

        play(scenario)
    assert app.return_code in (None, 0)
    assert not app.intake.failure
    assert not app.view.failure


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # `x` writes a file


@given(EVENT_LISTS, STEPS)
@FUZZ
def test_a_file_of_anything_is_shown(made: list[Event], steps: list[Any]) -> None:
    use(LensApp(Recorded(map(grown, made), partition=HOSTILE[0]), store=Store(1 << 20)), steps)


@given(EVENT_LISTS, STEPS, st.lists(st.tuples(U64, U64), min_size=2, max_size=2))
@FUZZ
def test_a_guest_that_does_anything_is_watched(
    made: list[Event], steps: list[Any], rings: list[tuple[int, int]]
) -> None:
    names = ("ring_in", "ring_out")
    told = {name: {"used": used, "size": size} for name, (used, size) in zip(names, rings, strict=True)}

    def describe(_operation: str) -> Any:
        if rings[0][0] % 5 == 0:
            raise HostError("the guest does not answer")
        return {"channels": [{"relid": 3, "device": "SCSI 0"} | told]}

    source = Watched(describe)

    def begin() -> None:
        source.give(requests(3))
        source.give(map(grown, made))

    with contextlib.closing(source):
        use(LensApp(source, live=True), ["2", *steps, "2", "3", "1"], begin)

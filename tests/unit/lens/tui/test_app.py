"""The lens in a terminal, as a person uses it, on a screen of 80 columns and 24 rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets.tree import TreeNode

import ringminus.cli.protocols  # noqa: F401
from ringminus.errors import HostError
from ringminus.lens.tui.app import LensApp
from ringminus.lens.tui.detail import Place
from ringminus.lens.tui.dissection import Shown
from ringminus.lens.tui.store import Store
from ringminus.tap import BusMessage, DeviceMessage, Event, NetworkFrame, RingPacket, Violation
from support.lens_events import PER_REQUEST, RELID, Recorded, opened, request, requests
from support.lens_screen import Scenario, Screen, afresh, on_screen, session

Play = Callable[[Scenario], None]
READ = 300
"""Requests in the file that is read."""
EXIT, HYPERCALL, PACKET, COMPLETION, SIGNAL, INTERRUPT = range(1, 7)
"""Positions of the events of the first request, in the order in which they began."""


@pytest.fixture(scope="module")
def opened_file() -> Iterator[Play]:
    with session(LensApp(Recorded(requests(READ)))) as play:
        play(Screen.read)
        yield play


@pytest.fixture
def on_file(opened_file: Play) -> Play:
    """Plays a scenario on a file that has been read; its first event is selected, and nothing was done."""
    opened_file(afresh)
    return opened_file


def test_events_are_lines_and_the_selected_one_has_its_fields_and_bytes(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        assert screen.lines[0].startswith("demo all read  1,801 events")
        assert "hypercall HvCallSignalEvent" in screen.lines[2]
        assert "SCSI 0     vstor EXECUTE_SRB data_in IN | scsi READ_10" in screen.text
        await screen.press(*["down"] * PACKET)
        await screen.selects(PACKET)
        await screen.shows("operation = 3  EXECUTE_SRB")
        await screen.shows("0000  03 00 00 00")

    on_file(scenario)


def below(node: TreeNode[Place]) -> Iterator[TreeNode[Place]]:
    for child in node.children:
        yield child
        yield from below(child)


def test_the_bytes_of_the_selected_field_are_lit(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        screen.app.events.select(PACKET)
        await screen.selects(PACKET)
        await screen.press("tab")
        await screen.press("down")
        await screen.until(lambda: screen.app.detail.cursor_node is not None)
        lit: dict[str, range] = {}
        for node in below(screen.app.detail.root):
            name = str(node.label)
            if node.line >= 0 and name.startswith(("operation", "opcode", "lba")):
                assert node.data is not None
                wanted = node.data.lit
                screen.app.detail.move_cursor(node)
                await screen.until(lambda: screen.app.hex.lit == wanted)  # noqa: B023
                lit[name] = screen.app.hex.lit
        assert lit["operation = 3  EXECUTE_SRB"] == range(4)
        assert lit["opcode = 40  READ_10"] == range(28, 29)
        assert lit["lba = 0"] == range(30, 34)

    on_file(scenario)


def test_a_filter_shows_what_matches_and_next_match_goes_through_them(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        await screen.press("slash")
        await screen.type("scsi.op == write_10")
        await screen.press("enter")
        await screen.shows("150 match")
        assert screen.app.view.rows == 150
        assert "READ_10" not in "\n".join(screen.lines[1:10])
        await screen.press("a")
        await screen.shows("all shown")
        await screen.press("home", "n", "n")
        second = 1 + 3 * PER_REQUEST + 2
        await screen.selects(second)
        await screen.press("N")
        await screen.selects(1 + PER_REQUEST + 2)
        await screen.press("slash")
        screen.app.asking._input.value = ""
        await screen.press("enter")
        await screen.until(lambda: screen.app.view.rows == 1801)

    on_file(scenario)


def test_a_wrong_filter_is_not_taken_and_its_place_is_marked(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        await screen.press("slash")
        await screen.type("scsi.opp == 3")
        await screen.press("enter")
        await screen.shows("there is no field scsi.opp")
        await screen.shows("vvvvvvvv")
        place = screen.lines.index("filter: scsi.opp == 3")
        marks = next(line for line in reversed(screen.lines[:place]) if "vvvvvvvv" in line)
        assert marks.index("vvvvvvvv") == len("filter: ")
        assert screen.app.view.filter is None
        await screen.press("escape", "down")
        assert not screen.app.asking.display
        assert screen.app.events.cursor == 1

    on_file(scenario)


def test_tab_completes_names_in_the_filter(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        await screen.press("slash")
        await screen.type("vmbus.cha")
        await screen.press("tab")
        await screen.shows("filter: vmbus.channel.")
        await screen.shows("vmbus.channel.relid")
        await screen.type("dev")
        await screen.press("tab")
        await screen.shows("filter: vmbus.channel.device")

    on_file(scenario)


def test_one_goes_to_the_cause_the_effect_and_back(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        screen.app.events.select(COMPLETION)
        for key, wanted in (("c", PACKET), ("c", HYPERCALL), ("c", EXIT), ("e", HYPERCALL), ("b", EXIT)):
            await screen.press(key)
            await screen.selects(wanted)
        await screen.press("c")
        await screen.shows("nothing that was watched caused it")

    on_file(scenario)


def test_a_cause_that_does_not_match_makes_all_events_shown() -> None:
    async def scenario(screen: Screen) -> None:
        await screen.read()
        await screen.shows("3 match")
        await screen.press("c")
        await screen.selects(SIGNAL)
        await screen.shows("all shown")

    on_screen(LensApp(Recorded(requests(3)), "interrupt"), scenario)


def test_the_tree_has_the_whole_way_with_times(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        screen.app.events.select(PACKET)
        await screen.press("t")
        await screen.shows("+5.0 µs")
        tree = [line for line in screen.lines[-9:] if "µs" in line]
        words = (
            "exit hypercall",
            "HvCallSignalEvent",
            "READ_10",
            "COMPLETE_IO",
            "event signal",
            "vector 0xf3",
        )
        for line, word in zip(tree, words, strict=True):
            assert word in line
        assert "● +2.0 µs" in tree[2]
        causes = screen.app.causes
        await screen.until(lambda: causes.cursor_node is not None and causes.cursor_node.data == PACKET)
        await screen.press("down", "enter")
        await screen.selects(COMPLETION)

    on_file(scenario)


def test_marked_events_are_written_as_json_lines(on_file: Play, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    async def scenario(screen: Screen) -> None:
        screen.app.events.select(PACKET)
        await screen.press("m", "m", "x")
        await screen.shows("write 2 events to:")
        screen.app.asking._input.value = str(path)
        await screen.press("enter")
        await screen.until(path.exists)
        await screen.until(lambda: not screen.app.asking.display)
        await screen.press("x")
        screen.app.asking._input.value = str(path)
        await screen.press("enter")
        await screen.until(lambda: "there is a file" in screen.app.asking.hint)

    on_file(scenario)
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["sequence"], second["sequence"]) == (PACKET + 1, COMPLETION + 1)
    assert first["messages"][1]["message"] == "READ_10"
    assert second["messages"][0]["message"] == "COMPLETE_IO"


def test_of_a_file_the_sizes_of_rings_are_shown_and_exits_by_reason() -> None:
    async def scenario(screen: Screen) -> None:
        await screen.read()
        await screen.press("2")
        await screen.shows("128 KiB")
        assert "%" not in screen.text
        await screen.press("3")
        await screen.shows("5.00")
        row = next(line for line in screen.lines if line.startswith("hypercall"))
        assert row.split()[:3] == ["hypercall", "20", "5.00"]
        await screen.press("enter")
        await screen.shows('20 match  exit.reason == "hypercall"')

    on_screen(LensApp(Recorded(requests(20))), scenario)


def test_only_lines_on_the_screen_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    app = LensApp(Recorded(requests(500)))
    looked: list[int] = []
    at = app.dissection.at

    def noted(position: int) -> Shown | None:
        looked.append(position)
        return at(position)

    monkeypatch.setattr(app.dissection, "at", noted)

    async def scenario(screen: Screen) -> None:
        await screen.read()
        await screen.press("end")
        await screen.selects(3000)
        assert "vector 0xf3" in screen.text

    on_screen(app, scenario)
    assert len(set(looked)) < 100


def hostile_events() -> list[Event]:
    evil = "\x1b]0;pwned\x07\x1b[2J\r\n\x00\x9b[31m‮[bold red]"
    raw = evil.encode() + bytes(range(256))
    return [
        opened(device=evil, sequence=1),
        RingPacket(0, 0, RELID, evil, False, 6, 1, raw, (), opened().interface, sequence=2, cause=2),
        BusMessage(1, 0, True, evil, raw, sequence=3, cause=4),
        Violation(2, 0, 3, evil, evil, sequence=4, cause=3),
        DeviceMessage(-5, -1, evil, "rndis", True, raw, -1, sequence=1 << 63),
        NetworkFrame(1 << 62, 1 << 40, evil, True, raw, None, evil, 0, host_ns=1 << 62),
        *request(10, 1),
    ]


def test_nothing_that_a_guest_or_a_file_says_moves_the_cursor_or_breaks_the_screen() -> None:
    async def scenario(screen: Screen) -> None:
        def clean() -> bool:
            return all(char.isprintable() for line in screen.lines for char in line)

        await screen.read()
        for key in ("1", "t"):
            await screen.press(key)
            for position in range(len(hostile_events()) - PER_REQUEST):
                screen.app.events.select(position)
                screen.app._show_one()
                await screen.settle()
                assert clean(), screen.text
        for key, text in (("2", "pwned"), ("3", "hypercall")):
            await screen.press(key)
            await screen.shows(text)
            assert clean(), screen.text

    app = LensApp(Recorded(hostile_events(), partition="\x1b[2Jdemo"))
    on_screen(app, scenario)
    assert app.return_code in (None, 0)


def test_a_source_that_fails_is_told_and_what_was_read_stays() -> None:
    def events() -> Any:
        yield from requests(5)
        raise HostError("the disk is gone [red]")

    async def scenario(screen: Screen) -> None:
        await screen.read()
        await screen.shows("the disk is gone [red]")
        assert screen.lines[0].startswith("demo failed  31 events")
        assert "SCSI 0" in screen.text

    on_screen(LensApp(Recorded(events())), scenario)


def test_an_event_that_cannot_be_kept_is_told() -> None:
    async def scenario(screen: Screen) -> None:
        await screen.read()
        await screen.shows("an event cannot be kept")
        assert screen.lines[0].startswith("demo failed  7 events")

    on_screen(LensApp(Recorded([*requests(1), opened(device="\ud800", sequence=99)])), scenario)


def test_when_the_oldest_events_are_given_up_the_list_goes_on() -> None:
    def events() -> list[Event]:
        noise = [bytes(f"{at}" * 999, "ascii") for at in range(3000)]
        return [
            DeviceMessage(at, 0, "NIC", "none", False, one, 9, sequence=at + 1)
            for at, one in enumerate(noise)
        ]

    async def scenario(screen: Screen) -> None:
        await screen.read()
        await screen.shows("given up")
        assert screen.app.events.cursor >= screen.app.store.first > 0
        await screen.press("end")
        await screen.selects(2999)

    on_screen(LensApp(Recorded(events()), store=Store(30_000)), scenario)


def test_without_colours_the_selected_event_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(screen: Screen) -> None:
        await screen.read()
        svg = screen.app.export_screenshot()
        assert "HvCallSignalEvent" in svg
        strip = screen.app.events.render_line(0)
        assert any(segment.style is not None and segment.style.reverse for segment in strip)

    app = LensApp(Recorded(requests(3)))
    assert app.no_color
    on_screen(app, scenario)


def test_help_has_every_key() -> None:
    async def scenario(screen: Screen) -> None:
        await screen.read()
        await screen.press("question_mark")
        await screen.shows("mark it, or not")
        await screen.press("escape", "down")
        await screen.selects(1)

    on_screen(LensApp(Recorded(requests(3))), scenario, size=(90, 40))


def test_keys_in_the_last_line_can_be_clicked(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        await screen.click(screen.lines[-1].index("3 exits") + 3, len(screen.lines) - 1)
        await screen.shows("per second")

    on_file(scenario)


def test_any_size_of_terminal_will_do(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        for size in ((1, 1), (20, 6), (120, 40)):
            await screen.resize(*size)
            await screen.press("t", "2", "3", "1", "slash", "escape")
            assert screen.app.is_running
            assert [len(line) <= size[0] for line in screen.lines] == [True] * size[1]
        await screen.resize(80, 24)

    on_file(scenario)


def test_on_a_small_terminal_there_are_events_fields_and_the_way_out(on_file: Play) -> None:
    async def scenario(screen: Screen) -> None:
        await screen.resize(40, 10)
        screen.app.events.select(PACKET)
        await screen.shows("SCSI 0")
        await screen.shows("vstor EXECUTE_SRB")
        assert screen.lines[9].endswith("? help q quit")
        await screen.press("2")
        await screen.shows("SCSI 0      3")
        await screen.resize(80, 24)

    on_file(scenario)

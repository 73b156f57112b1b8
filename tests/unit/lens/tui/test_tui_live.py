"""The lens in a terminal, on a guest that runs: following, pausing, rings."""

from __future__ import annotations

from typing import Any, cast

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.tui.app import LensApp
from ringminus.vmbus.channel import OpenChannel
from support.bus_bed import Bed
from support.lens_events import RELID, Watched, request, requests
from support.lens_screen import Screen, on_screen


def test_a_guest_that_runs_is_followed_until_one_moves_and_paused() -> None:
    source = Watched(lambda _: {"channels": []})

    async def scenario(screen: Screen) -> None:
        source.give(requests(20))
        await screen.shows("live, follows  121 events")
        await screen.selects(120)
        await screen.press("space")
        source.give(request(500, 1))
        await screen.shows("paused  127 events")
        assert screen.app.view.rows == 121
        await screen.press("space")
        await screen.selects(126)
        await screen.press("up")
        source.give(request(600, 1))
        await screen.shows("live  133 events")
        assert screen.app.events.cursor == 125
        await screen.press("f")
        await screen.selects(132)

    on_screen(LensApp(source, live=True), scenario)
    assert source.closed


def test_an_event_that_has_just_come_can_be_gone_to() -> None:
    source = Watched(lambda _: {"channels": []})

    async def scenario(screen: Screen) -> None:
        source.give(requests(20))
        await screen.shows("live, follows  121 events")
        await screen.press("home")
        for event in request(500, 1):
            screen.app.store.append(event)  # and the list has not looked yet
        screen.app.events.select(126)
        events = screen.app.events
        assert round(events.scroll_y) <= 126 < round(events.scroll_y) + events.size.height

    on_screen(LensApp(source, live=True), scenario)


def test_what_the_guest_could_not_hand_over_is_counted() -> None:
    source = Watched(lambda _: {"channels": []})
    source.lost = 1234

    async def scenario(screen: Screen) -> None:
        source.give(requests(1))
        await screen.shows("live, follows  7 events, 1,234 lost")

    on_screen(LensApp(source, live=True), scenario)


def test_rings_have_gauges_where_the_guests_process_tells_how_full_they_are() -> None:
    def describe(operation: str) -> Any:
        assert operation == "describe"
        rings = {"ring_in": {"size": 100, "used": 25}, "ring_out": {"size": 100, "used": 100}}
        return {"channels": [{"relid": RELID, "device": "SCSI 0"} | rings]}

    source = Watched(describe)

    async def scenario(screen: Screen) -> None:
        source.give(requests(20))
        await screen.shows("121 events")
        await screen.press("2")
        await screen.shows("▕██      ▏ 25%")
        await screen.shows("▕████████▏100%")
        counted = ["SCSI", "0", str(RELID), "20", "20"]
        await screen.until(lambda: any(line.split()[:5] == counted for line in screen.lines))

    on_screen(LensApp(source, live=True), scenario, size=(110, 24))


def test_a_ring_that_finds_no_room_any_more_is_nearly_full_until_the_guest_reads_it() -> None:
    bed = Bed()
    channel = bed.open(2)
    ours = cast(OpenChannel, bed.device.channel)
    for _ in range(100):
        ours.send(bytes(200))

    def describe(_operation: str) -> Any:
        incoming, outgoing = ours.rings
        facts = {"ring_in": incoming, "ring_out": outgoing}
        told = {name: {"size": ring.size, "used": ring.used()} for name, ring in facts.items()}
        return {"channels": [{"relid": RELID, "device": "SCSI 0"} | told]}

    source = Watched(describe)

    async def scenario(screen: Screen) -> None:
        source.give(requests(1))
        await screen.press("2")
        await screen.shows("▕        ▏  0% ▕███████▉▏ 98%")
        while channel.receive():
            pass
        await screen.shows("▕        ▏  0% ▕        ▏  0%")

    on_screen(LensApp(source, live=True), scenario, size=(110, 24))

"""Events are kept in little room, and found again by place, by number, and by cause."""

from __future__ import annotations

import random

from ringminus.lens.tui import store as module
from ringminus.lens.tui.store import Store
from ringminus.tap import EVENTS, DeviceMessage, Event, RingPacket
from support.lens_events import PER_REQUEST, requests

ALL = frozenset(kind.POINT for kind in EVENTS)


def filled(events: list[Event], most: int = 1 << 30) -> Store:
    store = Store(most)
    for event in events:
        store.append(event)
    return store


def everything(store: Store, points: frozenset[str] = ALL) -> list[tuple[int, Event]]:
    found: list[tuple[int, Event]] = []
    start = 0
    while True:
        events, end = store.batch(start, points)
        if end == start:
            return found
        found += list(events)
        start = end


def test_events_come_back_as_they_were_in_any_order() -> None:
    events = requests(400)
    store = filled(events)
    order = list(range(len(events)))
    random.Random(1).shuffle(order)
    assert [store.event(place) for place in order] == [events[place] for place in order]
    assert store.event(0).sequence == events[0].sequence  # type: ignore[union-attr]
    assert store.event(len(events)) is None
    assert store.event(-1) is None


def test_what_is_alike_takes_little_room() -> None:
    store = filled(requests(1000))
    assert store.held < 20 * store.count


def test_batches_have_all_events_of_the_points_that_are_asked_for() -> None:
    events = requests(400)
    store = filled(events)
    assert everything(store) == list(enumerate(events))
    packets = [(at, one) for at, one in enumerate(events) if isinstance(one, RingPacket)]
    assert everything(store, frozenset(("packets",))) == packets


def test_an_event_is_found_by_its_number_and_by_its_cause() -> None:
    events = requests(400)
    store = filled(events)
    for number in (0, 100, 399):
        first = 2 + PER_REQUEST * number
        place = store.find(first + 1)
        assert place is not None and events[place].sequence == first + 1
        assert [events[one].sequence for one in store.effects(first + 1)] == [first + 2]
    assert store.find(10**9) is None
    assert list(store.effects(10**9)) == []
    assert store.find(0) is None, "events without a number are not what caused others without a cause"
    assert list(store.effects(0)) == []


def test_numbers_that_only_look_alike_between_two_are_not_found() -> None:
    events: list[Event] = [DeviceMessage(0, 0, "NIC", "rndis", False, b"", 0) for _ in range(2)]
    events[0].sequence, events[1].sequence = 0x0102030405060708, 0x1112131415161718
    straddling = int.from_bytes(bytes.fromhex("0403020118171615"), "little")
    assert filled(events).find(straddling) is None


def test_when_there_is_too_much_the_oldest_are_given_up() -> None:
    noise = random.Random(2)
    events: list[Event] = [
        DeviceMessage(at, 0, "NIC", "rndis", False, noise.randbytes(4096), 4096, sequence=at + 1)
        for at in range(2000)
    ]
    most = 2 << 20
    store = filled(events, most)
    assert most // 2 < store.held <= most
    assert 0 < store.first < store.count == len(events)
    assert store.event(store.first - 1) is None
    assert store.event(store.first) == events[store.first]
    assert store.event(store.count - 1) == events[-1]
    assert everything(store)[0] == (store.first, events[store.first])
    assert store.find(1) is None
    assert store.find(len(events)) == len(events) - 1


def test_every_kind_of_record_has_its_point() -> None:
    assert set(module.POINTS) == ALL

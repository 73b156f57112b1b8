"""Which events have a row."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.filter import compile_filter
from ringminus.lens.tui.store import Store
from ringminus.lens.tui.view import View
from ringminus.tap import Event
from support.lens_events import PER_REQUEST, request, requests

COUNT = 200


@pytest.fixture
def store() -> Store:
    made = Store()
    for event in requests(COUNT):
        made.append(event)
    return made


@pytest.fixture
def view(store: Store) -> Iterator[View]:
    made = View(store)
    yield made
    made.close()


def searched(view: View, store: Store) -> None:
    until = time.monotonic() + 10
    while view.searched < store.count and time.monotonic() < until:
        time.sleep(0.005)
    assert not view.failure


def sequences(view: View, store: Store) -> list[int]:
    places = [view.position(row) for row in range(view.rows)]
    return [store.sequence(one) for one in places if one is not None]


def test_without_a_filter_every_event_has_one(view: View, store: Store) -> None:
    assert view.rows == store.count
    assert view.position(7) == view.row(7) == 7
    assert view.position(store.count) is None
    assert view.next_match(0, 1) is None


def test_a_filter_shows_what_it_is_true_for_and_what_comes_later(view: View, store: Store) -> None:
    view.set_filter(compile_filter("scsi.op == write_10 and not packet.to_guest"))
    searched(view, store)
    writes = [2 + PER_REQUEST * number + 2 for number in range(1, COUNT, 2)]
    assert sequences(view, store) == writes
    late: list[Event] = request(10_000, 5, write=True)
    for event in late:
        store.append(event)
    searched(view, store)
    assert sequences(view, store) == [*writes, 10_002]


def test_a_place_without_a_row_is_the_next_one_with_a_row(view: View, store: Store) -> None:
    view.set_filter(compile_filter("interrupt"))
    searched(view, store)
    assert view.row(0) == 0
    assert view.row(PER_REQUEST + 1) == 1
    assert view.row(store.count + 99) == view.rows - 1
    assert not view.shows(0)
    assert view.shows(PER_REQUEST)


def test_matches_can_be_gone_through_while_all_events_are_shown(view: View, store: Store) -> None:
    view.set_filter(compile_filter("interrupt"))
    searched(view, store)
    view.only = False
    assert view.rows == store.count
    assert view.matches == COUNT
    first, second = PER_REQUEST, 2 * PER_REQUEST
    assert view.next_match(0, 1) == first
    assert view.next_match(first, 1) == second
    assert view.next_match(second, -1) == first
    assert view.next_match(first, -1) is None
    assert view.next_match(store.count - 1, 1) is None
    assert view.is_match(first) and not view.is_match(first - 1)


def test_a_filter_that_nothing_satisfies_leaves_no_row(view: View, store: Store) -> None:
    view.set_filter(compile_filter("violation"))
    searched(view, store)
    assert (view.rows, view.position(0), view.row(3)) == (0, None, -1)
    assert not view.shows(3)


def test_what_comes_in_a_pause_has_a_row_only_after_it(view: View, store: Store) -> None:
    view.paused_at = store.count
    before = view.rows
    for event in request(10_000, 5):
        store.append(event)
    assert view.rows == before
    view.paused_at = None
    assert view.rows == before + PER_REQUEST


def test_another_filter_ends_the_search_for_the_one_before(view: View, store: Store) -> None:
    view.set_filter(compile_filter("interrupt"))
    view.set_filter(compile_filter("exit"))
    searched(view, store)
    assert view.rows == COUNT
    view.set_filter(None)
    assert view.rows == store.count

"""Events become trees by what caused them, in whatever order they pass."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringminus.lens.causes import Forest, Node, trees
from ringminus.lens.order import in_order
from ringminus.tap import EVENTS, Event, Hypercall, Interrupt, RingPacket, VmExit
from support.bus_bed import Bed, echo


def event(number: int, cause: int = 0, time: int = 0) -> Event:
    return Interrupt(time, 0, number, "test", sequence=number, cause=cause)


def shape(node: Node) -> object:
    """The numbers of a tree: a leaf is its number, others are (number, …)."""
    return (node.number, *map(shape, node.caused)) if node.caused else node.number


def grown(*events: Event, wanted: frozenset[int] = frozenset(range(100))) -> list[object]:
    return [shape(root) for root in trees((one, one.sequence in wanted) for one in events)]


def test_an_answer_hangs_below_what_it_answers() -> None:
    assert grown(event(1), event(2, 1), event(3, 2), event(4, 3), event(5)) == [(1, (2, (3, 4))), 5]


def test_results_pass_after_what_they_caused() -> None:
    assert grown(event(3, 2), event(4, 2), event(2, 1), event(1)) == [(1, (2, 3, 4))]


def test_what_was_not_watched_is_a_gap() -> None:
    (root,) = trees((one, True) for one in (event(7, 6), event(8, 6)))
    assert shape(root) == (6, 7, 8)
    assert root.event is None


def test_only_what_is_about_wanted_events_is_kept() -> None:
    events = [event(1), event(2, 1), event(3, 2), event(4, 3), event(5, 2), event(6, 1), event(7)]
    assert grown(*events, wanted=frozenset((3,))) == [(1, (2, (3, 4)))]
    assert grown(*events, wanted=frozenset((4, 6))) == [(1, (2, (3, 4)), 6)]
    assert grown(*events, wanted=frozenset((2,))) == [(1, (2, (3, 4), 5))]
    assert grown(*events, wanted=frozenset((99,))) == []


def test_a_tree_is_given_out_when_it_has_been_quiet() -> None:
    forest = Forest(quiet_events=3, quiet_time=1000)
    for one in (event(1), event(2, 1), event(10), event(11)):
        forest.add(one)
    assert forest.finished(0) == []
    forest.add(event(12))
    assert [shape(one) for one in forest.finished(0)] == [(1, 2)]
    assert [shape(one) for one in forest.finished(1000)] == [10, 11, 12]
    forest.add(event(3, 2))  # too late: its tree is gone
    assert [shape(one) for one in forest.rest()] == [(2, 3)]


def test_causes_that_go_round_in_a_damaged_file_do_no_harm() -> None:
    found = grown(event(1, 2), event(2, 1), event(3, 3))
    assert len(found) == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_every_event_is_in_one_tree(numbers: list[tuple[int, int]]) -> None:
    events = [event(number, cause) for number, cause in numbers]
    found = [node for root in trees((one, True) for one in events) for node in root.walk()]
    seen = [node.number for node in found if node.event is not None]
    assert sorted(seen) == sorted({number for number, _ in numbers} - {0})
    assert len({node.number for node in found}) == len(found)


@given(st.permutations(range(1, 30)))
def test_events_are_put_in_order_within_a_window(numbers: list[int]) -> None:
    events = [event(number) for number in numbers]
    assert [one.sequence for one in in_order(events)] == sorted(numbers)
    assert sorted(one.sequence for one in in_order(events, window=4)) == sorted(numbers)


def test_one_request_from_the_doorbell_to_the_interrupt() -> None:
    bed = Bed()
    bed.device.answer = echo
    channel = bed.open()
    seen: list[Event] = []
    for kind in EVENTS:
        bed.guest.partition.tap.listen(kind, seen.append)
    channel.send(b"hello", 7, wants_completion=True)
    (root,) = trees((one, isinstance(one, RingPacket)) for one in seen)
    names = [node.event.NAME for node in root.walk() if node.event is not None]
    assert names == ["hypercall", "packet", "packet", "signal", "interrupt"]
    assert isinstance(root.event, Hypercall)
    assert not any(isinstance(node.event, VmExit) for node in root.walk())

"""What becomes of the bus's control messages when somebody changes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringminus.tap import BusMessage, SynicMessage, Violation
from ringminus.vmbus import wire
from ringminus.vmbus.wire import MessageHeader
from support.bus_bed import Bed

SECOND = 10_000_000


@pytest.fixture
def bed() -> Bed:
    return Bed()


def change(bed: Bed, act: Callable[[BusMessage], None]) -> list[BusMessage]:
    """Changes messages; gives what listeners are told."""
    told: list[BusMessage] = []
    tap = bed.guest.partition.tap
    tap.change(BusMessage, act, lambda _event, error: pytest.fail(str(error)))
    tap.listen(BusMessage, told.append)
    return told


def named(name: str, act: Callable[[BusMessage], None]) -> Callable[[BusMessage], None]:
    return lambda event: act(event) if event.name == name else None


def marks(told: list[BusMessage]) -> list[tuple[str, str]]:
    return [(one.name, one.changed) for one in told]


def test_a_message_of_the_guest_that_is_dropped_was_taken_all_the_same(bed: Bed) -> None:
    told = change(bed, named("GPADL_HEADER", lambda event: event.drop()))
    message = wire.GpadlHeader(
        header=MessageHeader(msgtype=8), child_relid=1, gpadl=5, range_buflen=16, rangecount=1
    )
    assert bed.driver.post(message, bytes(16)) == 0
    assert marks(told) == [("GPADL_HEADER", "dropped")]
    bed.driver.poll()
    assert bed.driver.inbox == []


def test_a_message_of_the_guest_is_handled_as_it_was_changed(bed: Bed) -> None:
    def act(event: BusMessage) -> None:
        message = wire.OpenChannel.unpack(event.payload)
        message.openid = 0x777
        event.payload = message.pack()

    told = change(bed, named("OPEN_CHANNEL", act))
    bed.open()
    result = next(one for one in told if one.name == "OPEN_CHANNEL_RESULT")
    assert wire.OpenResult.unpack(result.payload).openid == 0x777
    assert next(one for one in told if one.name == "OPEN_CHANNEL").changed == "changed"


def test_an_answer_can_be_changed_before_it_is_queued(bed: Bed) -> None:
    def act(event: BusMessage) -> None:
        message = wire.OpenResult.unpack(event.payload)
        message.status = 0xC0000001
        event.payload = message.pack()

    seen: list[SynicMessage] = []
    bed.guest.partition.tap.listen(SynicMessage, seen.append)
    told = change(bed, named("OPEN_CHANNEL_RESULT", act))
    with pytest.raises(AssertionError, match="refused channel"):
        bed.open()
    result = next(one for one in told if one.name == "OPEN_CHANNEL_RESULT")
    assert result.changed == "changed"
    assert seen[-1].cause == result.sequence


def test_an_offer_that_is_dropped_is_not_seen(bed: Bed) -> None:
    told = change(bed, named("OFFER_CHANNEL", lambda event: event.drop()))
    assert bed.driver.connect()
    assert bed.driver.request_offers() == []
    assert ("OFFER_CHANNEL", "dropped") in marks(told)


def test_an_answer_comes_late_and_twice(bed: Bed) -> None:
    def act(event: BusMessage) -> None:
        event.delay(1)
        event.duplicate()

    told = change(bed, named("ALL_OFFERS_DELIVERED", act))
    assert bed.driver.connect()
    with pytest.raises(ValueError):
        bed.driver.request_offers()
    bed.driver.offers()
    bed.guest.pass_time(SECOND)
    bed.driver.take_number(4)
    bed.driver.take_number(4)
    late = [one for one in told if one.name == "ALL_OFFERS_DELIVERED"]
    assert [one.changed for one in late] == ["delayed,duplicated"] * 2
    assert late[1].cause == late[0].sequence


def test_a_message_of_the_guest_comes_late(bed: Bed) -> None:
    change(bed, named("REQUEST_OFFERS", lambda event: event.delay(1)))
    assert bed.driver.connect()
    bed.driver.post(wire.HeaderOnly(header=MessageHeader(msgtype=3)))
    bed.driver.poll()
    assert bed.driver.inbox == []
    bed.guest.pass_time(SECOND)
    bed.driver.take_number(4)


def test_what_is_refused_because_of_a_change_is_told_so(bed: Bed) -> None:
    def act(event: BusMessage) -> None:
        event.payload = (99).to_bytes(4, "little") + event.payload[4:]

    violations: list[Violation] = []
    bed.guest.partition.tap.listen(Violation, violations.append)
    change(bed, named("REQUEST_OFFERS", act))
    bed.driver.post(wire.HeaderOnly(header=MessageHeader(msgtype=3)))
    assert violations[0].reason.endswith("(addons have changed 1 events)")


def test_messages_can_be_injected_both_ways(bed: Bed) -> None:
    seen: list[BusMessage] = []
    assert bed.driver.connect()
    told = change(bed, seen.append)
    rescind = wire.RescindOffer(header=MessageHeader(msgtype=2), child_relid=77)
    bed.bus.inject(rescind.pack(), to_guest=True)
    assert bed.driver.take(wire.RescindOffer).child_relid == 77
    bed.bus.inject(wire.HeaderOnly(header=MessageHeader(msgtype=3)).pack(), to_guest=False)
    bed.driver.poll()
    assert bed.driver.inbox == []  # in the machine's next turn
    bed.guest.pass_time(1)
    bed.driver.take_number(4)
    assert marks(told)[:2] == [("RESCIND_OFFER", "injected"), ("REQUEST_OFFERS", "injected")]
    assert "RESCIND_OFFER" not in [one.name for one in seen], "what is injected is shown to no changer"


def test_what_is_no_message_is_not_injected(bed: Bed) -> None:
    with pytest.raises(ValueError, match="a message of the bus has a header, and 3 bytes are none"):
        bed.bus.inject(b"abc", to_guest=True)

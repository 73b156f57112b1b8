"""Events know what caused them: from the guest's doorbell to the interrupt that tells of the answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringminus.tap import (
    BusMessage,
    Event,
    EventSignal,
    GpadlChange,
    Hypercall,
    Interrupt,
    RingPacket,
    SynicMessage,
)
from ringminus.vmbus.device import Channel, Packet
from support.bus_bed import Bed, echo

WATCHED = (Hypercall, BusMessage, SynicMessage, GpadlChange, RingPacket, EventSignal, Interrupt)


@pytest.fixture
def bed() -> Bed:
    return Bed()


def watch(bed: Bed, *kinds: type[Event]) -> list[Event]:
    seen: list[Event] = []
    for kind in kinds or WATCHED:
        bed.guest.partition.tap.listen(kind, seen.append)
    return seen


def way(events: list[Event], last: Event) -> list[str]:
    """The kinds from the first cause to `last`."""
    by_number = {event.sequence: event for event in events}
    found = [type(last).__name__]
    while last.cause:
        last = by_number[last.cause]
        found.append(type(last).__name__)
    return found[::-1]


def test_an_interrupt_goes_back_to_the_doorbell_that_it_answers(bed: Bed) -> None:
    bed.device.answer = echo
    channel = bed.open()
    seen = watch(bed)
    channel.send(b"hello", 7, wants_completion=True)
    (interrupt,) = [event for event in seen if isinstance(event, Interrupt)]
    assert way(seen, interrupt) == ["Hypercall", "RingPacket", "RingPacket", "EventSignal", "Interrupt"]


def test_a_completion_is_caused_by_its_request_however_late_it_comes(bed: Bed) -> None:
    late: list[Callable[[], None]] = []

    def keep(channel: Channel, packet: Packet) -> None:
        number = packet.transaction_id
        late.append(lambda: channel.complete(number))

    bed.device.answer = keep
    channel = bed.open()
    seen = watch(bed)
    channel.send(b"first", 7, wants_completion=True)
    channel.send(b"second", 8, wants_completion=True)
    for answer in reversed(late):
        answer()
    packets = [event for event in seen if isinstance(event, RingPacket)]
    requests = {event.transaction_id: event for event in packets if not event.to_guest}
    for completion in (event for event in packets if event.to_guest):
        assert completion.cause == requests[completion.transaction_id].sequence
    interrupts = [event for event in seen if isinstance(event, Interrupt)]
    assert way(seen, interrupts[0]) == ["Hypercall", "RingPacket", "RingPacket", "EventSignal", "Interrupt"]


def test_an_interrupt_tells_of_the_first_packet_of_several(bed: Bed) -> None:
    def answer(channel: Channel, packet: Packet) -> None:
        channel.send(b"look", 1)
        channel.complete(packet.transaction_id)

    bed.device.answer = answer
    channel = bed.open()
    seen = watch(bed)
    channel.send(b"hello", 7, wants_completion=True)
    packets = [event for event in seen if isinstance(event, RingPacket) and event.to_guest]
    (signal,) = [event for event in seen if isinstance(event, EventSignal)]
    assert signal.cause == packets[0].sequence


def test_packets_that_a_guest_finds_by_itself_cause_no_interrupt(bed: Bed) -> None:
    channel = bed.open()
    seen = watch(bed)
    channel.incoming.begin_read()
    bed.device.channel.send(b"found", 1)
    assert len(channel.receive()) == 1
    channel.incoming.end_read()
    bed.device.channel.send(b"told", 2)
    packets = [event for event in seen if isinstance(event, RingPacket)]
    (signal,) = [event for event in seen if isinstance(event, EventSignal)]
    assert signal.cause == packets[1].sequence


def test_an_answer_of_the_bus_is_caused_by_the_message_that_asked(bed: Bed) -> None:
    seen = watch(bed)
    bed.open()
    named = {event.name: event for event in seen if isinstance(event, BusMessage)}
    assert named["OPEN_CHANNEL_RESULT"].cause == named["OPEN_CHANNEL"].sequence
    assert named["GPADL_CREATED"].cause == named["GPADL_HEADER"].sequence
    (lent,) = [event for event in seen if isinstance(event, GpadlChange)]
    assert lent.cause == named["GPADL_HEADER"].sequence and lent.pages == 16
    message = [event for event in seen if isinstance(event, SynicMessage)][-1]
    assert way(seen, message) == ["Hypercall", "BusMessage", "BusMessage", "SynicMessage"]


def test_memory_that_is_taken_back_is_told_with_its_pages(bed: Bed) -> None:
    channel = bed.open(4)
    seen = watch(bed, GpadlChange)
    channel.close()
    (event,) = seen
    assert isinstance(event, GpadlChange)
    assert (event.made, event.pages, event.relid, event.handle) == (False, 8, channel.relid, channel.gpadl)


def test_numbers_go_up_by_one_and_none_is_used_twice(bed: Bed) -> None:
    bed.device.answer = echo
    channel = bed.open()
    seen = watch(bed)
    for number in range(20):
        channel.send(b"hello", number, wants_completion=True)
    numbers = sorted(event.sequence for event in seen)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert all(event.cause < event.sequence for event in seen)
    assert all(event.host_ns for event in seen)


def test_what_nobody_watches_is_no_cause(bed: Bed) -> None:
    bed.device.answer = echo
    channel = bed.open()
    seen = watch(bed, Interrupt)
    channel.send(b"hello", 7, wants_completion=True)
    assert [event.cause for event in seen] == [0]

"""Who watches is told of channels: what they are called, and by what they are signalled."""

from __future__ import annotations

from uuid import UUID

from ringminus.memory import PAGE_SIZE
from ringminus.tap import ChannelState, Event, EventSignal, GpadlChange, Hypercall, RingPacket
from support.bus_bed import Bed, echo


def watch(bed: Bed, *kinds: type[Event]) -> list[Event]:
    seen: list[Event] = []
    for kind in kinds:
        bed.guest.partition.tap.listen(kind, seen.append)
    return seen


def test_a_channel_is_told_of_when_it_opens_and_when_it_closes() -> None:
    bed = Bed()
    seen = watch(bed, ChannelState)
    channel = bed.open(8, send_pages=5)
    (opened,) = seen
    assert isinstance(opened, ChannelState)
    assert opened.open
    assert (opened.device, opened.interface, opened.instance) == (
        "recorder",
        bed.device.interface,
        UUID(int=1),
    )
    assert (opened.ring_in, opened.ring_out) == (5 * PAGE_SIZE, 8 * PAGE_SIZE)
    channel.close()
    closed = seen[-1]
    assert isinstance(closed, ChannelState)
    assert not closed.open
    assert closed.relid == opened.relid


def test_its_numbers_are_those_of_the_signals_both_ways() -> None:
    bed = Bed()
    bed.device.answer = echo
    states = watch(bed, ChannelState)
    others = watch(bed, Hypercall, EventSignal, RingPacket, GpadlChange)
    bed.open().send(b"hello", 7, wants_completion=True)
    (state,) = states
    assert isinstance(state, ChannelState)
    call = next(one for one in others if isinstance(one, Hypercall) and one.name == "HvCallSignalEvent")
    assert int.from_bytes(call.block[:4], "little") == state.connection_id
    assert {one.flag for one in others if isinstance(one, EventSignal)} == {state.event_flag}
    assert {one.relid for one in others if isinstance(one, RingPacket | GpadlChange)} == {state.relid}


def test_who_comes_later_can_ask_which_are_open() -> None:
    bed = Bed()
    assert bed.bus.channel_states() == []
    channel = bed.open()
    other, second = bed.second()
    assert [one.instance for one in bed.bus.channel_states()] == [UUID(int=1), other.instance]
    channel.close()
    second.close()
    assert bed.bus.channel_states() == []

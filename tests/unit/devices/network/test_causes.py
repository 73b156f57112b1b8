"""Who watches an adapter sees what led to what: from the guest's doorbell to the frame, from the answering
frame to the signal, however long something had to wait."""

from __future__ import annotations

from typing import TypeVar

import ringminus.devices.network.protocol
import ringminus.switch.protocol
import ringminus.vmbus.protocol  # noqa: F401
from ringminus.lens.decode import Decoder, flat
from ringminus.switch.frame import Frame
from ringminus.tap import (
    DeviceMessage,
    Event,
    EventSignal,
    Hypercall,
    NetworkFrame,
    RingPacket,
)
from support.network import MAC, PEER, NetworkBed, ethernet, rndis_packet

E = TypeVar("E", bound=Event)
WATCHED = (Hypercall, RingPacket, DeviceMessage, NetworkFrame, EventSignal)


class Answering:
    """A port that answers each frame at once."""

    def __init__(self, bed: NetworkBed) -> None:
        self._bed = bed

    def send(self, frame: Frame) -> bool:
        data = frame.data
        self._bed.nic.deliver(Frame(data[6:12] + data[:6] + data[12:]))
        return True

    def flush(self) -> None:
        pass

    def set_address(self, address: bytes) -> None:
        pass


def watch(bed: NetworkBed) -> list[Event]:
    seen: list[Event] = []
    for kind in WATCHED:
        bed.machine.tap.listen(kind, seen.append)
    return seen


def way(events: list[Event], last: Event) -> list[str]:
    """The names of what led to `last`, first cause first."""
    by_number = {event.sequence: event for event in events}
    found = [name(last)]
    while last.cause:
        last = by_number[last.cause]
        found.append(name(last))
    return found[::-1]


def name(event: Event) -> str:
    to_guest = getattr(event, "to_guest", None)
    return event.NAME + {None: "", True: " to guest", False: " to host"}[to_guest]


def of(events: list[Event], kind: type[E], to_guest: bool) -> list[E]:
    return [one for one in events if isinstance(one, kind) and getattr(one, "to_guest") is to_guest]  # noqa: B009


def test_a_frame_that_is_answered_leads_from_the_doorbell_to_the_signal(bed: NetworkBed) -> None:
    bed.nic.plugged(Answering(bed))
    seen = watch(bed)
    bed.guest.holds = True
    bed.guest.send(ethernet())
    (answer,) = [one for one in of(seen, RingPacket, True) if one.kind == 7]
    there = ["hypercall", "packet to host", "device to host", "frame to host"]
    assert way(seen, answer) == [*there, "frame to guest", "device to guest", "packet to guest"]
    signal = next(one for one in seen if isinstance(one, EventSignal))
    assert way(seen, signal)[-2:] == ["packet to guest", "signal"]


def test_each_frame_of_a_batch_is_caused_by_its_own_message(bed: NetworkBed) -> None:
    seen = watch(bed)
    frames = [ethernet(60 + size) for size in range(3)]
    bed.guest.complete_of(bed.guest.send_section(b"".join(rndis_packet(frame) for frame in frames)))
    messages = {one.sequence: one for one in of(seen, DeviceMessage, False)}
    sent = of(seen, NetworkFrame, False)
    assert [one.data for one in sent] == frames
    assert [one.cause for one in sent] == list(messages)


def test_the_answer_to_a_query_is_caused_by_it_and_taken_apart_by_it(bed: NetworkBed) -> None:
    seen = watch(bed)
    bed.guest.query(0x0101_0102)
    decoder = Decoder()
    shown = {
        name(event): [f"{one.protocol} {one.message}" for one in flat(decoder.layers(event)[1:])]
        for event in sorted(seen, key=lambda one: one.sequence)
        if isinstance(event, DeviceMessage)
    }
    assert shown["device to host"] == ["rndis QUERY"]
    assert shown["device to guest"] == ["rndis QUERY_C", "oid E802_3_CURRENT_ADDRESS"]
    (asked,), (answered,) = of(seen, DeviceMessage, False), of(seen, DeviceMessage, True)
    assert answered.cause == asked.sequence
    object = decoder.layers(answered)[1].inner[0]
    assert [value.text for value in object.values] == [MAC.hex(":")]


def test_what_had_to_wait_is_caused_by_what_it_was_about(bed: NetworkBed) -> None:
    seen = watch(bed)
    bed.guest.holds = True
    slots = bed.nic.counters.receive_slots
    bed.deliver(*(ethernet(60, to=MAC, source=PEER) for _ in range(slots + 2)))
    assert bed.nic.counters.queued_frames == 2
    bed.guest.poll()
    bed.guest.give_back()
    bed.guest.poll()
    frames = {one.sequence for one in of(seen, NetworkFrame, True)}
    messages = of(seen, DeviceMessage, True)
    assert len(messages) == slots + 2
    assert {one.cause for one in messages} == frames


def test_packets_that_the_port_held_up_are_the_cause_of_their_frames_still(bed: NetworkBed) -> None:
    seen = watch(bed)
    bed.port.takes = False
    for size in range(60, 63):
        bed.guest.send_section(rndis_packet(ethernet(size)), size - 60)
    assert len(of(seen, NetworkFrame, False)) == 1
    bed.port.takes = True
    bed.nic.resumed()
    for frame in of(seen, NetworkFrame, False):
        assert way(seen, frame) == ["hypercall", "packet to host", "device to host", "frame to host"]


def test_a_buffer_that_the_guest_gives_back_is_caused_by_the_packet_that_brought_it(bed: NetworkBed) -> None:
    seen = watch(bed)
    bed.deliver(ethernet(60, to=MAC, source=PEER))
    bed.guest.poll()
    (brought,) = of(seen, RingPacket, True)
    (given_back,) = of(seen, RingPacket, False)
    assert given_back.cause == brought.sequence
    shown = Decoder()
    for event in (brought, given_back):
        shown.note(event)
    assert shown.layers(given_back)[1].message == "SEND_RNDIS_PKT_COMPLETE"


def test_packets_are_told_with_the_memory_that_they_name(bed: NetworkBed) -> None:
    seen = watch(bed)
    bed.deliver(ethernet(60, to=MAC, source=PEER))
    bed.guest.complete_of(
        bed.guest.send_pages_of(rndis_packet(ethernet(60)), rndis_packet(ethernet(5000))[:0])
    )
    (brought,) = [one for one in of(seen, RingPacket, True) if one.kind == 7]
    (sent,) = [one for one in of(seen, RingPacket, False) if one.kind == 9]
    layers = [list(flat(Decoder().layers(one)[:1])) for one in (brought, sent)]
    assert [[one.message for one in some] for some in layers] == [
        ["", "DATA_USING_XFER_PAGES", "RANGE"],
        ["", "DATA_USING_GPA_DIRECT", "RANGE", "RANGE"],
    ]
    pages, place = layers[0][1:]
    assert pages.get("xfer_pageset_id") == 0xCAFE and place.get("byte_count") == 44 + 60
    (first, second) = layers[1][2:]
    assert first.get("byte_count") == len(rndis_packet(ethernet(60))) and first.get("byte_offset") == 100
    assert len(first.get("pfns")) == 1 and second.get("byte_count") == 0  # type: ignore[arg-type]
    assert not any(layer.missing for some in layers for layer in some)

"""Packets between a guest's driver and a device: kinds, wrap-around, signals, rings that are full."""

from __future__ import annotations

import struct

import pytest

from ringminus.memory import PAGE_SIZE
from ringminus.vmbus.channel import OWED_LIMIT
from ringminus.vmbus.device import Channel, Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.moderation import SOON
from ringminus.vmbus.wire import PacketType
from support.bus_bed import Bed, Recorder, echo
from support.bus_driver import GuestChannel
from support.guest_ring import INTERRUPT_MASK, PENDING_SEND_SIZE, WRITE_INDEX, Received

SMALL = 2  # pages of a ring: a control page and one of data


def text(number: int, length: int) -> bytes:
    """A payload that is unlike any other."""
    return (f"{number}:".encode() * (length + 1))[:length]


@pytest.fixture
def bed() -> Bed:
    return Bed()


# ---------------------------------------------------------------- kinds


def test_an_in_band_packet_arrives_with_its_id_padded_to_8_bytes(bed: Bed) -> None:
    channel = bed.open()
    channel.send(b"thirteen byte", 77)
    assert bed.device.packets == [(PacketType.DATA_INBAND, 77, b"thirteen byte\0\0\0")]
    assert channel.receive() == []


def test_a_flagged_packet_is_completed_under_its_id(bed: Bed) -> None:
    channel = bed.open()
    bed.device.answer = lambda channel, packet: channel.complete(packet.transaction_id, b"done")
    channel.send(b"do", 0xFFFF_FFFF_FFFF_FFFE, wants_completion=True)
    assert channel.receive() == [Received(11, 0xFFFF_FFFF_FFFF_FFFE, False, b"", b"done\0\0\0\0")]


def test_a_device_sends_in_band_and_hears_of_the_completion(bed: Bed) -> None:
    channel = bed.open()
    bed.device.channel.send(b"question", 5, wants_completion=True)
    assert channel.signalled()
    assert channel.receive() == [Received(6, 5, True, b"", b"question")]
    channel.complete(5, b"answered")
    assert bed.device.completions == [(5, b"answered")]
    assert not bed.device.packets


def test_transfer_pages_go_both_ways(bed: Bed) -> None:
    channel = bed.open()
    seen: list[tuple[int, list[tuple[int, int]]]] = []
    bed.device.answer = lambda channel, packet: seen.append((packet.pageset, list(packet.transfer)))
    channel.send_transfer(b"received", 0xCAFE, [(60, 0), (1514, 4096)], 9)
    assert seen == [(0xCAFE, [(60, 0), (1514, 4096)])]
    bed.device.channel.send_transfer(0xCAFE, [(60, 0), (1514, 4096)], b"transfer", 10)
    (packet,) = channel.receive()
    assert (packet.kind, packet.transaction_id, packet.wants_completion) == (7, 10, True)
    assert packet.header == bytes.fromhex("feca 00 00 02000000 3c000000 00000000 ea050000 00100000")
    assert packet.payload == b"transfer"


def test_a_device_names_pages_of_the_guest(bed: Bed) -> None:
    channel = bed.open()
    ranges = [GpaRange(60, 4000, [7, 9]), GpaRange(8, 0, [8])]
    bed.device.channel.send_gpa_direct(ranges, b"look at this", 11)
    (packet,) = channel.receive()
    assert (packet.kind, packet.transaction_id, packet.wants_completion) == (9, 11, True)
    assert packet.header == struct.pack("<IIIIQQIIQ", 0, 2, 60, 4000, 7, 9, 8, 0, 8)
    assert packet.payload == b"look at this\0\0\0\0"


def test_the_pages_of_a_gpa_direct_packet_are_the_guests_memory(bed: Bed) -> None:
    channel = bed.open()
    pfns = bed.driver.allocate(4)
    bed.guest.memory.write(pfns[0] * PAGE_SIZE + 100, b"from the guest")
    taken: list[bytes] = []

    def read_and_write(channel: Channel, packet: Packet) -> None:
        first, second = packet.ranges
        taken.append(b"".join(bytes(view) for view in first.views(channel.memory)))
        second.views(channel.memory)[0][:2] = b"ok"
        channel.complete(packet.transaction_id)

    bed.device.answer = read_and_write
    channel.send_gpa_direct(b"command", [(14, 100, pfns[:1]), (PAGE_SIZE * 3, 0, pfns[1:])], 3)
    assert taken == [b"from the guest"]
    assert bed.guest.memory.read(pfns[1] * PAGE_SIZE, 2) == b"ok"
    assert channel.receive() == [Received(11, 3, False, b"", b"")]


def test_an_empty_payload_is_a_packet(bed: Bed) -> None:
    channel = bed.open()
    channel.send(b"", 1)
    bed.device.channel.send(b"")
    assert bed.device.packets == [(PacketType.DATA_INBAND, 1, b"")]
    assert channel.receive() == [Received(6, 0, False, b"", b"")]


# ---------------------------------------------------------------- wrap-around


@pytest.mark.parametrize("scattered", [False, True], ids=["neighbours", "scattered"])
@pytest.mark.parametrize("pages", [SMALL, 4])
def test_packets_of_every_length_survive_the_end_of_the_ring(pages: int, scattered: bool) -> None:
    bed = Bed(scattered=scattered)
    bed.device.answer = echo
    channel = bed.open(pages)
    sent = [text(number, number * 7 % 1200) for number in range(600)]
    for number, payload in enumerate(sent):
        channel.send(payload, number, wants_completion=True)
        (packet,) = channel.receive()
        assert packet.payload.startswith(payload) and len(packet.payload) < len(payload) + 8
    assert [
        payload[: len(text)] for (_, _, payload), text in zip(bed.device.packets, sent, strict=True)
    ] == sent


@pytest.mark.parametrize("scattered", [False, True], ids=["neighbours", "scattered"])
def test_the_header_of_ranges_may_lie_across_the_end_of_the_ring(scattered: bool) -> None:
    bed = Bed(scattered=scattered)
    channel = bed.open(SMALL)
    pfns = bed.driver.allocate(20)
    seen: list[tuple[int, ...]] = []
    bed.device.answer = lambda channel, packet: seen.append(tuple(packet.ranges[0].pfns))
    for number in range(60):
        channel.send_gpa_direct(text(number, 24), [(20 * PAGE_SIZE, 0, pfns)], number, wants_completion=False)
    assert seen == [tuple(pfns)] * 60


# ---------------------------------------------------------------- signals


def test_a_batch_costs_one_doorbell_and_one_interrupt(bed: Bed) -> None:
    channel = bed.open()
    bed.device.answer = echo
    for number in range(20):
        channel.out.write(6, b"x", number, 1)
    channel.signal()
    assert channel.signalled()
    assert bed.device.channel.counters.signals_out == 1  # type: ignore[attr-defined]
    assert [packet.transaction_id for packet in channel.receive()] == list(range(20))


def test_a_guest_that_masks_interrupts_gets_none(bed: Bed) -> None:
    channel = bed.open()
    channel.incoming.set(INTERRUPT_MASK, 1)
    bed.device.channel.send(b"quiet")
    assert not channel.signalled()
    assert [packet.payload[:5] for packet in channel.receive()] == [b"quiet"]


def test_a_guest_that_has_something_to_read_is_not_signalled_again(bed: Bed) -> None:
    channel = bed.open()
    bed.device.channel.send(b"first")
    assert channel.signalled()
    bed.device.channel.send(b"second")
    assert not channel.signalled()
    channel.receive()
    bed.device.channel.send(b"third")
    assert channel.signalled()


def test_the_guest_is_asked_not_to_signal_while_its_packets_are_taken(bed: Bed) -> None:
    channel = bed.open()
    masks: list[int] = []
    bed.device.answer = lambda _channel, _packet: masks.append(channel.out.get(INTERRUPT_MASK))
    channel.send(b"one")
    assert masks == [1] and channel.out.get(INTERRUPT_MASK) == 0


def test_what_the_guest_adds_meanwhile_is_taken_without_another_doorbell(bed: Bed) -> None:
    channel = bed.open()

    def add_one(_channel: Channel, packet: Packet) -> None:
        if packet.transaction_id < 5:
            assert not channel.out.write(6, b"", packet.transaction_id + 1)

    bed.device.answer = add_one
    channel.send(b"", 1)
    assert [number for _, number, _ in bed.device.packets] == [1, 2, 3, 4, 5]
    assert channel.doorbells == 1


# ---------------------------------------------------------------- full rings


def read_all(channel: GuestChannel, at_once: int) -> list[int]:
    """Take what is there, a few packets at a time, until nothing comes any more."""
    found: list[int] = []
    while packets := channel.receive(at_once):
        found += [packet.transaction_id for packet in packets]
    return found


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_what_finds_no_room_waits_in_order_until_the_guest_has_read(bed: Bed, at_once: int) -> None:
    channel = bed.open(SMALL)
    for number in range(100):
        bed.device.channel.send(text(number, 200), number)
    assert channel.incoming.get(PENDING_SEND_SIZE) == 16 + 200 + 8
    assert read_all(channel, at_once) == list(range(100))
    assert channel.incoming.get(PENDING_SEND_SIZE) == 0
    assert channel.doorbells < 100


def test_a_ring_is_never_filled_to_the_last_byte(bed: Bed) -> None:
    channel = bed.open(SMALL)
    half = bytes(PAGE_SIZE // 2 - 24)
    bed.device.channel.send(half, 1)
    bed.device.channel.send(half, 2)
    assert channel.incoming.get(WRITE_INDEX) == PAGE_SIZE // 2
    assert read_all(channel, 1) == [1, 2]


def test_no_packet_is_taken_while_an_answer_waits_for_room(bed: Bed) -> None:
    channel = bed.open(SMALL, send_pages=8)
    bed.device.answer = lambda channel, packet: channel.complete(packet.transaction_id, bytes(1000))
    for number in range(50):
        channel.out.write(6, b"request", number, 1)
    channel.signal()
    assert len(bed.device.packets) == 4  # three answers fit, the fourth waits
    assert read_all(channel, 1) == list(range(50))
    assert len(bed.device.packets) == 50


@pytest.mark.parametrize(("more_than_there_is", "signalled"), [(8, True), (0, True), (-8, False)])
def test_a_guest_that_waits_for_room_is_signalled_when_it_becomes_enough(
    bed: Bed, more_than_there_is: int, signalled: bool
) -> None:
    """As much as it waits for is not enough: a ring is never filled to the last byte."""
    channel = bed.open(SMALL)
    bed.device.answer = lambda channel, packet: (
        channel.complete(packet.transaction_id, bytes(2000)) if packet.wants_completion else None
    )
    for number in range(3):
        channel.send(b"", number, wants_completion=True)  # the third answer waits
    for number in range(3, 6):
        channel.send(bytes(500), number)
    channel.wait_for_room(channel.out.bytes_to_write() + more_than_there_is)
    channel.driver.events()
    channel.receive(1)
    assert len(bed.device.packets) == 6
    assert channel.signalled() == signalled


def test_a_guest_that_does_not_wait_is_not_signalled_for_room(bed: Bed) -> None:
    channel = bed.open(SMALL)
    channel.send(bytes(3000))
    assert not channel.signalled()


def test_room_goes_back_to_the_guest_within_a_long_batch(bed: Bed) -> None:
    channel = bed.open(SMALL)
    room: list[int] = []
    bed.device.answer = lambda _channel, _packet: room.append(channel.out.bytes_to_write())
    for number in range(9):
        channel.out.write(6, bytes(400), number)
    channel.signal()
    assert room[0] < 500 and max(room) > 1000


def test_a_packet_larger_than_the_ring_fails_the_channel(bed: Bed) -> None:
    """It would wait for ever, and everything after it."""
    bed.open(SMALL)
    bed.device.channel.send(bytes(PAGE_SIZE))
    assert bed.device.history == ["opened 0", "closed 0"]


def test_a_device_owes_only_so_many_answers(bed: Bed) -> None:
    channel = bed.open(pages=40)
    for number in range(OWED_LIMIT + 10):
        channel.out.write(6, b"", number, 1)
    channel.signal()
    assert len(bed.device.packets) == OWED_LIMIT
    bed.device.channel.complete(0)
    assert len(bed.device.packets) == OWED_LIMIT + 1


def test_a_device_may_answer_all_that_it_owes_at_the_end_of_a_batch(bed: Bed) -> None:
    """Otherwise the packets beyond the limit would lie in the ring, and no signal would come for them."""
    channel = bed.open(pages=40)

    def complete_all(channel: Channel) -> None:
        while bed.device.packets:
            channel.complete(bed.device.packets.pop(0)[1])

    bed.device.on_drained = complete_all
    for number in range(OWED_LIMIT + 10):
        channel.out.write(6, b"", number, 1)
    channel.signal()
    assert len(channel.receive()) == OWED_LIMIT + 10


# ---------------------------------------------------------------- moderation


def test_a_moderated_device_holds_interrupts_back_until_the_guest_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Recorder, "moderated", True)
    bed = Bed()
    bed.device.answer = echo
    channel = bed.open()
    held = 0
    for number in range(4 * SOON):
        channel.send(b"ask", number, wants_completion=True)
        if bed.bus.holding:
            held += 1
            assert not channel.signalled()
        else:
            assert channel.signalled()
            assert channel.receive()
    assert held > 2 * SOON
    while not bed.bus.holding:
        channel.send(b"ask", 1, wants_completion=True)
    channel.signalled()
    bed.bus.guest_left(halted=True)
    assert channel.signalled()
    assert not bed.bus.holding
    assert channel.receive()


def test_a_device_that_is_not_moderated_interrupts_at_once() -> None:
    bed = Bed()
    bed.device.answer = echo
    channel = bed.open()
    for number in range(4 * SOON):
        channel.send(b"ask", number, wants_completion=True)
        assert channel.signalled()
        channel.receive()


def test_a_channel_that_is_closed_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "moderated", True)
    bed = Bed()
    bed.device.answer = echo
    channel = bed.open()
    while not bed.bus.holding:
        channel.send(b"ask", 1, wants_completion=True)
        if not bed.bus.holding:
            channel.receive()
    channel.close()
    assert not bed.bus.holding

"""What becomes of a channel's packets when somebody changes them (see `ringminus.changes`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import ringminus.vmbus.channel
from ringminus.changes import ChangeError
from ringminus.memory import PAGE_SIZE
from ringminus.tap import Event, RingPacket, Violation
from ringminus.vmbus.channel import OWED_LIMIT
from ringminus.vmbus.device import Channel, Packet
from ringminus.vmbus.wire import PacketType
from support.bus_bed import Bed, BrokenProtocol, echo

SECOND = 10_000_000
INBAND = PacketType.DATA_INBAND


@pytest.fixture
def bed() -> Bed:
    made = Bed()
    made.device.answer = echo
    return made


class Changing:
    """Changes packets by a function, and keeps what listeners are told and what went wrong."""

    def __init__(self, bed: Bed, change: Callable[[RingPacket], None]) -> None:
        self.seen: list[RingPacket] = []
        self.errors: list[str] = []
        tap = bed.guest.partition.tap
        self.end = tap.change(RingPacket, change, lambda _event, error: self.errors.append(str(error)))
        tap.listen(RingPacket, self.seen.append)

    def told(self) -> list[tuple[bool, int, str]]:
        """Direction, id and mark of what passed."""
        return [(one.to_guest, one.transaction_id, one.changed) for one in self.seen]


def requests(change: Callable[[RingPacket], None]) -> Callable[[RingPacket], None]:
    return lambda event: None if event.to_guest else change(event)


def answers(change: Callable[[RingPacket], None]) -> Callable[[RingPacket], None]:
    return lambda event: change(event) if event.to_guest else None


# ---------------------------------------------------------------- fields


def test_the_device_gets_the_payload_and_the_id_that_were_set(bed: Bed) -> None:
    def change(event: RingPacket) -> None:
        event.payload, event.transaction_id = b"other", 99

    channel = bed.open()
    changing = Changing(bed, requests(change))
    channel.send(b"hello", 7, wants_completion=True)
    assert bed.device.packets == [(INBAND, 99, b"other")]
    (answer,) = channel.receive()
    assert (answer.transaction_id, answer.payload.rstrip(b"\0")) == (99, b"other")
    request, completion = changing.seen
    assert (request.changed, completion.changed) == ("changed", "")
    assert isinstance(request.original, RingPacket)
    assert (request.original.payload, request.original.transaction_id) == (b"hello\0\0\0", 7)


def test_the_guest_gets_the_payload_that_was_set(bed: Bed) -> None:
    def change(event: RingPacket) -> None:
        event.payload = b"a longer answer"

    channel = bed.open()
    Changing(bed, answers(change))
    channel.send(b"hello", 7, wants_completion=True)
    (answer,) = channel.receive()
    assert answer.payload == b"a longer answer\0"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("payload", "text", "RingPacket.payload is bytes, not str"),
        ("transaction_id", -1, "RingPacket.transaction_id is a number of 64 bits, not -1"),
        ("transaction_id", 1 << 64, "a number of 64 bits"),
        ("relid", 5, "RingPacket.relid tells a fact"),
        ("kind", 9, "fields to set are transaction_id, payload"),
        ("changed", "x", "tells a fact"),
    ],
)
def test_what_cannot_be_set_is_an_error_of_who_sets_it(
    bed: Bed, field: str, value: object, words: str
) -> None:
    """The packet passes as it came."""
    channel = bed.open()
    changing = Changing(bed, requests(lambda event: setattr(event, field, value)))
    channel.send(b"hello", 7, wants_completion=True)
    assert len(changing.errors) == 1 and words in changing.errors[0]
    assert bed.device.packets == [(INBAND, 7, b"hello\0\0\0")]
    assert [one.changed for one in changing.seen] == ["", ""]


def test_an_exception_leaves_no_half_of_a_change(bed: Bed) -> None:
    def change(event: RingPacket) -> None:
        event.payload = b"half"
        event.drop()
        raise RuntimeError("no")

    channel = bed.open()
    changing = Changing(bed, requests(change))
    channel.send(b"hello", 7, wants_completion=True)
    assert changing.errors == ["no"]
    assert bed.device.packets == [(INBAND, 7, b"hello\0\0\0")]
    assert changing.told() == [(False, 7, ""), (True, 7, "")]


def test_an_event_that_has_passed_cannot_be_changed(bed: Bed) -> None:
    channel = bed.open()
    kept: list[Event] = []
    Changing(bed, kept.append)
    channel.send(b"hello", 7)
    with pytest.raises(ChangeError, match="has passed: it can be changed only while its hook runs"):
        kept[0].drop()


def test_nobody_who_changes_costs_no_events(bed: Bed) -> None:
    changing = Changing(bed, lambda _: None)
    tap = bed.guest.partition.tap
    assert tap.packets is not None and "packets" in tap.changers
    changing.end()
    assert "packets" not in tap.changers


# ---------------------------------------------------------------- drop


def test_a_dropped_request_is_never_answered_and_no_longer_owed(bed: Bed) -> None:
    channel = bed.open()
    changing = Changing(bed, requests(lambda event: event.drop()))
    for number in range(OWED_LIMIT + 100):
        channel.send(b"hello", number, wants_completion=True)
    assert bed.device.packets == [] and channel.receive() == []
    assert {one.changed for one in changing.seen} == {"dropped"}
    changing.end()
    channel.send(b"hello", 7, wants_completion=True)
    assert len(channel.receive()) == 1


def test_a_dropped_completion_leaves_its_request_open(bed: Bed) -> None:
    channel = bed.open()
    changing = Changing(bed, answers(lambda event: event.drop()))
    channel.send(b"hello", 7, wants_completion=True)
    assert channel.receive() == []
    assert changing.told() == [(False, 7, ""), (True, 7, "dropped")]


# ---------------------------------------------------------------- delay


def test_a_delayed_request_is_overtaken_and_keeps_its_ranges(bed: Bed) -> None:
    ranges: list[list[int]] = []

    def answer(channel: Channel, packet: Packet) -> None:
        ranges.append([one.byte_count for one in packet.ranges])
        echo(channel, packet)

    bed.device.answer = answer
    channel = bed.open()
    changing = Changing(bed, requests(lambda event: event.delay(0.5) if event.transaction_id == 1 else None))
    (page,) = bed.driver.allocate(1)
    channel.send_gpa_direct(b"first", [(100, 0, [page])], 1)
    channel.send(b"second", 2, wants_completion=True)
    assert [one.transaction_id for one in channel.receive()] == [2]
    bed.guest.pass_time(SECOND // 2 - 1)
    assert channel.receive() == []
    bed.guest.pass_time(1)
    assert channel.signalled()
    assert [one.transaction_id for one in channel.receive()] == [1]
    assert ranges == [[], [100]]
    late = changing.seen[2]
    assert (late.changed, late.time) == ("delayed", bed.guest.clock.reference_time())


def test_a_delayed_completion_is_owed_until_it_goes(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ringminus.vmbus.channel, "OWED_LIMIT", 100)
    channel = bed.open(64)
    Changing(bed, answers(lambda event: event.delay(1)))
    for number in range(110):
        channel.send(b"", number, wants_completion=True)
    assert len(bed.device.packets) == 100
    received = []
    for _ in range(2):
        bed.guest.pass_time(SECOND)
        while found := channel.receive():
            received += found
    assert [one.transaction_id for one in received] == list(range(110))


def test_equal_delays_keep_the_order(bed: Bed) -> None:
    channel = bed.open()
    Changing(bed, answers(lambda event: event.delay(0.2)))
    for number in range(20):
        channel.send(b"", number, wants_completion=True)
    bed.guest.pass_time(SECOND)
    assert [one.transaction_id for one in channel.receive()] == list(range(20))


def test_what_is_held_back_when_a_channel_closes_is_lost(bed: Bed) -> None:
    channel = bed.open()
    Changing(bed, lambda event: event.delay(1))
    channel.send(b"hello", 7, wants_completion=True)
    channel.close()
    bed.guest.pass_time(2 * SECOND)
    assert bed.device.packets == []


def test_a_late_packet_that_breaks_the_protocol_fails_the_channel(bed: Bed) -> None:
    def refuse(_channel: Channel, _packet: Packet) -> None:
        raise BrokenProtocol("what is this?")

    bed.device.answer = refuse
    channel = bed.open()
    violations: list[Violation] = []
    bed.guest.partition.tap.listen(Violation, violations.append)
    Changing(bed, requests(lambda event: event.delay(1)))
    channel.send(b"hello", 7, wants_completion=True)
    bed.guest.pass_time(SECOND)
    assert [one.reason for one in violations] == ["what is this? (addons have changed 1 events)"]


# ---------------------------------------------------------------- duplicate and answer


def test_a_duplicated_request_is_answered_twice(bed: Bed) -> None:
    channel = bed.open()
    changing = Changing(bed, requests(lambda event: event.duplicate()))
    channel.send(b"hello", 7, wants_completion=True)
    assert [one.transaction_id for one in channel.receive()] == [7, 7]
    first, *_, second, _ = changing.seen
    assert (first.changed, second.changed) == ("duplicated", "duplicated")
    assert second.sequence > first.sequence and second.cause == first.sequence


def test_an_answered_request_never_reaches_the_device(bed: Bed) -> None:
    channel = bed.open()
    changing = Changing(bed, requests(lambda event: event.answer(b"from elsewhere")))
    channel.send(b"hello", 7, wants_completion=True)
    assert bed.device.packets == []
    (answer,) = channel.receive()
    assert (answer.transaction_id, answer.payload) == (7, b"from elsewhere\0\0")
    assert changing.told() == [(False, 7, "answered"), (True, 7, "injected")]


def test_what_wants_no_completion_cannot_be_answered(bed: Bed) -> None:
    channel = bed.open()
    changing = Changing(bed, requests(lambda event: event.answer()))
    channel.send(b"hello", 7)
    assert changing.errors == ["this RingPacket of recorder wants no completion, so it cannot be answered"]
    assert bed.device.packets == [(INBAND, 7, b"hello\0\0\0")]


def test_a_packet_of_the_device_can_be_answered_in_the_guests_place(bed: Bed) -> None:
    channel = bed.open()
    Changing(bed, answers(lambda event: event.answer(b"done")))
    bed.device.channel.send(b"a question", 5, wants_completion=True)
    assert bed.device.completions == []  # not while the device still sends
    bed.guest.pass_time(1)
    assert bed.device.completions == [(5, b"done")]
    assert channel.receive() == []


def test_who_comes_after_one_that_dropped_sees_nothing(bed: Bed) -> None:
    channel = bed.open()
    Changing(bed, requests(lambda event: event.drop()))
    second: list[RingPacket] = []
    Changing(bed, second.append)
    channel.send(b"hello", 7)
    assert second == []


# ---------------------------------------------------------------- memory


def test_what_a_device_has_put_into_guest_memory_can_be_changed_before_its_completion(bed: Bed) -> None:
    def write(channel: Channel, packet: Packet) -> None:
        for view in packet.ranges[0].views(channel.memory):
            view[:] = b"x" * len(view)
        channel.complete(packet.transaction_id)

    def change(event: RingPacket) -> None:
        assert event.memory is not None
        assert (event.memory.size, event.memory.read(0, 3)) == (5000, b"xxx")
        event.memory.write(b"over the edge", 4090)

    bed.device.answer = write
    channel = bed.open()
    changing = Changing(bed, answers(change))
    pages = bed.driver.allocate(2)
    channel.send_gpa_direct(b"", [(5000, 0, pages)], 1)
    assert changing.errors == []
    memory = bed.guest.memory
    whole = b"".join(memory.read(page * PAGE_SIZE, PAGE_SIZE) for page in pages)
    assert whole[4090:4103] == b"over the edge" and whole[:3] == b"xxx"
    assert [one.changed for one in changing.seen] == ["", "changed"]


def test_memory_outside_of_the_ranges_cannot_be_reached(bed: Bed) -> None:
    def change(event: RingPacket) -> None:
        assert event.memory is not None
        event.memory.write(b"12345", 98)

    channel = bed.open()
    changing = Changing(bed, requests(change))
    (page,) = bed.driver.allocate(1)
    channel.send_gpa_direct(b"", [(100, 0, [page])], 1)
    assert changing.errors == ["5 bytes at 98 of a packet's 100 bytes of memory"]


# ---------------------------------------------------------------- injection


def test_an_injected_packet_is_there_at_once_and_shown_to_no_changer(bed: Bed) -> None:
    channel = bed.open()
    changed: list[RingPacket] = []
    changing = Changing(bed, changed.append)
    bed.device.channel.inject(b"surprise", to_guest=True)  # type: ignore[attr-defined]
    (packet,) = channel.receive()
    assert packet.payload == b"surprise" and channel.signalled()
    assert changed == [] and [one.changed for one in changing.seen] == ["injected"]


def test_an_injected_request_is_answered_to_who_injected_it(bed: Bed) -> None:
    channel = bed.open()
    got: list[bytes] = []
    number = bed.device.channel.inject(b"who", to_guest=False, done=got.append)  # type: ignore[attr-defined]
    assert bed.device.packets == []
    bed.guest.pass_time(1)
    assert bed.device.packets == [(INBAND, number, b"who")]
    assert got == [b"who"] and channel.receive() == []
    for other in range(OWED_LIMIT + 10):  # nothing is owed for it
        channel.send(b"", other, wants_completion=True)
        channel.receive()
    assert len(bed.device.packets) == OWED_LIMIT + 11


def test_the_guests_completion_of_an_injected_packet_is_not_the_devices(bed: Bed) -> None:
    channel = bed.open()
    got: list[bytes] = []
    number = bed.device.channel.inject(b"do", to_guest=True, done=got.append)  # type: ignore[attr-defined]
    (packet,) = channel.receive()
    assert packet.wants_completion
    channel.complete(number, b"did")
    assert got == [b"did\0\0\0\0\0"] and bed.device.completions == []

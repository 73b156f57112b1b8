"""The bandwidth limit: how much passes, what waits, and when the endpoint may go on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ringminus.clock import REFERENCE_HZ
from ringminus.switch.addresses import SWEEP
from ringminus.switch.bandwidth import (
    BURST_BYTES,
    BURST_TIME,
    QUEUE_BYTES,
    QUEUE_FRAMES,
    WAKE_TIME,
    TokenBucket,
    charge,
)
from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.port import BROADCAST, PortSettings
from support.endpoints import Bed, RecordingEndpoint, frame, mac
from support.ip_packets import ipv4, ipv6

MILLISECOND = REFERENCE_HZ // 1000
MBIT = 10**6
SIZE = 1250  # bytes: 10,000 bits


def sized(size: int = SIZE) -> Frame:
    return frame(payload=bytes(size - 14))


class Limited:
    """A port with a limit, and one that gets what passes."""

    def __init__(self, limit: int = 10 * MBIT) -> None:
        self.bed = Bed()
        self.sender, self.port = self.bed.plug(PortSettings(limit=limit))
        self.receiver, _ = self.bed.plug()

    def fill(self, size: int = SIZE) -> int:
        """Send until the port says that it wants no more; gives how many passed at once."""
        count = 0
        while self.sender.port.send(sized(size)):
            count += 1
        return count


@pytest.fixture
def limited() -> Limited:
    return Limited()


def test_a_bucket_holds_the_burst_and_fills_at_its_rate() -> None:
    bucket = TokenBucket(100 * MBIT, 0)
    burst = 100 * MBIT * BURST_TIME // REFERENCE_HZ // 8
    bucket.take(burst - 1)
    assert bucket.open
    bucket.take(1 + SIZE)
    assert not bucket.open
    assert bucket.wait() == WAKE_TIME
    bucket.fill(SIZE * 8 * REFERENCE_HZ // (100 * MBIT))
    assert not bucket.open, "not quite: a bucket with nothing in it is closed"
    bucket.fill(SIZE * 8 * REFERENCE_HZ // (100 * MBIT) + 1)
    assert bucket.open


def test_a_bucket_says_how_long_it_stays_closed() -> None:
    bucket = TokenBucket(8000, 0)
    bucket.take(BURST_BYTES + 999)
    wait = bucket.wait()
    bucket.fill(wait - 1)
    assert not bucket.open
    bucket.fill(wait)
    assert bucket.open
    assert wait == pytest.approx(REFERENCE_HZ, rel=0.01)


def test_another_rate_counts_from_when_it_is_set() -> None:
    bucket = TokenBucket(1000 * MBIT, 0)
    bucket.take(1000 * MBIT // 8 // 100 + 1_000_000)  # the burst, and 8 ms on credit
    bucket.set_rate(8000, 4 * MILLISECOND)
    assert bucket.wait() == pytest.approx(500 * REFERENCE_HZ, rel=0.001), "half was paid at the old rate"


def test_a_smaller_burst_holds_at_once() -> None:
    bucket = TokenBucket(1000 * MBIT, 0)
    bucket.set_rate(MBIT, 0)
    bucket.take(BURST_BYTES)
    assert not bucket.open


@pytest.mark.parametrize(
    "limit, steps", [(64_000, 5000), (MBIT, 1000), (10 * MBIT, 1000), (1000 * MBIT, 100)]
)
def test_as_much_passes_as_the_limit_says(limit: int, steps: int) -> None:
    limited = Limited(limit)
    limited.fill()
    limited.receiver.taken()
    before = limited.bed.clock.reference_time()
    for _ in range(steps):
        limited.bed.advance(MILLISECOND)
        while limited.port.waiting < 300:
            limited.sender.port.send(sized())
    passed = sum(len(one) for one in limited.receiver.frames) * 8
    seconds = (limited.bed.clock.reference_time() - before) / REFERENCE_HZ
    assert passed <= limit * seconds + SIZE * 8
    assert passed >= limit * seconds - 2 * SIZE * 8
    assert limited.port.counters.dropped == {}


def test_after_a_pause_a_bounded_burst_passes_at_once(limited: Limited) -> None:
    for _ in range(2):
        count = limited.fill()
        assert count * SIZE <= max(BURST_BYTES, 10 * MBIT // 8 // 100) + SIZE
        assert len(limited.receiver.taken()) == count
        limited.bed.advance(10 * REFERENCE_HZ)
        limited.receiver.taken()


def test_what_is_over_waits_and_then_the_endpoint_may_go_on(limited: Limited) -> None:
    limited.fill()
    limited.receiver.taken()
    assert limited.port.waiting == 1
    assert limited.sender.calls.count("resumed") == 0
    limited.bed.advance(10 * MILLISECOND)
    assert len(limited.receiver.taken()) == 1
    assert limited.sender.calls.count("resumed") == 1
    assert limited.receiver.calls[-1] == "flush"
    assert limited.bed.timers.next_deadline() == SWEEP, "only addresses age"
    assert limited.sender.port.send(sized()) is True


def test_frames_keep_their_order(limited: Limited) -> None:
    sent = [frame(payload=number.to_bytes(2, "big") + bytes(1000)) for number in range(200)]
    for one in sent:
        limited.sender.port.send(one)
    limited.bed.advance(REFERENCE_HZ)
    assert limited.receiver.frames == sent
    assert limited.sender.calls.count("resumed") == 1, "once all are gone"


def test_an_endpoint_that_goes_on_at_once_is_held_back_again(limited: Limited) -> None:
    class Eager(RecordingEndpoint):
        def resumed(self) -> None:
            super().resumed()
            while self.port.send(sized()):
                pass

    eager, port = limited.bed.plug(PortSettings(limit=10 * MBIT), Eager())
    eager.resumed()
    limited.receiver.taken()
    limited.bed.advance(REFERENCE_HZ)
    passed = sum(len(one) for one in limited.receiver.frames) * 8
    assert 9.9 * MBIT <= passed <= 10.1 * MBIT
    assert port.counters.dropped == {}


def test_who_sends_on_all_the_same_loses_frames_and_they_are_counted(limited: Limited) -> None:
    limited.fill()
    for _ in range(QUEUE_FRAMES + 9):
        assert limited.sender.port.send(sized(60)) is False
    assert limited.port.waiting == QUEUE_FRAMES
    assert limited.port.counters.dropped == {Drop.LIMIT: 10}
    limited.bed.advance(REFERENCE_HZ)
    counters = limited.port.counters
    assert counters.received_frames == len(limited.receiver.frames) + 10


def test_large_frames_that_wait_are_bounded_by_their_bytes(limited: Limited) -> None:
    limited.fill()
    for _ in range(QUEUE_BYTES // 60_000 + 5):
        limited.sender.port.send(sized(60_000))
    assert limited.port.waiting <= QUEUE_BYTES // 60_000 + 1
    assert limited.port.counters.dropped[Drop.LIMIT] >= 4


def test_a_large_frame_is_charged_for_all_that_it_stands_for() -> None:
    tcp = bytes(12) + b"\x80\x10" + bytes(18)  # with 12 bytes of options
    for headers, make in ((14 + 20 + 32, ipv4), (14 + 40 + 32, ipv6)):
        whole = make(tcp + bytes(14_480), 6)
        assert charge(Frame(whole, segment_size=1448)) == 10 * (headers + 1448)
        assert charge(Frame(whole)) == len(whole)
    assert charge(Frame(ipv4(tcp + bytes(1449), 6), segment_size=1448)) == 2 * 66 + 1449
    assert charge(Frame(ipv4(tcp + bytes(10), 6), segment_size=1448)) == 76
    assert charge(Frame(ipv4(tcp, 6), segment_size=1448)) == 66
    assert charge(Frame(b"", segment_size=1448)) == 0
    assert charge(Frame(bytes(1054), segment_size=100)) == 10 * 154, "about right for what is no TCP"


def test_large_frames_pass_no_faster_than_what_they_stand_for(limited: Limited) -> None:
    """With 100 bytes of payload in each, two fifths of the line is headers."""
    large = Frame(ipv4(bytes(12) + b"\x50\x10" + bytes(6) + bytes(10_000), 6), segment_size=100)
    limited.fill()
    limited.bed.advance(10 * MILLISECOND)
    limited.receiver.taken()
    for _ in range(QUEUE_FRAMES // 4):
        limited.sender.port.send(large)
    limited.bed.advance(REFERENCE_HZ)
    line = len(limited.receiver.frames) * 100 * 154 * 8
    assert line == pytest.approx(10 * MBIT, rel=0.03)
    large = Frame(ipv4(bytes(12) + b"\x50\x10" + bytes(6) + bytes(5000), 6), segment_size=50)
    other = Limited(10 * MBIT)
    while other.sender.port.send(large):
        pass
    assert len(other.receiver.frames) == 2, "of 10,400 bytes each; the second is on credit"


def test_a_frame_larger_than_the_burst_passes_and_is_paid_for_later(limited: Limited) -> None:
    assert limited.sender.port.send(sized(60_000)) is True
    assert limited.sender.port.send(sized(60)) is False
    limited.bed.advance(30 * MILLISECOND)
    assert len(limited.receiver.frames) == 1
    limited.bed.advance(10 * MILLISECOND)
    assert len(limited.receiver.frames) == 2


# ------------------------------------------------------------------ while frames wait


def test_a_limit_that_is_lifted_lets_all_go(limited: Limited) -> None:
    count = limited.fill() + 1
    limited.port.configure(PortSettings())
    assert len(limited.receiver.frames) == count
    assert limited.sender.calls[-1] == "resumed"
    assert limited.receiver.calls[-1] == "flush"
    assert limited.bed.timers.next_deadline() == SWEEP, "only addresses age"
    assert limited.sender.port.send(sized()) is True


def test_another_limit_counts_from_now_on(limited: Limited) -> None:
    limited.port.configure(PortSettings(limit=8000))
    limited.fill()
    limited.receiver.taken()
    limited.bed.advance(REFERENCE_HZ // 2)
    assert limited.receiver.taken() == []
    limited.port.configure(PortSettings(limit=1000 * MBIT))
    limited.bed.advance(2 * MILLISECOND)
    assert len(limited.receiver.taken()) == 1
    assert limited.sender.calls[-1] == "resumed"


def test_a_limit_may_come_under_traffic() -> None:
    limited = Limited(0)
    assert all(limited.sender.port.send(sized()) for _ in range(1000))
    limited.port.configure(PortSettings(limit=MBIT))
    assert limited.fill() * SIZE <= BURST_BYTES + SIZE


def test_what_waits_at_a_port_that_is_unplugged_is_dropped_and_counted(limited: Limited) -> None:
    limited.fill()
    limited.sender.port.send(sized())
    limited.receiver.taken()
    limited.bed.switch.unplug(limited.port)
    limited.bed.advance(REFERENCE_HZ)
    assert limited.receiver.frames == []
    assert limited.port.counters.dropped == {Drop.UNPLUGGED: 2}
    assert limited.sender.calls[-1] == "close"
    assert limited.bed.timers.next_deadline() == SWEEP, "only addresses age"


def test_what_waits_goes_by_the_settings_of_when_it_goes(limited: Limited) -> None:
    limited.fill()
    limited.receiver.taken()
    limited.port.configure(replace(limited.port.settings, link=False))
    assert limited.sender.port.send(sized()) is True, "down: dropped at once"
    limited.bed.advance(REFERENCE_HZ)
    assert limited.receiver.frames == []
    assert limited.port.counters.dropped == {Drop.LINK_DOWN: 2}
    assert limited.sender.calls[-1] == "resumed"


@pytest.mark.parametrize("lift", [True, False])
def test_the_port_may_be_changed_while_what_waited_is_delivered(limited: Limited, lift: bool) -> None:
    def change(_: Frame) -> None:
        if len(changed.frames) == 1:
            if lift:
                limited.port.configure(PortSettings())
            else:
                limited.bed.switch.unplug(limited.port)

    limited.fill()
    for _ in range(5):
        limited.sender.port.send(sized())
    changed = RecordingEndpoint(change)
    limited.bed.plug(endpoint=changed)
    limited.bed.advance(REFERENCE_HZ)
    counters = limited.port.counters
    assert len(changed.frames) == (6 if lift else 1)
    assert counters.received_frames == len(limited.receiver.frames) + sum(counters.dropped.values())
    assert limited.port.waiting == 0
    assert limited.sender.calls[-1] == ("resumed" if lift else "close")


def test_an_answer_to_a_limited_port_is_not_limited() -> None:
    limited = Limited(8000)
    limited.fill()
    for _ in range(100):
        assert limited.receiver.port.send(frame(mac(1), mac(2), bytes(1000))) is True
    assert len(limited.sender.frames) == 100


def test_dropped_frames_count_against_the_limit_too() -> None:
    bed = Bed()
    sender, port = bed.plug(PortSettings(address=mac(1), limit=MBIT))
    while sender.port.send(frame(BROADCAST, mac(66), bytes(1000))):
        pass
    assert sender.port.send(frame(BROADCAST, mac(1))) is False
    assert port.counters.dropped[Drop.SPOOFED] * 1014 >= BURST_BYTES

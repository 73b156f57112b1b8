"""Timers: who is due fires once, in order; the owner learns when the next deadline moves earlier."""

from __future__ import annotations

from ringminus.clock import NEVER, MockClock, TimerQueue, TscClock


def test_what_is_due_fires_in_order_of_deadlines() -> None:
    queue, fired = TimerQueue(), list[str]()
    for name, deadline in (("b", 20), ("a", 10), ("c", 30)):
        queue.timer(lambda now, name=name: fired.append(name)).arm(deadline)  # type: ignore[misc]
    assert queue.fire(5) == 0
    assert queue.fire(20) == 2
    assert fired == ["a", "b"]
    assert queue.next_deadline() == 30


def test_a_timer_that_is_armed_again_fires_at_its_last_deadline_only() -> None:
    queue, fired = TimerQueue(), list[int]()
    timer = queue.timer(fired.append)
    timer.arm(10)
    timer.arm(50)
    assert queue.fire(10) == 0
    timer.arm(20)
    assert (queue.fire(60), fired) == (1, [60])


def test_a_disarmed_timer_does_not_fire() -> None:
    queue = TimerQueue()
    timer = queue.timer(lambda now: None)
    timer.arm(10)
    timer.disarm()
    assert queue.next_deadline() == NEVER
    assert queue.fire(100) == 0


def test_a_timer_armed_while_timers_fire_waits_for_the_next_time() -> None:
    queue, fired = TimerQueue(), list[int]()

    def again(now: int) -> None:
        fired.append(now)
        timer.arm(now)

    timer = queue.timer(again)
    timer.arm(1)
    assert queue.fire(5) == 1
    assert queue.fire(6) == 1
    assert fired == [5, 6]


def test_the_owner_is_told_when_the_next_deadline_moves_earlier_and_only_then() -> None:
    queue, told = TimerQueue(), list[int]()
    queue.on_earlier = lambda: told.append(queue.next_deadline())
    first, second = queue.timer(lambda now: None), queue.timer(lambda now: None)
    first.arm(100)
    second.arm(200)
    second.arm(50)
    assert told == [100, 50]


def test_arming_for_ever_does_not_grow_the_queue() -> None:
    queue = TimerQueue()
    timer = queue.timer(lambda now: None)
    for deadline in range(10_000, 0, -1):
        timer.arm(deadline)
    assert len(queue._heap) <= 257
    assert queue.next_deadline() == 1


def test_the_reference_page_formula_gives_the_mock_clocks_time() -> None:
    clock = MockClock(tsc_hz=2_445_800_000)
    clock.advance(123_456_789)
    assert clock.tsc() * clock.scale >> 64 in (123_456_788, 123_456_789)


def test_a_held_clock_tells_by_how_much_the_counter_is_to_be_set_back() -> None:
    counter = [100]
    clock = TscClock(lambda: counter[0], 1_000_000_000)
    clock.hold()
    counter[0] = 150
    assert clock.tsc() == 100
    counter[0] = 170
    assert clock.release() == 70
    assert (clock.tsc(), clock.release()) == (170, 0)


def test_a_clock_that_two_hold_goes_on_when_both_have_let_it_go() -> None:
    """A debugger holds the guest, and a breakpoint's prompt comes and goes."""
    counter = [1000]
    clock = TscClock(lambda: counter[0], 10_000_000)
    clock.hold()
    counter[0] += 50
    clock.hold()
    counter[0] += 50
    assert (clock.release(), clock.tsc()) == (0, 1000)
    counter[0] += 50
    assert clock.release() == 150
    assert clock.release() == 0
    assert clock.tsc() == counter[0]

"""Synthetic timers (TLFS, timers.md, "Synthetic Timers")."""

from __future__ import annotations

import pytest

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor.stimer import MINIMUM_DELAY
from ringminus.hypervisor.wire import Message, MessageType, TimerConfig, TimerMessage
from ringminus.tap import TimerExpired
from support.hypervisor import EOM, SIM_PAGE, SIMP, Guest

CONFIG, COUNT = 0x400000B0, 0x400000B1
ENABLED, PERIODIC, LAZY, AUTO, DIRECT = 1, 2, 4, 8, 1 << 12
VECTOR = 0xED
DIRECT_ED = DIRECT | VECTOR << 4
TO_SINT2 = 2 << 16
MILLISECOND = 10_000


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    made.enable_synic(2, 0xF3)
    made.clock.advance(1000)
    return made


def fired(guest: Guest) -> int | None:
    """The vector that is offered, taken and ended."""
    vector = guest.processor.accept()
    guest.write(0x40000070, 0)
    return vector


def enabled(guest: Guest, timer: int = 0) -> bool:
    return bool(guest.read(CONFIG + 2 * timer) & ENABLED)


def messages(guest: Guest) -> list[TimerMessage]:
    """Take all timer messages as a guest does: empty the slot, and write EOM if it is flagged."""
    taken: list[TimerMessage] = []
    for _ in range(20):
        slot = Message.unpack(guest.memory.view(SIM_PAGE + 512, 256))
        if slot.header.message_type == MessageType.NONE:
            return taken
        assert slot.header.message_type == MessageType.TIMER_EXPIRED
        taken.append(TimerMessage.unpack(slot.payload))
        guest.memory.write_u32(SIM_PAGE + 512, 0)
        guest.write(EOM, 0)
    raise AssertionError("messages never end")


# ---------------------------------------------------------------- arming


def test_timers_are_disabled_at_first() -> None:
    guest = Guest()
    assert [guest.read(CONFIG + n) for n in range(8)] == [0] * 8


def test_a_count_arms_a_timer_that_enables_itself(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO)
    assert not enabled(guest)
    guest.write(COUNT, 5000)
    assert enabled(guest)
    guest.pass_time(3999)
    assert fired(guest) is None
    guest.pass_time(1)
    assert fired(guest) == VECTOR


def test_without_auto_enable_the_count_alone_does_nothing(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED)
    guest.write(COUNT, 5000)
    guest.pass_time(10_000)
    assert fired(guest) is None
    guest.write(COUNT, 20_000)
    guest.write(CONFIG, DIRECT_ED | ENABLED)
    guest.pass_time(10_000)
    assert fired(guest) == VECTOR


def test_a_one_shot_disables_itself_and_fires_once(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO)
    guest.write(COUNT, 5000)
    guest.pass_time(5000)
    assert fired(guest) == VECTOR
    assert not enabled(guest)
    guest.pass_time(50_000)
    assert fired(guest) is None


@pytest.mark.parametrize("count", [1, 999, 1000])
def test_a_count_in_the_past_fires_at_once(guest: Guest, count: int) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO)
    guest.write(COUNT, count)
    assert fired(guest) == VECTOR
    assert not enabled(guest)


def test_a_count_of_zero_stops_the_timer_whatever_auto_enable_says(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO)
    guest.write(COUNT, 5000)
    guest.write(COUNT, 0)
    assert not enabled(guest)
    guest.pass_time(10_000)
    assert fired(guest) is None


def test_a_config_without_enable_stops_the_timer(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO)
    guest.write(COUNT, 5000)
    guest.write(CONFIG, 0)
    guest.pass_time(10_000)
    assert fired(guest) is None


def test_a_new_count_replaces_the_old_one(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO)
    guest.write(COUNT, 2000)
    guest.write(COUNT, 9000)
    guest.pass_time(1000)
    assert fired(guest) is None
    guest.pass_time(7000)
    assert fired(guest) == VECTOR


def test_the_largest_count_never_comes(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO)
    guest.write(COUNT, (1 << 64) - 1)
    guest.pass_time(1 << 62)
    assert fired(guest) is None


def test_a_message_timer_without_a_sint_is_disabled_at_once(guest: Guest) -> None:
    guest.write(COUNT, 5000)
    guest.write(CONFIG, ENABLED)
    assert not enabled(guest)
    guest.write(CONFIG, AUTO)
    guest.write(COUNT, 1)
    assert not enabled(guest)
    assert fired(guest) is None


@pytest.mark.parametrize("bit", [13, 15, 20, 63])
def test_reserved_config_bits_are_gp(guest: Guest, bit: int) -> None:
    with pytest.raises(GuestException):
        guest.write(CONFIG, 1 << bit)
    assert TimerConfig.RESERVED >> bit & 1


def test_a_direct_timer_with_an_illegal_vector_fires_into_the_void(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT | 5 << 4 | AUTO)
    guest.write(COUNT, 1)
    assert fired(guest) is None


def test_the_four_timers_are_independent(guest: Guest) -> None:
    for timer in range(4):
        guest.write(CONFIG + 2 * timer, DIRECT | (0x40 + 16 * timer) << 4 | AUTO)
        guest.write(COUNT + 2 * timer, 2000 + 1000 * timer)
    for timer in range(4):
        guest.pass_time(1000)
        assert fired(guest) == 0x40 + 16 * timer
        assert [enabled(guest, other) for other in range(4)] == [other > timer for other in range(4)]


# ---------------------------------------------------------------- periods


def test_a_periodic_timer_begins_when_it_is_enabled_and_goes_on(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO | PERIODIC)
    guest.write(COUNT, MILLISECOND)
    for _ in range(5):
        guest.pass_time(MILLISECOND - 1)
        assert fired(guest) is None
        guest.pass_time(1)
        assert fired(guest) == VECTOR
    assert enabled(guest)


def expirations(guest: Guest, steps: int, step: int) -> list[int]:
    seen: list[TimerExpired] = []
    leave = guest.tap.listen(TimerExpired, seen.append)
    for _ in range(steps):
        guest.pass_time(step)
    leave()
    return [event.deadline - 1000 for event in seen]


def test_a_late_periodic_timer_catches_up_at_half_its_period(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO | PERIODIC)
    guest.write(COUNT, MILLISECOND)
    guest.pass_time(int(3.5 * MILLISECOND))  # three were due: this gives the first
    due = expirations(guest, 4, MILLISECOND // 2)  # at 4, 4.5, 5 and 5.5 ms
    assert due == [n * MILLISECOND for n in (2, 3, 4, 5)]
    assert expirations(guest, 2, MILLISECOND // 2) == [6 * MILLISECOND]  # in step again


def test_what_is_too_far_behind_is_lost(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO | PERIODIC)
    guest.write(COUNT, MILLISECOND)
    guest.pass_time(1000 * MILLISECOND)
    due = expirations(guest, 40, MILLISECOND // 2)
    assert min(due) >= 996 * MILLISECOND
    assert due == sorted(set(due))


def test_a_lazy_timer_does_not_make_up_for_what_it_missed(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO | PERIODIC | LAZY)
    guest.write(COUNT, MILLISECOND)
    guest.pass_time(int(3.5 * MILLISECOND))
    assert fired(guest) == VECTOR
    assert expirations(guest, 4, MILLISECOND // 2) == [n * MILLISECOND for n in (4, 5)]


def test_a_lazy_timer_skips_a_signal_shortly_before_the_next(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO | PERIODIC | LAZY)
    guest.write(COUNT, MILLISECOND)
    guest.pass_time(int(1.95 * MILLISECOND))
    assert fired(guest) is None
    guest.pass_time(MILLISECOND // 10)
    assert fired(guest) == VECTOR


def test_a_tiny_period_cannot_bury_the_host(guest: Guest) -> None:
    guest.write(CONFIG, DIRECT_ED | AUTO | PERIODIC)
    guest.write(COUNT, 1)
    steps = 10 * MINIMUM_DELAY
    assert len(expirations(guest, steps, 1)) <= steps // MINIMUM_DELAY


# ---------------------------------------------------------------- messages


def test_a_message_timer_tells_when_it_was_due_and_when_it_was_delivered(guest: Guest) -> None:
    guest.write(CONFIG + 6, TO_SINT2 | AUTO)
    guest.write(COUNT + 6, 2000)
    guest.pass_time(1500)
    assert fired(guest) == 0xF3
    (message,) = messages(guest)
    assert (message.timer_index, message.expiration_time, message.delivery_time) == (3, 2000, 2500)


def test_a_message_waits_for_its_slot_and_is_dated_when_it_gets_there(guest: Guest) -> None:
    guest.vp.synic.post_message(2, 1, b"in the way")
    guest.write(CONFIG, TO_SINT2 | AUTO)
    guest.write(COUNT, 2000)
    guest.pass_time(1000)
    assert Message.unpack(guest.memory.view(SIM_PAGE + 512, 256)).header.flags == 1
    guest.clock.advance(500)
    guest.memory.write_u32(SIM_PAGE + 512, 0)
    guest.write(EOM, 0)
    (message,) = messages(guest)
    assert (message.expiration_time, message.delivery_time) == (2000, 2500)


def test_a_timer_has_one_message_buffer(guest: Guest) -> None:
    guest.vp.synic.post_message(2, 1, b"in the way")
    guest.write(CONFIG, TO_SINT2 | AUTO | PERIODIC)
    guest.write(COUNT, MILLISECOND)
    for _ in range(5):
        guest.pass_time(MILLISECOND)
    guest.memory.write_u32(SIM_PAGE + 512, 0)
    guest.write(EOM, 0)
    assert [message.expiration_time for message in messages(guest)] == [1000 + 5 * MILLISECOND]


def test_a_new_config_takes_the_waiting_message_back(guest: Guest) -> None:
    guest.vp.synic.post_message(2, 1, b"in the way")
    guest.write(CONFIG, TO_SINT2 | AUTO)
    guest.write(COUNT, 1)
    guest.write(CONFIG, 0)
    guest.memory.write_u32(SIM_PAGE + 512, 0)
    guest.write(EOM, 0)
    assert messages(guest) == []


def test_a_message_without_a_sim_page_comes_when_there_is_one(guest: Guest) -> None:
    guest.write(SIMP, 0)
    guest.write(CONFIG, TO_SINT2 | AUTO)
    guest.write(COUNT, 1)
    guest.write(SIMP, SIM_PAGE | 1)
    assert len(messages(guest)) == 1


def test_the_tap_sees_expirations(guest: Guest) -> None:
    seen: list[TimerExpired] = []
    guest.tap.listen(TimerExpired, seen.append)
    guest.write(CONFIG + 2, DIRECT_ED | AUTO)
    guest.write(COUNT + 2, 3000)
    guest.pass_time(2500)
    assert [(e.timer, e.deadline, e.time) for e in seen] == [("stimer1", 3000, 3500)]

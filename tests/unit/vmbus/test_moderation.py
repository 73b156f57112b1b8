"""When a guest is interrupted at once, and when several answers share an interrupt."""

from __future__ import annotations

from itertools import pairwise

from ringminus.vmbus.moderation import MOST, OLD, PATIENCE, SELDOM, SOON, Moderation, Patience

PROMPT, LATE = 100, PATIENCE + 1


class Guest:
    """Rings a moderated channel; `told` are the numbers of doorbells that its interrupts were for."""

    def __init__(self, moderation: Moderation | None = None) -> None:
        self.moderation = Moderation() if moderation is None else moderation
        self.now = 0
        self.waiting = 0
        self.told: list[int] = []

    def ring(self, after: int = PROMPT) -> None:
        self.now += after
        self.waiting += 1
        if self.moderation.tell_now(self.now):
            self.interrupted()

    def leave(self, *, halted: bool, after: int = PROMPT) -> None:
        """The worker's part: it is called only while something is held."""
        self.now += after
        if self.waiting and self.moderation.guest_left(self.now, halted):
            self.interrupted()

    def comes(self) -> None:
        """A frame for the guest, of which it is told at once."""
        if self.waiting:
            self.moderation.came()
        self.interrupted()

    def idles(self) -> None:
        """Nothing comes."""
        if self.waiting:
            self.moderation.nothing_came()
            self.interrupted()

    def interrupted(self) -> None:
        self.moderation.told()
        self.told.append(self.waiting)
        self.waiting = 0


def one_at_a_time(guest: Guest, count: int) -> None:
    for _ in range(count):
        guest.ring()
        guest.leave(halted=True)


def test_a_guest_with_one_request_at_a_time_is_interrupted_for_each() -> None:
    guest = Guest()
    one_at_a_time(guest, 2 * SELDOM)
    assert set(guest.told) == {1}
    assert guest.moderation.goal == 1


def test_attempts_that_fail_become_seldom() -> None:
    guest = Guest()
    attempts = []
    for number in range(4 * SELDOM):
        guest.ring()
        if guest.waiting:
            attempts.append(number)
        guest.leave(halted=True)
    gaps = [second - first for first, second in pairwise(attempts)]
    assert attempts[0] == SOON - 1
    assert gaps == sorted(gaps)
    assert gaps[-1] == SELDOM


def test_a_guest_with_many_to_give_shares_interrupts_more_and_more() -> None:
    guest = Guest()
    for _ in range(SOON + 10 * MOST):
        guest.ring()
    assert guest.told[SOON - 1 :][:3] == [2, 4, 8]
    assert set(guest.told[SOON + 3 :]) == {MOST}


def test_a_guest_that_halts_after_a_few_has_fewer_interrupts_than_requests() -> None:
    guest = Guest()
    for _ in range(200):
        for _ in range(5):
            guest.ring()
        guest.leave(halted=True)
    assert sum(guest.told) == 1000
    assert len(guest.told[SOON:]) < (1000 - SOON) / 2
    assert max(guest.told) <= 5


def test_a_guest_that_goes_on_with_other_work_is_told_soon_and_then_at_once() -> None:
    guest = Guest()
    for _ in range(SOON + 2 * MOST):
        guest.ring()
    while guest.moderation.goal > 1:
        guest.ring()
        guest.leave(halted=False, after=LATE)
    assert guest.waiting == 0
    one = len(guest.told)
    guest.ring(LATE)
    assert guest.told[one:] == [1]


def test_a_doorbell_that_comes_late_tells_of_all_that_waited() -> None:
    guest = Guest()
    for _ in range(SOON):
        guest.ring()
    assert guest.waiting == 1
    guest.ring(LATE)
    assert guest.told[-1] == 2
    assert guest.moderation.goal == 1


def test_a_short_stop_of_the_guest_changes_nothing() -> None:
    """A tick of its clock, say."""
    guest = Guest()
    while guest.moderation.goal < MOST or guest.waiting:
        guest.ring()
    guest.ring()
    guest.leave(halted=False)
    assert guest.told[-1] == 1
    assert guest.moderation.goal == MOST


def test_the_time_is_asked_only_when_it_matters() -> None:
    guest = Guest()
    assert not guest.moderation.needs_time
    for _ in range(SOON - 1):
        guest.ring()
    assert guest.moderation.needs_time


def patient() -> Guest:
    """One that does not wait for the answers, after its first messages."""
    sender = Guest(Patience())
    while sender.moderation.tell_now(0):
        sender.moderation.told()
    sender.moderation.told()
    return sender


def test_a_sender_is_told_with_what_comes_back() -> None:
    sender = patient()
    for _ in range(1000):
        sender.ring()
        sender.leave(halted=True)
        sender.comes()
    assert sender.told == [1] * 1000


def test_a_sender_to_whom_nothing_comes_is_told_at_once_for_a_while() -> None:
    sender = patient()
    held = []
    for number in range(4 * SELDOM):
        sender.ring()
        if sender.waiting:
            sender.leave(halted=True)
        if sender.waiting:
            held.append(number)
        sender.idles()
    assert sum(sender.told) == 4 * SELDOM
    gaps = [second - first for first, second in pairwise(held)]
    assert gaps == sorted(gaps) and gaps[0] >= SOON and gaps[-1] >= SELDOM


def test_a_sender_of_much_is_told_sometimes() -> None:
    sender = patient()
    for _ in range(10 * MOST):
        sender.ring()
    assert sender.told == [MOST] * 10


def test_a_sender_that_has_other_work_is_told_when_it_leaves() -> None:
    sender = patient()
    sender.ring()
    sender.leave(halted=False)
    assert sender.told == [1]


def test_answers_do_not_become_old() -> None:
    sender = patient()
    sender.ring()
    sender.leave(halted=True, after=OLD + 1)
    assert sender.told == [1]


def test_the_first_messages_are_awaited() -> None:
    sender = Guest(Patience())
    for _ in range(SOON - 1):
        sender.ring()
    assert sender.told == [1] * (SOON - 1)

"""Interrupts that a guest ends without an exit, by the bit in its VP assist page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringminus.hypervisor.apic_queue import NO_EOI_REQUIRED, InterruptQueue
from ringminus.hypervisor.overlay import Overlay
from ringminus.memory import MIB, PAGE_SIZE, GuestMemory
from support.interrupt_target import Target

PAGE = 5 * PAGE_SIZE
ELSEWHERE = 9 * PAGE_SIZE


class Guest:
    """A queue and a guest that uses its assist page as Linux does, or has none."""

    def __init__(self, assisted: bool = True) -> None:
        self.processor = Target()
        self.queue = InterruptQueue(self.processor)
        self.memory = GuestMemory(2 * MIB)
        self.page = Overlay(self.memory)
        self.exits = 0
        self.ended: list[int] = []
        self.queue.on_eoi.append(self.ended.append)
        if assisted:
            self.move(PAGE)

    def move(self, gpa: int | None) -> None:
        self.queue.set_assist(self.page)
        if gpa is None:
            self.page.hide()
        else:
            self.page.show(gpa)
        self.queue.set_assist(self.page)

    def may_end_alone(self) -> bool:
        return self.page.gpa is not None and bool(self.memory.read(self.page.gpa, 1)[0] & NO_EOI_REQUIRED)

    def take(self) -> int | None:
        return self.processor.take()

    def end(self) -> None:
        if self.may_end_alone():
            assert self.page.gpa is not None
            self.memory.write_u32(self.page.gpa, 0)
        else:
            self.exits += 1
            self.queue.eoi()

    def save_and_restore(self) -> None:
        state = self.queue.save_queue()
        assert not self.may_end_alone()
        self.queue.restore_queue(state)
        self.queue.set_assist(self.page)


def test_an_interrupt_behind_which_nothing_waits_is_ended_without_an_exit() -> None:
    guest = Guest()
    for vector in (0x41, 0x41, 0x61, 0x31):
        guest.queue.add(vector, False, False)
        assert guest.take() == vector
        guest.end()
    assert not guest.queue.has_pending()
    assert (guest.exits, guest.queue.isr, guest.queue.irr) == (0, 0, 0)
    assert guest.ended == [0x41, 0x41, 0x61, 0x31]


def test_one_that_comes_while_another_is_in_service_needs_the_exit() -> None:
    guest = Guest()
    guest.queue.add(0x41, False, False)
    assert guest.take() == 0x41
    guest.queue.add(0x42, False, False)
    assert not guest.may_end_alone() and guest.processor.offer is None
    guest.end()
    assert guest.exits == 1
    assert guest.take() == 0x42 and guest.may_end_alone()


def test_two_that_wait_need_an_exit_between_them() -> None:
    guest = Guest()
    guest.queue.add(0x41, False, False)
    guest.queue.add(0x61, False, False)
    assert guest.take() == 0x61 and not guest.may_end_alone()
    guest.end()
    assert guest.take() == 0x41 and guest.may_end_alone()
    guest.end()
    assert guest.exits == 1


def test_level_triggered_and_auto_eoi_interrupts_are_as_ever() -> None:
    guest = Guest()
    guest.queue.add(0x41, False, True)
    assert guest.take() == 0x41 and not guest.may_end_alone()
    guest.end()
    assert guest.ended == [0x41]
    guest.queue.add(0x41, True, False)
    assert guest.take() == 0x41 and not guest.may_end_alone()


def test_an_explicit_end_is_one_too() -> None:
    guest = Guest()
    guest.queue.add(0x41, False, False)
    assert guest.take() == 0x41 and guest.may_end_alone()
    guest.queue.eoi()
    assert guest.queue.isr == 0 and not guest.may_end_alone() and guest.ended == [0x41]


def test_a_page_that_goes_takes_the_permission_with_it() -> None:
    guest = Guest()
    guest.queue.add(0x41, False, False)
    guest.move(None)
    assert guest.memory.read(PAGE, 1) == b"\0"
    assert guest.take() == 0x41
    guest.end()
    assert guest.exits == 1 and guest.queue.isr == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("raise"), st.sampled_from([0x31, 0x41, 0x42, 0x61, 0xF3]), st.sampled_from("eal")),
        st.sampled_from(["take", "take", "end", "end", "look", "save", "move", "hide"]),
        st.tuples(st.just("priority"), st.sampled_from([0, 0x40, 0xF0])),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_guest_takes_and_ends_the_same_with_a_page_and_without(steps: list[object]) -> None:
    guests = Guest(), Guest(assisted=False)
    in_service = 0
    for step in steps:
        match step:
            case ("raise", int(vector), str(kind)):
                for guest in guests:
                    guest.queue.add(vector, kind == "a", kind == "l")
            case ("priority", int(priority)):
                for guest in guests:
                    guest.queue.set_tpr(priority)
            case "take":
                vectors = [guest.take() for guest in guests]
                assert vectors[0] == vectors[1]
                for guest in guests:
                    guest.queue.sync()
                in_service = guests[1].queue.isr.bit_count()
            case "end" if in_service:
                for guest in guests:
                    guest.end()
                in_service -= 1
            case "look":
                assert guests[0].queue.has_pending() == guests[1].queue.has_pending()
            case "save":
                for guest in guests:
                    guest.save_and_restore()
            case "move" | "hide":
                guests[0].move(ELSEWHERE if step == "move" else None)
    for guest in guests:
        guest.queue.sync()
    assert guests[0].queue.save_queue() == guests[1].queue.save_queue()
    assert guests[0].ended == guests[1].ended
    assert guests[0].exits <= guests[1].exits

"""The synthetic interrupt controller (TLFS, inter-partition-communication.md)."""

from __future__ import annotations

import pytest

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.synic import QUEUE_LIMIT
from ringminus.hypervisor.wire import Message, Sint
from ringminus.tap import EventSignal, SynicMessage
from support.hypervisor import (
    EOI,
    EOM,
    MEMORY_SIZE,
    SCONTROL,
    SIEF_PAGE,
    SIEFP,
    SIM_PAGE,
    SIMP,
    SINT0,
    Guest,
)

SINT, VECTOR, VMBUS = 2, 0xF3, 1


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    made.enable_synic(SINT, VECTOR)
    return made


def post(guest: Guest, payload: bytes = b"x", sint: int = SINT) -> HvStatus:
    return guest.vp.synic.post_message(sint, VMBUS, payload)


def slot(guest: Guest, sint: int = SINT) -> Message:
    return Message.unpack(guest.memory.view(SIM_PAGE + 256 * sint, 256))


def take(guest: Guest, sint: int = SINT) -> Message:
    """What the guest's interrupt handler does: copy the message, and empty the slot."""
    message = slot(guest, sint)
    guest.memory.write_u32(SIM_PAGE + 256 * sint, 0)
    return message


def end_interrupt(guest: Guest) -> int | None:
    vector = guest.processor.accept()
    guest.write(EOI, 0)
    return vector


# ---------------------------------------------------------------- registers


def test_after_reset_everything_is_disabled_and_masked() -> None:
    guest = Guest()
    assert [guest.read(msr) for msr in (SCONTROL, SIEFP, SIMP, EOM)] == [0, 0, 0, 0]
    assert {guest.read(SINT0 + n) for n in range(16)} == {0x10000}
    assert guest.read(0x40000081) == 1


@pytest.mark.parametrize("msr", [SCONTROL, SIEFP, SIMP])
def test_reserved_bits_are_preserved(msr: int) -> None:
    guest = Guest()
    guest.write(msr, 0xFFF0_0000_0000_0FFE)
    assert guest.read(msr) == 0xFFF0_0000_0000_0FFE


def test_a_vector_below_16_is_gp_unless_masked() -> None:
    guest = Guest()
    with pytest.raises(GuestException):
        guest.write(SINT0 + 1, 15)
    guest.write(SINT0 + 1, 15 | Sint.MASKED)
    guest.write(SINT0 + 1, 16)
    assert guest.read(SINT0 + 1) == 16


# ---------------------------------------------------------------- messages


def test_a_message_is_copied_to_its_slot_and_raises_the_vector(guest: Guest) -> None:
    assert guest.vp.synic.post_message(SINT, VMBUS, b"offer", origin=9) == HvStatus.SUCCESS
    message = slot(guest)
    assert (message.header.message_type, message.header.payload_size) == (VMBUS, 5)
    assert (message.header.flags, message.header.origin, message.payload[:5]) == (0, 9, b"offer")
    assert guest.processor.offered == VECTOR


@pytest.mark.parametrize(("msr", "value"), [(SCONTROL, 0), (SIMP, SIM_PAGE)])
def test_a_disabled_synic_or_page_takes_no_messages(guest: Guest, msr: int, value: int) -> None:
    guest.write(msr, value)
    assert post(guest) == HvStatus.INVALID_SYNIC_STATE


def test_a_message_for_a_busy_slot_waits_and_flags_the_slot(guest: Guest) -> None:
    post(guest, b"first")
    assert not slot(guest).header.flags
    post(guest, b"second")
    assert slot(guest).header.flags == 1
    assert slot(guest).payload[:5] == b"first"
    assert guest.vp.synic.queued(SINT) == 1


def test_eom_delivers_what_waits(guest: Guest) -> None:
    for text in (b"first", b"second", b"third"):
        post(guest, text)
    end_interrupt(guest)
    assert take(guest).payload[:5] == b"first"
    guest.write(EOM, 0)
    assert guest.processor.offered == VECTOR
    second = take(guest)
    assert (second.payload[:6], second.header.flags) == (b"second", 1)  # there is a third
    guest.write(EOM, 0)
    third = take(guest)
    assert (third.payload[:5], third.header.flags) == (b"third", 0)
    guest.write(EOM, 0)
    assert slot(guest).header.message_type == 0


def test_eom_does_not_overwrite_a_message_that_was_not_taken(guest: Guest) -> None:
    post(guest, b"first")
    post(guest, b"second")
    guest.write(EOM, 0)
    assert slot(guest).payload[:5] == b"first"


def test_eoi_delivers_what_waits(guest: Guest) -> None:
    post(guest, b"first")
    post(guest, b"second")
    guest.processor.accept()
    take(guest)
    guest.write(EOI, 0)
    assert slot(guest).payload[:6] == b"second"
    assert guest.processor.offered == VECTOR


def test_another_message_delivers_what_waits(guest: Guest) -> None:
    post(guest, b"first")
    post(guest, b"second")
    take(guest)
    post(guest, b"third")
    assert slot(guest).payload[:6] == b"second"


def test_a_masked_sint_gets_its_message_but_no_interrupt(guest: Guest) -> None:
    guest.write(SINT0 + SINT, VECTOR | Sint.MASKED)
    assert post(guest) == HvStatus.SUCCESS
    assert slot(guest).header.message_type == VMBUS
    assert guest.processor.offered is None


def test_polling_unmasks_without_an_interrupt(guest: Guest) -> None:
    guest.write(SINT0 + SINT, VECTOR | Sint.MASKED | Sint.POLLING)
    assert post(guest) == HvStatus.SUCCESS
    assert guest.vp.synic.signal_event(SINT, 1) == HvStatus.SUCCESS
    assert guest.processor.offered is None


def test_with_auto_eoi_the_guest_need_not_end_the_interrupt(guest: Guest) -> None:
    guest.write(SINT0 + SINT, VECTOR | Sint.AUTO_EOI)
    post(guest)
    guest.processor.accept()
    guest.vp.apic.sync()
    assert guest.vp.apic.isr == 0
    guest.write(SINT0 + SINT, VECTOR)
    take(guest)
    post(guest)
    guest.processor.accept()
    guest.vp.apic.sync()
    assert guest.vp.apic.isr == 1 << VECTOR


def test_queues_are_bounded(guest: Guest) -> None:
    answers = [post(guest) for _ in range(QUEUE_LIMIT + 2)]
    assert answers == [HvStatus.SUCCESS] * (QUEUE_LIMIT + 1) + [HvStatus.INSUFFICIENT_BUFFERS]
    assert guest.vp.synic.queued(SINT) == QUEUE_LIMIT


def test_each_sint_has_its_own_slot_and_queue(guest: Guest) -> None:
    guest.write(SINT0 + 5, 0x55)
    post(guest, b"two")
    post(guest, b"five", sint=5)
    assert (slot(guest, 2).payload[:3], slot(guest, 5).payload[:4]) == (b"two", b"five")


@pytest.mark.parametrize("gpa", [MEMORY_SIZE, 0xFEE00000, 0xFFFF_FFFF_FFFF_F000])
def test_pages_where_there_is_no_ram_swallow_everything(guest: Guest, gpa: int) -> None:
    """TLFS: "the page will not be accessible to the guest"."""
    guest.write(SIMP, gpa | 1)
    guest.write(SIEFP, gpa | 1)
    assert post(guest) == HvStatus.SUCCESS
    assert guest.vp.synic.signal_event(SINT, 3) == HvStatus.SUCCESS
    guest.write(EOM, 0)
    assert guest.processor.offered is None


def test_a_message_that_waits_for_a_page_comes_when_there_is_one(guest: Guest) -> None:
    guest.write(SIMP, MEMORY_SIZE | 1)
    post(guest, b"late")
    guest.write(SIMP, SIM_PAGE | 1)
    assert slot(guest).payload[:4] == b"late"


def test_the_pages_are_overlays(guest: Guest) -> None:
    other = 0x50000
    guest.memory.write(other, b"mine")
    post(guest, b"moves along")
    guest.write(SIMP, other | 1)
    assert Message.unpack(guest.memory.view(other + 512, 256)).payload[:5] == b"moves"
    guest.write(SIMP, other)
    assert guest.memory.read(other, 4) == b"mine"


def test_an_impossible_message_is_our_own_mistake(guest: Guest) -> None:
    with pytest.raises(ValueError, match="241 bytes"):
        post(guest, bytes(241))
    with pytest.raises(ValueError, match="type 0x0"):
        guest.vp.synic.post_message(SINT, 0, b"")


# ---------------------------------------------------------------- event flags


def flag_is_set(guest: Guest, flag: int, sint: int = SINT) -> bool:
    return bool(guest.memory.read(SIEF_PAGE + 256 * sint + flag // 8, 1)[0] >> flag % 8 & 1)


@pytest.mark.parametrize("flag", [0, 7, 8, 2047])
def test_an_event_sets_its_flag_and_raises_the_vector(guest: Guest, flag: int) -> None:
    assert guest.vp.synic.signal_event(SINT, flag) == HvStatus.SUCCESS
    assert flag_is_set(guest, flag)
    assert guest.processor.offered == VECTOR


def test_a_flag_that_is_set_raises_nothing(guest: Guest) -> None:
    guest.vp.synic.signal_event(SINT, 5)
    end_interrupt(guest)
    guest.vp.synic.signal_event(SINT, 5)
    assert guest.processor.offered is None
    guest.vp.synic.signal_event(SINT, 6)
    assert guest.processor.offered == VECTOR


@pytest.mark.parametrize(
    ("msr", "value"), [(SCONTROL, 0), (SIEFP, SIEF_PAGE), (SINT0 + SINT, VECTOR | Sint.MASKED)]
)
def test_events_need_synic_page_and_an_unmasked_sint(guest: Guest, msr: int, value: int) -> None:
    guest.write(msr, value)
    assert guest.vp.synic.signal_event(SINT, 1) == HvStatus.INVALID_SYNIC_STATE
    assert guest.processor.offered is None


# ---------------------------------------------------------------- observation


def test_the_tap_sees_messages_wait_and_arrive(guest: Guest) -> None:
    seen: list[SynicMessage] = []
    signals: list[EventSignal] = []
    guest.tap.listen(SynicMessage, seen.append)
    guest.tap.listen(EventSignal, signals.append)
    post(guest, b"a")
    post(guest, b"b")
    take(guest)
    guest.write(EOM, 0)
    assert [(e.payload, e.delivered) for e in seen] == [(b"a", True), (b"b", False), (b"b", True)]
    guest.vp.synic.signal_event(SINT, 9)
    guest.vp.synic.signal_event(SINT, 9)
    assert [(e.flag, e.raised) for e in signals] == [(9, True), (9, False)]

"""What becomes of the hypervisor's events when somebody changes them (see `ringminus.changes`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import EVENT_FLAGS_SIZE, MESSAGE_SIZE, MessageHeader
from ringminus.tap import (
    Event,
    EventSignal,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    PortIo,
    SynicMessage,
    TimerExpired,
)
from support.hypervisor import EOM, GUEST_OS_ID, SIEF_PAGE, SIM_PAGE, SINT0, Guest

E = TypeVar("E", bound=Event)
SECOND = 10_000_000
VP_INDEX, TIME_REF_COUNT = 0x40000002, 0x40000020
SINT, VECTOR = 2, 0xF3
GET_PARTITION_ID, NOTIFY_LONG_SPIN_WAIT, POST_MESSAGE, FAST = 0x46, 0x08, 0x5C, 1 << 16


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    made.name_itself()
    made.enable_synic(SINT, VECTOR)
    return made


def change(guest: Guest, kind: type[E], act: Callable[[E], None], *, before: bool = False) -> list[E]:
    """Changes events; gives what listeners are told."""
    told: list[E] = []

    def failed(_event: E, error: Exception) -> None:
        raise AssertionError(f"the changer failed: {error}")

    guest.tap.change(kind, act, failed, before=before)
    guest.tap.listen(kind, told.append)
    return told


# ---------------------------------------------------------------- MSRs


def test_a_read_gives_the_value_that_was_set(guest: Guest) -> None:
    def act(event: MsrAccess) -> None:
        event.value += 5

    told = change(guest, MsrAccess, act)
    assert guest.read(VP_INDEX) == 5
    assert (told[0].value, told[0].changed) == (5, "changed")
    original = told[0].original
    assert isinstance(original, MsrAccess) and original.value == 0


def test_a_register_that_is_not_there_can_be_answered(guest: Guest) -> None:
    told = change(guest, MsrAccess, lambda event: event.answer(0xABC))
    assert guest.read(0x12345) == 0xABC
    assert (told[0].fault, told[0].changed) == (False, "answered")


def test_a_read_can_be_given_a_fault(guest: Guest) -> None:
    told = change(guest, MsrAccess, lambda event: event.answer(fault=True))
    with pytest.raises(GuestException):
        guest.read(VP_INDEX)
    assert told[0].fault


def test_a_write_has_the_value_that_was_set_before_it_is_carried_out(guest: Guest) -> None:
    def act(event: MsrAccess) -> None:
        event.value = 0x45

    told = change(guest, MsrAccess, act, before=True)
    guest.write(SINT0 + 3, 0x99)
    assert guest.vp.synic.read_sint(3) == 0x45
    assert [(one.value, one.changed) for one in told] == [(0x45, "changed")]


def test_a_dropped_write_does_nothing(guest: Guest) -> None:
    told = change(guest, MsrAccess, lambda event: event.drop(), before=True)
    before = guest.vp.synic.read_sint(3)
    guest.write(SINT0 + 3, 0x99)
    guest.write(0x12345, 1)  # not even a fault
    assert guest.vp.synic.read_sint(3) == before
    assert [one.changed for one in told] == ["dropped", "dropped"]


def test_a_write_can_be_given_a_fault(guest: Guest) -> None:
    told = change(guest, MsrAccess, lambda event: event.answer(fault=True), before=True)
    with pytest.raises(GuestException):
        guest.write(SINT0 + 3, 0x99)
    assert (told[0].fault, told[0].changed) == (True, "answered")


def test_a_changed_write_is_checked_like_any(guest: Guest) -> None:
    def act(event: MsrAccess) -> None:
        event.value = 5  # no vector that an interrupt may have

    told = change(guest, MsrAccess, act, before=True)
    with pytest.raises(GuestException):
        guest.write(SINT0 + 3, 0x99)
    assert (told[0].fault, told[0].changed) == (True, "changed")


# ---------------------------------------------------------------- hypercalls


def test_an_answered_hypercall_is_not_carried_out(guest: Guest) -> None:
    told = change(guest, Hypercall, lambda event: event.answer(HvStatus.ACCESS_DENIED), before=True)
    assert guest.hypercall(NOTIFY_LONG_SPIN_WAIT | FAST) == HvStatus.ACCESS_DENIED
    assert [(one.status, one.changed) for one in told] == [("ACCESS_DENIED", "answered")]


def test_a_dropped_hypercall_succeeds_and_does_nothing(guest: Guest) -> None:
    told = change(guest, Hypercall, lambda event: event.drop(), before=True)
    assert guest.hypercall(0x7777) == HvStatus.SUCCESS
    assert told[0].changed == "dropped"


def test_a_result_can_be_changed(guest: Guest) -> None:
    def act(event: Hypercall) -> None:
        assert event.status == "INVALID_HYPERCALL_CODE"
        event.result = 0x4444

    told = change(guest, Hypercall, act)
    assert guest.hypercall(0x7777) == 0x4444
    assert (told[0].status, told[0].changed) == ("0x4444", "changed")


def test_a_call_is_made_with_the_input_that_was_set(guest: Guest) -> None:
    """The guest's own input, in memory or registers, stays as it is."""
    got: list[bytes] = []

    def act(event: Hypercall) -> None:
        event.block = event.block[:16] + b"HELLO" + event.block[21:]

    def receive(_type: int, payload: bytes) -> HvStatus:
        got.append(payload)
        return HvStatus.SUCCESS

    from ringminus.hypervisor.ports import MessagePort
    from ringminus.hypervisor.wire import PostMessageInput
    from support.hypervisor import INPUT_PAGE

    guest.partition.connections.connect(9, MessagePort(receive))
    change(guest, Hypercall, act, before=True)
    call = PostMessageInput(
        connection_id=9, reserved=0, message_type=1, payload_size=5, payload=b"hello"
    ).pack()
    assert guest.call_with(POST_MESSAGE, call) == HvStatus.SUCCESS
    assert got == [b"HELLO"]
    assert guest.memory.read(INPUT_PAGE + 16, 5) == b"hello"


def test_another_call_can_be_made_of_one(guest: Guest) -> None:
    def act(event: Hypercall) -> None:
        event.control = NOTIFY_LONG_SPIN_WAIT | FAST

    told = change(guest, Hypercall, act, before=True)
    assert guest.hypercall(0x7777 | FAST) == HvStatus.SUCCESS
    assert (told[0].name, told[0].changed) == ("HvCallNotifyLongSpinWait", "changed")


def test_a_fast_call_has_the_block_that_was_set(guest: Guest) -> None:
    signals: list[int] = []
    from ringminus.hypervisor.ports import EventPort

    guest.partition.connections.connect(
        5,
        EventPort(lambda flag: signals.append(flag) or HvStatus.SUCCESS, 64),  # type: ignore[func-returns-value]
    )

    def act(event: Hypercall) -> None:
        event.block = (5 | 7 << 32).to_bytes(8, "little")

    change(guest, Hypercall, act, before=True)
    assert guest.hypercall(0x5D | FAST, 6) == HvStatus.SUCCESS
    assert signals == [7]


# ---------------------------------------------------------------- signals, messages, interrupts


def flags(guest: Guest) -> set[int]:
    page = guest.memory.read(SIEF_PAGE + SINT * EVENT_FLAGS_SIZE, EVENT_FLAGS_SIZE)
    bits = int.from_bytes(page, "little")
    return {flag for flag in range(bits.bit_length()) if bits >> flag & 1}


def slot(guest: Guest) -> tuple[int, bytes]:
    """The type and the payload of the message in the slot."""
    at = SIM_PAGE + SINT * MESSAGE_SIZE
    header = MessageHeader.unpack(guest.memory.read(at, MessageHeader.SIZE))
    return header.message_type, guest.memory.read(at + MessageHeader.SIZE, header.payload_size)


def empty_slot(guest: Guest) -> None:
    guest.memory.write_u32(SIM_PAGE + SINT * MESSAGE_SIZE, 0)
    guest.write(EOM, 0)


def test_a_signal_can_be_dropped_delayed_and_moved(guest: Guest) -> None:
    def act(event: EventSignal) -> None:
        if event.flag == 1:
            event.drop()
        elif event.flag == 2:
            event.delay(1)
        else:
            event.flag = 40

    told = change(guest, EventSignal, act)
    for flag in (1, 2, 3):
        assert guest.vp.synic.signal_event(SINT, flag) is HvStatus.SUCCESS
    assert flags(guest) == {40}
    guest.pass_time(SECOND)
    assert flags(guest) == {40, 2}
    assert [(one.flag, one.raised, one.changed) for one in told] == [
        (1, False, "dropped"),
        (40, True, "changed"),
        (2, True, "delayed"),
    ]


def test_a_duplicated_signal_finds_its_flag_set(guest: Guest) -> None:
    told = change(guest, EventSignal, lambda event: event.duplicate())
    guest.vp.synic.signal_event(SINT, 3)
    assert [one.raised for one in told] == [True, False]
    assert told[1].cause == told[0].sequence


def test_a_message_can_be_changed_when_its_slot_is_free(guest: Guest) -> None:
    def act(event: SynicMessage) -> None:
        event.payload = event.payload.upper()

    change(guest, SynicMessage, act)
    guest.vp.synic.post_message(SINT, 1, b"one")
    guest.vp.synic.post_message(SINT, 1, b"two")
    assert slot(guest) == (1, b"ONE")
    empty_slot(guest)
    assert slot(guest) == (1, b"TWO")


def test_after_a_dropped_message_the_next_takes_the_slot(guest: Guest) -> None:
    told = change(guest, SynicMessage, lambda event: event.drop() if event.payload == b"one" else None)
    guest.vp.synic.post_message(SINT, 1, b"one")
    assert slot(guest)[0] == 0 and guest.processor.accept() is None
    guest.vp.synic.post_message(SINT, 1, b"two")
    assert slot(guest) == (1, b"two") and guest.processor.accept() == VECTOR
    assert [(one.payload, one.changed) for one in told] == [(b"one", "dropped"), (b"two", "")]


def test_a_delayed_message_goes_to_the_end_of_the_queue(guest: Guest) -> None:
    told = change(guest, SynicMessage, lambda event: event.delay(1) if event.payload == b"one" else None)
    for text in (b"one", b"two", b"three"):
        guest.vp.synic.post_message(SINT, 1, text)
    guest.pass_time(SECOND)
    seen = []
    for _ in range(3):
        seen.append(slot(guest)[1])
        empty_slot(guest)
    assert seen == [b"two", b"three", b"one"]
    assert [one.changed for one in told if one.payload == b"one"] == ["delayed"]


def test_a_duplicated_message_comes_twice(guest: Guest) -> None:
    change(guest, SynicMessage, lambda event: event.duplicate())
    guest.vp.synic.post_message(SINT, 1, b"one")
    assert slot(guest) == (1, b"one")
    empty_slot(guest)
    assert slot(guest) == (1, b"one")
    empty_slot(guest)
    assert slot(guest)[0] == 0


def test_an_interrupt_can_be_another_or_none(guest: Guest) -> None:
    def act(event: Interrupt) -> None:
        if event.vector == 0x50:
            event.drop()
        event.vector = 0x61

    told = change(guest, Interrupt, act)
    guest.vp.apic.raise_vector(0x50, "test")
    assert guest.processor.accept() is None
    guest.vp.apic.raise_vector(0x51, "test")
    assert guest.processor.accept() == 0x61
    assert [one.changed for one in told] == ["changed,dropped", "changed"]


def test_an_interrupt_comes_late(guest: Guest) -> None:
    change(guest, Interrupt, lambda event: event.delay(0.5))
    guest.vp.apic.raise_vector(0x51, "test")
    assert guest.processor.accept() is None
    guest.pass_time(SECOND // 2)
    assert guest.processor.accept() == 0x51


def test_a_timer_whose_expiry_is_dropped_says_nothing(guest: Guest) -> None:
    told = change(guest, TimerExpired, lambda event: event.drop())
    guest.write(0x400000B1, SECOND)  # STIMER0_COUNT: when
    guest.write(0x400000B0, 1 | SINT << 16)  # STIMER0_CONFIG: on, to that SINT
    guest.pass_time(2 * SECOND)
    assert [one.changed for one in told] == ["dropped"]
    assert slot(guest)[0] == 0


# ---------------------------------------------------------------- ports and memory-mapped devices


class Latch:
    """A device that keeps what is written, and reads as 0x55."""

    def __init__(self) -> None:
        self.written: list[int] = []

    def port_in(self, port: int, size: int) -> int:
        return 0x55

    def port_out(self, port: int, size: int, value: int) -> None:
        self.written.append(value)

    def mmio_read(self, offset: int, size: int) -> int:
        return 0x55

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        self.written.append(value)


@pytest.mark.parametrize("kind", [PortIo, MmioAccess])
def test_accesses_of_devices(guest: Guest, kind: type[PortIo] | type[MmioAccess]) -> None:
    latch = Latch()
    guest.partition.ports.register(0x300, 4, latch)
    guest.partition.mmio.register(0xF0000000, 0x1000, latch)

    def act(event: PortIo | MmioAccess) -> None:
        if event.value == 0x66:
            event.drop()
        else:
            event.value = 0x1FF

    told: list[PortIo | MmioAccess] = []
    guest.tap.change(kind, act, lambda _event, error: pytest.fail(str(error)))
    guest.tap.listen(kind, told.append)
    if kind is PortIo:
        assert guest.vp.port_in(0x300, 1) == 0xFF
        for value in (0x44, 0x66):
            guest.vp.port_out(0x300, 1, value)
    else:
        assert guest.vp.mmio_read(0xF0000000, 1) == 0xFF
        for value in (0x44, 0x66):
            guest.vp.mmio_write(0xF0000000, 1, value)
    assert latch.written == [0xFF]
    assert [one.changed for one in told] == ["changed", "changed", "dropped"]


def test_who_only_listens_changes_nothing(guest: Guest) -> None:
    seen: list[Event] = []
    for kind in (MsrAccess, Hypercall, Interrupt, EventSignal):
        guest.tap.listen(kind, seen.append)
    assert guest.read(GUEST_OS_ID) == guest.partition.interface.guest_os_id
    with pytest.raises(GuestException):
        guest.write(0x12345, 1)
    assert guest.hypercall(0x7777) == HvStatus.INVALID_HYPERCALL_CODE
    assert [one.changed for one in seen] == ["", "", ""]
    assert [isinstance(one, MsrAccess) and one.fault for one in seen] == [False, True, False]

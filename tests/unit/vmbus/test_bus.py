"""The bus on a partition: a guest's hypercall in, a message in the SINT's slot out."""

from __future__ import annotations

import logging
import struct

import pytest

from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.synic import QUEUE_LIMIT
from ringminus.hypervisor.wire import MESSAGE_SIZE
from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.control.plane import State
from ringminus.vmbus.wire import Version
from support.hypervisor import EOM, SCONTROL, SIM_PAGE, SIMP, SINT0, Guest

POST_MESSAGE, SINT, VECTOR = 0x5C, 2, 0xF3
SECOND_SIM_PAGE = 0x20000
VERSION_RESPONSE, ALL_OFFERS_DELIVERED, UNLOAD_RESPONSE, MODIFY_CHANNEL = 15, 4, 17, 22
REQUEST_OFFERS, UNLOAD = struct.pack("<II", 3, 0), struct.pack("<II", 16, 0)


def contact(version: int = Version.WIN10_V5_3, vp: int = 0) -> bytes:
    return struct.pack("<IIIIQQQ", 14, 0, version, vp, SINT, 0, 0)


@pytest.fixture
def guest() -> Guest:
    made = Guest(vp_count=2)
    made.name_itself()
    made.enable_synic(SINT, VECTOR)
    return made


@pytest.fixture
def bus(guest: Guest) -> VmBus:
    return VmBus(guest.partition)


def post(guest: Guest, payload: bytes, connection: int = 4, kind: int = 1) -> int:
    return guest.call_with(POST_MESSAGE, struct.pack("<IIII", connection, 0, kind, len(payload)) + payload)


def slot(guest: Guest, page: int = SIM_PAGE) -> tuple[int, bytes]:
    """The message that lies in the SINT's slot: its type and its payload."""
    kind, size = struct.unpack("<IB", guest.memory.read(page + SINT * MESSAGE_SIZE, 5))
    return kind, guest.memory.read(page + SINT * MESSAGE_SIZE + 16, size)


def empty(guest: Guest) -> None:
    guest.memory.write(SIM_PAGE + SINT * MESSAGE_SIZE, bytes(4))


@pytest.mark.parametrize("connection", [1, 4])
def test_a_contact_is_answered_in_the_slot_of_sint_2_with_an_interrupt(
    guest: Guest, bus: VmBus, connection: int
) -> None:
    assert post(guest, contact(), connection) == HvStatus.SUCCESS
    kind, payload = slot(guest)
    assert kind == 1 and payload == struct.pack("<IIBBHI", VERSION_RESPONSE, 0, 1, 0, 0, 4)
    assert guest.processor.accept() == VECTOR


def test_other_connections_do_not_exist(guest: Guest, bus: VmBus) -> None:
    """Linux gives a version up when its first message gets this status."""
    assert post(guest, contact(), connection=0x800074) == HvStatus.INVALID_CONNECTION_ID


def test_a_whole_life_from_contact_to_unload(guest: Guest, bus: VmBus) -> None:
    answers = []
    for message in (contact(), REQUEST_OFFERS, UNLOAD):
        post(guest, message)
        answers.append(slot(guest)[1][0])
        empty(guest)
    assert answers == [VERSION_RESPONSE, ALL_OFFERS_DELIVERED, UNLOAD_RESPONSE]
    assert bus.control.state is State.DISCONNECTED
    assert not bus.refused and not bus.outbox.lost


def test_answers_go_to_the_processor_that_the_contact_named(guest: Guest, bus: VmBus) -> None:
    second = guest.partition.vps[1]
    second.write_msr(SIMP, SECOND_SIM_PAGE | 1)
    second.write_msr(SINT0 + SINT, VECTOR)
    second.write_msr(SCONTROL, 1)
    post(guest, contact(vp=1))
    assert slot(guest, SECOND_SIM_PAGE)[1][0] == VERSION_RESPONSE
    assert slot(guest)[0] == 0
    post(guest, contact(vp=0))
    assert slot(guest)[1][0] == VERSION_RESPONSE


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (2, contact(), "GuestError"),
        (1, b"", "VmBusError"),
        (1, contact()[:20], "VmBusError"),
        (1, struct.pack("<II", 99, 0), "VmBusError"),
        (1, struct.pack("<II", 8, 0), "VmBusError"),
    ],
    ids=["another type", "empty", "short", "no message", "no channel"],
)
def test_what_breaks_the_protocol_is_counted_and_gets_no_answer(
    guest: Guest, bus: VmBus, kind: int, payload: bytes, reason: str
) -> None:
    assert post(guest, payload, kind=kind) == HvStatus.SUCCESS
    assert bus.refused == {reason: 1}
    assert slot(guest)[0] == 0
    post(guest, contact())
    assert slot(guest)[1][0] == VERSION_RESPONSE


def test_a_guest_that_cannot_hear_is_counted_and_cannot_fill_the_hosts_log(
    guest: Guest, bus: VmBus, caplog: pytest.LogCaptureFixture
) -> None:
    guest.write(SCONTROL, 0)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            assert post(guest, contact()) == HvStatus.SUCCESS
    assert bus.outbox.lost == {"INVALID_SYNIC_STATE": 50}
    assert not caplog.records


@pytest.mark.parametrize("last", [UNLOAD, contact()], ids=["unload", "contact"])
def test_answers_that_a_guest_has_not_taken_do_not_reach_the_next_one(
    guest: Guest, bus: VmBus, last: bytes
) -> None:
    post(guest, contact())
    for _ in range(2 * QUEUE_LIMIT):
        post(guest, struct.pack("<IIII", MODIFY_CHANNEL, 0, 1, 0))
    post(guest, last)
    taken = []
    while slot(guest)[0]:
        taken.append(slot(guest)[1][0])
        empty(guest)
        guest.write(EOM, 0)
        guest.pass_time(100_000)
    # the hypervisor's own queue had them already
    assert len(taken) <= QUEUE_LIMIT + 2
    assert taken[-1] == (UNLOAD_RESPONSE if last == UNLOAD else VERSION_RESPONSE)


def test_the_connection_survives_saving(guest: Guest, bus: VmBus) -> None:
    post(guest, contact())
    empty(guest)
    other = Guest()
    other.name_itself()
    other.enable_synic(SINT, VECTOR)
    restored = VmBus(other.partition)
    restored.restore(bus.save())
    post(other, REQUEST_OFFERS)
    assert slot(other)[1][0] == ALL_OFFERS_DELIVERED

"""Ports and connections (TLFS, hypercalls/HvCallPostMessage.md and HvCallSignalEvent.md)."""

from __future__ import annotations

import pytest

from ringminus.hypervisor import wire
from ringminus.hypervisor.ports import Connections, EventPort, MessagePort
from ringminus.hypervisor.status import HvStatus
from support.hypervisor import Guest

POST_MESSAGE, SIGNAL_EVENT, FAST = 0x5C, 0x5D, 1 << 16
VMBUS = 1


class Receiver:
    """A port's other side; answers with `status`."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.flags: list[int] = []
        self.status = HvStatus.SUCCESS

    def receive(self, message_type: int, payload: bytes) -> HvStatus:
        self.messages.append((message_type, payload))
        return self.status

    def signal(self, flag: int) -> HvStatus:
        self.flags.append(flag)
        return self.status


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def guest(receiver: Receiver) -> Guest:
    made = Guest()
    made.name_itself()
    made.partition.connections.connect(1, MessagePort(receiver.receive))
    made.partition.connections.connect(0x2005, EventPort(receiver.signal, flag_count=2))
    return made


def post(
    guest: Guest, payload: bytes, connection: int = 1, kind: int = VMBUS, size: int | None = None
) -> int:
    message = wire.PostMessageInput(
        connection_id=connection,
        reserved=0,
        message_type=kind,
        payload_size=len(payload) if size is None else size,
        payload=payload,
    )
    return guest.call_with(POST_MESSAGE, message.pack())


def test_a_message_reaches_its_port_with_just_its_payload(guest: Guest, receiver: Receiver) -> None:
    assert post(guest, b"hello") == HvStatus.SUCCESS
    assert receiver.messages == [(VMBUS, b"hello")]


def test_a_message_may_have_240_bytes_and_no_more(guest: Guest, receiver: Receiver) -> None:
    assert post(guest, bytes(240)) == HvStatus.SUCCESS
    assert post(guest, bytes(240), size=241) == HvStatus.INVALID_PARAMETER
    assert post(guest, b"", size=0xFFFFFFFF) == HvStatus.INVALID_PARAMETER
    assert [len(payload) for _, payload in receiver.messages] == [240]


@pytest.mark.parametrize("kind", [0, 0x80000000, 0x80000010, 0xFFFFFFFF])
def test_the_hypervisors_message_types_are_5(guest: Guest, receiver: Receiver, kind: int) -> None:
    assert post(guest, b"x", kind=kind) == HvStatus.INVALID_PARAMETER
    assert not receiver.messages


def test_an_unknown_connection_is_18(guest: Guest) -> None:
    assert post(guest, b"x", connection=4) == 18
    assert guest.hypercall(SIGNAL_EVENT | FAST, 4) == HvStatus.INVALID_CONNECTION_ID


def test_a_port_of_the_other_kind_is_17(guest: Guest) -> None:
    assert post(guest, b"x", connection=0x2005) == 17
    assert guest.hypercall(SIGNAL_EVENT | FAST, 1) == HvStatus.INVALID_PORT_ID


def test_a_port_without_buffers_answers_19(guest: Guest, receiver: Receiver) -> None:
    receiver.status = HvStatus.INSUFFICIENT_BUFFERS
    assert post(guest, b"x") == 19


def test_a_signal_reaches_its_port_fast_and_by_memory(guest: Guest, receiver: Receiver) -> None:
    assert guest.hypercall(SIGNAL_EVENT | FAST, 0x2005) == HvStatus.SUCCESS
    data = wire.SignalEventInput(connection_id=0x2005, flag_number=1, reserved=0).pack()
    assert guest.call_with(SIGNAL_EVENT, data) == HvStatus.SUCCESS
    assert receiver.flags == [0, 1]


def test_a_flag_that_the_port_does_not_have_is_5(guest: Guest, receiver: Receiver) -> None:
    assert guest.hypercall(SIGNAL_EVENT | FAST, 0x2005 | 2 << 32) == HvStatus.INVALID_PARAMETER
    assert guest.hypercall(SIGNAL_EVENT | FAST, 0x2005 | 1 << 48) == HvStatus.INVALID_PARAMETER
    data = wire.SignalEventInput(connection_id=0x2005, flag_number=0, reserved=1).pack()
    assert guest.call_with(SIGNAL_EVENT, data) == HvStatus.INVALID_PARAMETER
    assert not receiver.flags


def test_a_broken_connection_is_18_again(guest: Guest) -> None:
    guest.partition.connections.disconnect(0x2005)
    assert guest.hypercall(SIGNAL_EVENT | FAST, 0x2005) == HvStatus.INVALID_CONNECTION_ID


def test_a_connection_id_is_bound_once(receiver: Receiver) -> None:
    connections = Connections()
    connections.connect(7, MessagePort(receiver.receive))
    with pytest.raises(ValueError, match="0x7 exists"):
        connections.connect(7, MessagePort(receiver.receive))

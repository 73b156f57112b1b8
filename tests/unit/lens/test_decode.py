"""Events are taken apart with what they carry; an answer by what it answers."""

from __future__ import annotations

from uuid import UUID

import ringminus.devices.storage.protocol
import ringminus.hypervisor.protocol
import ringminus.vmbus.protocol  # noqa: F401
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.sense import LBA_OUT_OF_RANGE
from ringminus.devices.storage.wire import Operation, ProtocolVersion, VmscsiRequest, VstorPacket
from ringminus.hypervisor.wire import PostMessageInput
from ringminus.lens.decode import REMEMBERED, Decoder, flat
from ringminus.protocol import Layer
from ringminus.tap import BusMessage, Event, Hypercall, Interrupt, RingPacket, SynicMessage
from ringminus.vmbus.wire import CloseChannel, MessageHeader

CLOSE = CloseChannel(header=MessageHeader(msgtype=7), child_relid=5).pack()
REQUEST, ANSWER = 9, 11


def names(layers: list[Layer]) -> list[str]:
    return [f"{one.protocol} {one.message}".strip() for one in flat(layers)]


def vstor(operation: int, body: bytes) -> bytes:
    return VstorPacket(operation=operation, body=body).pack()


def packet(kind: int, payload: bytes, sequence: int, cause: int = 0) -> RingPacket:
    interface = ScsiController.interface
    event = RingPacket(0, 0, 1, "SCSI", kind == ANSWER, kind, 7, payload, (), interface)
    event.sequence, event.cause = sequence, cause
    return event


def test_an_event_is_its_own_first_layer() -> None:
    (layer,) = Decoder().layers(Interrupt(5, 0, 0xF3, "sint2"))
    assert layer.protocol == "interrupt"
    assert layer.get("vector") == 0xF3 and layer.get("source") == "sint2" and layer.get("time") == 5


def test_a_posted_message_is_seen_inside_its_hypercall() -> None:
    posted = PostMessageInput(
        connection_id=1, reserved=0, message_type=1, payload_size=len(CLOSE), payload=CLOSE
    )
    call = Hypercall(0, 0, 0x5C, "HvCallPostMessage", 0x5C, 0x1000, 0, 0, "SUCCESS", "", posted.pack())
    layers = Decoder().layers(call)
    assert names(layers) == ["hypercall", "hypercall_input HvCallPostMessage", "vmbus CLOSE_CHANNEL"]
    assert list(flat(layers))[-1].get("child_relid") == 5


def test_messages_of_the_bus_are_seen_where_they_pass() -> None:
    events: list[Event] = [
        BusMessage(0, 0, False, "CLOSE_CHANNEL", CLOSE),
        SynicMessage(0, 0, 2, 1, CLOSE, True),
    ]
    for event in events:
        assert names(Decoder().layers(event))[-1] == "vmbus CLOSE_CHANNEL"
    expired = SynicMessage(0, 0, 2, 0x80000010, bytes(24), True)
    assert names(Decoder().layers(expired)) == ["message", "synic_message TIMER_EXPIRED"]
    assert names(Decoder().layers(SynicMessage(0, 0, 2, 0x80000011, bytes(24), True))) == ["message"]


def test_an_answer_is_shown_by_what_it_answers() -> None:
    decoder = Decoder()
    read = VmscsiRequest(data_transfer_length=512, cdb=b"\x28" + bytes(9), cdb_length=10)
    asked = decoder.layers(packet(REQUEST, vstor(Operation.EXECUTE_SRB, read.pack()), 1))
    version = ProtocolVersion(major_minor=0x602).pack()
    decoder.layers(packet(6, vstor(Operation.QUERY_PROTOCOL_VERSION, version), 2))
    assert names(asked) == ["packet", "vstor EXECUTE_SRB", "scsi READ_10"]
    failed = VmscsiRequest(data_transfer_length=0, srb_status=0x84, cdb=LBA_OUT_OF_RANGE.pack())
    told = decoder.layers(packet(ANSWER, vstor(Operation.COMPLETE_IO, version), 3, cause=2))
    assert told[1].get("major_minor") == 0x602
    told = decoder.layers(packet(ANSWER, vstor(Operation.COMPLETE_IO, failed.pack()), 4, cause=1))
    assert names(told) == ["packet", "vstor COMPLETE_IO", "scsi_sense FIXED"]
    assert list(flat(told))[-1].get("additional_sense_code") == 0x21


def test_requests_that_are_never_answered_are_forgotten() -> None:
    decoder = Decoder()
    request = vstor(Operation.RESET_BUS, b"")
    for sequence in range(REMEMBERED + 10):
        decoder.layers(packet(6, request, sequence + 1))
    assert len(decoder._requests) == REMEMBERED


def test_a_device_that_declares_nothing_has_bytes() -> None:
    event = RingPacket(0, 0, 1, "Echo", False, 6, 7, b"hello", (), UUID(int=1))
    assert names(Decoder().layers(event)) == ["packet"]

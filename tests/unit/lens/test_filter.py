"""Filters choose events by their own fields, and by those of the messages that they carry."""

from __future__ import annotations

from ipaddress import IPv4Address
from uuid import UUID

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.devices.network.nic import SyntheticNic
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Direction, Operation, VmscsiRequest, VstorPacket
from ringminus.errors import ConfigError
from ringminus.lens.filter import DEEPEST, LONGEST, FilterError, compile_filter
from ringminus.tap import (
    EVENTS,
    BusMessage,
    ChannelState,
    Event,
    EventSignal,
    Hypercall,
    Interrupt,
    MsrAccess,
    NetworkFrame,
    RingPacket,
    SynicMessage,
    TimerExpired,
    VmExit,
)
from ringminus.vmbus.wire import CloseChannel, InitiateContact, MessageHeader, Version
from support.endpoints import mac
from support.ip_packets import DESTINATION_V4, ipv4, udp

TARGET = str(IPv4Address(DESTINATION_V4))
SCSI, NIC = ScsiController.interface, SyntheticNic.interface
CLOSE = CloseChannel(header=MessageHeader(msgtype=7), child_relid=5).pack()
SIGNAL = bytes((2, 0x20, 0, 0)) + bytes(4)


def command(opcode: int, lba: int = 0x2000, blocks: int = 1) -> RingPacket:
    cdb = bytes((opcode, 0)) + lba.to_bytes(4, "big") + bytes((0,)) + blocks.to_bytes(2, "big") + bytes(1)
    request = VmscsiRequest(data_transfer_length=512, data_in=Direction.OUT, cdb=cdb, cdb_length=10)
    body = VstorPacket(operation=Operation.EXECUTE_SRB, body=request.pack()).pack()
    return RingPacket(0, 0, 1, "SCSI 0", False, 9, 7, body, (512, 4096), SCSI, sequence=9)


def opened(device: str, interface: UUID, relid: int) -> ChannelState:
    return ChannelState(0, 0, relid, device, True, interface, UUID(int=1), 0, 0x2000 + relid, relid, 0, 0)


CALL = Hypercall(0, 0, 0x5D, "HvCallSignalEvent", 0x1005D, 0x2002, 0, 0, "SUCCESS", "", SIGNAL)
WRITE, READ = command(0x2A), command(0x28)
EXIT = VmExit(15_000_000, 1, "port-out", 0xFFFFFFFF81000000, 0x3F8, 2500, sequence=3, cause=2)
MSR = MsrAccess(0, 0, 0x40000083, "HV_X64_MSR_SIMP", True, 0xF3, False)
FRAME = NetworkFrame(0, 0, "NIC 0", False, bytes(range(60)), 0x2005, "VALID", 0)


def matches(text: str, *events: Event) -> list[bool]:
    wanted = compile_filter(text)
    return [wanted(event) for event in events]


def test_the_examples_of_the_reference() -> None:
    signal = 'hypercall.code == signal_event and vmbus.channel.device == "netvsc"'
    nic, scsi = opened("NIC 0", NIC, 2), opened("SCSI 0", SCSI, 1)
    assert matches(signal, scsi, nic, CALL) == [False, False, True]
    assert matches(signal, opened("NIC 0", NIC, 7), CALL) == [False, False]
    write = "scsi.op == write_10 and scsi.lba > 0x1000"
    assert matches(write, WRITE, READ, command(0x2A, 0x1000), CALL) == [True, False, False, False]


@pytest.mark.parametrize(
    ("text", "event", "found"),
    [
        ("", EXIT, True),
        ("exit.reason == port-out", EXIT, True),
        ("exit.reason == PORT_OUT", EXIT, True),
        ('exit.reason == "Port-Out"', EXIT, True),
        ("exit.reason != cpuid", EXIT, True),
        ("exit.reason contains out", EXIT, True),
        ('exit.reason matches "^port-(in|out)$"', EXIT, True),
        ("exit.reason in {cpuid, port-out}", EXIT, True),
        ("exit.reason in {cpuid, port-in}", EXIT, False),
        ("exit.detail == 1016", EXIT, True),
        ("exit.detail == 0x3f8", EXIT, True),
        ("exit.detail in {0x3f0..0x3ff}", EXIT, True),
        ("exit.detail in {1, 2, 0x3f9..0x3ff}", EXIT, False),
        ("exit.detail >= 1K", EXIT, False),
        ("exit.detail < 1KiB", EXIT, True),
        ("exit.detail contains 0x3f0", EXIT, True),
        ("exit.detail contains 0x400", EXIT, False),
        ("exit.ns > 2us", EXIT, True),
        ("exit.ns > 2.5µs", EXIT, False),
        ("exit.ns == 2500", EXIT, True),
        ("time > 1.4", EXIT, True),
        ("time >= 1500ms and time <= 1.5s", EXIT, True),
        ("time in {1s..2s}", EXIT, True),
        ("vp == 1", EXIT, True),
        ("sequence == 3 and cause == 2", EXIT, True),
        ("event == exit", EXIT, True),
        ("event in {msr, exit}", EXIT, True),
        ("exit", EXIT, True),
        ("not exit", EXIT, False),
        ("!exit || vp == 1", EXIT, True),
        ("exit && !(vp == 2)", EXIT, True),
        ("packet", EXIT, False),
        ("msr.write", MSR, True),
        ("msr.fault", MSR, False),
        ("msr.fault == false", MSR, True),
        ("msr.write != no", MSR, True),
        ("msr.msr == simp", MSR, True),
        ("msr.msr == HV_X64_MSR_SIMP", MSR, True),
        ("msr.name == simp", MSR, True),
        ("msr.name == siefp", MSR, False),
        ("hypercall.code == SignalEvent", CALL, True),
        ("hypercall.code == HvCallSignalEvent", CALL, True),
        ('hypercall.code matches "signal"', CALL, True),
        ("hypercall.connection_id == 0x2002", CALL, True),
        ("hypercall.status == success", CALL, True),
        ("packet.relid == 1 and not packet.to_guest", WRITE, True),
        ("packet.kind == data_using_gpa_direct", WRITE, True),
        ("packet.ranges == 4096", WRITE, True),
        ("packet.ranges != 512", WRITE, False),
        ("packet.ranges > 4K", WRITE, False),
        ("len(packet.ranges) == 2", WRITE, True),
        ("len(packet.payload) in {60..70}", WRITE, True),
        ("packet.payload contains 2a:00:00:00:20", WRITE, True),
        ("packet.payload[0] == 0x03", WRITE, True),
        ("packet.payload[0:4] == 03:00:00:00", WRITE, True),
        ("packet.payload[:2] == 0x0300", WRITE, True),
        ("packet.payload[28:] contains 2a:00", WRITE, True),
        ('packet.payload matches "\\x2a\\x00"', WRITE, True),
        ("packet.device == storvsc", WRITE, True),
        ('packet.device == "SCSI 0"', WRITE, True),
        ("packet.interface == storvsc", WRITE, True),
        (f"packet.interface == {SCSI}", WRITE, True),
        (f'packet.interface != "{NIC}"', WRITE, True),
        ('packet.interface matches "^ba61"', WRITE, True),
        ("vmbus.channel.relid == 1", WRITE, True),
        ("vstor.operation == execute_srb", WRITE, True),
        ("vstor.data_in == out", WRITE, True),
        ("vstor.data_in == in", WRITE, False),
        ("scsi", WRITE, True),
        ("scsi.message == write_10", WRITE, True),
        ('scsi.message matches "^write"', WRITE, True),
        ('scsi.op == "WRITE(10)"', WRITE, True),
        ("scsi.op != read_10", WRITE, True),
        ("scsi.op in {read_6, read_10, write_10}", WRITE, True),
        ("scsi.lba == 8K and scsi.transfer_length == 1 and vp == 0", WRITE, True),
        ("not scsi.lba == 8K", EXIT, True),
        ("scsi.lba != 1", EXIT, False),
        ("frame.data[6:12] == 06:07:08:09:0a:0b", FRAME, True),
        ("frame.tci == 0x2005", FRAME, True),
        ("frame.checksum == valid", FRAME, True),
        ("timer.deadline > 0.4s", TimerExpired(0, 0, "stimer0", 5_000_000), True),
        ("signal.flag == 7 and signal.raised", EventSignal(0, 0, 2, 7, True), True),
        ("interrupt.vector == 0xf3", Interrupt(0, 0, 0xF3, "sint2"), True),
    ],
)
def test_what_is_true_of_an_event(text: str, event: Event, found: bool) -> None:
    assert matches(text, event) == [found]


def test_a_message_is_found_wherever_it_is_carried() -> None:
    events = [BusMessage(0, 0, False, "CLOSE_CHANNEL", CLOSE), SynicMessage(0, 0, 2, 1, CLOSE, True)]
    for text in (
        "vmbus.message == close_channel",
        "vmbus.child_relid == 5",
        "vmbus.msgtype == close_channel",
    ):
        assert matches(text, *events) == [True, True]
    assert matches("bus.child_relid == 5", *events) == [True, True]
    assert matches("bus and vmbus.child_relid == 5", *events) == [True, False]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"ethernet.source == {mac(1).hex(':')}", True),
        (f"ethernet.source[3:6] == {mac(1)[3:].hex(':')}", True),
        (f"ipv4.destination == {TARGET}", True),
        (f"ipv4.destination == {TARGET}/24", True),
        ("ipv4.destination == 9.0.0.0/8", False),
        ("ipv4.destination != 9.9.9.9", True),
        ("ipv4.destination contains 9.9.9.9", False),
        ("udp.destination_port == dns", True),
        ("udp.destination_port in {1..52}", False),
        ("ipv6.destination == fe80::/10", False),
        ("frame and udp and not tcp", True),
    ],
)
def test_frames_are_asked_for_their_addresses_and_ports(text: str, found: bool) -> None:
    data = ipv4(udp(1024, 53), 17)
    assert matches(text, NetworkFrame(0, 0, "NIC 0", False, data, None, "VALID", 0)) == [found]


def test_names_of_numbers_have_an_order() -> None:
    contact = InitiateContact(
        header=MessageHeader(msgtype=14),
        vmbus_version_requested=Version.WIN10_V5,
        target_vcpu=0,
        interrupt_page=0,
        monitor_page1=0,
        monitor_page2=0,
    ).pack()
    event = BusMessage(0, 0, False, "INITIATE_CONTACT", contact)
    assert matches("vmbus.vmbus_version_requested >= win10", event) == [True]
    assert matches("vmbus.vmbus_version_requested < win10_v4_1", event) == [False]


def test_no_event_but_those_of_the_field_is_looked_at() -> None:
    assert compile_filter("scsi.op == write_10").points == {"packets"}
    assert compile_filter("exit.reason == cpuid or msr.write").points == {"exits", "msrs"}
    assert compile_filter("packet.relid == 1 and scsi").points == {"packets"}
    assert compile_filter("vmbus.child_relid == 1").points == {"bus", "messages", "hypercalls"}
    assert compile_filter("frame.tci == 5 or frame.checksum == valid").points == {"frames"}


def test_events_on_demand_are_there_for_who_names_them() -> None:
    assert "faults" not in compile_filter("time > 1s or not scsi").points
    assert "faults" not in compile_filter("not fault").points
    assert compile_filter("fault.write").points == {"faults"}
    assert "faults" in compile_filter("fault or not scsi").points


def test_whoever_asks_for_a_channel_is_told_of_channels() -> None:
    found = compile_filter("hypercall.code == signal_event and vmbus.channel.device == netvsc").points
    assert found == {"hypercalls", "channels", "bus"}


@pytest.mark.parametrize(
    ("text", "problem", "marked"),
    [
        ("scsi.obcode == 1", "there is no field scsi.obcode: did you mean scsi.opcode", "scsi.obcode"),
        ("lba > 3", "there is no field lba: did you mean scsi.lba", "lba"),
        ("scsi.op == write_11", "none of its values is called write_11: did you mean write_1", "write_11"),
        ("vp == 1 and scsi.op == 1.5", "it is a whole number", "1.5"),
        ("exit.detail == blue", "blue is no number, and its values have no names", "blue"),
        ("vmbus.message == close_chanel", "did you mean close_channel", "close_chanel"),
        ("packet.interface == netvcs", "there is no driver netvcs: did you mean netvsc", "netvcs"),
        ("exit.reason = cpuid", "a comparison is written ==", "="),
        ("exit.reason ==", "the filter ends too early: a value may follow here", " "),
        ("(vp == 1", "the filter ends too early: what may follow here is a closing parenthesis", " "),
        ("vp == 1)", "no parenthesis was opened for this one", ")"),
        ("vp == 1 vp == 2", "that was not expected", "vp"),
        ("vp == 1..3", "a range stands in braces: in {1..3}", ".."),
        ("tcp.port == 80", "did you mean tcp.source_port or tcp.destination_port", "tcp.port"),
        ("vp == $", "that was not expected: a value may follow here", "$"),
        ("exit.reason == 'cpuid", "the quotation mark is not closed", "'"),
        ("exit.reason < 3", "it is text, which has no order", "3"),
        ("packet.payload > 3", "they are bytes, which have no order", "3"),
        ("packet.payload == what", "they are bytes, such as 0a:0b", "what"),
        ("packet.relid > 1.5s", "it is no time", "1.5s"),
        ("msr.write > 5", "it is true or false", "5"),
        ("packet == 3", "it has no value: compare one of its fields", "packet"),
        ("packet.interface < 3", "it is a GUID", "3"),
        ('packet.relid matches "3"', "matches is for text, bytes, and names of values", '"3"'),
        ('exit.reason matches "["', "that is no regular expression: unterminated", '"["'),
        ("exit.reason matches 3", "matches takes a regular expression in quotes", "3"),
        ("exit.reason in {1..2}", "only numbers have ranges", "1..2"),
        ("len(packet.relid) == 2", "is a number, and has no length", "packet.relid"),
        ("len(packet.payload)", "a length is compared", "packet.payload"),
        ("packet.relid[2] == 2", "is a number, and has no parts", "packet.relid"),
        ("packet.payload[1.5] == 2", "a place among bytes is a whole number", "1.5"),
        ("frame.data == 1.2.3.400", "that is no value", "1.2.3.400"),
        ("exit and packet", "is about packet events, that about exit events", "packet"),
        ("vp == 1 and exit.ns > 3 and (scsi or msr)", "is about msr and packet events", "scsi or msr"),
    ],
)
def test_errors_point_at_the_place(text: str, problem: str, marked: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text)
    error = caught.value
    assert isinstance(error, ConfigError)
    assert problem in str(error)
    assert (text + " ")[error.start : error.start + error.length] == marked
    _, shown, carets = str(error).split("\n")
    assert shown == f"  {text}"
    assert carets == "  " + " " * error.start + "^" * error.length


def test_a_filter_that_is_too_long_or_too_deep_is_refused() -> None:
    with pytest.raises(FilterError, match="at most"):
        compile_filter("vp == 1 or " * LONGEST)
    with pytest.raises(FilterError, match="lie within each other"):
        compile_filter("(" * DEEPEST + "vp == 1" + ")" * DEEPEST)
    assert matches(" or ".join(f"vp == {number}" for number in range(200)), EXIT) == [True]


def test_a_value_that_an_event_does_not_have_satisfies_nothing() -> None:
    untagged = NetworkFrame(0, 0, "NIC 0", False, b"", None, "VALID", 0)
    for text in (
        "frame.tci",
        "frame.tci == 5",
        "frame.tci < 5",
        "frame.tci in {1..5}",
        "frame.tci contains 4",
    ):
        assert matches(text, untagged) == [False], text
    assert matches("frame.data[3] == 0", untagged) == [False]


def test_every_type_of_event_can_be_asked_for_by_its_name() -> None:
    for kind in EVENTS:
        assert compile_filter(kind.NAME).events == {kind}

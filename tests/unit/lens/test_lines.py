"""Events as lines: one each, in words."""

from __future__ import annotations

from uuid import UUID

import pytest

import ringminus.devices.storage.protocol
import ringminus.hypervisor.protocol
import ringminus.switch.protocol
import ringminus.vmbus.protocol  # noqa: F401
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Direction, Operation, VmscsiRequest, VstorPacket
from ringminus.hypervisor.wire import PostMessageInput
from ringminus.lens.decode import Decoder
from ringminus.lens.lines import _WORDS, Line, line
from ringminus.tap import (
    EVENTS,
    BusMessage,
    ChannelState,
    CpuidRead,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    Halt,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    NetworkFrame,
    PageFault,
    PortIo,
    RingPacket,
    SerialData,
    SynicMessage,
    TimerExpired,
    Violation,
    VmExit,
)
from ringminus.vmbus.wire import CloseChannel, MessageHeader

CLOSE = CloseChannel(header=MessageHeader(msgtype=7), child_relid=5).pack()
POSTED = PostMessageInput(connection_id=1, reserved=0, message_type=1, payload_size=len(CLOSE), payload=CLOSE)
WRITE = VmscsiRequest(
    data_transfer_length=512,
    data_in=Direction.OUT,
    cdb=bytes((0x2A, 0, 0, 0, 0x20, 0, 0, 0, 1, 0)),
    cdb_length=10,
)
SCSI = VstorPacket(operation=Operation.EXECUTE_SRB, body=WRITE.pack()).pack()
INTERFACE = ScsiController.interface
SIGNAL = bytes((3, 0x20, 0, 0)) + bytes(4)
OPENED = ChannelState(0, 0, 3, "NIC 0", True, UUID(int=1), UUID(int=2), 1, 0x2003, 3, 4096, 8192)
LINES: list[tuple[Event, str]] = [
    (
        VmExit(15_000_000, 1, "cpuid", 0x1000, 0x40000003, 1234),
        "→ exit cpuid HYPERVISOR_FEATURES rip 0x1000, took 1.2 µs",
    ),
    (VmExit(0, 0, "wrmsr", 1, 0x40000083, 0), "→ exit wrmsr HV_X64_MSR_SIMP rip 0x1, took 0.0 µs"),
    (VmExit(0, 0, "hypercall", 1, 0x1005D, 0), "→ exit hypercall HvCallSignalEvent rip 0x1, took 0.0 µs"),
    (
        CpuidRead(0, 0, 0x40000005, 0, 64, 64, 0, 0),
        "← cpuid IMPLEMENTATION_LIMITS most_vps 64, most_lps 64",
    ),
    (CpuidRead(0, 0, 0x99, 3, 0x10, 0, 0, 0), "← cpuid 0x99.3 eax 0x10"),
    (SerialData(0, 0, 0x3F8, False, b"login: "), "→ serial login:"),
    (
        PageFault(0, 0, 0x7F00, 0x401000, False, True, False, True, False),
        "fault user write 0x7f00 not there, rip 0x401000",
    ),
    (
        PageFault(0, 0, 0x7F00, 0x401000, True, False, True, False, False),
        "fault kernel fetch 0x7f00 forbidden, rip 0x401000",
    ),
    (Halt(0, 0, "hlt", 0x1000, 25_000), "halt hlt for 2.500 ms, rip 0x1000"),
    (
        MsrAccess(0, 0, 0x400000B0, "HV_X64_MSR_STIMER0_CONFIG", True, 0x20003, False),
        "→ msr wrmsr HV_X64_MSR_STIMER0_CONFIG 0x20003 enable, periodic, sint 2",
    ),
    (MsrAccess(0, 0, 0x10, "TSC", True, 0x55, False), "→ msr wrmsr TSC 0x55"),
    (MsrAccess(0, 0, 0x10, "TSC", False, 0x55, False), "← msr rdmsr TSC 0x55"),
    (MsrAccess(0, 0, 0x10, "TSC", True, 0x55, True), "→ msr wrmsr TSC 0x55 #GP"),
    (MsrAccess(0, 0, 0x10, "TSC", False, 0, True), "← msr rdmsr TSC #GP"),
    (
        Hypercall(0, 0, 0x5C, "HvCallPostMessage", 0x5C, 1, 2, 0, "SUCCESS", "", POSTED.pack()),
        "→ hypercall HvCallPostMessage message_type VMBUS | vmbus CLOSE_CHANNEL child_relid 5 = SUCCESS",
    ),
    (
        Hypercall(0, 0, 0x5D, "HvCallSignalEvent", 0x1005D, 0x2003, 0, 0, "INVALID_PORT_ID", "", SIGNAL),
        "→ hypercall HvCallSignalEvent connection_id 0x2003 = INVALID_PORT_ID",
    ),
    (
        Hypercall(0, 0, 0x999, "0x999", 0x999, 1, 2, 2, "INVALID_HYPERCALL_CODE", ""),
        "→ hypercall 0x999 input 0x1, output 0x2 = INVALID_HYPERCALL_CODE",
    ),
    (SynicMessage(0, 0, 2, 1, CLOSE, True), "← message SINT2 VMBUS vmbus CLOSE_CHANNEL child_relid 5"),
    (
        SynicMessage(0, 0, 3, 0x80000010, bytes(23) + b"\1", False),
        "← message SINT3 TIMER_EXPIRED synic_message TIMER_EXPIRED"
        " delivery_time 0x100000000000000 has to wait",
    ),
    (EventSignal(0, 0, 2, 7, True), "← signal event signal SINT2 flag 7"),
    (EventSignal(0, 0, 2, 7, False), "← signal event signal SINT2 flag 7 was set already"),
    (Interrupt(0, 0, 0xED, "stimer0"), "← interrupt vector 0xed from stimer0"),
    (TimerExpired(0, 0, "stimer0", 5_000_000), "← timer stimer0 due 0.5000000"),
    (PortIo(0, 0, 0x3F8, 1, True, 0xA), "→ port out port 0x3f8 0x0a"),
    (PortIo(0, 0, 0x3F8, 4, False, 0xA), "← port in port 0x3f8 0x0000000a"),
    (MmioAccess(0, 0, 0xFEE00000, 4, False, 1), "← mmio load gpa 0xfee00000 0x00000001"),
    (MmioAccess(0, 0, 0xFEE00000, 8, True, 1), "→ mmio store gpa 0xfee00000 0x0000000000000001"),
    (BusMessage(0, 0, False, "CLOSE_CHANNEL", CLOSE), "→ vmbus vmbus CLOSE_CHANNEL child_relid 5"),
    (
        BusMessage(0, 0, False, "CLOSE_CHANNEL", CLOSE[:9]),
        "→ vmbus vmbus CLOSE_CHANNEL 3 bytes are missing",
    ),
    (OPENED, "NIC 0 channel 1 opened relid 3, connection 0x2003, flag 3, rings of 4 and 8 KiB"),
    (
        ChannelState(0, 0, 3, "NIC 0", False, UUID(int=1), UUID(int=2), 0, 0x2003, 3, 4096, 8192),
        "NIC 0 channel closed relid 3, connection 0x2003, flag 3",
    ),
    (GpadlChange(0, 0, 3, "SCSI", 0xE1E10, True, 64), "SCSI GPADL lent 0xe1e10, 64 pages, relid 3"),
    (GpadlChange(0, 0, 3, "NIC", 0x21, False, 1), "NIC GPADL taken back 0x21, 1 pages, relid 3"),
    (
        RingPacket(0, 0, 3, "SCSI 0", False, 9, 0x42, SCSI, (512,), INTERFACE),
        "→ SCSI 0 vstor EXECUTE_SRB data_in OUT | scsi WRITE_10 lba 8192, transfer_length 1, "
        "512 bytes of memory #42",
    ),
    (RingPacket(0, 0, 3, "Echo", True, 11, 42, b"\xaa", ()), "← Echo COMPLETION aa #2a"),
    (
        RingPacket(0, 0, 3, "Echo", False, 9, 42, b"\xaa\xbb", (512, 4096), UUID(int=9), 2),
        "→ Echo/2 DATA_USING_GPA_DIRECT aabb, 4608 bytes of memory in 2 ranges #2a",
    ),
    (DeviceMessage(0, 0, "NIC", "dreams", True, b"\xdd", 70), "← NIC dreams dd, 70 bytes in all"),
    (
        NetworkFrame(0, 0, "NIC 0", True, b"\xbb" * 60, 0x2005, "VALID", 1448),
        "← NIC 0 frame 60 bytes, VLAN 5, in segments of 1448, checksum valid | ethernet 0xbbbb destination "
        f"{':'.join(['bb'] * 6)}, source {':'.join(['bb'] * 6)}, payload {'bb' * 16}…[46]",
    ),
    (
        NetworkFrame(0, 0, "NIC 0", False, b"\xcc", None, "MISSING", 0),
        "→ NIC 0 frame 1 bytes, checksum missing | ethernet message and 1 bytes 13 bytes are missing",
    ),
    (Violation(0, 0, 3, "Echo", "a packet of type 0"), "→ Echo violation, relid 3: a packet of type 0"),
]


def shown(event: Event, decoder: Decoder | None = None) -> Line:
    decoder = decoder or Decoder()
    return line(event, decoder.layers(event), decoder.channel(event))


@pytest.mark.parametrize(("event", "words"), LINES, ids=[words for _, words in LINES])
def test_each_event_is_one_line(event: Event, words: str) -> None:
    text = shown(event).plain
    assert "\n" not in text
    stamp, vp, *rest = text.split()
    assert (float(stamp), vp) == (event.time / 1e7, f"vp{event.vp}")
    assert " ".join(rest) == words


def test_every_type_of_event_has_words_of_its_own() -> None:
    assert set(_WORDS) == set(EVENTS)
    assert {type(event) for event, _ in LINES} == set(EVENTS)


def test_what_was_done_with_an_event_is_said() -> None:
    event = Interrupt(0, 0, 0xED, "stimer0", changed="changed,delayed")
    assert shown(event).plain.endswith("vector 0xed from stimer0 [changed,delayed]")


def test_a_channel_is_named_where_only_its_number_passes() -> None:
    decoder = Decoder()
    decoder.note(OPENED)
    call = Hypercall(0, 0, 0x5D, "HvCallSignalEvent", 0x1005D, 0x2003, 0, 0, "SUCCESS", "", SIGNAL)
    for event in (call, EventSignal(0, 0, 2, 3, True)):
        assert " NIC 0 " in shown(event, decoder).plain


def test_a_damaged_size_does_not_make_a_line_of_that_size() -> None:
    assert len(shown(PortIo(0, 0, 0x3F8, 1 << 40, True, 1)).plain) < 100


def test_what_a_guest_says_cannot_move_the_cursor() -> None:
    text = shown(Violation(0, 0, 3, "Echo", "\x1b[2J\r\nroot#")).plain
    assert text.isprintable()
    assert "[2J" in text


def test_colours_end_where_they_began_and_the_line_where_the_terminal_does() -> None:
    made = shown(RingPacket(0, 0, 3, "SCSI 0", False, 9, 0x42, SCSI, (512,), INTERFACE))
    colored = made.colored(60)
    assert colored.count("\x1b[0m") * 2 == colored.count("\x1b[")
    plain = "".join(part.partition("m")[2] for part in f"\x1b[m{colored}".split("\x1b["))
    assert plain == made.plain[:60]
    assert made.rich().plain == made.plain

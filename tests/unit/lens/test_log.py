"""Events as lines: one each, in words."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.lens.log import EventLog, Lines, Names, parse_points
from ringminus.tap import (
    EVENTS,
    BusMessage,
    ChannelState,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    NetworkFrame,
    PortIo,
    RingPacket,
    SynicMessage,
    Tap,
    TimerExpired,
    Violation,
    VmExit,
)

NAMES = Names(
    msr=lambda n: f"MSR<{n:#x}>", hypercall=lambda n: f"Call<{n:#x}>", message=lambda n: f"Kind<{n}>"
)
LINES = [
    (
        VmExit(15_000_000, 1, "cpuid", 0x1000, 0x40000003, 1234),
        "exit cpuid 0x40000003 rip 0x1000 took 1.2 us",
    ),
    (VmExit(0, 0, "wrmsr", 1, 0x10, 0), "exit wrmsr MSR<0x10> rip 0x1 took 0.0 us"),
    (VmExit(0, 0, "hypercall", 1, 0x1005C, 0), "exit hypercall Call<0x5c> rip 0x1 took 0.0 us"),
    (MsrAccess(0, 0, 0x10, "TSC", True, 0x55, False), "wrmsr TSC 0x55"),
    (MsrAccess(0, 0, 0x10, "TSC", False, 0x55, False), "rdmsr TSC 0x55"),
    (MsrAccess(0, 0, 0x10, "TSC", True, 0x55, True), "wrmsr TSC 0x55 #GP"),
    (MsrAccess(0, 0, 0x10, "TSC", False, 0, True), "rdmsr TSC #GP"),
    (
        Hypercall(0, 0, 0x5C, "HvCallPostMessage", 0x5C, 1, 2, 0, "SUCCESS", "to 1"),
        "hypercall HvCallPostMessage to 1 -> SUCCESS",
    ),
    (
        Hypercall(0, 0, 0x5C, "HvCallPostMessage", 0x5C, 1, 2, 0, "SUCCESS", ""),
        "hypercall HvCallPostMessage input 0x1 output 0x2 -> SUCCESS",
    ),
    (SynicMessage(0, 0, 2, 1, b"\x0f\x10", True), "message SINT2 Kind<1> 0f10"),
    (SynicMessage(0, 0, 2, 1, bytes(33), False), f"message SINT2 Kind<1> {'00' * 32}... has to wait"),
    (EventSignal(0, 0, 2, 7, True), "signal SINT2 flag 7"),
    (EventSignal(0, 0, 2, 7, False), "signal SINT2 flag 7 was set already"),
    (Interrupt(0, 0, 0xED, "stimer0"), "interrupt vector 0xed from stimer0"),
    (TimerExpired(0, 0, "stimer0", 5_000_000), "timer stimer0 due 0.5000000"),
    (PortIo(0, 0, 0x3F8, 1, True, 0xA), "out port 0x3f8 0x0a"),
    (PortIo(0, 0, 0x3F8, 4, False, 0xA), "in port 0x3f8 0x0000000a"),
    (MmioAccess(0, 0, 0xFEE00000, 4, False, 1), "load gpa 0xfee00000 0x00000001"),
    (MmioAccess(0, 0, 0xFEE00000, 8, True, 1), "store gpa 0xfee00000 0x0000000000000001"),
    (BusMessage(0, 0, False, "OPEN_CHANNEL", bytes(8) + b"\1\2"), "bus to host OPEN_CHANNEL 0102"),
    (BusMessage(0, 0, True, "OFFER_CHANNEL", bytes(41)), f"bus to guest OFFER_CHANNEL {'00' * 32}..."),
    (
        ChannelState(0, 0, 3, "NIC 0", True, UUID(int=1), UUID(int=2), 1, 0x2003, 3, 4096, 8192),
        "channel NIC 0 1 relid 3 connection 0x2003 opened, rings of 4096 and 8192 bytes",
    ),
    (
        ChannelState(0, 0, 3, "NIC 0", False, UUID(int=1), UUID(int=2), 0, 0x2003, 3, 4096, 8192),
        "channel NIC 0 relid 3 connection 0x2003 closed",
    ),
    (GpadlChange(0, 0, 3, "SCSI", 0xE1E10, True, 64), "gpadl 0xe1e10 of SCSI relid 3 lent, 64 pages"),
    (GpadlChange(0, 0, 3, "NIC", 0x21, False, 1), "gpadl 0x21 of NIC relid 3 taken back, 1 pages"),
    (
        RingPacket(0, 0, 3, "SCSI", True, 11, 42, b"\xaa", ()),
        "packet to guest SCSI relid 3 type 11 id 0x2a aa",
    ),
    (
        RingPacket(0, 0, 3, "SCSI 0", False, 9, 42, b"\xaa", (512, 4096)),
        "packet to host SCSI 0 relid 3 type 9 id 0x2a ranges 512,4096 aa",
    ),
    (DeviceMessage(0, 0, "NIC", "rndis", True, b"\xdd", 70), "device to guest NIC rndis 70 bytes dd"),
    (
        NetworkFrame(0, 0, "NIC 0", True, b"\xbb" * 60, 0x2005, "VALID", 1448),
        f"frame to guest NIC 0 60 bytes vlan 5 in segments of 1448 checksum valid {'bb' * 32}...",
    ),
    (
        NetworkFrame(0, 0, "NIC 0", False, b"\xcc", None, "MISSING", 0),
        "frame to host NIC 0 1 bytes checksum missing cc",
    ),
    (Violation(0, 0, 3, "Echo", "a packet of type 0"), "violation Echo relid 3: a packet of type 0"),
    (Violation(0, 0, 0, "VMBus", "message refused: short"), "violation VMBus: message refused: short"),
]


@pytest.mark.parametrize(("event", "words"), LINES, ids=[words for _, words in LINES])
def test_each_event_is_one_line(event: Event, words: str) -> None:
    line = Lines(NAMES).format(event)
    assert "\n" not in line
    stamp, vp, *rest = line.split()
    assert (float(stamp), vp) == (event.time / 1e7, f"vp{event.vp}")
    assert " ".join(rest) == words


def test_every_type_of_event_has_a_line() -> None:
    assert {type(event) for event, _ in LINES} == set(EVENTS)


def test_points_are_named_with_commas() -> None:
    assert parse_points("exits, msr,hypercalls") == [VmExit, MsrAccess, Hypercall]
    assert parse_points("exits,exits,exit") == [VmExit]
    assert parse_points("all") == list(EVENTS)
    assert set(parse_points("msrs,all")) == set(EVENTS)


@pytest.mark.parametrize("text", ["", "exits,", "nothing", "all,nothing"])
def test_unknown_points_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigError, match=r"exits, .*msrs, .* or all"):
        parse_points(text)


def test_a_log_is_written_while_its_block_lasts(tmp_path: Path) -> None:
    tap, path = Tap(), tmp_path / "log"
    with EventLog(tap, [Interrupt], path):
        assert tap.interrupts is not None
        assert tap.exits is None
        for vector in (0x20, 0x21):
            tap.interrupts(Interrupt(0, 0, vector, "test"))
    assert tap.interrupts is None
    lines = path.read_text().splitlines()
    assert [line.split()[-3:] for line in lines] == [["0x20", "from", "test"], ["0x21", "from", "test"]]


def test_a_busy_guest_can_be_followed(tmp_path: Path) -> None:
    tap, path = Tap(), tmp_path / "log"
    with EventLog(tap, [Interrupt], path):
        assert tap.interrupts is not None
        tap.interrupts(Interrupt(0, 0, 0x20, "test"))
        tap.interrupts(Interrupt(10_000_000, 0, 0x21, "test"))
        assert len(path.read_text().splitlines()) == 2


def test_without_a_file_it_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    tap = Tap()
    with EventLog(tap, [Interrupt], None):
        assert tap.interrupts is not None
        tap.interrupts(Interrupt(0, 0, 0x20, "test"))
    assert "vector 0x20 from test" in capfd.readouterr().err


def test_a_full_disk_is_an_error_of_the_host() -> None:
    tap = Tap()
    with (
        pytest.raises(HostError, match="/dev/full: No space left"),
        EventLog(tap, [Interrupt], Path("/dev/full")),
    ):
        assert tap.interrupts is not None
        tap.interrupts(Interrupt(0, 0, 0x20, "test"))
    assert tap.interrupts is None

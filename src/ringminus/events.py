"""The typed events: what crosses the boundary, each with the point of the tap where it passes.

A docstring here is what people read of the event: in `ringminus lens hooks`, in the reference of addons, and
where events are shown. Its first sentence says what has happened; what follows is about its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID

from ringminus.changes import ANSWER, DELAY, DROP, DUPLICATE, Changeable, ChangeError, GuestData, Kind

NO_INTERFACE = UUID(int=0)


@dataclass(slots=True)
class Event(Changeable):
    """A crossing. `POINT` is where it passes, `NAME` what one such event is called. `time` is the
    partition's reference time (100 ns), `vp` the virtual processor's index.

    The tap adds the rest when the event passes: `sequence` counts from 1, `cause` is the number of the event
    while which it happened (0: none that is watched), `host_ns` the host's clock (ns since 1970).

    `changed` says what an addon or a breakpoint did with it, with commas between: changed, dropped, answered,
    delayed, duplicated, injected; it is empty for what passed as it came."""

    POINT: ClassVar[str] = ""
    NAME: ClassVar[str] = ""
    ON_DEMAND: ClassVar[bool] = False
    """Whether they are so many that only who asks for them by name gets them."""
    time: int
    vp: int
    sequence: int = field(default=0, kw_only=True, compare=False)
    cause: int = field(default=0, kw_only=True, compare=False)
    host_ns: int = field(default=0, kw_only=True, compare=False)
    changed: str = field(default="", kw_only=True, compare=False)


@dataclass(slots=True)
class VmExit(Event):
    """The guest left guest mode and was answered.

    `reason` is the exit's name (`cpuid`, `msr`, `hypercall`, `halt`, `port`, `mmio`, …), `rip` the
    instruction that caused it, `detail` what it was about (a leaf, an MSR, a port, a call code),
    `ns` the time that answering took on the host.
    """

    POINT = "exits"
    NAME = "exit"
    reason: str
    rip: int
    detail: int
    ns: int


@dataclass(slots=True)
class CpuidRead(Event):
    """CPUID was executed: a leaf of what the guest is told about its processor and its hypervisor.

    What it is told can be changed: `eax`, `ebx`, `ecx` and `edx`."""

    POINT = "cpuid"
    NAME = "cpuid"
    SETTABLE: ClassVar[Mapping[str, Kind]] = dict.fromkeys(("eax", "ebx", "ecx", "edx"), 32)
    leaf: int
    subleaf: int
    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass(slots=True)
class PageFault(Event):
    """The guest's processor raised a page fault, which the guest's kernel deals with itself: nothing leaves
    the guest.

    `address` is CR2, `rip` the instruction. The rest is the error code: whether the page was `present` and
    forbidden, or not there; whether it was a `write` or a `fetch` of an instruction, neither being a read;
    whether by the guest's `user` programs; and whether the page tables have `reserved` bits set."""

    POINT = "faults"
    NAME = "fault"
    ON_DEMAND = True
    address: int
    rip: int
    present: bool
    write: bool
    fetch: bool
    user: bool
    reserved: bool


@dataclass(slots=True)
class Halt(Event):
    """A virtual processor had nothing to do until an interrupt came, for `idle` units of 100 ns. It said so
    by `how`: `hlt`, or by reading the register `guest idle`. `rip` is where it goes on."""

    POINT = "halts"
    NAME = "halt"
    how: str
    rip: int
    idle: int


@dataclass(slots=True)
class MsrAccess(Event):
    """RDMSR or WRMSR that was intercepted; `fault` tells that the guest was given #GP.

    A write can be changed before it is carried out: `value`, and `fault` to give #GP instead; dropped, it
    does nothing. A read can be changed when it has been carried out: `value` is what the guest gets, or #GP
    with `fault`.
    """

    POINT = "msrs"
    NAME = "msr"
    MAY = frozenset((DROP, ANSWER))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"value": 64, "fault": bool}
    msr: int
    name: str
    write: bool
    value: int
    fault: bool

    def answer(self, value: int = 0, *, fault: bool = False) -> None:
        """Give the guest this value, or #GP, in the hypervisor's place; a write is not carried out."""
        self._may(ANSWER).answer = b""
        self.value, self.fault = value, fault


@dataclass(slots=True)
class Hypercall(Event):
    """A hypercall and its answer. `control`, `input`, `output` are RCX, RDX and R8; `result` is RAX.

    `detail` holds the decoded input header where the call is known, `status` the name of the result's status,
    `block` the input's bytes, of memory or registers, as far as they could be read.

    Before it is carried out `control`, `input`, `output` and `block` can be changed: the call is made with
    what they are then, and the guest's registers and memory stay as they are. Dropped, it does nothing and
    the guest gets SUCCESS; answered, it does nothing and the guest gets that. With its result `result` can
    be changed.
    """

    POINT = "hypercalls"
    NAME = "hypercall"
    MAY = frozenset((DROP, ANSWER))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {
        **dict.fromkeys(("control", "input", "output", "result"), 64),
        "block": bytes,
    }
    code: int
    name: str
    control: int
    input: int
    output: int
    result: int
    status: str
    detail: str
    block: bytes = b""

    def answer(self, result: int = 0) -> None:
        """Give the guest this in RAX, a status in its low 16 bits, in the hypervisor's place."""
        self._may(ANSWER).answer = b""
        self.result = result


@dataclass(slots=True)
class SynicMessage(Event):
    """A message for a SINT's slot of the message page; `delivered` is False when the slot was busy and it
    had to wait in the queue.

    It can be changed when its slot is free, before it is put there and the SINT's interrupt is raised.
    Dropped, it is lost, and the next one takes the slot; a delayed one goes to the end of the queue
    then."""

    POINT = "messages"
    NAME = "message"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"message_type": 32, "payload": bytes}
    sint: int
    message_type: int
    payload: bytes
    delivered: bool


@dataclass(slots=True)
class EventSignal(Event):
    """An event flag for a SINT was signalled; `raised` is False when the flag was set already.

    It can be changed before the flag is set and the SINT's interrupt is raised. Dropped, neither happens:
    what it tells of lies in the ring until the next signal."""

    POINT = "signals"
    NAME = "signal"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"sint": 4, "flag": 11}
    sint: int
    flag: int
    raised: bool


@dataclass(slots=True)
class Interrupt(Event):
    """An interrupt vector was requested on a virtual processor; `source` names who asked.

    It can be changed before the local APIC gets it. A second one is lost while the first waits, as on any
    APIC."""

    POINT = "interrupts"
    NAME = "interrupt"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"vector": 8}
    vector: int
    source: str


@dataclass(slots=True)
class TimerExpired(Event):
    """A timer fired: `timer` is its name, `deadline` when it was due (100 ns).

    Dropped, its message or interrupt does not come; a timer that is not periodic does not fire again by
    itself."""

    POINT = "timers"
    NAME = "timer"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    timer: str
    deadline: int


@dataclass(slots=True)
class PortIo(Event):
    """An access to an I/O port, `size` in bytes.

    A write can be changed before the device gets it, and dropped; of a read, `value` is what the guest
    gets."""

    POINT = "ports"
    NAME = "port"
    MAY = frozenset((DROP,))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"value": 32}
    port: int
    size: int
    write: bool
    value: int


@dataclass(slots=True)
class MmioAccess(Event):
    """An access to guest-physical memory that is no RAM, `size` in bytes.

    A write can be changed before the device gets it, and dropped; of a read, `value` is what the guest
    gets."""

    POINT = "mmio"
    NAME = "mmio"
    MAY = frozenset((DROP,))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"value": 64}
    gpa: int
    size: int
    write: bool
    value: int


@dataclass(slots=True)
class SerialData(Event):
    """Bytes went through a serial port: a line of the guest's, or what it sent before it stopped for a while,
    or what was typed at once. `base` is the port's first I/O port."""

    POINT = "serial"
    NAME = "serial"
    base: int
    to_guest: bool
    data: bytes


@dataclass(slots=True)
class BusMessage(Event):
    """A VMBus control message; `name` as in the table of messages, `to_guest` its direction.

    It can be changed before the bus handles it, or before it is queued for the guest. Those of the guest are
    taken (the hypercall succeeds) whatever becomes of them."""

    POINT = "bus"
    NAME = "bus"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"payload": bytes}
    to_guest: bool
    name: str
    payload: bytes


@dataclass(slots=True)
class RingPacket(Event):
    """A packet taken from or put into a channel's ring.

    `kind` is its type (6, 7, 9, 11), `payload` what follows its headers, `ranges` the lengths of the guest
    memory that it names; `device` is the title of the channel's device, `interface` its class GUID,
    `channel` 0 for the primary channel and the sub-channel's number else; `wants_completion` tells that the
    other side has to complete it. A completion's cause is the packet that it completes.

    It can be changed before the device gets it, or before it is put into the guest's ring; its ranges stay.
    A request that is dropped is never completed and counts as no longer owed; a delayed one stays owed,
    keeps its ranges, and is overtaken by those after it. Answered, it is completed at once with those
    bytes, and who would have got it never sees it. A completion that is dropped leaves its request open for
    ever; a delayed one counts as owed until it goes. What a channel still holds back when it is closed is
    lost.

    `memory` is the guest's that a GPA-direct request names, and that of its completion: what the device has
    put there can be read and changed before the completion passes.

    `data` is what that memory held, while the tap `keeps_data`: of a request what it brings, of a completion
    what the device has put there, empty if that is the same. It changes nothing.

    `header` is what stands in the ring between the packet's descriptor and its payload: the ranges of page
    sets and of guest memory, by their page numbers.
    """

    POINT = "packets"
    NAME = "packet"
    NAMES_MEMORY = True
    MAY = frozenset((DROP, DELAY, DUPLICATE, ANSWER))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"transaction_id": 64, "payload": bytes}
    relid: int
    device: str
    to_guest: bool
    kind: int
    transaction_id: int
    payload: bytes
    ranges: tuple[int, ...]
    interface: UUID = NO_INTERFACE
    channel: int = 0
    wants_completion: bool = False
    data: bytes = b""
    header: bytes = b""

    def settle(self, memory: GuestData) -> None:
        if self.data:
            self.data = memory.read()

    def answer(self, payload: bytes = b"") -> None:
        """Complete it so, in place of who would have got it."""
        if not self.wants_completion:
            raise ChangeError(
                f"this RingPacket of {self.device} wants no completion, so it cannot be answered"
            )
        self._may(ANSWER).answer = bytes(payload)


@dataclass(slots=True)
class ChannelState(Event):
    """A channel was opened, or closed (`open` is False); a watcher who comes later is told of those that are
    open.

    The guest signals it on `connection_id`, and is signalled by `event_flag` of the bus's SINT. `instance` is
    the device's, `ring_in` and `ring_out` are the sizes of the rings to the host and to the guest, in bytes
    with their control pages."""

    POINT = "channels"
    NAME = "channel"
    relid: int
    device: str
    open: bool
    interface: UUID
    instance: UUID
    channel: int
    connection_id: int
    event_flag: int
    ring_in: int
    ring_out: int


@dataclass(slots=True)
class GpadlChange(Event):
    """Guest memory was lent to us for a channel, in pages of 4 KiB, or taken back (`made` is False)."""

    POINT = "gpadls"
    NAME = "gpadl"
    relid: int
    device: str
    handle: int
    made: bool
    pages: int


@dataclass(slots=True)
class DeviceMessage(Event):
    """A message of a device's that is not in a ring's packet, but in memory that a packet names: RNDIS.

    `protocol` is the name of its declaration; `payload` may leave out bulk data at its end, of `size` bytes
    in all.

    It can be changed before the device takes it, or before it is put where the guest finds it; bulk data that
    was left out comes after it then. Dropped, it never arrives, and what carried it is completed. The packet
    that carries it can be delayed and duplicated."""

    POINT = "device"
    NAME = "device"
    MAY = frozenset((DROP,))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"payload": bytes}
    device: str
    protocol: str
    to_guest: bool
    payload: bytes
    size: int


@dataclass(slots=True)
class NetworkFrame(Event):
    """An Ethernet frame between a network adapter and its port of a switch.

    `data` begins with the destination address and has no 802.1Q tag; `tci` is the tag's control
    information. `segment_size` above 0 says that it is a large TCP frame that stands for several,
    `checksum` what is known of its TCP or UDP checksum (`UNKNOWN`, `VALID`, `MISSING`).

    It can be changed before the switch or the guest gets it. One that is dropped is counted by its adapter.
    Where `data` is changed and `checksum` is not, a VALID one becomes UNKNOWN; `MISSING` has it computed."""

    POINT = "frames"
    NAME = "frame"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {
        "data": bytes,
        "checksum": ("UNKNOWN", "VALID", "MISSING"),
        "segment_size": 16,
    }
    adapter: str
    to_guest: bool
    data: bytes
    tci: int | None
    checksum: str
    segment_size: int


@dataclass(slots=True)
class Violation(Event):
    """The guest broke a protocol: a message of the bus (`relid` 0) was dropped, or a channel was not opened
    or is served no more. `device` is the title of the channel's device."""

    POINT = "violations"
    NAME = "violation"
    relid: int
    device: str
    reason: str


EVENTS: tuple[type[Event], ...] = (
    VmExit,
    CpuidRead,
    MsrAccess,
    Hypercall,
    SynicMessage,
    EventSignal,
    Interrupt,
    TimerExpired,
    PortIo,
    MmioAccess,
    SerialData,
    PageFault,
    Halt,
    BusMessage,
    ChannelState,
    GpadlChange,
    RingPacket,
    DeviceMessage,
    NetworkFrame,
    Violation,
)
USUAL = tuple(kind for kind in EVENTS if not kind.ON_DEMAND)
"""Those that who asks for all of them gets."""

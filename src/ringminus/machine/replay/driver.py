"""A guest's side of the bus, played from outside: as much of Linux's drivers/hv as a recording needs.

It lives in the memory of a partition whose processor executes nothing, posts its messages and signals its
channels by real hypercalls, and finds the host's messages in its SynIC message page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ringminus.clock import MockClock
from ringminus.errors import HostError
from ringminus.hypervisor.partition import Partition
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import (
    MESSAGE_SIZE,
    PAGE_ENABLE,
    SCONTROL_ENABLE,
    Control,
    PostMessageInput,
    Sint,
)
from ringminus.hypervisor.wire import MessageHeader as SynicHeader
from ringminus.machine.replay.processor import StillEngine
from ringminus.memory import MIB, PAGE_SIZE, GuestMemory
from ringminus.tap import Tap
from ringminus.vmbus import wire
from ringminus.vmbus.control.messages import MESSAGES, encode
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.ring import IncomingRing, OutgoingRing, RingEmpty
from ringminus.vmbus.ring_wire import RANGE_HEADER, page_numbers
from ringminus.vmbus.wire import MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4, MESSAGE_SINT, Version
from ringminus.wire import Struct

MEMORY = 256 * MIB
LINUX_ID = 0x8100 << 48 | 0x06_01_00 << 16
GUEST_OS_ID, SCONTROL, SIEFP, SIMP, EOM, SINT0 = (
    0x40000000,
    0x40000080,
    0x40000082,
    0x40000083,
    0x40000084,
    0x40000090,
)
SVR, APIC_ENABLED = 0x80F, 0x1FF
VECTOR = 0xF3
POST_MESSAGE, SIGNAL_EVENT = 0x5C, 0x5D
SIM_PAGE, SIEF_PAGE, INPUT_PAGE, OUTPUT_PAGE = 0x10000, 0x11000, 0x12000, 0x13000
KEPT_PAGE, BUFFER_PAGE, END_PAGE = 1 * MIB // PAGE_SIZE, 160 * MIB // PAGE_SIZE, MEMORY // PAGE_SIZE
"""Where memory begins that is lent for channels, and that of packets, which is used over and over."""
IN_HEADER, IN_BODY = 26 * 8 + 8, 28 * 8  # bytes of a GPADL's ranges in its messages
LARGEST_GPADL = 0xFFFF - 16
LARGEST_PACKET = 0xFFFF * 8 - 16
MOST_TIMERS = 10_000
"""How often timers may expire while the time passes from one event to the next."""
M = TypeVar("M", bound=Struct)


class Exhausted(HostError):
    """The recording asks for more memory than the replay has."""


class GuestSide:
    """A partition and its guest's driver of the bus. `tap` sees what passes, as in any machine."""

    def __init__(self) -> None:
        self.clock = MockClock()
        self.memory = GuestMemory(MEMORY)
        self.tap = Tap()
        self._engine = StillEngine(self.memory, self.clock)
        self.partition = Partition(self._engine, tap=self.tap)
        self.offers: dict[tuple[bytes, int], wire.OfferChannel] = {}
        """By the device's instance and the sub-channel's number."""
        self._vp = self.partition.vps[0]
        self._inbox: list[Struct] = []
        self._next_kept, self._next_buffer = KEPT_PAGE, BUFFER_PAGE
        self._returned: dict[int, list[tuple[int, ...]]] = {}
        """Memory that was lent and is not any more, by its size in pages."""
        self._connection = MESSAGE_CONNECTION_ID

    # ------------------------------------------------------------ messages

    def connect(self, version: int) -> bool:
        """Begin, and tell whether the bus speaks that version."""
        for msr, value in (
            (GUEST_OS_ID, LINUX_ID),
            (SVR, APIC_ENABLED),
            (SIMP, SIM_PAGE | PAGE_ENABLE),
            (SIEFP, SIEF_PAGE | PAGE_ENABLE),
            (SINT0 + MESSAGE_SINT, VECTOR | Sint.AUTO_EOI),
            (SCONTROL, SCONTROL_ENABLE),
        ):
            self._vp.write_msr(msr, value)
        is_new = version >= Version.WIN10_V5
        self._connection = MESSAGE_CONNECTION_ID_4 if is_new else MESSAGE_CONNECTION_ID
        self._post(
            "INITIATE_CONTACT",
            wire.InitiateContact,
            vmbus_version_requested=version,
            target_vcpu=0,
            interrupt_page=MESSAGE_SINT,
            monitor_page1=0,
            monitor_page2=0,
        )
        answer = self._take(wire.VersionResponse)
        if answer is None or not answer.version_supported:
            return False
        if is_new:
            self._connection = answer.msg_conn_id
        self._post("REQUEST_OFFERS", wire.HeaderOnly)
        self.poll()
        return True

    def _post(self, name: str, structure: type[Struct], tail: bytes = b"", **fields: Any) -> None:
        payload = encode(name, structure, **fields) + tail
        call = PostMessageInput(
            connection_id=self._connection,
            reserved=0,
            message_type=wire.VMBUS_MESSAGE_TYPE,
            payload_size=len(payload),
            payload=payload,
        )
        self.memory.write(INPUT_PAGE, call.pack())
        status = self._vp.hypercall(POST_MESSAGE, INPUT_PAGE, OUTPUT_PAGE) & 0xFFFF
        if status != HvStatus.SUCCESS:
            raise HostError(f"the bus did not take {name}: {HvStatus(status).name}")

    def poll(self) -> None:
        """Take the host's messages."""
        slot = SIM_PAGE + MESSAGE_SINT * MESSAGE_SIZE
        while True:
            header = SynicHeader.unpack(self.memory.read(slot, SynicHeader.SIZE))
            if not header.message_type:
                return
            payload = self.memory.read(slot + SynicHeader.SIZE, header.payload_size)
            self.memory.write_u32(slot, 0)
            self._vp.write_msr(EOM, 0)
            kind = MESSAGES[wire.MessageHeader.unpack(payload).msgtype]
            message = kind.forms[-1].structure.unpack(payload)
            if isinstance(message, wire.OfferChannel):
                self.offers[message.offer.if_instance, message.offer.sub_channel_index] = message
            else:
                self._inbox.append(message)

    def _take(self, kind: type[M], **fields: int) -> M | None:
        """The first message of that kind with those fields."""
        self.poll()
        for message in self._inbox:
            if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                self._inbox.remove(message)
                return message
        return None

    def pass_time(self, until: int) -> None:
        """Let it be that reference time (100 ns), and expire what is due by then; it never goes back."""
        timers = self.partition.timers
        for _ in range(MOST_TIMERS):
            due = timers.next_deadline()
            if due > until:
                break
            self.clock.advance(max(due - self.clock.reference_time(), 0))
            timers.fire(self.clock.reference_time())
        self.clock.advance(max(until - self.clock.reference_time(), 0))

    # ------------------------------------------------------------ memory

    def lend(self, relid: int, handle: int, pages: int) -> GpaRange | None:
        """Establish a GPADL of memory of its own; None if the host refuses it."""
        if not 0 <= handle <= 0xFFFF_FFFF or not 0 < pages <= LARGEST_GPADL // 8:
            raise Exhausted(f"the recording lends {pages} pages as {handle:#x}, which no guest can")
        pfns = self._kept(pages)
        whole = GpaRange(pages * PAGE_SIZE, 0, pfns)
        words = RANGE_HEADER.pack(whole.byte_count, 0) + page_numbers(pages).pack(*pfns)
        self._post(
            "GPADL_HEADER",
            wire.GpadlHeader,
            words[:IN_HEADER],
            child_relid=relid,
            gpadl=handle,
            range_buflen=len(words),
            rangecount=1,
        )
        for start in range(IN_HEADER, len(words), IN_BODY):
            part = words[start : start + IN_BODY]
            self._post("GPADL_BODY", wire.GpadlBody, part, msgnumber=start // IN_BODY, gpadl=handle)
        answer = self._take(wire.GpadlCreated, gpadl=handle)
        if answer is None or answer.creation_status:
            self._returned.setdefault(pages, []).append(pfns)
            return None
        return whole

    def _kept(self, pages: int) -> tuple[int, ...]:
        """Pages for a GPADL, which are zeros."""
        again = self._returned.get(pages)
        if again:
            pfns = again.pop()
            self.memory.write(pfns[0] * PAGE_SIZE, bytes(pages * PAGE_SIZE))
            return pfns
        if self._next_kept + pages > BUFFER_PAGE:
            raise Exhausted(f"the recording lends {pages} pages more than there are here")
        self._next_kept += pages
        return tuple(range(self._next_kept - pages, self._next_kept))

    def take_back(self, relid: int, handle: int, pages: GpaRange) -> None:
        """Tear a GPADL down."""
        self._post("GPADL_TEARDOWN", wire.GpadlTeardown, child_relid=relid, gpadl=handle)
        if self._take(wire.GpadlTorndown, gpadl=handle) is not None:
            self._returned.setdefault(len(pages.pfns), []).append(tuple(pages.pfns))

    def buffer(self, length: int, data: bytes) -> GpaRange:
        """Memory for a packet that begins with `data`, and else is zeros; it is used again when all has been
        used."""
        pages = max(-(-length // PAGE_SIZE), 1)
        if pages > END_PAGE - BUFFER_PAGE:
            raise Exhausted(f"a packet of the recording names {length} bytes of memory")
        if self._next_buffer + pages > END_PAGE:
            self._next_buffer = BUFFER_PAGE
        pfns = tuple(range(self._next_buffer, self._next_buffer + pages))
        self._next_buffer += pages
        self.memory.write(pfns[0] * PAGE_SIZE, data[:length].ljust(length, b"\0"))
        return GpaRange(length, 0, pfns)

    # ------------------------------------------------------------ channels

    def open(
        self, offer: wire.OfferChannel, handle: int, pages: GpaRange, split: int, user_data: bytes
    ) -> GuestChannel | None:
        """Open a channel whose rings are in a GPADL, ours in its first `split` pages; None if the host
        refuses."""
        total = len(pages.pfns)
        rings = (
            OutgoingRing(self.memory, pages, 0, split),
            IncomingRing(self.memory, pages, split, total - split),
        )
        relid = offer.child_relid
        self._post(
            "OPEN_CHANNEL",
            wire.OpenChannel,
            child_relid=relid,
            openid=relid,
            ringbuffer_gpadlhandle=handle,
            target_vp=0,
            downstream_ringbuffer_pageoffset=split,
            userdata=user_data,
        )
        result = self._take(wire.OpenResult, child_relid=relid)
        if result is None or result.status:
            return None
        return GuestChannel(self, offer, rings)

    def close_channel(self, relid: int) -> None:
        """Close one; there is no answer to that."""
        self._post("CLOSE_CHANNEL", wire.CloseChannel, child_relid=relid)

    def signal(self, connection: int) -> None:
        """Ring a doorbell."""
        self._vp.hypercall(SIGNAL_EVENT | Control.FAST, connection, 0)
        self._engine.processors[0].accept()


class GuestChannel:
    """An open channel's two rings, from the guest's side."""

    def __init__(
        self, side: GuestSide, offer: wire.OfferChannel, rings: tuple[OutgoingRing, IncomingRing]
    ) -> None:
        self.relid = offer.child_relid
        self._connection = offer.connection_id
        self._side = side
        self._out, self._in = rings

    def send(
        self,
        kind: int,
        transaction_id: int,
        payload: bytes,
        wants_completion: bool,
        ranges: Sequence[GpaRange],
    ) -> None:
        """Write a packet and signal it; raises `RingFull` and `RingCorrupt`."""
        header = b""
        if ranges:
            header = RANGE_HEADER.pack(0, len(ranges))  # a reserved word, then the count
            for one in ranges:
                header += RANGE_HEADER.pack(one.byte_count, one.byte_offset)
                header += page_numbers(len(one.pfns)).pack(*one.pfns)
        if len(header) + len(payload) > LARGEST_PACKET:
            raise Exhausted(f"a packet of {len(header) + len(payload)} bytes")
        self._out.write(kind, transaction_id, payload, wants_completion, header)
        if self._out.publish():
            self._side.signal(self._connection)
        self.drain()

    def drain(self) -> None:
        """Take what is there, so that the host has room; what it was, the tap has seen."""
        while True:
            try:
                self._in.read()
            except RingEmpty:
                if self._in.publish():
                    self._side.signal(self._connection)
                    continue
                return

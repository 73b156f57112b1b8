"""A guest's side of the bus without a guest, after Linux's drivers/hv.

It lives in the memory of a partition whose processor executes nothing, posts its messages and signals its
channels by real hypercalls, and finds the host's answers in its SIM and SIEF pages.

    driver = GuestDriver(guest)
    driver.connect()
    (offer,) = driver.request_offers()
    channel = driver.open(offer)
    channel.send(b"hello")
    (answer,) = channel.receive()
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeVar

from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import EVENT_FLAGS_SIZE, MESSAGE_PENDING, MESSAGE_SIZE, PostMessageInput, Sint
from ringminus.hypervisor.wire import MessageHeader as SynicHeader
from ringminus.memory import MIB, PAGE_SIZE
from ringminus.vmbus import wire
from ringminus.wire import Struct
from support.guest_ring import (
    COMPLETION,
    COMPLETION_REQUESTED,
    GPA_DIRECT,
    INBAND,
    PENDING_SEND_SIZE,
    TRANSFER_PAGES,
    GuestInRing,
    GuestOutRing,
    Received,
)
from support.hypervisor import EOM, SIEF_PAGE, SIM_PAGE, Guest

POST_MESSAGE, SIGNAL_EVENT, FAST = 0x5C, 0x5D, 1 << 16
SINT, VECTOR = 2, 0xF3
FIRST_PAGE = 1 * MIB // PAGE_SIZE
FIRST_GPADL = 0xE1E10
PFNS_IN_HEADER, PFNS_IN_BODY = 26, 28
USER_DATA_SIZE = 120

M = TypeVar("M", bound=Struct)
FROM_HOST: dict[int, type[Struct]] = {
    1: wire.OfferChannel,
    2: wire.RescindOffer,
    4: wire.HeaderOnly,
    6: wire.OpenResult,
    10: wire.GpadlCreated,
    12: wire.GpadlTorndown,
    15: wire.VersionResponse,
    17: wire.HeaderOnly,
    24: wire.ModifyChannelResponse,
}
ALL_OFFERS_DELIVERED, UNLOAD_RESPONSE = 4, 17

Range = tuple[int, int, Sequence[int]]
"""byte_count, byte_offset and page numbers."""


class GuestDriver:
    """hv_vmbus. `scattered` lays its rings on pages that are no neighbours."""

    def __init__(self, guest: Guest, *, scattered: bool = False) -> None:
        self.guest = guest
        self.memory = guest.memory
        self.inbox: list[Struct] = []
        self.channels: dict[int, GuestChannel] = {}
        self.version = 0
        self._scattered = scattered
        self._connection = 1
        self._next_page = FIRST_PAGE
        self._next_gpadl = FIRST_GPADL
        guest.name_itself()
        guest.enable_synic(SINT, VECTOR, Sint.AUTO_EOI)

    # ------------------------------------------------------------ messages

    def post(self, message: Struct, tail: bytes = b"") -> HvStatus:
        """vmbus_post_msg."""
        payload = message.pack() + tail
        call = PostMessageInput(
            connection_id=self._connection,
            reserved=0,
            message_type=1,
            payload_size=len(payload),
            payload=payload,
        )
        return HvStatus(self.guest.call_with(POST_MESSAGE, call.pack()))

    def poll(self) -> None:
        """vmbus_message_isr, until no message is left in the slot."""
        slot = SIM_PAGE + SINT * MESSAGE_SIZE
        while (header := SynicHeader.unpack(self.memory.read(slot, SynicHeader.SIZE))).message_type:
            payload = self.memory.read(slot + SynicHeader.SIZE, header.payload_size)
            self.memory.write_u32(slot, 0)
            if SynicHeader.unpack(self.memory.read(slot, SynicHeader.SIZE)).flags & MESSAGE_PENDING:
                self.guest.write(EOM, 0)
            number = int.from_bytes(payload[:4], "little")
            self.inbox.append(FROM_HOST[number].unpack(payload))
        self.guest.processor.accept()

    def take(self, kind: type[M], **fields: int) -> M:
        """The first message of that kind, with those fields, out of the inbox."""
        self.poll()
        for message in self.inbox:
            if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                self.inbox.remove(message)
                return message
        raise AssertionError(f"the host sent no {kind.__name__}, but {self.inbox}")

    def take_number(self, number: int) -> None:
        """The same for a message that is only a header."""
        self.poll()
        self.inbox.remove(wire.HeaderOnly(header=wire.MessageHeader(msgtype=number)))

    # ------------------------------------------------------------ connection

    def connect(self, version: int = wire.Version.WIN10_V5_3, *, monitor_page: int = 0) -> bool:
        """vmbus_negotiate_version, once; tells whether the host has that version. `monitor_page` is where our
        monitored doorbells are, and the host's are in the page before."""
        self._connection = 4 if version >= wire.Version.WIN10_V5 else 1
        status = self.post(
            wire.InitiateContact(
                header=_header(14),
                vmbus_version_requested=version,
                target_vcpu=0,
                interrupt_page=SINT,
                monitor_page1=monitor_page and monitor_page - PAGE_SIZE,
                monitor_page2=monitor_page,
            )
        )
        assert status is HvStatus.SUCCESS
        self.channels.clear()
        answer = self.take(wire.VersionResponse)
        if answer.version_supported:
            self.version = version
            if version >= wire.Version.WIN10_V5:
                self._connection = answer.msg_conn_id
        return bool(answer.version_supported)

    def request_offers(self) -> list[wire.OfferChannel]:
        """vmbus_request_offers, up to the message that there are no more."""
        self.post(wire.HeaderOnly(header=_header(3)))
        self.take_number(ALL_OFFERS_DELIVERED)
        return self.offers()

    def offers(self) -> list[wire.OfferChannel]:
        """All offers that have come and were not asked for yet."""
        self.poll()
        found = [message for message in self.inbox if isinstance(message, wire.OfferChannel)]
        self.inbox = [message for message in self.inbox if not isinstance(message, wire.OfferChannel)]
        return found

    def unload(self) -> None:
        """vmbus_initiate_unload."""
        self.post(wire.HeaderOnly(header=_header(16)))
        self.take_number(UNLOAD_RESPONSE)
        self.channels.clear()

    def release(self, relid: int) -> None:
        """RELID_RELEASED, after a rescind."""
        self.post(wire.RelidReleased(header=_header(13), child_relid=relid))

    # ------------------------------------------------------------ memory

    def allocate(self, pages: int) -> list[int]:
        """Page numbers of memory that nothing else uses."""
        step = 2 if self._scattered else 1
        pfns = list(range(self._next_page, self._next_page + pages * step, step))
        self._next_page = pfns[-1] + step
        return pfns[::-1] if self._scattered else pfns

    def establish_gpadl(self, relid: int, ranges: Sequence[Range]) -> tuple[int, int]:
        """vmbus_establish_gpadl: a header and as many bodies as it takes; gives handle and status."""
        handle, self._next_gpadl = self._next_gpadl, self._next_gpadl + 1
        words: list[bytes] = []
        for count, offset, pfns in ranges:
            words += [struct.pack("<II", count, offset), *(struct.pack("<Q", pfn) for pfn in pfns)]
        header = wire.GpadlHeader(
            header=_header(8),
            child_relid=relid,
            gpadl=handle,
            range_buflen=8 * len(words),
            rangecount=len(ranges),
        )
        in_header = PFNS_IN_HEADER + 1
        self.post(header, b"".join(words[:in_header]))
        for start in range(in_header, len(words), PFNS_IN_BODY):
            body = wire.GpadlBody(header=_header(9), msgnumber=0, gpadl=handle)
            self.post(body, b"".join(words[start : start + PFNS_IN_BODY]))
        return handle, self.take(wire.GpadlCreated, gpadl=handle).creation_status

    def teardown_gpadl(self, relid: int, handle: int) -> None:
        """vmbus_teardown_gpadl, answer included."""
        self.post(wire.GpadlTeardown(header=_header(11), child_relid=relid, gpadl=handle))
        self.take(wire.GpadlTorndown, gpadl=handle)

    # ------------------------------------------------------------ channels

    def open(
        self,
        offer: wire.OfferChannel,
        pages: int = 8,
        user_data: bytes = b"",
        *,
        send_pages: int | None = None,
    ) -> GuestChannel:
        """vmbus_open with two rings of `pages` pages each, control pages included; fails unless the host
        accepts."""
        channel = GuestChannel(self, offer, pages if send_pages is None else send_pages, pages)
        assert channel.open(user_data) == 0, f"the host refused channel {offer.child_relid}"
        return channel

    def events(self) -> set[int]:
        """The event flags that are set, which are cleared: vmbus_chan_sched."""
        page = SIEF_PAGE + SINT * EVENT_FLAGS_SIZE
        flags = int.from_bytes(self.memory.read(page, EVENT_FLAGS_SIZE), "little")
        self.memory.write(page, bytes(EVENT_FLAGS_SIZE))
        self.guest.processor.accept()
        return {flag for flag in range(flags.bit_length()) if flags >> flag & 1}


class GuestChannel:
    """vmbus_channel. `doorbells` counts the signals that it sent."""

    def __init__(
        self, driver: GuestDriver, offer: wire.OfferChannel, send_pages: int, receive_pages: int
    ) -> None:
        self.driver = driver
        self.offer = offer
        self.relid = offer.child_relid
        self.doorbells = 0
        self.gpadl = 0
        self.pfns = driver.allocate(send_pages + receive_pages)
        self.send_pages = send_pages
        self.out = GuestOutRing(driver.memory, self.pfns[:send_pages])
        self.incoming = GuestInRing(driver.memory, self.pfns[send_pages:])

    def open(self, user_data: bytes = b"") -> int:
        """Describe the rings and open; gives the host's status."""
        self.out.clear()
        self.incoming.clear()
        whole = (len(self.pfns) * PAGE_SIZE, 0, self.pfns)
        self.gpadl, status = self.driver.establish_gpadl(self.relid, [whole])
        return status or self.open_with(self.gpadl, self.send_pages, user_data)

    def open_with(self, gpadl: int, downstream_page: int, user_data: bytes = b"") -> int:
        """OPEN_CHANNEL with any GPADL; gives the host's status."""
        self.driver.post(
            wire.OpenChannel(
                header=_header(5),
                child_relid=self.relid,
                openid=self.relid,
                ringbuffer_gpadlhandle=gpadl,
                target_vp=0,
                downstream_ringbuffer_pageoffset=downstream_page,
                userdata=user_data,
            )
        )
        status = self.driver.take(wire.OpenResult, child_relid=self.relid).status
        if status == 0:
            self.driver.channels[self.relid] = self
        return status

    def close(self) -> None:
        """vmbus_close: the channel, then the GPADL of its rings."""
        self.close_only()
        self.driver.teardown_gpadl(self.relid, self.gpadl)

    def close_only(self) -> None:
        """CLOSE_CHANNEL, which has no answer."""
        self.driver.post(wire.CloseChannel(header=_header(7), child_relid=self.relid))
        self.driver.channels.pop(self.relid, None)

    # ------------------------------------------------------------ packets

    def send(
        self, payload: bytes, transaction_id: int = 0, *, kind: int = INBAND, wants_completion: bool = False
    ) -> None:
        """vmbus_sendpacket; raises `GuestRingFull`."""
        self._send(kind, payload, transaction_id, wants_completion, b"")

    def send_gpa_direct(
        self, payload: bytes, ranges: Sequence[Range], transaction_id: int, *, wants_completion: bool = True
    ) -> None:
        """vmbus_sendpacket_mpb_desc."""
        header = struct.pack("<II", 0, len(ranges))
        for count, offset, pfns in ranges:
            header += struct.pack(f"<II{len(pfns)}Q", count, offset, *pfns)
        self._send(GPA_DIRECT, payload, transaction_id, wants_completion, header)

    def send_transfer(
        self, payload: bytes, pageset: int, ranges: Sequence[tuple[int, int]], transaction_id: int
    ) -> None:
        """A packet of type 7, as hosts send them."""
        header = struct.pack("<HBBI", pageset, 0, 0, len(ranges))
        header += b"".join(struct.pack("<II", *one) for one in ranges)
        self._send(TRANSFER_PAGES, payload, transaction_id, True, header)

    def complete(self, transaction_id: int, payload: bytes = b"") -> None:
        """The completion of a packet of the host."""
        self._send(COMPLETION, payload, transaction_id, False, b"")

    def _send(
        self, kind: int, payload: bytes, transaction_id: int, wants_completion: bool, header: bytes
    ) -> None:
        flags = COMPLETION_REQUESTED if wants_completion else 0
        if self.out.write(kind, payload, transaction_id, flags, header):
            self.signal()

    def signal(self) -> HvStatus:
        """vmbus_setevent."""
        self.doorbells += 1
        return HvStatus(self.driver.guest.hypercall(SIGNAL_EVENT | FAST, self.offer.connection_id))

    def wait_for_room(self, size: int) -> None:
        """Ask the host to signal when `size` bytes are free: what hv_sock does."""
        self.out.set(PENDING_SEND_SIZE, size)

    def signalled(self) -> bool:
        """Whether the host has signalled this channel; other channels' signals are lost."""
        return self.relid in self.driver.events()

    def receive(self, limit: int | None = None) -> list[Received]:
        """vmbus_on_event: all packets, or the first few; room goes back to the host as Linux gives it."""
        self.incoming.begin_read()
        found: list[Received] = []
        while limit is None or len(found) < limit:
            packet = self.incoming.next()
            if packet is None:
                break
            found.append(packet)
        if self.incoming.close():
            self.signal()
        if self.incoming.end_read() and limit is None:
            found += self.receive()
        return found


def _header(number: int) -> wire.MessageHeader:
    return wire.MessageHeader(msgtype=number)

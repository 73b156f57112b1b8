"""The bus: control messages, channels and their packets, guest memory that is lent for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from ringminus.changes import ANSWER, DELAY, DROP, DUPLICATE, ChangeError, GuestData, Kind
from ringminus.events.base import Event

NO_INTERFACE = UUID(int=0)


@dataclass(slots=True, eq=False, repr=False)
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


@dataclass(slots=True, eq=False, repr=False)
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


@dataclass(slots=True, eq=False, repr=False)
class GpadlChange(Event):
    """Guest memory was lent to us for a channel, in pages of 4 KiB, or taken back (`made` is False)."""

    POINT = "gpadls"
    NAME = "gpadl"
    relid: int
    device: str
    handle: int
    made: bool
    pages: int


@dataclass(slots=True, eq=False, repr=False)
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


@dataclass(slots=True, eq=False, repr=False)
class Violation(Event):
    """The guest broke a protocol: a message of the bus (`relid` 0) was dropped, or a channel was not opened
    or is served no more. `device` is the title of the channel's device."""

    POINT = "violations"
    NAME = "violation"
    relid: int
    device: str
    reason: str

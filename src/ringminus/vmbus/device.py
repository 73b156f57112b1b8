"""The device API: what a synthetic device is, and what the bus gives it.

A device is a class with a GUID and a few methods, all called on the machine's thread. It owns no thread
and no clock: what may block it hands to `Services.run`.

    class Echo(Device):
        interface = UUID("…")

        def packet(self, channel: Channel, packet: Packet) -> None:
            channel.complete(packet, bytes(packet.payload))

A `GuestError` raised from `opened` refuses the channel; one raised from `packet` fails it: it is counted,
logged, and the channel is not served any more until the guest closes and opens it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID, uuid5

from ringminus.clock import ReferenceClock, TimerQueue
from ringminus.memory import GuestMemory
from ringminus.tap import Tap
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import ChannelFlag, PacketType, PipeMode

T = TypeVar("T")
INSTANCES = UUID("a5f1d4c2-31c0-4b8e-9d0c-6f6c2f0e7b11")  # the namespace of instance GUIDs that we make up


@dataclass(slots=True)
class Packet:
    """A packet from the guest, valid only during the call: `payload` is a view into the ring.

    `ranges` are a GPA-direct packet's (type 9) pages. `transfer` are a transfer-page packet's (type 7)
    ranges as (byte_count, byte_offset) into the page set `pageset`.
    """

    kind: PacketType
    transaction_id: int
    wants_completion: bool
    payload: memoryview
    ranges: Sequence[GpaRange] = ()
    pageset: int = 0
    transfer: Sequence[tuple[int, int]] = ()


class Channel(Protocol):
    """An open channel of a device: the primary one (`index` 0) or a sub-channel.

    What is sent while the guest's ring is full waits in order, and until it has gone no further packet is
    taken from the guest; so what waits is bounded by what the guest has asked for.
    """

    index: int
    version: int
    """The negotiated VMBus version, major << 16 | minor."""
    user_data: bytes
    """The 120 bytes that the guest gave at OPEN_CHANNEL."""
    memory: GuestMemory

    def send(self, payload: bytes, transaction_id: int = 0, *, wants_completion: bool = False) -> None:
        """Send an in-band packet (type 6)."""

    def send_transfer(
        self,
        pageset: int,
        ranges: Sequence[tuple[int, int]],
        payload: bytes,
        transaction_id: int,
        *,
        wants_completion: bool = True,
    ) -> None:
        """Send a transfer-page packet (type 7); `ranges` are (byte_count, byte_offset) in its page set."""

    def send_gpa_direct(
        self,
        ranges: Sequence[GpaRange],
        payload: bytes,
        transaction_id: int,
        *,
        wants_completion: bool = True,
    ) -> None:
        """Send a GPA-direct packet (type 9), which names pages of the guest."""

    def complete(self, transaction_id: int, payload: bytes = b"") -> None:
        """Send the completion (type 11) of the guest's packet with that id."""

    def gpadl(self, handle: int) -> Sequence[GpaRange]:
        """The ranges of a GPADL that the guest made on this channel; raises `GuestError`."""

    def fail(self, reason: str) -> None:
        """Serve the channel no more: the guest broke the device's protocol."""


class Services(Protocol):
    """What the machine gives a device that is attached to it."""

    memory: GuestMemory
    clock: ReferenceClock
    timers: TimerQueue
    tap: Tap

    def run(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Do `work` on a host thread; then `done(result or exception)` is called on the machine's thread,
        unless the machine has ended."""

    def drain(self) -> None:
        """Wait until no `work` of this device runs any more; each `done` has been called then."""


class Offerer(Protocol):
    """What a device may ask of the bus."""

    def offer_subchannels(self, device: Device, count: int) -> None:
        """Offer sub-channels 1 … `count`; the guest opens each as it likes."""

    def rescind(self, device: Device) -> None:
        """Take the device out of the guest."""


class Device:
    """A synthetic device. `interface` is the class GUID by which the guest finds its driver, `instance`
    the GUID of this one. The other class attributes are what its offer says (TLFS has no VMBus; names as
    in Linux's include/linux/hyperv.h).
    """

    interface: ClassVar[UUID]
    name: ClassVar[str] = ""
    """What a person calls it, in tables and logs; the class's name when empty."""
    flags: ClassVar[ChannelFlag] = ChannelFlag(0)
    pipe_mode: ClassVar[PipeMode | None] = None
    """For devices with pipe framing: what the offer says; None for others."""
    mmio_megabytes: ClassVar[int] = 0
    monitored: ClassVar[bool] = False
    """Ask for the monitor page instead of a hypercall as the guest's doorbell (latency 100 µs)."""

    moderated: ClassVar[bool] = False
    """Let several answers share an interrupt while the guest keeps asking (see `moderation`)."""
    awaited: ClassVar[bool] = True
    """Whether the guest waits for these answers, or only for what comes after them."""

    instance: UUID
    services: Services
    bus: Offerer

    def __init__(self, instance: UUID | None = None) -> None:
        self.instance = uuid5(INSTANCES, type(self).__qualname__) if instance is None else instance

    def attach(self, services: Services, bus: Offerer) -> None:
        """The machine that has the device; called once, before anything else."""
        self.services = services
        self.bus = bus

    @property
    def title(self) -> str:
        """For tables and logs."""
        return self.name or type(self).__name__

    def user_defined(self) -> bytes:
        """Up to 120 bytes for the offer's user-defined part (116 with a pipe mode)."""
        return b""

    def opened(self, channel: Channel) -> None:
        """The guest opened a channel; raise `GuestError` to refuse."""

    def packet(self, channel: Channel, packet: Packet) -> None:
        """A packet came. A packet that wants a completion must get one, now or later."""

    def brings_data(self, packet: Packet) -> bool:
        """Whether the memory that a packet names holds something for the device when it comes, so that a
        recording needs it. What the device puts there is recorded with its completion."""
        return True

    def completion(self, channel: Channel, transaction_id: int, payload: memoryview) -> None:
        """The guest completed a packet of ours."""

    def drained(self, channel: Channel) -> None:
        """All packets that were there have been handed over; the guest will be signalled now if needed."""

    def gpadl_torn_down(self, channel: Channel, handle: int) -> None:
        """The guest takes back a GPADL that it made on this open channel: memory that it names may not be
        touched any more after this returns. (After `closed` no GPADL may be touched anyway.)"""

    def closed(self, channel: Channel) -> None:
        """The channel is gone: by the guest, by a reset of the bus, or by a failure. Nothing may be sent,
        and memory that the guest named on it may not be touched any more after this returns."""

    def close(self) -> None:
        """The machine ends."""

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave; `opened` follows for each channel that was open then."""

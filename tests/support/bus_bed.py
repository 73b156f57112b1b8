"""A bus with a device that writes down all that happens to it, and a guest's driver on the other side."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from ringminus.errors import GuestError
from ringminus.machine.services import DeviceServices, HostThreads
from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.device import Channel, Device, Packet
from ringminus.vmbus.wire import PacketType
from support.bus_driver import GuestChannel, GuestDriver
from support.hypervisor import Guest

Answer = Callable[[Channel, Packet], None]


class BrokenProtocol(GuestError):
    """What a device says of a packet that it does not understand."""


class Recorder(Device):
    """`packets` are (kind, transaction id, payload); `answer` is called for each, after it was noted."""

    interface = UUID("5f0a6f3e-8a55-4e3b-9f0a-111111111111")
    name = "recorder"

    def __init__(self, instance: int = 1, answer: Answer | None = None) -> None:
        super().__init__(UUID(int=instance))
        self.answer = answer
        self.refuse = ""
        self.on_drained: Callable[[Channel], None] | None = None
        self.open: dict[int, Channel] = {}
        self.packets: list[tuple[PacketType, int, bytes]] = []
        self.completions: list[tuple[int, bytes]] = []
        self.history: list[str] = []

    @property
    def channel(self) -> Channel:
        """The primary one."""
        return self.open[0]

    def opened(self, channel: Channel) -> None:
        self.history.append(f"opened {channel.index}")
        if self.refuse:
            raise BrokenProtocol(self.refuse)
        self.open[channel.index] = channel

    def packet(self, channel: Channel, packet: Packet) -> None:
        self.packets.append((packet.kind, packet.transaction_id, bytes(packet.payload)))
        if self.answer is not None:
            self.answer(channel, packet)

    def completion(self, channel: Channel, transaction_id: int, payload: memoryview) -> None:
        self.completions.append((transaction_id, bytes(payload)))

    def drained(self, channel: Channel) -> None:
        if self.on_drained is not None:
            self.on_drained(channel)

    def gpadl_torn_down(self, channel: Channel, handle: int) -> None:
        self.history.append(f"gpadl {handle:#x} of {channel.index} torn down")

    def closed(self, channel: Channel) -> None:
        self.history.append(f"closed {channel.index}")
        self.open.pop(channel.index, None)

    def close(self) -> None:
        self.history.append("gone")


def echo(channel: Channel, packet: Packet) -> None:
    """Complete each packet with its own payload."""
    channel.complete(packet.transaction_id, bytes(packet.payload))


def add(bus: VmBus, guest: Guest, device: Device) -> None:
    """Offer a device whose host work is done at once."""
    bus.add(device, DeviceServices(guest.partition, HostThreads()))


class Bed:
    """A partition with the bus and one device on it, and a guest's driver that has connected."""

    def __init__(self, *, scattered: bool = False) -> None:
        self.guest = Guest()
        self.bus = VmBus(self.guest.partition)
        self.device = Recorder()
        add(self.bus, self.guest, self.device)
        self.driver = GuestDriver(self.guest, scattered=scattered)
        assert self.driver.connect()
        (self.offer,) = self.driver.request_offers()

    def open(self, pages: int = 8, send_pages: int | None = None) -> GuestChannel:
        """The device's primary channel."""
        return self.driver.open(self.offer, pages, send_pages=send_pages)

    def second(self) -> tuple[Recorder, GuestChannel]:
        """Another device, that has an open channel and echoes."""
        other = Recorder(2, echo)
        add(self.bus, self.guest, other)
        (offer,) = self.driver.offers()
        return other, self.driver.open(offer)

"""What a recording says of its channels, by device: the events of each in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from ringminus.errors import ConfigError
from ringminus.tap import (
    BusMessage,
    ChannelState,
    DeviceMessage,
    Event,
    GpadlChange,
    NetworkFrame,
    RingPacket,
)
from ringminus.vmbus.wire import InitiateContact, OfferChannel, OpenChannel, Version
from ringminus.wire import ShortBuffer

LARGEST_RING = 4096
"""In pages; recordings that say more are not believed."""


class Unknown(Exception):
    """What a packet carried is not in the recording; the message says what."""


@dataclass(slots=True)
class RecordedDevice:
    """A device: `events` are those of all its channels. `offer` is the primary channel's, if it was recorded,
    `user_data` what the guest gave when it opened a channel, by relid."""

    title: str
    interface: UUID
    instance: UUID
    relid: int
    events: list[Event] = field(default_factory=list)
    relids: set[int] = field(default_factory=set)
    offer: OfferChannel | None = None
    user_data: dict[int, bytes] = field(default_factory=dict)
    indices: dict[int, int] = field(default_factory=dict)

    @property
    def packets(self) -> Iterator[RingPacket]:
        """Those of all channels."""
        return (one for one in self.events if isinstance(one, RingPacket))

    @property
    def has_data(self) -> bool:
        """Whether it was recorded what the memory held that packets name."""
        return any(packet.data for packet in self.packets)

    @property
    def names_memory(self) -> bool:
        """Whether packets of the guest name memory."""
        return any(packet.ranges for packet in self.packets)

    @property
    def about(self) -> str:
        """In a list."""
        channels = len(self.relids)
        return f"{self.title} (relid {self.relid}{f' and {channels - 1} more' if channels > 1 else ''})"


class Recording:
    """The devices in some events. `version` is that of the bus the guest spoke."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.version = int(Version.WIN10_V5_3)
        self.devices: list[RecordedDevice] = []
        self._by_relid: dict[int, RecordedDevice] = {}
        self._offers: dict[int, OfferChannel] = {}
        self._early: dict[int, list[Event]] = {}
        self._user_data: dict[int, bytes] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """The next event; those that are of no channel say nothing here."""
        if isinstance(event, ChannelState):
            device = self._device_of(event)
            device.events.append(event)
        elif isinstance(event, RingPacket):
            self._of_packet(event).events.append(event)
        elif isinstance(event, GpadlChange):
            known = self._by_relid.get(event.relid)
            if known is not None:
                known.events.append(event)
            else:
                self._early.setdefault(event.relid, []).append(event)
        elif isinstance(event, DeviceMessage):
            for one in self.devices:
                if one.title == event.device:
                    one.events.append(event)
        elif isinstance(event, NetworkFrame):
            for one in self.devices:
                if one.title == event.adapter:
                    one.events.append(event)
        elif isinstance(event, BusMessage):
            self._see(event)

    def device(self, wanted: str | None) -> RecordedDevice:
        """The device that a person names by its title or by the relid of one of its channels, or the only
        one that has packets; raises `ConfigError` that tells which there are."""
        with_packets = [one for one in self.devices if next(one.packets, None) is not None]
        if not with_packets:
            raise ConfigError(
                "the recording has no packets of any channel: record one with ringminus run --capture FILE"
            )
        there = ", ".join(one.about for one in with_packets)
        if wanted is None:
            if len(with_packets) > 1:
                raise ConfigError(f"name one of the recorded channels with --channel: {there}")
            return with_packets[0]
        number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 20 else None
        found = [one for one in with_packets if number in one.relids]
        found = found or [one for one in with_packets if one.title.lower() == wanted.lower()]
        if len(found) > 1:
            relids = " or ".join(str(one.relid) for one in found)
            raise ConfigError(f"there are {len(found)} channels {wanted}: say --channel {relids}")
        if not found:
            raise ConfigError(f"there is no channel {wanted} in the recording: there is {there}")
        return found[0]

    # ------------------------------------------------------------ on the way

    def _device_of(self, state: ChannelState) -> RecordedDevice:
        for one in self.devices:
            if one.instance == state.instance and one.interface == state.interface:
                self._join(one, state.relid, state.channel)
                return one
        return self._new(state.relid, state.device, state.interface, state.instance, state.channel)

    def _of_packet(self, packet: RingPacket) -> RecordedDevice:
        known = self._by_relid.get(packet.relid)
        if known is not None and known.interface == packet.interface:
            return known
        offer = self._offers.get(packet.relid)
        instance = (
            UUID(bytes_le=offer.offer.if_instance)
            if offer is not None
            else UUID(int=packet.relid & 0xFFFF_FFFF)
        )
        for one in self.devices:
            if one.instance == instance and one.interface == packet.interface:
                self._join(one, packet.relid, packet.channel)
                return one
        return self._new(packet.relid, packet.device, packet.interface, instance, packet.channel)

    def _new(self, relid: int, title: str, interface: UUID, instance: UUID, index: int) -> RecordedDevice:
        device = RecordedDevice(title, interface, instance, relid)
        self.devices.append(device)
        self._join(device, relid, index)
        return device

    def _join(self, device: RecordedDevice, relid: int, index: int) -> None:
        if self._by_relid.get(relid) is not device:
            device.events += self._early.pop(relid, ())
        device.relids.add(relid)
        device.indices[relid] = index
        device.user_data[relid] = self._user_data.get(relid, b"")
        self._by_relid[relid] = device
        if index == 0:
            device.relid, device.offer = relid, self._offers.get(relid, device.offer)

    def _see(self, event: BusMessage) -> None:
        try:
            if event.name == "OFFER_CHANNEL" and event.to_guest:
                offer = OfferChannel.unpack(event.payload)
                self._offers[offer.child_relid] = offer
                self._by_relid.pop(offer.child_relid, None)
                self._early.pop(offer.child_relid, None)
            elif event.name == "OPEN_CHANNEL":
                request = OpenChannel.unpack(event.payload)
                self._user_data[request.child_relid] = request.userdata
            elif event.name == "INITIATE_CONTACT":
                self.version = InitiateContact.unpack(event.payload).vmbus_version_requested
        except ShortBuffer:
            return  # it was cut short

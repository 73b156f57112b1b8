"""Which channel an event is about: a signal has a number, a hypercall a connection, a frame a title."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from ringminus.lens.drivers import DRIVERS
from ringminus.protocol import BY_INTERFACE, Layer
from ringminus.tap import (
    NO_INTERFACE,
    BusMessage,
    ChannelState,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    NetworkFrame,
    RingPacket,
    Violation,
)

OFFER = "OFFER_CHANNEL"


class Channels:
    """What events have told of channels so far, by all that names one. A channel that was closed keeps its
    names until another takes them: what follows is about it."""

    def __init__(self) -> None:
        self._by_relid: dict[int, ChannelState] = {}
        self._by_connection: dict[int, ChannelState] = {}
        self._by_flag: dict[int, ChannelState] = {}
        self._by_title: dict[str, ChannelState] = {}
        self._finders: dict[type[Event], Callable[[Any], ChannelState | None]] = {
            ChannelState: lambda event: event,
            RingPacket: self._packet,
            GpadlChange: lambda event: self._by_relid.get(event.relid),
            Violation: lambda event: self._by_relid.get(event.relid),
            EventSignal: lambda event: self._by_flag.get(event.flag),
            DeviceMessage: lambda event: self._by_title.get(event.device),
            NetworkFrame: lambda event: self._by_title.get(event.adapter),
        }

    def see(self, event: Event, carried: Layer | None) -> None:
        """Learn from an event and from the message that it carries."""
        if isinstance(event, ChannelState):
            self._learn(event)
            if not event.channel:
                self._by_title[event.device] = event
        elif isinstance(event, BusMessage) and carried is not None and carried.message == OFFER:
            offer = _offered(event, carried)
            if offer is not None:
                self._learn(offer)

    def _learn(self, channel: ChannelState) -> None:
        self._by_relid[channel.relid] = channel
        self._by_connection[channel.connection_id] = channel
        self._by_flag[channel.event_flag] = channel

    def of(self, event: Event, carried: Layer | None) -> ChannelState | None:
        """The channel that an event is about; None for none, or for one that is not known."""
        finder = self._finders.get(type(event))
        if finder is not None:
            return finder(event)
        for layer in (carried, *carried.inner) if carried is not None else ():
            relid, connection = layer.get("child_relid"), layer.get("connection_id")
            if isinstance(relid, int):
                return self._by_relid.get(relid)
            if isinstance(connection, int) and connection in self._by_connection:
                return self._by_connection[connection]
        return None

    def all(self) -> list[ChannelState]:
        """Those that are known, by relid."""
        return [self._by_relid[relid] for relid in sorted(self._by_relid)]

    def _packet(self, event: RingPacket) -> ChannelState:
        known = self._by_relid.get(event.relid)
        if known is not None and known.interface == event.interface:
            return known
        return _channel(event, event.relid, event.device, event.interface, index=event.channel)


def title_of(interface: UUID) -> str:
    """What a device of a class is called as long as it has not told its title."""
    names, protocol = DRIVERS.get(interface), BY_INTERFACE.get(interface)
    if names:
        return names[0]
    return protocol.title if protocol is not None else str(interface)


def _channel(
    event: Event,
    relid: int,
    device: str,
    interface: UUID,
    *,
    instance: UUID = NO_INTERFACE,
    index: int = 0,
    connection_id: int = 0,
) -> ChannelState:
    """A channel of which not all is known."""
    return ChannelState(
        event.time, event.vp, relid, device, False, interface, instance, index, connection_id, relid, 0, 0
    )


def _offered(event: BusMessage, layer: Layer) -> ChannelState | None:
    """The channel of an offer."""
    names = ("offer.if_type", "offer.if_instance", "child_relid", "connection_id", "offer.sub_channel_index")
    kind, instance, relid, connection, index = map(layer.get, names)
    if not isinstance(kind, bytes) or not isinstance(instance, bytes):
        return None
    if not isinstance(relid, int) or not isinstance(connection, int) or not isinstance(index, int):
        return None  # it is cut short
    interface = UUID(bytes_le=kind)
    return _channel(
        event,
        relid,
        title_of(interface),
        interface,
        instance=UUID(bytes_le=instance),
        index=index,
        connection_id=connection,
    )

"""Events of a store taken apart in any order, by what had passed before them."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from ringminus.lens.channels import OFFER
from ringminus.lens.decode import COMPLETION, Decoder
from ringminus.lens.lines import Line, line
from ringminus.lens.tui.store import Store
from ringminus.protocol import Layer
from ringminus.tap import BusMessage, ChannelState, Event, RingPacket

CACHED_DECODERS = 8


class Shown(NamedTuple):
    """An event and what it was taken apart into."""

    position: int
    event: Event
    layers: list[Layer]
    channel: ChannelState | None

    def line(self) -> Line:
        """Its line."""
        return line(self.event, self.layers, self.channel)


class Dissection:
    """Whoever fills the store calls `see` with every event; anybody asks for one, in one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._naming: list[Event] = []
        self._places: list[int] = []
        self._known: dict[tuple[type[Event], int], object] = {}
        self._seeing = Decoder()
        self._decoders: dict[int, Decoder] = {}

    def see(self, position: int, event: Event) -> None:
        """Remember what tells of channels, unless it tells nothing new."""
        if isinstance(event, ChannelState):
            key: object = (
                event.device,
                event.interface,
                event.channel,
                event.connection_id,
                event.event_flag,
            )
            relid = event.relid
        elif isinstance(event, BusMessage) and event.to_guest:
            offer = self._seeing.carried(event)
            if (
                offer is None
                or offer.message != OFFER
                or not isinstance(found := offer.get("child_relid"), int)
            ):
                return
            key, relid = event.payload, found
        else:
            return
        if self._known.get((type(event), relid)) != key:
            self._known[type(event), relid] = key
            self._naming.append(event)
            self._places.append(position)

    def channels(self) -> list[ChannelState]:
        """Those that have been opened or offered so far, as they were last."""
        return self._decoder(len(self._places)).channels.all()

    def at(self, position: int) -> Shown | None:
        """The event there, if it is kept."""
        event = self._store.event(position)
        if event is None:
            return None
        decoder = self._decoder(bisect_right(self._places, position))
        if isinstance(event, RingPacket) and event.kind == COMPLETION and event.cause:
            asked = self._store.find(event.cause)
            request = self._store.event(asked) if asked is not None else None
            if request is not None:
                decoder.note(request)
        layers = decoder.layers(event)
        return Shown(position, event, layers, decoder.channel(event))

    def _decoder(self, known: int) -> Decoder:
        """One that knows the first `known` events that tell of channels."""
        found = self._decoders.get(known)
        if found is None:
            less = [one for one in self._decoders if one < known]
            before = max(less, default=0)
            found = self._decoders.pop(before) if less else Decoder()
            for event in self._naming[before:known]:
                found.note(event)
            self._decoders[known] = found
            if len(self._decoders) > CACHED_DECODERS:
                del self._decoders[next(iter(self._decoders))]
        return found

"""Where a channel is between host and guest, as data; and the table of all channels.

    Withheld --offer--> Idle --OPEN--> Opening --result--> Open
        ^                |  ^-----------'----CLOSE----------'
        |                |                (each of them) --rescind--> Rescinded --RELID_RELEASED--> forgotten
        '-RELID_RELEASED-'

A contact or UNLOAD takes every channel back to Withheld, and forgets those that are rescinded and all
sub-channels. Only reserved channels (opened by OPEN_RESERVED_CHANNEL) stay open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Self

from ringminus.vmbus.control.actions import MessageTarget, OpenRequest
from ringminus.vmbus.control.gpadl import GpadlTable
from ringminus.vmbus.control.offers import Identity, Offer, OfferKey
from ringminus.vmbus.wire import MESSAGE_SINT, RELID_LIMIT

SINT_SHIFT = 12


@dataclass(frozen=True, slots=True)
class Reserved:
    """A channel that outlives connections. Its answers go to `target`; `orphaned`: the connection on which
    it was opened is gone."""

    target: MessageTarget
    orphaned: bool = False


@dataclass(frozen=True, slots=True)
class Withheld:
    """The guest does not know of it, or has let go of it."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Offered and closed."""

    relid: int


@dataclass(frozen=True, slots=True)
class Opening:
    """The guest has asked; the device has not answered yet. `returning`: the guest has asked for the ring's
    GPADL back already, and gets it when the channel is closed."""

    relid: int
    request: OpenRequest
    reserved: Reserved | None = None
    returning: bool = False


@dataclass(frozen=True, slots=True)
class Open:
    """Open on both sides; see `Opening`."""

    relid: int
    request: OpenRequest
    reserved: Reserved | None = None
    returning: bool = False


@dataclass(frozen=True, slots=True)
class Rescinded:
    """Taken back, but the guest still holds the relid. If it was open it is, until the guest closes it."""

    relid: int
    still: Open | None = None


ChannelState = Withheld | Idle | Opening | Open | Rescinded


@dataclass(slots=True, eq=False)
class Channel:
    """An offer and where it is; `primary` is the key of a sub-channel's primary."""

    key: OfferKey
    offer: Offer
    primary: OfferKey | None
    state: ChannelState

    @property
    def relid(self) -> int | None:
        """What the guest calls it."""
        return None if isinstance(self.state, Withheld) else self.state.relid

    @property
    def in_use(self) -> Opening | Open | None:
        """Its opening, when a device may be using its memory."""
        match self.state:
            case Opening() | Open():
                return self.state
            case Rescinded(still=still):
                return still
        return None

    @property
    def reserved(self) -> Reserved | None:
        """Set when it is open as a reserved channel."""
        use = self.in_use
        return None if use is None else use.reserved

    def save(self) -> dict[str, Any]:
        """As plain data; GPADLs by their handles."""
        return {
            "key": self.key,
            "offer": self.offer.save(),
            "primary": self.primary,
            "relid": self.relid,
            "rescinded": isinstance(self.state, Rescinded),
            "use": None if self.in_use is None else _save_use(self.in_use),
        }

    @classmethod
    def restored(cls, state: dict[str, Any], gpadls: GpadlTable) -> Self:
        """What `save` gave; the GPADLs must be back."""
        key = OfferKey(state["key"])
        return cls(key, Offer.restored(state["offer"]), state["primary"], _restored_state(key, state, gpadls))


def _save_use(use: Opening | Open) -> dict[str, Any]:
    request, reserved = use.request, use.reserved
    return {
        "opening": isinstance(use, Opening),
        "request": {
            **{name: getattr(request, name) for name in request.__dataclass_fields__},
            "gpadl": request.gpadl.handle,
        },
        "reserved": None
        if reserved is None
        else [reserved.target.vp, reserved.target.sint, reserved.orphaned],
        "returning": use.returning,
    }


def _restored_use(key: OfferKey, saved: dict[str, Any], gpadls: GpadlTable) -> Opening | Open:
    gpadl = gpadls.get(key, saved["request"]["gpadl"])
    if gpadl is None:
        raise ValueError(f"the saved channel {key} is open without its ring")
    request = OpenRequest(**{**saved["request"], "gpadl": gpadl})
    reserved = None
    if saved["reserved"] is not None:
        vp, sint, orphaned = saved["reserved"]
        reserved = Reserved(MessageTarget(vp, sint), orphaned)
    state = Opening if saved["opening"] else Open
    return state(request.relid, request, reserved, saved["returning"])


def _restored_state(key: OfferKey, saved: dict[str, Any], gpadls: GpadlTable) -> ChannelState:
    relid = saved["relid"]
    if relid is None:
        return Withheld()
    use = None if saved["use"] is None else _restored_use(key, saved["use"], gpadls)
    if saved["rescinded"]:
        return Rescinded(relid, use if isinstance(use, Open) else None)
    return Idle(relid) if use is None else use


def default_connection_id(relid: int) -> int:
    """Where the guest signals a channel, unless it chooses itself; made as OpenVMM makes it."""
    return relid | MESSAGE_SINT << SINT_SHIFT


class ChannelTable:
    """All channels, by key and by relid."""

    def __init__(self) -> None:
        self.next_key = 1
        self._channels: dict[OfferKey, Channel] = {}
        self._by_relid: dict[int, Channel] = {}
        self._by_identity: dict[Identity, list[Channel]] = {}
        self._connection_ids: set[int] = set()

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._channels.values()))

    def get(self, key: OfferKey) -> Channel | None:
        """By the host's name for it."""
        return self._channels.get(key)

    def by_relid(self, relid: int) -> Channel | None:
        """By the guest's name for it."""
        return self._by_relid.get(relid)

    def by_identity(self, identity: Identity) -> list[Channel]:
        """The live one and, before it, one that is rescinded and not yet released."""
        return list(self._by_identity.get(identity, ()))

    def subchannels(self, key: OfferKey) -> list[Channel]:
        """Those of a primary, rescinded ones included."""
        return [channel for channel in self if channel.primary == key]

    def add(self, offer: Offer, primary: OfferKey | None = None) -> Channel:
        """A new one, which the guest does not know yet."""
        channel = Channel(OfferKey(self.next_key), offer, primary, Withheld())
        self.next_key += 1
        self.put(channel)
        return channel

    def put(self, channel: Channel) -> None:
        """One that is new, or was saved."""
        self._channels[channel.key] = channel
        self._by_identity.setdefault(channel.offer.identity, []).append(channel)
        self._enter(channel)

    def move(self, channel: Channel, state: ChannelState) -> None:
        """Take a channel to another state, and keep account of its relid and its connection id."""
        if channel.relid is not None:
            del self._by_relid[channel.relid]
        if channel.in_use is not None:
            self._connection_ids.remove(channel.in_use.request.connection_id)
        channel.state = state
        self._enter(channel)

    def _enter(self, channel: Channel) -> None:
        if channel.relid is not None:
            self._by_relid[channel.relid] = channel
        if channel.in_use is not None:
            self._connection_ids.add(channel.in_use.request.connection_id)

    def signals(self, connection_id: int) -> bool:
        """Whether an open or opening channel has that connection id."""
        return connection_id in self._connection_ids

    def forget(self, channel: Channel) -> None:
        """The host has it no more."""
        self.move(channel, Withheld())
        del self._channels[channel.key]
        same = self._by_identity[channel.offer.identity]
        same.remove(channel)
        if not same:
            del self._by_identity[channel.offer.identity]

    def free_relid(self) -> int:
        """The lowest that is free, so that the same offers get the same relids over connections. There are
        never more channels than relids."""
        return next(relid for relid in count(1) if relid not in self._by_relid)

    @property
    def full(self) -> bool:
        """Whether there is no relid for another channel."""
        return len(self) >= RELID_LIMIT - 1

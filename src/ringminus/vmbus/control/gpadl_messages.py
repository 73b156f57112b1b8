"""Messages about GPADLs: GPADL_HEADER, GPADL_BODY, GPADL_TEARDOWN."""

from __future__ import annotations

from dataclasses import replace

from ringminus.vmbus.control import actions
from ringminus.vmbus.control.channel_states import Channel, Open, Opening, Rescinded
from ringminus.vmbus.control.core import Arrived, Core
from ringminus.vmbus.control.gpadl import WORD, HalfBuilt
from ringminus.vmbus.control.offers import OfferKey
from ringminus.vmbus.control.refusals import Refusal, VmBusError
from ringminus.vmbus.wire import GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, Status


class GpadlMessages:
    """A header has an answer whatever comes; a body of an unknown GPADL has none, as it names no channel."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._outbox = core.outbox
        self._gpadls = core.gpadls

    def header(self, message: GpadlHeader, arrived: Arrived) -> None:
        """The first part of a description, often all of it."""
        channel = self._core.channels.by_relid(message.child_relid)
        begun = self._begin(channel, message)
        if isinstance(begun, Refusal):
            self._refuse(message.child_relid, message.gpadl, begun)
        else:
            self._feed(message.child_relid, begun, arrived.tail)

    def _begin(self, channel: Channel | None, message: GpadlHeader) -> HalfBuilt | Refusal:
        if channel is None:
            return Refusal.UNKNOWN_RELID
        if channel.reserved is not None:
            return Refusal.RESERVED
        if self._taken(channel, message.gpadl):
            return Refusal.DUPLICATE_GPADL
        words = message.range_buflen // WORD
        return self._gpadls.begin(channel.key, message.gpadl, words, message.rangecount)

    def _taken(self, channel: Channel, handle: int) -> bool:
        """Handles are a connection's; those of reserved channels may be an earlier connection's."""
        if self._gpadls.half_built(handle) is not None or self._gpadls.get(channel.key, handle) is not None:
            return True
        return any(self._reserved_of(key) is None for key in self._gpadls.owners(handle))

    def _reserved_of(self, key: OfferKey) -> object:
        channel = self._core.channels.get(key)
        return None if channel is None else channel.reserved

    def body(self, message: GpadlBody, arrived: Arrived) -> None:
        """A further part."""
        half = self._gpadls.half_built(message.gpadl)
        if half is None:
            raise VmBusError(Refusal.UNKNOWN_GPADL, f"GPADL_BODY: no GPADL {message.gpadl:#x} is being built")
        channel = self._core.channels.get(half.offer)
        assert channel is not None and channel.relid is not None, "half-built GPADLs go with their channel"
        self._feed(channel.relid, half, arrived.tail)

    def _feed(self, relid: int, half: HalfBuilt, data: bytes) -> None:
        if not half.append(data):
            return
        made = self._gpadls.finish(half)
        if isinstance(made, Refusal):
            self._refuse(relid, half.handle, made)
            return
        self._outbox.do(actions.GpadlCreated(half.offer, half.handle))
        self._created(relid, half.handle, Status.SUCCESS)

    def _refuse(self, relid: int, handle: int, reason: Refusal) -> None:
        self._outbox.count(reason)
        self._created(relid, handle, Status.UNSUCCESSFUL)

    def _created(self, relid: int, handle: int, status: Status) -> None:
        self._outbox.send(
            "GPADL_CREATED", GpadlCreated, child_relid=relid, gpadl=handle, creation_status=status
        )

    def teardown(self, message: GpadlTeardown, _arrived: Arrived) -> None:
        """The guest wants it back. One that is the ring of an open channel waits until that is closed."""
        channel, handle = self._core.channels.by_relid(message.child_relid), message.gpadl
        if channel is None:
            raise VmBusError(Refusal.UNKNOWN_RELID, f"GPADL_TEARDOWN of unknown relid {message.child_relid}")
        half = self._gpadls.half_built(handle)
        if half is not None and half.offer == channel.key:
            self._gpadls.abandon(half)
            self._torndown(handle)
            return
        if self._gpadls.get(channel.key, handle) is None:
            raise VmBusError(
                Refusal.UNKNOWN_GPADL, f"GPADL_TEARDOWN: relid {channel.relid} has no GPADL {handle:#x}"
            )
        if channel.reserved is not None:
            raise VmBusError(Refusal.RESERVED, f"GPADL_TEARDOWN on reserved channel {channel.relid}")
        if channel.in_use is not None and channel.in_use.request.gpadl.handle == handle:
            self._defer(channel, channel.in_use)
            return
        self._give_back(channel.key, handle)
        self._torndown(handle)

    def _defer(self, channel: Channel, use: Opening | Open) -> None:
        if use.returning:
            raise VmBusError(
                Refusal.TEARDOWN_PENDING, f"relid {use.relid}: its ring is being torn down already"
            )
        self._outbox.count(Refusal.GPADL_IN_USE)
        match channel.state:
            case Opening() | Open():
                self._core.channels.move(channel, replace(channel.state, returning=True))
            case Rescinded(still=Open() as still):
                kept = replace(still, returning=True)
                self._core.channels.move(channel, replace(channel.state, still=kept))

    def _give_back(self, key: OfferKey, handle: int) -> None:
        self._outbox.do(actions.GpadlTornDown(key, handle))
        self._gpadls.drop(key, handle)

    def _torndown(self, handle: int) -> None:
        self._outbox.send("GPADL_TORNDOWN", GpadlTorndown, gpadl=handle)

    def closed(self, channel: Channel, use: Opening | Open) -> None:
        """A channel that was in `use` has been closed: if the guest wanted its ring back, it gets it."""
        if use.returning:
            handle = use.request.gpadl.handle
            self._give_back(channel.key, handle)
            self._torndown(handle)

    def released(self, channel: Channel) -> None:
        """A guest has let go of a channel, and so of all its GPADLs."""
        self._gpadls.abandon_all(channel.key)
        for gpadl in self._gpadls.of_offer(channel.key):
            self._give_back(channel.key, gpadl.handle)

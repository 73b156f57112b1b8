"""Messages about channels, and what the host does with them: offer, open, close, rescind, release."""

from __future__ import annotations

from dataclasses import replace

from ringminus.errors import ConfigError
from ringminus.vmbus.control.actions import Closed, OpenRequest, OpenRequested, Released, Retargeted
from ringminus.vmbus.control.channel_states import (
    Channel,
    Idle,
    Open,
    Opening,
    Rescinded,
    Reserved,
    Withheld,
    default_connection_id,
)
from ringminus.vmbus.control.core import Arrived, Core
from ringminus.vmbus.control.gpadl_messages import GpadlMessages
from ringminus.vmbus.control.offers import Offer, OfferKey
from ringminus.vmbus.control.refusals import Refusal, VmBusError
from ringminus.vmbus.wire import (
    RELID_LIMIT,
    USER_DATA_SIZE,
    VP_NONE,
    CloseChannel,
    Feature,
    ModifyChannel,
    ModifyChannelResponse,
    OpenChannel,
    OpenChannel2,
    OpenFlag,
    OpenResult,
    RelidReleased,
    RescindOffer,
    Status,
)

# connection ids that a guest may choose for a channel: 24 bits, and not those of the bus itself
FIRST_CONNECTION_ID, CONNECTION_ID_LIMIT = 5, 1 << 24


class Channels:
    """Transitions of `channel_states`."""

    def __init__(self, core: Core, gpadls: GpadlMessages) -> None:
        self._core = core
        self._outbox = core.outbox
        self._table = core.channels
        self._gpadls = gpadls

    # ------------------------------------------------------------ offers

    def offer(self, offer: Offer) -> OfferKey:
        """A new device. While an offer of the same identity is rescinded and not yet released, the guest
        would take it for that one, so it waits."""
        if any(not isinstance(one.state, Rescinded) for one in self._table.by_identity(offer.identity)):
            raise ConfigError(f"{offer.instance} of interface {offer.interface} is offered already")
        if self._table.full:
            raise ConfigError(f"a bus has {RELID_LIMIT - 1} channels at most: take a device away")
        channel = self._table.add(offer)
        self.deliver(channel)
        return channel.key

    def offer_subchannel(self, key: OfferKey, index: int, monitor_id: int | None) -> OfferKey:
        """A sub-channel of an open channel."""
        primary = self._table.get(key)
        if primary is None or not isinstance(primary.state, Open) or primary.primary is not None:
            raise VmBusError(Refusal.NOT_OPEN, "sub-channels belong to an open primary channel")
        offer = replace(primary.offer, subchannel_index=index, monitor_id=monitor_id)
        if not index or any(
            not isinstance(one.state, Rescinded) for one in self._table.by_identity(offer.identity)
        ):
            raise VmBusError(Refusal.ALREADY_OPEN, f"sub-channel {index} is offered already")
        if self._table.full:
            raise VmBusError(Refusal.TOO_MUCH_MEMORY, "no relid is left for a sub-channel")
        channel = self._table.add(offer, key)
        self.deliver(channel)
        return channel.key

    def deliver_all(self) -> None:
        """The guest has asked for all offers."""
        for channel in self._table:
            self.deliver(channel)

    def deliver(self, channel: Channel) -> None:
        """Send a withheld offer, if the guest is to have it now."""
        connection = self._outbox.connection
        if connection is None or not connection.offers_sent or not isinstance(channel.state, Withheld):
            return
        if any(one is not channel for one in self._table.by_identity(channel.offer.identity)):
            return
        relid = self._table.free_relid()
        self._table.move(channel, Idle(relid))
        self._outbox.post(
            channel.offer.message(
                relid,
                default_connection_id(relid),
                connection.features,
                monitored=connection.pages is not None,
            )
        )

    def rescind(self, channel: Channel) -> None:
        """Take an offer back, its sub-channels first, as the guest closes them first."""
        for sub in self._table.subchannels(channel.key):
            self.rescind(sub)
        state = channel.state
        if isinstance(state, Withheld):
            self._forget(channel)
            return
        if isinstance(state, Rescinded):
            return
        orphaned = channel.reserved is not None and channel.reserved.orphaned
        if isinstance(state, Opening):
            if state.reserved is not None:
                self._answer_open(state, Status.UNSUCCESSFUL)
            self._close(channel)
        still = state if isinstance(state, Open) else None
        self._table.move(channel, Rescinded(state.relid, still))
        if not orphaned:
            self._outbox.send("RESCIND_OFFER", RescindOffer, child_relid=state.relid)
        elif still is None:
            self._let_go(channel)

    def relid_released(self, message: RelidReleased, _arrived: Arrived) -> None:
        """The guest lets go of a relid: of a rescinded one, or of an offer that it does not want."""
        channel = self._known(message.child_relid, "RELID_RELEASED")
        if isinstance(channel.state, Opening | Open):
            raise VmBusError(Refusal.STILL_OPEN, f"RELID_RELEASED of relid {channel.relid}, which is open")
        was_rescinded = isinstance(channel.state, Rescinded)
        if channel.in_use is not None:
            self._close(channel)
        self._release(channel)
        if was_rescinded:
            self._deliver_again(channel)

    def _release(self, channel: Channel) -> None:
        """The guest has nothing of a closed channel any more. The host forgets what it has taken back, and
        sub-channels."""
        forget = isinstance(channel.state, Rescinded) or channel.primary is not None
        self._gpadls.released(channel)
        self._table.move(channel, Withheld())
        if forget:
            self._forget(channel)

    def _let_go(self, channel: Channel) -> None:
        """A reserved channel whose connection is gone has been closed: no guest knows its relid."""
        self._release(channel)
        self._deliver_again(channel)

    def _deliver_again(self, channel: Channel) -> None:
        for one in self._table.by_identity(channel.offer.identity):
            self.deliver(one)

    def _forget(self, channel: Channel) -> None:
        self._table.forget(channel)
        self._outbox.do(Released(channel.key))

    def disconnect(self) -> None:
        """The guest is gone, or begins anew: everything is closed but what is reserved."""
        self._core.gpadls.abandon_all()
        # sub-channels first, as they are closed before their primary
        for channel in sorted(self._table, key=lambda one: one.primary is None):
            state = channel.state
            match state:
                case Withheld():
                    if channel.primary is not None:
                        self._forget(channel)
                case Opening(reserved=Reserved() as reserved) | Open(reserved=Reserved() as reserved):
                    orphan = replace(state, reserved=replace(reserved, orphaned=True))
                    self._table.move(channel, orphan)
                case Rescinded(still=Open(reserved=Reserved() as reserved) as still):
                    kept = replace(still, reserved=replace(reserved, orphaned=True))
                    self._table.move(channel, replace(state, still=kept))
                case _:
                    if channel.in_use is not None:
                        self._end(channel)
                    self._release(channel)

    # ------------------------------------------------------------ opening and closing

    def open(self, message: OpenChannel | OpenChannel2, _arrived: Arrived) -> None:
        """OPEN_CHANNEL: answered at once when it is refused, otherwise when the device has decided."""
        channel = self._table.by_relid(message.child_relid)
        if channel is not None and isinstance(channel.state, Rescinded):
            # it has not heard of that yet, or does not wait for an answer any more
            self._outbox.count(Refusal.RESCINDED)
            return
        refusal = Refusal.UNKNOWN_RELID if channel is None else self._try_open(channel, message)
        if refusal is not None:
            self._outbox.count(refusal)
            self._outbox.send(
                "OPEN_CHANNEL_RESULT",
                OpenResult,
                child_relid=message.child_relid,
                openid=message.openid,
                status=Status.UNSUCCESSFUL,
            )

    def _try_open(self, channel: Channel, message: OpenChannel | OpenChannel2) -> Refusal | None:
        if message.target_vp != VP_NONE and message.target_vp >= self._core.vp_count:
            return Refusal.BAD_TARGET
        handle, offset = message.ringbuffer_gpadlhandle, message.downstream_ringbuffer_pageoffset
        request = self.request(channel, handle, offset)
        if not isinstance(request, Refusal):
            request = self._with_signals(
                replace(
                    request,
                    open_id=message.openid,
                    target_vp=None if message.target_vp == VP_NONE else message.target_vp,
                    user_data=message.userdata,
                ),
                message,
            )
        return request if isinstance(request, Refusal) else self.begin(channel, request, None)

    def request(self, channel: Channel, handle: int, offset: int) -> OpenRequest | Refusal:
        """An opening with that ring, without interrupts and with the connection id of the offer."""
        if not isinstance(channel.state, Idle):
            return Refusal.ALREADY_OPEN
        relid = channel.state.relid
        gpadl = self._core.gpadls.get(channel.key, handle)
        if gpadl is None:
            return Refusal.UNKNOWN_GPADL
        pages = gpadl.ring_pages()
        if pages is None or not 0 < offset < pages:
            return Refusal.BAD_RING
        connection_id = default_connection_id(relid)
        return OpenRequest(relid, 0, gpadl, offset, None, bytes(USER_DATA_SIZE), connection_id, relid)

    def _with_signals(
        self, request: OpenRequest, message: OpenChannel | OpenChannel2
    ) -> OpenRequest | Refusal:
        """What a guest of 6.0 may choose, if that was agreed on."""
        connection = self._outbox.connection
        if connection is None or not isinstance(message, OpenChannel2):
            return request
        if connection.features & Feature.INTERRUPT_REDIRECTION:
            request = replace(request, redirect=bool(message.flags & OpenFlag.REDIRECT_INTERRUPT))
        chosen = message.connection_id
        # a guest that chooses nothing leaves zeros: the offer's then
        if connection.features & Feature.GUEST_SIGNAL_PARAMETERS and chosen:
            if not FIRST_CONNECTION_ID <= chosen < CONNECTION_ID_LIMIT or message.event_flag >= RELID_LIMIT:
                return Refusal.BAD_SIGNAL
            request = replace(request, connection_id=chosen, event_flag=message.event_flag)
        return request

    def begin(self, channel: Channel, request: OpenRequest, reserved: Reserved | None) -> Refusal | None:
        """Ask the device, unless another channel is signalled by that connection id."""
        if self._table.signals(request.connection_id):
            return Refusal.BAD_SIGNAL
        self._table.move(channel, Opening(request.relid, request, reserved))
        self._outbox.do(OpenRequested(channel.key, request))
        return None

    def open_result(self, channel: Channel, accepted: bool) -> None:
        """The device has decided; too late when the channel is not opening any more."""
        state = channel.state
        if not isinstance(state, Opening):
            return
        self._answer_open(state, Status.SUCCESS if accepted else Status.UNSUCCESSFUL)
        if accepted:
            opened = Open(state.relid, state.request, state.reserved, state.returning)
            self._table.move(channel, opened)
            return
        self._outbox.count(Refusal.DEVICE_REFUSED)
        self._table.move(channel, Idle(state.relid))
        self._gpadls.closed(channel, state)
        if state.reserved is not None and state.reserved.orphaned:
            self._let_go(channel)

    def _answer_open(self, state: Opening, status: Status) -> None:
        fields = {"child_relid": state.relid, "openid": state.request.open_id, "status": status}
        if state.reserved is None:
            self._outbox.send("OPEN_CHANNEL_RESULT", OpenResult, **fields)
        else:
            self._outbox.send_to(state.reserved.target, "OPEN_CHANNEL_RESULT", OpenResult, **fields)

    def close(self, message: CloseChannel, _arrived: Arrived) -> None:
        """CLOSE_CHANNEL, which has no answer. With a primary go its sub-channels."""
        channel = self._known(message.child_relid, "CLOSE_CHANNEL")
        if channel.reserved is not None:
            raise VmBusError(Refusal.RESERVED, f"CLOSE_CHANNEL of reserved channel {channel.relid}")
        match channel.state:
            case Idle():
                raise VmBusError(Refusal.NOT_OPEN, f"CLOSE_CHANNEL of relid {channel.relid}, which is closed")
            case Rescinded(still=None):
                self._outbox.count(Refusal.RESCINDED)
            case _:
                self._close(channel)

    def _close(self, channel: Channel) -> None:
        """Close a channel that is in use, and with a primary its sub-channels, which go with it."""
        subs = self._table.subchannels(channel.key)
        for sub in subs:
            if sub.in_use is not None and sub.reserved is None:
                self._close(sub)
        use = self._end(channel)
        self._gpadls.closed(channel, use)
        for sub in subs:
            self.rescind(sub)

    def _end(self, channel: Channel) -> Opening | Open:
        """Take a channel out of use; gives the use that it was in."""
        use, relid = channel.in_use, channel.relid
        assert use is not None and relid is not None
        self._outbox.do(Closed(channel.key))
        self._table.move(channel, Rescinded(relid) if isinstance(channel.state, Rescinded) else Idle(relid))
        return use

    def close_reserved(self, channel: Channel) -> None:
        """Close a reserved channel, whose connection may be gone."""
        reserved = channel.reserved
        self._close(channel)
        if reserved is not None and reserved.orphaned:
            self._let_go(channel)

    # ------------------------------------------------------------ changes

    def modify(self, message: ModifyChannel, _arrived: Arrived) -> None:
        """MODIFY_CHANNEL: interrupts to another processor. It has an answer from 5.3 on."""
        channel = self._table.by_relid(message.child_relid)
        refusal = self._cannot_modify(channel, message)
        if refusal is None:
            assert channel is not None and isinstance(channel.state, Open)
            request = replace(channel.state.request, target_vp=message.target_vp)
            self._table.move(channel, replace(channel.state, request=request))
            self._outbox.do(Retargeted(channel.key, message.target_vp))
        elif not self._outbox.knows("MODIFY_CHANNEL_RESPONSE"):
            raise VmBusError(refusal, f"MODIFY_CHANNEL of relid {message.child_relid}: {refusal}")
        else:
            self._outbox.count(refusal)
        self._outbox.send(
            "MODIFY_CHANNEL_RESPONSE",
            ModifyChannelResponse,
            child_relid=message.child_relid,
            status=Status.SUCCESS if refusal is None else Status.UNSUCCESSFUL,
        )

    def _cannot_modify(self, channel: Channel | None, message: ModifyChannel) -> Refusal | None:
        if channel is None:
            return Refusal.UNKNOWN_RELID
        if message.target_vp >= self._core.vp_count:
            return Refusal.BAD_TARGET
        match channel.state:
            case Open(reserved=None, request=request):
                return Refusal.INTERRUPTS_OFF if request.target_vp is None else None
            case Rescinded():
                return Refusal.RESCINDED
            case Open():
                return Refusal.RESERVED
        return Refusal.NOT_OPEN

    def _known(self, relid: int, name: str) -> Channel:
        channel = self._table.by_relid(relid)
        # a reserved channel of an earlier connection is not this guest's
        if channel is None or (channel.reserved is not None and channel.reserved.orphaned):
            raise VmBusError(Refusal.UNKNOWN_RELID, f"{name} of unknown relid {relid}")
        return channel

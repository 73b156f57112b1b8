"""What the control plane may not do, watched from outside: an independent account of its actions. And what
it has done, to see that a test gets everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from ringminus.memory import PAGE_SIZE
from ringminus.vmbus.control import actions
from ringminus.vmbus.control.actions import Action, OpenRequest, Send
from ringminus.vmbus.control.messages import MESSAGES
from ringminus.vmbus.control.offers import Offer, OfferKey
from ringminus.vmbus.control.plane import ControlPlane, State
from ringminus.vmbus.control.refusals import Refusal
from ringminus.vmbus.wire import PAYLOAD_LIMIT, GpadlTorndown, MessageHeader, OfferChannel, RescindOffer
from support.bus_script import MEMORY

ALWAYS_KNOWN = {"VERSION_RESPONSE", "UNLOAD_RESPONSE"}
RESERVED_ANSWERS = {"OPEN_CHANNEL_RESULT", "CLOSE_RESERVED_RESPONSE"}


class Watcher:
    """Takes what the host does and the actions that follow; raises AssertionError for what may not be."""

    def __init__(self) -> None:
        self.version = self.features = 0
        self.offers: dict[OfferKey, Offer] = {}
        self.relids: dict[int, OfferKey] = {}
        self.opening: dict[OfferKey, OpenRequest] = {}
        self.open: dict[OfferKey, OpenRequest] = {}
        self.gpadls: set[tuple[OfferKey, int]] = set()
        self.orphans: set[OfferKey] = set()

    def take(self, made: Sequence[Action]) -> None:
        """What follows from one message or one act of the host."""
        told: set[int] = set()
        for action in made:
            match action:
                case Send():
                    self._sent(action, told)
                case actions.Connected(version, features):
                    self._gone()
                    self.version, self.features = version, features
                case actions.Unloaded():
                    assert self.version, "who was not connected is not gone"
                    self._gone()
                case actions.OpenRequested(offer, request):
                    self._asked(offer, request)
                case actions.Closed(offer):
                    self._closed(offer)
                case actions.GpadlCreated(offer, handle):
                    assert offer in self.offers and (offer, handle) not in self.gpadls
                    self.gpadls.add((offer, handle))
                case actions.GpadlTornDown(offer, handle):
                    in_use = self.opening.get(offer) or self.open.get(offer)
                    assert in_use is None or in_use.gpadl.handle != handle, "a ring in use"
                    assert handle not in told, "the guest was told before the device"
                    self.gpadls.remove((offer, handle))
                case actions.Retargeted(offer, _):
                    assert offer in self.open
                case actions.Released(offer):
                    del self.offers[offer]
                    assert offer not in self.opening and offer not in self.open
                    assert not any(one == offer for one, _ in self.gpadls)
                    self.relids = {relid: key for relid, key in self.relids.items() if key != offer}

    def released(self, relid: int) -> None:
        """The guest has released a relid, and was heard."""
        self.relids.pop(relid, None)

    def answered(self, offer: OfferKey, accepted: bool) -> None:
        """The device has answered a request to open."""
        request = self.opening.pop(offer, None)
        if request is not None and accepted:
            self.open[offer] = request

    def _gone(self) -> None:
        """Of a connection that is over, reserved channels are left."""
        assert not self.opening.keys() & self.open.keys()
        left = self.opening | self.open
        self.relids = {relid: key for relid, key in self.relids.items() if key in left}
        self.orphans = set(left)
        self.version = self.features = 0
        assert {key for key, _ in self.gpadls} <= set(left)

    def _asked(self, offer: OfferKey, request: OpenRequest) -> None:
        assert offer in self.offers and self.relids[request.relid] == offer
        assert offer not in self.opening and offer not in self.open
        assert (offer, request.gpadl.handle) in self.gpadls
        uses = (*self.opening.values(), *self.open.values())
        assert all(one.connection_id != request.connection_id for one in uses)
        (ring,) = request.gpadl.ranges
        assert ring.byte_offset == 0 and ring.byte_count == len(ring.pfns) * PAGE_SIZE
        assert 0 < request.downstream_offset_pages < len(ring.pfns)
        assert all(MEMORY.is_ram(pfn * PAGE_SIZE, PAGE_SIZE) for pfn in ring.pfns)
        self.opening[offer] = request

    def _closed(self, offer: OfferKey) -> None:
        if offer in self.opening:
            del self.opening[offer]
        else:
            del self.open[offer]
        if offer in self.orphans:
            self.orphans.remove(offer)
            self.relids = {relid: key for relid, key in self.relids.items() if key != offer}

    def _sent(self, action: Send, told: set[int]) -> None:
        kind = MESSAGES[MessageHeader.unpack(action.payload).msgtype]
        assert not kind.from_guest and len(action.payload) <= PAYLOAD_LIMIT
        assert len(action.payload) in {form.structure.SIZE for form in kind.forms}
        known = kind.allowed(self.version, self.features) or kind.name in ALWAYS_KNOWN
        assert known or (action.target is not None and kind.name in RESERVED_ANSWERS), kind.name
        if kind.name == "OFFER_CHANNEL":
            self._offered(OfferChannel.unpack(action.payload))
        elif kind.name == "RESCIND_OFFER":
            key = self.relids[RescindOffer.unpack(action.payload).child_relid]
            assert key not in self.orphans, "this guest does not know it"
        elif kind.name == "GPADL_TORNDOWN":
            told.add(GpadlTorndown.unpack(action.payload).gpadl)

    def _offered(self, message: OfferChannel) -> None:
        relid = message.child_relid
        assert 0 < relid < 2048 and relid not in self.relids, f"relid {relid} is used twice"
        said = (message.offer.if_instance, message.offer.sub_channel_index)
        known = set(self.relids.values())
        (key,) = (
            key
            for key, offer in self.offers.items()
            if (offer.instance.bytes_le, offer.subchannel_index) == said and key not in known
        )
        assert not any(
            self.offers[one].identity == self.offers[key].identity for one in known if one in self.offers
        ), "the guest would take it for the old one"
        self.relids[relid] = key


CHANNEL_STATES = {
    "withheld", "idle", "rescinded", "opening", "opening reserved", "opening orphaned", "opening returning",
    "open", "open reserved", "open orphaned", "open returning", "rescinded open", "rescinded open reserved",
    "rescinded open orphaned", "rescinded open returning",
}  # fmt: skip


class Seen:
    """Everything that happened while it listened."""

    def __init__(self) -> None:
        self.states: set[str] = set()
        self.channels: set[str] = set()
        self.refusals: set[str] = set()
        self.actions: set[str] = set()
        self.sent: set[str] = set()

    def take(self, made: Sequence[Action]) -> None:
        """What followed from one step."""
        self.actions |= {type(action).__name__ for action in made}
        sent = (action.payload for action in made if isinstance(action, Send))
        self.sent |= {MESSAGES[MessageHeader.unpack(payload).msgtype].name for payload in sent}

    def look(self, control: ControlPlane, saved: dict[str, Any]) -> None:
        """Where that led to; `saved` is the state as plain data."""
        self.states.add(control.state.value)
        self.refusals |= set(control.refusals)
        self.channels |= {_state_name(one) for one in saved["channels"]}

    def missing(self) -> set[str]:
        """What has not happened. The budget takes more messages to use up than a sequence has here;
        tests/unit/vmbus/test_gpadl.py does it."""
        answers = {kind.name for kind in MESSAGES.values() if not kind.from_guest}
        kinds = {kind.__name__ for kind in get_args(actions.Action)}
        return (
            ({state.value for state in State} - self.states)
            | (CHANNEL_STATES - self.channels)
            | (kinds - self.actions)
            | (answers - self.sent)
            | (set(Refusal) - self.refusals - {Refusal.TOO_MUCH_MEMORY})
        )


def _state_name(saved: dict[str, Any]) -> str:
    use = saved["use"]
    words = ["rescinded"] if saved["rescinded"] else []
    if use is not None:
        words += ["opening" if use["opening"] else "open"]
        if use["reserved"] is not None:
            words += ["orphaned" if use["reserved"][2] else "reserved"]
        if use["returning"]:
            words += ["returning"]
    elif not words:
        words = ["withheld" if saved["relid"] is None else "idle"]
    return " ".join(words)

"""The control plane: messages in, actions out. It owns no port, no clock and no thread.

    DISCONNECTED --INITIATE_CONTACT--> CONNECTED --REQUEST_OFFERS--> OFFERED
         ^-----------------------------UNLOAD---------------------------'

From 6.0 on a connected guest may also PAUSE us. A new INITIATE_CONTACT at any time starts over: another
kernel has taken the machine. What each channel does meanwhile is in `channel_states`. What a host answers
follows Linux's drivers/hv, which says what a guest waits for, and OpenVMM's vmbus_server.

    control = ControlPlane(memory.is_ram, vp_count=1)
    key, actions = control.offer(Offer(interface, instance))
    actions = control.receive(payload)   # carry them out in order
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any
from uuid import UUID

from ringminus.vmbus.control.actions import Action, OpenRequest
from ringminus.vmbus.control.channel_states import Channel
from ringminus.vmbus.control.channels import Channels
from ringminus.vmbus.control.connection import FEATURES, Connection, Pages
from ringminus.vmbus.control.connection_messages import ConnectionMessages, message_connection
from ringminus.vmbus.control.core import Arrived, Core
from ringminus.vmbus.control.gpadl import Gpadl, GpadlTable
from ringminus.vmbus.control.gpadl_messages import GpadlMessages
from ringminus.vmbus.control.messages import MESSAGES, MessageKind
from ringminus.vmbus.control.offers import Offer, OfferKey
from ringminus.vmbus.control.refusals import Refusal, VmBusError
from ringminus.vmbus.control.reserved import ReservedChannels
from ringminus.vmbus.wire import (
    MESSAGE_CONNECTION_ID_4,
    MESSAGE_SINT,
    PAYLOAD_LIMIT,
    Feature,
    MessageHeader,
    Status,
    TlConnectResult,
)
from ringminus.wire import ShortBuffer

__all__ = ["ControlPlane", "State", "VmBusError"]

Handler = Callable[[Any, Arrived], None]
WHILE_PAUSED = frozenset({"RESUME", "UNLOAD", "INITIATE_CONTACT"})


class State(enum.Enum):
    """Where the guest and we are."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    OFFERED = "offered"
    PAUSED = "paused"


class ControlPlane:
    """One guest's bus. `is_ram(gpa, length)` is the memory map's word on guest memory; `monitor_pages` are
    the guest-physical addresses (parent to child, child to parent) of monitor pages that the host provides
    to guests that take them; `features` is what the host has of 6.0.

    `received` counts messages by name, `refusals` what the guest asked for and did not get, by `Refusal`.
    `target_vp` and `message_sint` say where our messages go.
    """

    message_sint = MESSAGE_SINT

    def __init__(
        self,
        is_ram: Callable[[int, int], bool],
        vp_count: int,
        monitor_pages: tuple[int, int] | None = None,
        features: Feature = FEATURES,
    ) -> None:
        self._core = Core(GpadlTable(is_ram), vp_count)
        self._outbox = self._core.outbox
        self.gpadls = GpadlMessages(self._core)
        self.channels = Channels(self._core, self.gpadls)
        self.reserved = ReservedChannels(self._core, self.channels)
        host_pages = None if monitor_pages is None else Pages(*monitor_pages)
        self.connection = ConnectionMessages(self._core, self.channels, is_ram, host_pages, features)
        self.received: Counter[str] = Counter()
        self.refusals = self._outbox.refusals
        self._handlers: dict[str, Handler] = {
            kind.name: attrgetter(kind.handler)(self) for kind in MESSAGES.values() if kind.from_guest
        }

    # ------------------------------------------------------------ what is known

    @property
    def state(self) -> State:
        """Where the guest and we are."""
        connection = self._outbox.connection
        if connection is None:
            return State.DISCONNECTED
        if connection.held is not None:
            return State.PAUSED
        return State.OFFERED if connection.offers_sent else State.CONNECTED

    @property
    def version(self) -> int | None:
        """What was negotiated, major << 16 | minor."""
        return None if self._outbox.connection is None else self._outbox.connection.version

    @property
    def features(self) -> int:
        """What was agreed on, of `Feature`; 0 before 6.0."""
        return 0 if self._outbox.connection is None else self._outbox.connection.features

    @property
    def client_id(self) -> UUID | None:
        """How a guest of 6.0 named itself; the zero GUID if it did not."""
        return None if self._outbox.connection is None else self._outbox.connection.client_id

    @property
    def message_connection(self) -> int:
        """Where the guest posts its messages."""
        return message_connection(self.version or 0)

    @property
    def target_vp(self) -> int:
        """The processor that takes our messages; one that exists."""
        return self.connection.target_vp

    def gpadl(self, offer: OfferKey, handle: int) -> Gpadl:
        """A GPADL that the guest made on that channel; raises `VmBusError`."""
        gpadl = self._core.gpadls.get(offer, handle)
        if gpadl is None:
            raise VmBusError(Refusal.UNKNOWN_GPADL, f"the channel has no GPADL {handle:#x}")
        return gpadl

    def relid(self, key: OfferKey) -> int:
        """What the guest calls a channel; 0 when it does not know it."""
        channel = self._core.channels.get(key)
        return (channel.relid or 0) if channel is not None else 0

    def open_request(self, key: OfferKey) -> OpenRequest | None:
        """How the guest opened a channel, while it is open or opening."""
        channel = self._core.channels.get(key)
        use = None if channel is None else channel.in_use
        return None if use is None else use.request

    # ------------------------------------------------------------ the guest

    def receive(self, payload: bytes, connection_id: int = MESSAGE_CONNECTION_ID_4) -> list[Action]:
        """Take one message, posted to that connection. What is refused without an answer raises
        `VmBusError`, and changes nothing."""
        try:
            self._dispatch(payload, connection_id)
        except VmBusError as error:
            self._outbox.count(error.reason)
            raise
        return self._outbox.take()

    def _dispatch(self, payload: bytes, connection_id: int) -> None:
        if len(payload) > PAYLOAD_LIMIT:
            raise VmBusError(Refusal.TOO_LONG, f"a message of {len(payload)} bytes")
        try:
            number = MessageHeader.unpack(payload).msgtype
            kind = MESSAGES.get(number)
            if kind is None or not kind.from_guest:
                raise VmBusError(
                    Refusal.NO_SUCH_MESSAGE, f"message type {number:#x} is none that a guest sends"
                )
            self.received[kind.name] += 1
            self._check_allowed(kind)
            message = kind.unpack(payload, self.version or 0, self.features)
        except ShortBuffer as error:
            raise VmBusError(Refusal.TOO_SHORT, str(error)) from None
        self._handlers[kind.name](message, Arrived(payload[message.SIZE :], connection_id))

    def _check_allowed(self, kind: MessageKind) -> None:
        connection = self._outbox.connection
        if connection is None:
            if not kind.allowed(0, 0):
                raise VmBusError(Refusal.NOT_CONNECTED, f"{kind.name} while {self.state.value}")
            return
        if not kind.allowed(connection.version, connection.features):
            text = f"{kind.name} does not exist in version {_version_text(connection)}"
            raise VmBusError(Refusal.NOT_IN_VERSION, text)
        if connection.held is not None and kind.name not in WHILE_PAUSED:
            raise VmBusError(Refusal.PAUSED, f"{kind.name} while {self.state.value}")

    # ------------------------------------------------------------ the host

    def offer(self, offer: Offer) -> tuple[OfferKey, list[Action]]:
        """Offer a device: now, or when the guest asks for offers. Raises `ConfigError`."""
        return self.channels.offer(offer), self._outbox.take()

    def offer_subchannel(
        self, key: OfferKey, index: int, monitor_id: int | None = None
    ) -> tuple[OfferKey, list[Action]]:
        """Offer a sub-channel of an open channel; `index` begins at 1. It vanishes when the primary is
        closed, rescinded or reset. Raises `VmBusError`."""
        return self.channels.offer_subchannel(key, index, monitor_id), self._outbox.take()

    def rescind(self, key: OfferKey) -> list[Action]:
        """Take an offer back. `Released` follows when the guest has let go of it, maybe at once; an open
        channel stays open until the guest closes it."""
        channel = self._core.channels.get(key)
        if channel is not None:
            self.channels.rescind(channel)
        return self._outbox.take()

    def open_result(self, key: OfferKey, accepted: bool) -> list[Action]:
        """The answer to `OpenRequested`; without effect when the channel was closed meanwhile."""
        channel = self._core.channels.get(key)
        if channel is not None:
            self.channels.open_result(channel, accepted)
        return self._outbox.take()

    def tl_connect_result(
        self, endpoint: UUID, service: UUID, status: int = Status.CONNECTION_REFUSED
    ) -> list[Action]:
        """Refuse a `TlConnect`. (To accept it, offer a channel.) Guests before 4.1 are not told."""
        self._outbox.send(
            "TL_CONNECT_RESULT",
            TlConnectResult,
            guest_endpoint_id=endpoint.bytes_le,
            host_service_id=service.bytes_le,
            status=status,
        )
        return self._outbox.take()

    # ------------------------------------------------------------ state

    def save(self) -> dict[str, Any]:
        """The state as plain data, with the offers and their keys; the counters are not part of it."""
        connection, channels = self._outbox.connection, self._core.channels
        return {
            "connection": None if connection is None else connection.save(),
            "target_vp": self.target_vp,
            "next_key": channels.next_key,
            "channels": [channel.save() for channel in channels],
            "gpadls": self._core.gpadls.save(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave, into a control plane that is new and made with the same arguments."""
        connection, core = state["connection"], self._core
        self._outbox.connection = None if connection is None else Connection.restored(connection)
        self.connection.target_vp = state["target_vp"]
        core.gpadls.restore(state["gpadls"])
        core.channels.next_key = state["next_key"]
        for saved in state["channels"]:
            core.channels.put(Channel.restored(saved, core.gpadls))


def _version_text(connection: Connection) -> str:
    text = f"{connection.version >> 16}.{connection.version & 0xFFFF}"
    return f"{text} with features {connection.features:#x}" if connection.features else text

"""The table of VMBus messages: number, name, direction, forms by version, and handler.

Parsing, dispatch, "allowed in this version" and the form of what we send come from it. A message may have
several forms; the newest that the connection's version and features allow is the one. First versions and
features follow OpenVMM's vmbus_core/src/protocol.rs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringminus.vmbus import wire
from ringminus.vmbus.wire import Feature, MessageHeader, Version
from ringminus.wire import Struct

NO_FEATURES = Feature(0)
ALWAYS = 0
"""As a first version: allowed also while no guest is connected."""


@dataclass(frozen=True, slots=True)
class Form:
    """One layout of a message: from version `since` on and, when `features` are named, with one of them.

    `by_size`: nothing but its length tells it from the next older form.
    """

    structure: type[Struct]
    since: int = Version.WIN8
    features: Feature = NO_FEATURES
    by_size: bool = False

    def allowed(self, version: int, features: int) -> bool:
        """Whether a connection of that version has it."""
        return version >= self.since and (not self.features or bool(self.features & features))


@dataclass(frozen=True, slots=True)
class MessageKind:
    """A row. `forms` are newest first; `handler` names the control plane's method that takes it."""

    number: int
    name: str
    from_guest: bool
    forms: tuple[Form, ...]
    handler: str = ""

    @property
    def since(self) -> int:
        """The first version that has it."""
        return min(form.since for form in self.forms)

    def allowed(self, version: int, features: int) -> bool:
        """Whether a connection of that version has it in any form; version 0 is no connection."""
        return any(form.allowed(version, features) for form in self.forms)

    def unpack(self, payload: bytes, version: int, features: int) -> Struct:
        """Decode the newest form that fits; raises `ShortBuffer`. The message must be allowed."""
        forms = [form for form in self.forms if form.allowed(version, features)]
        for form in forms[:-1]:
            if not form.by_size or len(payload) >= form.structure.SIZE:
                return form.structure.unpack(payload)
        return forms[-1].structure.unpack(payload)


def _from_guest(number: int, name: str, handler: str, *forms: Form) -> MessageKind:
    return MessageKind(number, name, True, forms, handler)


def _from_host(number: int, name: str, *forms: Form) -> MessageKind:
    return MessageKind(number, name, False, forms)


_SIGNALS = Feature.GUEST_SIGNAL_PARAMETERS | Feature.INTERRUPT_REDIRECTION
_MODIFY, _PAUSE = Feature.MODIFY_CONNECTION, Feature.PAUSE_RESUME
_RS3, _RS5, _IRON, _COPPER = Version.WIN10_V4_1, Version.WIN10_V5_2, Version.WIN10_V5_3, Version.COPPER

# fmt: off
MESSAGES: dict[int, MessageKind] = {
    kind.number: kind
    for kind in (
        _from_host(1, "OFFER_CHANNEL", Form(wire.OfferChannel)),
        _from_host(2, "RESCIND_OFFER", Form(wire.RescindOffer)),
        _from_guest(3, "REQUEST_OFFERS", "connection.request_offers", Form(wire.HeaderOnly)),
        _from_host(4, "ALL_OFFERS_DELIVERED", Form(wire.HeaderOnly)),
        _from_guest(5, "OPEN_CHANNEL", "channels.open",
                    Form(wire.OpenChannel2, _COPPER, _SIGNALS), Form(wire.OpenChannel)),
        _from_host(6, "OPEN_CHANNEL_RESULT", Form(wire.OpenResult)),
        _from_guest(7, "CLOSE_CHANNEL", "channels.close", Form(wire.CloseChannel)),
        _from_guest(8, "GPADL_HEADER", "gpadls.header", Form(wire.GpadlHeader)),
        _from_guest(9, "GPADL_BODY", "gpadls.body", Form(wire.GpadlBody)),
        _from_host(10, "GPADL_CREATED", Form(wire.GpadlCreated)),
        _from_guest(11, "GPADL_TEARDOWN", "gpadls.teardown", Form(wire.GpadlTeardown)),
        _from_host(12, "GPADL_TORNDOWN", Form(wire.GpadlTorndown)),
        _from_guest(13, "RELID_RELEASED", "channels.relid_released", Form(wire.RelidReleased)),
        # the version is not known yet when it comes, so that its length alone tells the form
        _from_guest(14, "INITIATE_CONTACT", "connection.initiate_contact",
                    Form(wire.InitiateContact2, ALWAYS, by_size=True), Form(wire.InitiateContact, ALWAYS)),
        _from_host(15, "VERSION_RESPONSE",
                   Form(wire.VersionResponse3, _COPPER, Feature.SERVER_MONITOR_PAGES),
                   Form(wire.VersionResponse2, _COPPER), Form(wire.VersionResponse, ALWAYS)),
        _from_guest(16, "UNLOAD", "connection.unload", Form(wire.HeaderOnly, ALWAYS)),
        _from_host(17, "UNLOAD_RESPONSE", Form(wire.HeaderOnly, ALWAYS)),
        _from_guest(18, "OPEN_RESERVED_CHANNEL", "reserved.open",
                    Form(wire.OpenReservedChannel, Version.WIN10)),
        _from_guest(19, "CLOSE_RESERVED_CHANNEL", "reserved.close", Form(wire.CloseReservedChannel, ALWAYS)),
        _from_host(20, "CLOSE_RESERVED_RESPONSE", Form(wire.CloseReservedResponse, Version.WIN10)),
        _from_guest(21, "TL_CONNECT_REQUEST", "connection.tl_connect",
                    Form(wire.TlConnectRequest2, _RS5, by_size=True),
                    Form(wire.TlConnectRequest, Version.WIN10)),
        _from_guest(22, "MODIFY_CHANNEL", "channels.modify", Form(wire.ModifyChannel, _RS3)),
        _from_host(23, "TL_CONNECT_RESULT", Form(wire.TlConnectResult, _RS3)),
        _from_host(24, "MODIFY_CHANNEL_RESPONSE", Form(wire.ModifyChannelResponse, _IRON)),
        _from_guest(25, "MODIFY_CONNECTION", "connection.modify",
                    Form(wire.ModifyConnection, _COPPER, _MODIFY)),
        _from_host(26, "MODIFY_CONNECTION_RESPONSE", Form(wire.ModifyConnectionResponse, _COPPER, _MODIFY)),
        _from_guest(27, "PAUSE", "connection.pause", Form(wire.HeaderOnly, _COPPER, _PAUSE)),
        _from_host(28, "PAUSE_RESPONSE", Form(wire.HeaderOnly, _COPPER, _PAUSE)),
        _from_guest(29, "RESUME", "connection.resume", Form(wire.HeaderOnly, _COPPER, _PAUSE)),
    )
}
# fmt: on
NAMED: dict[str, MessageKind] = {kind.name: kind for kind in MESSAGES.values()}


def encode(name: str, structure: type[Struct] = wire.HeaderOnly, **fields: Any) -> bytes:
    """A message's bytes; `structure` is one of its forms."""
    return structure(header=MessageHeader(msgtype=NAMED[name].number), **fields).pack()

"""The table of VMBus messages: number, name, direction, first version, structure and handler.

Parsing, dispatch and "allowed in this version" come from it. A message from the guest without a handler
belongs to channels, and no channel is offered. First versions follow OpenVMM's vmbus_core.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringminus.vmbus.wire import (
    HeaderOnly,
    InitiateContact,
    Version,
    VersionResponse,
)
from ringminus.wire import Struct


@dataclass(frozen=True, slots=True)
class MessageKind:
    """A row: `handler` names the method of the control plane that takes it."""

    number: int
    name: str
    from_guest: bool
    since: Version = Version.WIN8
    structure: type[Struct] | None = None
    handler: str | None = None


def _from_guest(
    number: int,
    name: str,
    structure: type[Struct] | None = None,
    handler: str | None = None,
    since: Version = Version.WIN8,
) -> MessageKind:
    return MessageKind(number, name, True, since, structure, handler)


def _from_host(
    number: int, name: str, structure: type[Struct] | None = None, since: Version = Version.WIN8
) -> MessageKind:
    return MessageKind(number, name, False, since, structure)


MESSAGES: dict[int, MessageKind] = {
    kind.number: kind
    for kind in (
        _from_host(1, "OFFER_CHANNEL"),
        _from_host(2, "RESCIND_OFFER"),
        _from_guest(3, "REQUEST_OFFERS", HeaderOnly, "request_offers"),
        _from_host(4, "ALL_OFFERS_DELIVERED", HeaderOnly),
        _from_guest(5, "OPEN_CHANNEL"),
        _from_host(6, "OPEN_CHANNEL_RESULT"),
        _from_guest(7, "CLOSE_CHANNEL"),
        _from_guest(8, "GPADL_HEADER"),
        _from_guest(9, "GPADL_BODY"),
        _from_host(10, "GPADL_CREATED"),
        _from_guest(11, "GPADL_TEARDOWN"),
        _from_host(12, "GPADL_TORNDOWN"),
        _from_guest(13, "RELID_RELEASED"),
        _from_guest(14, "INITIATE_CONTACT", InitiateContact, "initiate_contact"),
        _from_host(15, "VERSION_RESPONSE", VersionResponse),
        _from_guest(16, "UNLOAD", HeaderOnly, "unload"),
        _from_host(17, "UNLOAD_RESPONSE", HeaderOnly),
        _from_guest(18, "OPEN_RESERVED_CHANNEL", since=Version.WIN10),
        _from_guest(19, "CLOSE_RESERVED_CHANNEL"),
        _from_host(20, "CLOSE_RESERVED_RESPONSE", since=Version.WIN10),
        _from_guest(21, "TL_CONNECT_REQUEST", since=Version.WIN10),
        _from_guest(22, "MODIFY_CHANNEL", since=Version.WIN10_V4_1),
        _from_host(23, "TL_CONNECT_RESULT", since=Version.WIN10_V4_1),
        _from_host(24, "MODIFY_CHANNEL_RESPONSE", since=Version.WIN10_V5_3),
        _from_guest(25, "MODIFY_CONNECTION", since=Version.COPPER),
        _from_host(26, "MODIFY_CONNECTION_RESPONSE", since=Version.COPPER),
        _from_guest(27, "PAUSE", since=Version.COPPER),
        _from_host(28, "PAUSE_RESPONSE", since=Version.COPPER),
        _from_guest(29, "RESUME", since=Version.COPPER),
    )
}

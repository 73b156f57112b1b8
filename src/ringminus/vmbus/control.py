"""The control plane: messages in, messages out. It owns no port, no clock and no thread.

    DISCONNECTED --INITIATE_CONTACT--> CONNECTED --REQUEST_OFFERS--> OFFERED
         ^---------------------UNLOAD--------------------------------'

A new INITIATE_CONTACT at any time starts over: another kernel has taken the machine.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from typing import Any

from ringminus.errors import GuestError
from ringminus.vmbus.messages import MESSAGES, MessageKind
from ringminus.vmbus.wire import (
    MESSAGE_CONNECTION_ID_4,
    PAYLOAD_LIMIT,
    ConnectionState,
    HeaderOnly,
    InitiateContact,
    MessageHeader,
    Version,
    VersionResponse,
    VersionResponseWithFeatures,
)
from ringminus.wire import Struct


class VmBusError(GuestError):
    """The guest broke the bus protocol."""


class State(enum.Enum):
    """Where the guest and we are."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    OFFERED = "offered"


class ControlPlane:
    """One guest's connection to its bus. `version` is the negotiated one, `target_vp` takes our messages."""

    def __init__(self) -> None:
        self.state = State.DISCONNECTED
        self.version: int | None = None
        self.target_vp = 0
        self.received: Counter[str] = Counter()
        self._handlers: dict[str, Callable[[Any], list[Struct]]] = {
            "initiate_contact": self._initiate_contact,
            "request_offers": self._request_offers,
            "unload": self._unload,
        }

    def receive(self, payload: bytes) -> list[bytes]:
        """Take one message and give the answers; raises `VmBusError` and `ShortBuffer` for a broken one."""
        if len(payload) > PAYLOAD_LIMIT:
            raise VmBusError(f"a message of {len(payload)} bytes")
        number = MessageHeader.unpack(payload).msgtype
        kind = MESSAGES.get(number)
        if kind is None or not kind.from_guest:
            raise VmBusError(f"message type {number:#x} is none that a guest sends")
        self.received[kind.name] += 1
        return [answer.pack() for answer in self._dispatch(kind, payload)]

    def _dispatch(self, kind: MessageKind, payload: bytes) -> list[Struct]:
        if self.version is not None and kind.since > self.version:
            raise VmBusError(f"{kind.name} does not exist in version {self._version_text()}")
        if kind.structure is None or kind.handler is None:
            raise VmBusError(f"{kind.name} while no channel is offered")
        return self._handlers[kind.handler](kind.structure.unpack(payload))

    def _version_text(self) -> str:
        return "none" if self.version is None else f"{self.version >> 16}.{self.version & 0xFFFF}"

    def _initiate_contact(self, message: InitiateContact) -> list[Struct]:
        self.state, self.version = State.DISCONNECTED, None
        self.target_vp = message.target_vcpu
        version = message.vmbus_version_requested
        supported = version in Version.__members__.values()
        if supported:
            self.state, self.version = State.CONNECTED, version
        # before 5.0 this word is the version that was selected
        connection = MESSAGE_CONNECTION_ID_4 if version >= Version.WIN10_V5 else version
        answer: dict[str, Any] = {
            "header": _header("VERSION_RESPONSE"),
            "version_supported": int(supported),
            "connection_state": ConnectionState.SUCCESSFUL,
            "msg_conn_id": connection if supported else 0,
        }
        if supported and version >= Version.COPPER:
            return [VersionResponseWithFeatures(**answer, feature_flags=0)]
        return [VersionResponse(**answer)]

    def _request_offers(self, message: HeaderOnly) -> list[Struct]:
        if self.state is not State.CONNECTED:
            raise VmBusError(f"REQUEST_OFFERS while {self.state.value}")
        self.state = State.OFFERED
        return [HeaderOnly(header=_header("ALL_OFFERS_DELIVERED"))]

    def _unload(self, message: HeaderOnly) -> list[Struct]:
        # answered in every state: a guest that panics waits for it
        self.state, self.version = State.DISCONNECTED, None
        return [HeaderOnly(header=_header("UNLOAD_RESPONSE"))]

    def save(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"state": self.state.value, "version": self.version, "target_vp": self.target_vp}

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self.state, self.version = State(state["state"]), state["version"]
        self.target_vp = state["target_vp"]


_NUMBERS = {kind.name: kind.number for kind in MESSAGES.values()}


def _header(name: str) -> MessageHeader:
    return MessageHeader(msgtype=_NUMBERS[name])

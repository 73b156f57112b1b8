"""The handshake of vmstor as a state machine: a request in, the status and body of its answer out.

    BEGIN --BEGIN_INITIALIZATION--> VERSION --QUERY_PROTOCOL_VERSION--> PROPERTIES
          --QUERY_PROPERTIES--> END --END_INITIALIZATION--> READY --CREATE_SUB_CHANNELS--> READY

A version that we do not speak leaves the state as it is: the guest asks for the next. The primary channel
carries the handshake; sub-channels take part in what it has settled. A channel that is opened anew starts
over.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringminus.devices.storage.wire import (
    MAX_TRANSFER,
    VERSIONS,
    ChannelFlags,
    ChannelProperties,
    NtStatus,
    Operation,
    ProtocolVersion,
    SubChannelCount,
    VstorPacket,
)
from ringminus.errors import GuestError


class OutOfOrder(GuestError):
    """A request that its state does not allow."""

    def __init__(self, state: State, operation: int) -> None:
        try:
            name = Operation(operation).name
        except ValueError:
            name = f"operation {operation}"
        super().__init__(f"{name} in state {state.name}")
        self.operation = name if operation in set(Operation) else "unknown operation"


class State(enum.Enum):
    """What is awaited next."""

    BEGIN = "begin"
    VERSION = "version"
    PROPERTIES = "properties"
    END = "end"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Reply:
    """How a request is answered; `subchannels` are to be offered then."""

    status: NtStatus = NtStatus.SUCCESS
    body: bytes = b""
    subchannels: int = 0


class Handshake:
    """One guest's handshake. `max_subchannels` is what we offer at most (0: one channel only)."""

    def __init__(self, max_subchannels: int = 0) -> None:
        self.max_subchannels = max_subchannels
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.state = State.BEGIN
        self.version: int | None = None
        self.subchannels = 0

    def receive(self, packet: VstorPacket) -> Reply:
        """Take one request of the handshake; raises `OutOfOrder`."""
        step = STEPS.get((self.state, packet.operation))
        if step is None:
            raise OutOfOrder(self.state, packet.operation)
        return step(self, packet)

    def _begin(self, packet: VstorPacket) -> Reply:
        self.state = State.VERSION
        return Reply()

    def _version(self, packet: VstorPacket) -> Reply:
        asked = ProtocolVersion.unpack(packet.body)
        body = ProtocolVersion(major_minor=asked.major_minor).pack()
        if asked.major_minor not in VERSIONS:
            return Reply(NtStatus.REVISION_MISMATCH, body)
        self.version = asked.major_minor
        self.state = State.PROPERTIES
        return Reply(body=body)

    def _properties(self, packet: VstorPacket) -> Reply:
        self.state = State.END
        properties = ChannelProperties(
            max_channel_count=self.max_subchannels,
            flags=ChannelFlags.SUPPORTS_MULTI_CHANNEL if self.max_subchannels else 0,
            max_transfer_bytes=MAX_TRANSFER,
        )
        return Reply(body=properties.pack())

    def _end(self, packet: VstorPacket) -> Reply:
        self.state = State.READY
        return Reply()

    def _create_subchannels(self, packet: VstorPacket) -> Reply:
        count = SubChannelCount.unpack(packet.body).count
        if self.subchannels or count > self.max_subchannels:
            return Reply(NtStatus.INVALID_PARAMETER)
        self.subchannels = count
        return Reply(subchannels=count)

    def save(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"state": self.state.name, "version": self.version, "subchannels": self.subchannels}

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self.state = State[state["state"]]
        self.version = state["version"]
        self.subchannels = state["subchannels"]


STEPS: dict[tuple[State, int], Callable[[Handshake, VstorPacket], Reply]] = {
    (State.BEGIN, Operation.BEGIN_INITIALIZATION): Handshake._begin,
    (State.VERSION, Operation.QUERY_PROTOCOL_VERSION): Handshake._version,
    (State.PROPERTIES, Operation.QUERY_PROPERTIES): Handshake._properties,
    (State.END, Operation.END_INITIALIZATION): Handshake._end,
    (State.READY, Operation.CREATE_SUB_CHANNELS): Handshake._create_subchannels,
}

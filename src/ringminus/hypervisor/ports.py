"""Ports and connections: where a guest's PostMessage and SignalEvent go.

A connection id names a port. Ports here belong to the host's side: a message port takes messages, an event
port takes signals; both answer with a status. Source: TLFS, inter-partition-communication.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import HYPERVISOR_MESSAGE, MESSAGE_PAYLOAD_LIMIT


@dataclass(frozen=True, slots=True)
class MessagePort:
    """`receive(message_type, payload)` takes a message; INSUFFICIENT_BUFFERS makes the guest try again."""

    receive: Callable[[int, bytes], HvStatus]


@dataclass(frozen=True, slots=True)
class EventPort:
    """`signal(flag)` takes a signal; `flag_count` is how many flags the port has."""

    signal: Callable[[int], HvStatus]
    flag_count: int = 1


Port = MessagePort | EventPort


class Connections:
    """A partition's connections, by id."""

    def __init__(self) -> None:
        self._ports: dict[int, Port] = {}

    def connect(self, connection_id: int, port: Port) -> None:
        """Bind an id to a port; raises ValueError when it is bound already."""
        if connection_id in self._ports:
            raise ValueError(f"connection {connection_id:#x} exists")
        self._ports[connection_id] = port

    def disconnect(self, connection_id: int) -> None:
        """Forget an id; what the guest sends there is answered INVALID_CONNECTION_ID from now on."""
        self._ports.pop(connection_id, None)

    def post(self, connection_id: int, message_type: int, payload: bytes) -> HvStatus:
        """HvCallPostMessage: a guest's message, of at most 240 bytes and not of the hypervisor's types."""
        if not 0 < message_type < HYPERVISOR_MESSAGE or len(payload) > MESSAGE_PAYLOAD_LIMIT:
            return HvStatus.INVALID_PARAMETER
        port = self._ports.get(connection_id)
        if port is None:
            return HvStatus.INVALID_CONNECTION_ID
        if not isinstance(port, MessagePort):
            return HvStatus.INVALID_PORT_ID
        return port.receive(message_type, payload)

    def signal(self, connection_id: int, flag: int) -> HvStatus:
        """HvCallSignalEvent; `flag` is relative to the port."""
        port = self._ports.get(connection_id)
        if port is None:
            return HvStatus.INVALID_CONNECTION_ID
        if not isinstance(port, EventPort):
            return HvStatus.INVALID_PORT_ID
        if flag >= port.flag_count:
            return HvStatus.INVALID_PARAMETER
        return port.signal(flag)

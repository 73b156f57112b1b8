"""What the handlers of messages share: the tables, and the actions that a call gathers."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from ringminus.vmbus.control.actions import Action, MessageTarget, Send
from ringminus.vmbus.control.channel_states import ChannelTable
from ringminus.vmbus.control.connection import Connection
from ringminus.vmbus.control.gpadl import GpadlTable
from ringminus.vmbus.control.messages import NAMED, encode
from ringminus.vmbus.control.refusals import Refusal
from ringminus.vmbus.wire import HeaderOnly
from ringminus.wire import Struct


class Arrived(NamedTuple):
    """How a message came: what followed its structure, and the connection it was posted to."""

    tail: bytes
    connection_id: int


class Outbox:
    """Gathers actions. A message that the guest's version does not know is not sent."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.refusals: Counter[str] = Counter()
        self._actions: list[Action] = []

    def take(self) -> list[Action]:
        """All that was gathered."""
        taken, self._actions = self._actions, []
        return taken

    def do(self, action: Action) -> None:
        """One more thing to be done."""
        self._actions.append(action)

    def knows(self, name: str) -> bool:
        """Whether the guest knows that message."""
        connection = self.connection
        if connection is None:
            return NAMED[name].allowed(0, 0)
        return NAMED[name].allowed(connection.version, connection.features)

    def send(self, name: str, structure: type[Struct] = HeaderOnly, **fields: Any) -> None:
        """A message; while the guest has paused us it is held."""
        if self.knows(name):
            self.post(encode(name, structure, **fields))

    def post(self, payload: bytes) -> None:
        """A message that is encoded."""
        if self.connection is not None and self.connection.held is not None:
            self.connection.held.append(payload)
        else:
            self.do(Send(payload))

    def send_to(self, target: MessageTarget, name: str, structure: type[Struct], **fields: Any) -> None:
        """A message to a target of its own, which no pause holds."""
        self.do(Send(encode(name, structure, **fields), target))

    def count(self, reason: Refusal) -> None:
        """The guest asked for something that it does not get."""
        self.refusals[reason] += 1


class Core:
    """The state that all handlers work on."""

    def __init__(self, gpadls: GpadlTable, vp_count: int) -> None:
        self.outbox = Outbox()
        self.channels = ChannelTable()
        self.gpadls = gpadls
        self.vp_count = vp_count

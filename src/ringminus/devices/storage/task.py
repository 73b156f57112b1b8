"""Requests that are on their way: what runs on host threads, and what waits for that."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringminus.devices.storage.request import Later, Request
from ringminus.devices.storage.unit import Unit
from ringminus.vmbus.device import Channel


@dataclass(slots=True, eq=False)
class Task:
    """A request whose work is on a host thread. `size` is that of its completion."""

    channel: Channel
    transaction_id: int
    size: int
    unit: Unit
    request: Request
    later: Later


@dataclass(slots=True, eq=False)
class Reset:
    """A reset that is answered when the tasks that ran before it have ended."""

    channel: Channel
    transaction_id: int
    size: int
    before: set[Task] = field(default_factory=set)

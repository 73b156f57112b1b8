"""Messages to the guest that wait for the SynIC to take them."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from typing import Any, NamedTuple

from ringminus.hypervisor.partition import Partition
from ringminus.hypervisor.status import HvStatus
from ringminus.tap import BusMessage
from ringminus.vmbus.control.actions import MessageTarget, Send
from ringminus.vmbus.told import Told
from ringminus.vmbus.wire import VMBUS_MESSAGE_TYPE

log = logging.getLogger(__name__)
# how many may wait before the guest has to, and when to try again (100 ns)
OUTBOX_LIMIT = 1024
RETRY_AFTER = 10_000


class Waiting(NamedTuple):
    """A message that waits; `event` is there if it did not come as it is."""

    send: Send
    event: BusMessage | None = None


class Outbox:
    """Posts in order; the SynIC's own queue holds only so much. What it will not have at all is counted in
    `lost`, by the status that says why. `told` makes events of what goes out, `target` is where messages go
    that say nothing of it."""

    def __init__(self, partition: Partition, target: Callable[[], MessageTarget], told: Told) -> None:
        self._partition = partition
        self._tap = partition.tap
        self._target = target
        self._told = told
        self._waiting: deque[Waiting] = deque()
        self._retry = partition.timers.timer(self._post)
        self.lost: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """The guest does not take our answers."""
        return len(self._waiting) >= OUTBOX_LIMIT

    def send(self, message: Send) -> None:
        """Now, or when there is room."""
        if "bus" in self._tap.changers:
            event = self._told.message(message.payload, to_guest=True)
            if event is not None:
                return self._change(message, event)
        return self.post(message)

    def post(self, message: Send, event: BusMessage | None = None) -> None:
        """The same for what is not to be changed any more; `event` is what is told of it then."""
        self._waiting.append(Waiting(message, event))
        self._post(0)

    def _change(self, message: Send, event: BusMessage) -> None:
        verdict = self._tap.decide(event, event.POINT)
        if verdict.dropped:
            return self._tap.tell(event)
        made = Send(event.payload, message.target)
        if verdict.delay and self._tap.later is not None:
            return self._tap.later(verdict.delay, partial(self._release, made, event, verdict.copies))
        return self._release(made, event, verdict.copies, event.time)

    def _release(self, message: Send, event: BusMessage, copies: int, now: int) -> None:
        event.time = now
        self.post(message, event)
        for _ in range(copies):
            again = self._told.message(message.payload, to_guest=True)
            if again is not None:
                again.changed, again.cause = event.changed, event.sequence
            self.post(message, again)

    def forget(self) -> None:
        """What waits for a guest that is gone would mislead the next one; reserved channels outlive both."""
        self._waiting = deque(one for one in self._waiting if one.send.target is not None)

    def _post(self, _now: int) -> None:
        vps = self._partition.vps
        while self._waiting:
            send, event = self._waiting[0]
            payload, target = send.payload, send.target or self._target()
            synic = vps[min(target.vp, len(vps) - 1)].synic
            if event is None and self._tap.bus is not None:
                event = self._told.message(payload, to_guest=True)
            if event is not None:
                self._tap.number(event)
                scope = self._tap.within(event)
                status = synic.post_message(target.sint, VMBUS_MESSAGE_TYPE, payload)
                self._tap.leave(scope)
            else:
                status = synic.post_message(target.sint, VMBUS_MESSAGE_TYPE, payload)
            if status is HvStatus.INSUFFICIENT_BUFFERS:
                self._retry.arm(self._partition.clock.reference_time() + RETRY_AFTER)
                return
            self._waiting.popleft()
            if status is HvStatus.SUCCESS:
                if event is not None:
                    self._tap.tell(event)
            else:
                # the guest chooses how often this happens, so it is no warning
                self.lost[status.name] += 1
                log.info("VMBus answer of type %d could not be sent: %s", payload[0], status.name)

    def save(self) -> list[Any]:
        """Plain data."""
        return [[one.payload, one.target and astuple(one.target)] for one, _ in self._waiting]

    def restore(self, state: list[Any]) -> None:
        """What `save` gave."""
        for payload, target in state:
            self.post(Send(payload, target and MessageTarget(*target)))

"""Messages to the guest that wait for the SynIC to take them."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

from ringminus.hypervisor.partition import Partition
from ringminus.hypervisor.status import HvStatus
from ringminus.tap import Scope
from ringminus.vmbus.control.actions import MessageTarget, Send
from ringminus.vmbus.wire import VMBUS_MESSAGE_TYPE

log = logging.getLogger(__name__)
# how many may wait before the guest has to, and when to try again (100 ns)
OUTBOX_LIMIT = 1024
RETRY_AFTER = 10_000


class Outbox:
    """Posts in order; the SynIC's own queue holds only so much. What it will not have at all is counted in
    `lost`, by the status that says why. `sent` is told what went out, and the scope in which it did,
    `target` where messages go that say nothing of it."""

    def __init__(
        self, partition: Partition, target: Callable[[], MessageTarget], sent: Callable[[Scope, bytes], None]
    ) -> None:
        self._partition = partition
        self._target = target
        self._sent = sent
        self._waiting: deque[Send] = deque()
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
        self._waiting.append(message)
        self._post(0)

    def forget(self) -> None:
        """What waits for a guest that is gone would mislead the next one; reserved channels outlive both."""
        self._waiting = deque(one for one in self._waiting if one.target is not None)

    def _post(self, _now: int) -> None:
        vps = self._partition.vps
        while self._waiting:
            payload, target = self._waiting[0].payload, self._waiting[0].target or self._target()
            synic = vps[min(target.vp, len(vps) - 1)].synic
            scope = self._partition.tap.enter()
            status = synic.post_message(target.sint, VMBUS_MESSAGE_TYPE, payload)
            self._partition.tap.leave(scope)
            if status is HvStatus.INSUFFICIENT_BUFFERS:
                self._retry.arm(self._partition.clock.reference_time() + RETRY_AFTER)
                return
            self._waiting.popleft()
            if status is HvStatus.SUCCESS:
                self._sent(scope, payload)
            else:
                # the guest chooses how often this happens, so it is no warning
                self.lost[status.name] += 1
                log.info("VMBus answer of type %d could not be sent: %s", payload[0], status.name)

    def save(self) -> list[Any]:
        """Plain data."""
        return [[one.payload, one.target and astuple(one.target)] for one in self._waiting]

    def restore(self, state: list[Any]) -> None:
        """What `save` gave."""
        for payload, target in state:
            self.send(Send(payload, target and MessageTarget(*target)))

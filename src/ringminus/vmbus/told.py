"""What the bus tells its watchers: messages, channels, lent memory, and what guests did wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from ringminus.hypervisor.partition import Partition
from ringminus.memory import PAGE_SIZE
from ringminus.tap import BusMessage, ChannelState, GpadlChange, Violation
from ringminus.vmbus.control.actions import OpenRequest
from ringminus.vmbus.control.messages import MESSAGES
from ringminus.vmbus.device import Device
from ringminus.vmbus.wire import MessageHeader

log = logging.getLogger(__name__)


class Loan(NamedTuple):
    """Whose GPADL it is, for who watches, and how many pages it has."""

    relid: int
    pages: int


class Told:
    """One bus's. `target_vp` is the processor that the bus's messages are for."""

    def __init__(self, partition: Partition, target_vp: Callable[[], int]) -> None:
        self._tap = partition.tap
        self._now = partition.clock.reference_time
        self._vp = target_vp

    def message(self, payload: bytes, *, to_guest: bool) -> BusMessage | None:
        """A message as an event; None if it is none."""
        if len(payload) < MessageHeader.SIZE:
            return None
        number = MessageHeader.unpack(payload).msgtype
        name = MESSAGES[number].name if number in MESSAGES else f"{number:#x}"
        return BusMessage(self._now(), self._vp(), to_guest, name, payload)

    def violation(self, device: str, relid: int, reason: str) -> None:
        """The guest broke a protocol."""
        if self._tap.meddled:
            reason += f" (addons have changed {self._tap.meddled} events)"
        log.info("%s: channel %d: %s", device, relid, reason)
        if self._tap.violations is not None:
            self._tap.violations(Violation(self._now(), self._vp(), relid, device, reason))

    def state(self, device: Device, index: int, request: OpenRequest, *, opened: bool) -> ChannelState:
        """A channel that was opened or closed, as an event."""
        pages, split = request.gpadl.ranges[0].byte_count // PAGE_SIZE, request.downstream_offset_pages
        return ChannelState(
            *(self._now(), self._vp(), request.relid, device.title, opened),
            *(device.interface, device.instance, index, request.connection_id, request.event_flag),
            *(split * PAGE_SIZE, (pages - split) * PAGE_SIZE),
        )

    def channel(self, device: Device, index: int, request: OpenRequest, *, opened: bool) -> None:
        """A channel was opened or closed."""
        if self._tap.channels is not None:
            self._tap.channels(self.state(device, index, request, opened=opened))

    def gpadl(self, title: str, handle: int, loan: Loan, *, made: bool) -> None:
        """Memory was lent or taken back."""
        if self._tap.gpadls is not None:
            self._tap.gpadls(
                GpadlChange(self._now(), self._vp(), loan.relid, title, handle, made, loan.pages)
            )

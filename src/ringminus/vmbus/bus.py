"""The bus on a partition: binds the control plane to its ports and to the SynIC."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from ringminus.errors import GuestError
from ringminus.hypervisor.partition import Partition
from ringminus.hypervisor.ports import MessagePort
from ringminus.hypervisor.status import HvStatus
from ringminus.vmbus.control import ControlPlane
from ringminus.vmbus.wire import (
    MESSAGE_CONNECTION_ID,
    MESSAGE_CONNECTION_ID_4,
    MESSAGE_SINT,
    VMBUS_MESSAGE_TYPE,
)

log = logging.getLogger(__name__)


class VmBus:
    """The guest's side of the bus posts to connections 1 and 4; ours answers with SynIC messages to SINT 2.

    What breaks the protocol is counted in `refused`, logged and dropped. So are, in `lost`, answers that the
    guest has no place for, by the status that says why.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self.control = ControlPlane()
        self.refused: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        port = MessagePort(self._receive)
        for connection in (MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4):
            partition.connections.connect(connection, port)

    def _receive(self, message_type: int, payload: bytes) -> HvStatus:
        try:
            if message_type != VMBUS_MESSAGE_TYPE:
                raise GuestError(f"message type {message_type} is not the bus's")
            answers = self.control.receive(payload)
        except GuestError as error:
            self.refused[type(error).__name__] += 1
            log.info("VMBus message refused: %s", error)
            return HvStatus.SUCCESS
        target = min(self.control.target_vp, len(self._partition.vps) - 1)
        for answer in answers:
            status = self._partition.vps[target].synic.post_message(MESSAGE_SINT, VMBUS_MESSAGE_TYPE, answer)
            if status is not HvStatus.SUCCESS:
                # the guest chooses how often this happens, so it is no warning
                self.lost[status.name] += 1
                log.info("VMBus answer of type %d could not be sent: %s", answer[0], status.name)
        return HvStatus.SUCCESS

    def save(self) -> dict[str, Any]:
        """The state as plain data."""
        return self.control.save()

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self.control.restore(state)

"""Events as a guest's disk request makes them, and sources of such events."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Direction, Operation, VmscsiRequest, VstorPacket
from ringminus.tap import ChannelState, Event, EventSignal, Hypercall, Interrupt, RingPacket, VmExit
from support.cdb import read10, write10

CONNECTION, RELID = 0x2001, 3
PER_REQUEST = 6
"""Events of a request."""
SIGNAL_EVENT = 0x5D


def opened(relid: int = RELID, device: str = "SCSI 0", sequence: int = 1, flag: int = 1) -> ChannelState:
    """A channel to the disk."""
    interface, instance = ScsiController.interface, UUID(int=2)
    event = ChannelState(
        0, 0, relid, device, True, interface, instance, 0, CONNECTION, flag, 128 << 10, 128 << 10
    )
    event.sequence = sequence
    return event


def request(
    first: int, lba: int, *, time: int = 0, write: bool = False, device: str = "SCSI 0"
) -> list[Event]:
    """The way of a disk request, from the doorbell to the interrupt, numbered from `first` on. Exit and
    hypercall pass when their results are known, as they do at a tap."""
    cdb = write10(lba, 1) if write else read10(lba, 1)
    sent = VmscsiRequest(
        data_transfer_length=512,
        data_in=Direction.OUT if write else Direction.IN,
        cdb=cdb,
        cdb_length=len(cdb),
    )
    asked = VstorPacket(operation=Operation.EXECUTE_SRB, body=sent.pack()).pack()
    done = VmscsiRequest(data_transfer_length=512, srb_status=1)
    answered = VstorPacket(operation=Operation.COMPLETE_IO, body=done.pack()).pack()
    kind = ScsiController.interface
    made: list[tuple[int, int, Event]] = [
        (2, 1, RingPacket(time + 20, 0, RELID, device, False, 9, lba, asked, (512,), kind, 0, True)),
        (1, 0, Hypercall(time + 10, 0, SIGNAL_EVENT, "HvCallSignalEvent", SIGNAL_EVENT, CONNECTION, 0, 0,
                         "SUCCESS", "", CONNECTION.to_bytes(4, "little") + bytes(4))),
        (0, -1, VmExit(time, 0, "hypercall", 0x1000, SIGNAL_EVENT, 5000)),
        (3, 2, RingPacket(time + 30, 0, RELID, device, True, 11, lba, answered, (), kind)),
        (4, 3, EventSignal(time + 40, 0, 2, 1, True)),
        (5, 4, Interrupt(time + 50, 0, 0xF3, "sint2")),
    ]  # fmt: skip
    for number, cause, event in made:
        event.sequence, event.cause = first + number, first + cause if cause >= 0 else 0
    return [event for _, _, event in made]


def requests(count: int) -> list[Event]:
    """A channel is opened, and then reads and writes by turns."""
    found: list[Event] = [opened()]
    for number in range(count):
        first = 2 + PER_REQUEST * number
        found += request(first, number, time=1000 * number, write=bool(number % 2))
    return found


class Recorded:
    """A source that has its events, as a file has them."""

    def __init__(self, events: Iterable[Event], partition: str = "demo") -> None:
        self.partition, self.lost, self.closed = partition, 0, False
        self._events = events

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            if self.closed:
                return
            yield event

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Watched(Recorded):
    """A source whose events are given to it while it is read, and which answers questions."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        super().__init__(iter(self._queue.get, None))
        self._answer = answer

    def give(self, events: Iterable[Event]) -> None:
        """These pass now."""
        for event in events:
            self._queue.put(event)

    def request(self, operation: str) -> Any:
        """As `LiveSource` has it."""
        return self._answer(operation)

    def close(self) -> None:
        super().close()
        self._queue.put(None)

"""One SCSI command on its way: its CDB, the guest's data buffer, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ringminus.devices.storage.sense import PARAMETER_LIST_LENGTH, CheckCondition, Sense, SenseKey
from ringminus.devices.storage.wire import (
    AUTOSENSE_VALID,
    Direction,
    NtStatus,
    Operation,
    ScsiStatus,
    SrbStatus,
    VmscsiRequest,
    VstorPacket,
)
from ringminus.memory import GuestMemory
from ringminus.vmbus.gpa import BadRange, GpaRange


class Overrun(Exception):
    """The command has more data than the guest's buffer takes: `moved` bytes of it were moved."""

    def __init__(self, moved: int) -> None:
        super().__init__(f"data overrun after {moved} bytes")
        self.moved = moved


@dataclass(frozen=True, slots=True)
class Later:
    """A command that has to wait for the host: `work` runs on a host thread; then `then(its result)` gives
    the command's answer, on the machine's thread. `writing` and `lba` are for the sense of a failure."""

    work: Callable[[], Any]
    then: Callable[[Any], Answer]
    writing: bool = False
    lba: int | None = None


Answer = bytes | int | Later
"""What a command gives: data for the guest, the number of bytes that it has moved itself, or `Later`."""


class Request:
    """A command for a unit. `length` bytes of the guest's memory are its buffer, in `direction`."""

    __slots__ = ("_extents", "_memory", "_range", "autosense", "cdb", "direction", "length", "lun")

    def __init__(
        self,
        memory: GuestMemory,
        lun: int,
        cdb: bytes,
        direction: int,
        length: int,
        range: GpaRange | None,
        autosense: bool = True,
    ) -> None:
        """Raises `BadRange` if `range` does not hold `length` bytes."""
        if length and (range is None or range.byte_count < length):
            have = 0 if range is None else range.byte_count
            raise BadRange(f"a request of {length} bytes names {have} bytes of memory")
        self.lun = lun
        self.cdb = cdb
        self.direction = direction
        self.length = length
        self.autosense = autosense
        self._memory = memory
        self._range = range
        self._extents: list[tuple[int, int]] = []

    def views(self, length: int) -> list[memoryview]:
        """The first `length` bytes of the buffer; raises `BadRange`, `BadGuestAddress`."""
        if length == 0:
            return []
        if self._range is None:
            raise BadRange(f"a command of {length} bytes without memory")
        self._extents = self._range.extents(0, length)
        view = self._memory.view
        return [view(gpa, size) for gpa, size in self._extents]

    def written(self) -> None:
        """The bytes that `views` gave were changed."""
        for gpa, size in self._extents:
            self._memory.written(gpa, size)

    def given(self, length: int) -> list[memoryview]:
        """The first `length` bytes that the guest sends, as `views` does; raises `CheckCondition`."""
        if length and (self.direction != Direction.OUT or length > self.length):
            raise CheckCondition(PARAMETER_LIST_LENGTH)
        return self.views(length)

    def take(self, length: int) -> bytes:
        """A copy of the same."""
        return b"".join(self.given(length))

    def give(self, data: bytes) -> int:
        """Move `data` to the guest, as much as its buffer takes; raises `Overrun` when that is not all."""
        fits = min(len(data), self.length) if self.direction == Direction.IN else 0
        position = 0
        for view in self.views(fits):
            view[:] = data[position : position + len(view)]
            position += len(view)
        self.written()
        if fits < len(data):
            raise Overrun(fits)
        return fits


# ------------------------------------------------------------------ completions


def completion(
    srb_status: int,
    status: int,
    transfer_length: int = 0,
    scsi_status: int = ScsiStatus.GOOD,
    sense: bytes = b"",
) -> bytes:
    """The answer to EXECUTE_SRB."""
    request = VmscsiRequest(
        srb_status=srb_status | (AUTOSENSE_VALID if sense else 0),
        scsi_status=scsi_status,
        sense_info_length=len(sense),
        data_transfer_length=transfer_length,
        cdb=sense,
    )
    return VstorPacket(operation=Operation.COMPLETE_IO, status=status, body=request.pack()).pack()


@lru_cache(maxsize=1024)
def success(moved: int) -> bytes:
    """The answer to a command that moved so many bytes; a guest asks for few different lengths."""
    return completion(SrbStatus.SUCCESS, NtStatus.SUCCESS, moved)


def overrun(moved: int) -> bytes:
    """The answer to a command that had more data than buffer."""
    return completion(SrbStatus.DATA_OVERRUN, NtStatus.BUFFER_OVERFLOW, moved)


def invalid_lun() -> bytes:
    """The answer to a command for a unit that is not there, as Hyper-V gives it: Linux forgets the unit."""
    return completion(
        SrbStatus.INVALID_LUN, NtStatus.DEVICE_DOES_NOT_EXIST, scsi_status=ScsiStatus.CHECK_CONDITION
    )


def invalid_request() -> bytes:
    """The answer to a request whose packet contradicts itself or names no memory."""
    return completion(SrbStatus.INVALID_REQUEST, NtStatus.INVALID_PARAMETER)


def check_condition(sense: Sense, autosense: bool = True) -> bytes:
    """The answer to a command that failed; without autosense the guest asks for the sense itself."""
    illegal = sense.key == SenseKey.ILLEGAL_REQUEST
    return completion(
        SrbStatus.INVALID_REQUEST if illegal else SrbStatus.ERROR,
        NtStatus.IO_DEVICE_ERROR,
        scsi_status=ScsiStatus.CHECK_CONDITION,
        sense=sense.pack() if autosense else b"",
    )

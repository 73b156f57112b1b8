"""Sense data: why a command failed, as SCSI says it (SPC-4 section 4.5, fixed format).

Descriptor format is never used: vmstor's answers have room for 20 bytes, and the fixed format needs 18.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import IntEnum

from ringminus.devices.storage.scsi_wire import FixedSense
from ringminus.disks.disk import DiskError
from ringminus.errors import GuestError

INFORMATION_LIMIT = 1 << 32


class SenseKey(IntEnum):
    """What kind of failure."""

    NO_SENSE = 0
    NOT_READY = 2
    MEDIUM_ERROR = 3
    HARDWARE_ERROR = 4
    ILLEGAL_REQUEST = 5
    UNIT_ATTENTION = 6
    DATA_PROTECT = 7
    MISCOMPARE = 0xE


@dataclass(frozen=True, slots=True)
class Sense:
    """Sense key, additional sense code and its qualifier; `information` is an LBA where there is one."""

    key: SenseKey
    asc: int = 0
    ascq: int = 0
    information: int | None = None

    def pack(self) -> bytes:
        """The 18 bytes of fixed-format sense data."""
        valid = self.information is not None and self.information < INFORMATION_LIMIT
        return FixedSense(
            response_code=0x70 | (0x80 if valid else 0),
            sense_key=self.key,
            information=(self.information or 0) if valid else 0,
            additional_sense_code=self.asc,
            additional_sense_code_qualifier=self.ascq,
        ).pack()

    def __str__(self) -> str:
        return f"{self.key.name.replace('_', ' ').lower()} {self.key:x}/{self.asc:02x}/{self.ascq:02x}"


NO_SENSE = Sense(SenseKey.NO_SENSE)
INVALID_OPCODE = Sense(SenseKey.ILLEGAL_REQUEST, 0x20, 0x00)
LBA_OUT_OF_RANGE = Sense(SenseKey.ILLEGAL_REQUEST, 0x21, 0x00)
INVALID_FIELD_IN_CDB = Sense(SenseKey.ILLEGAL_REQUEST, 0x24, 0x00)
PARAMETER_LIST_LENGTH = Sense(SenseKey.ILLEGAL_REQUEST, 0x1A, 0x00)
INVALID_FIELD_IN_PARAMETERS = Sense(SenseKey.ILLEGAL_REQUEST, 0x26, 0x00)
SAVING_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, 0x39, 0x00)
REMOVAL_PREVENTED = Sense(SenseKey.ILLEGAL_REQUEST, 0x53, 0x02)
WRITE_PROTECTED = Sense(SenseKey.DATA_PROTECT, 0x27, 0x00)
SPACE_ALLOCATION_FAILED = Sense(SenseKey.DATA_PROTECT, 0x27, 0x07)
UNRECOVERED_READ_ERROR = Sense(SenseKey.MEDIUM_ERROR, 0x11, 0x00)
WRITE_ERROR = Sense(SenseKey.MEDIUM_ERROR, 0x0C, 0x00)
INTERNAL_TARGET_FAILURE = Sense(SenseKey.HARDWARE_ERROR, 0x44, 0x00)
MISCOMPARE = Sense(SenseKey.MISCOMPARE, 0x1D, 0x00)
MEDIUM_NOT_PRESENT = Sense(SenseKey.NOT_READY, 0x3A, 0x00)
MEDIUM_MAY_HAVE_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x28, 0x00)
MODE_PARAMETERS_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x01)
CAPACITY_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x09)
LUNS_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x3F, 0x0E)


class CheckCondition(GuestError):
    """A command ends with CHECK CONDITION and this sense."""

    def __init__(self, sense: Sense) -> None:
        super().__init__(str(sense))
        self.sense = sense


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESTALE, errno.EBADF, errno.ENOMEM})


def sense_of(error: DiskError, writing: bool, lba: int | None = None) -> Sense:
    """What a guest is told of a failure of its disk on the host.

    A host without space is told as thin-provisioned arrays tell it: Linux then gives its writer ENOSPC.
    """
    number = error.errno
    if writing and number in NO_SPACE:
        found = SPACE_ALLOCATION_FAILED
    elif writing and number in NOT_ALLOWED:
        found = WRITE_PROTECTED
    elif number in GONE:
        found = INTERNAL_TARGET_FAILURE
    else:
        found = WRITE_ERROR if writing else UNRECOVERED_READ_ERROR
    return found if lba is None else Sense(found.key, found.asc, found.ascq, lba)

"""A logical unit: what all kinds of them have. What they can do is in `commands`.

A unit holds no thread and waits for nothing: commands are functions that give an answer, or say with `Later`
what a host thread is to do for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from ringminus.clock import REFERENCE_HZ
from ringminus.devices.storage.scsi_wire import DeviceType
from ringminus.devices.storage.sense import (
    CAPACITY_CHANGED,
    LBA_OUT_OF_RANGE,
    MEDIUM_NOT_PRESENT,
    NO_SENSE,
    CheckCondition,
    Sense,
    SenseKey,
)
from ringminus.disks.disk import Buffers, Disk, DiskError

log = logging.getLogger(__name__)

Attempt = Callable[[int, Buffers], bool]
COMPLAINT_PERIOD = 60 * REFERENCE_HZ


@dataclass(slots=True)
class Counters:
    """What a unit did. `writes` and `written_bytes` count WRITE SAME, too; the errors are the host's."""

    reads: int = 0
    writes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    flushes: int = 0
    unmaps: int = 0
    read_errors: int = 0
    write_errors: int = 0


@dataclass(frozen=True, slots=True)
class HotCommand:
    """A READ or WRITE as the hot path knows it: `decode(buffer, offset)` gives flags, LBA and blocks from
    the byte after the opcode; `unusual` are flags with which it goes the long way."""

    decode: Callable[[Any, int], tuple[Any, ...]]
    writes: bool
    direction: int
    unusual: int


class Unit:
    """A unit at `lun`; `disk` is None only in a DVD drive without a medium.

    `attempts` are `Disk.try_read` and `Disk.try_write` while nothing speaks against doing a transfer at once,
    None otherwise. `changes` counts what altered the disk, `flushed` how much of that is on stable storage.
    """

    type: DeviceType
    removable = False
    size_changed = CAPACITY_CHANGED
    """What tells the guest of another size."""
    hot: dict[int, HotCommand]

    def __init__(self, lun: int, disk: Disk | None, identity: UUID) -> None:
        self.lun = lun
        self.identity = identity
        self.counters = Counters()
        self.write_cache = True
        self.attention: list[Sense] = []
        self.last_sense = NO_SENSE
        self.attempts: tuple[Attempt | None, Attempt | None] = (None, None)
        self.changes = 0
        self.flushed = -1
        self.blocks = 0
        self.shift = 0
        self.hot = {}
        self._complained: dict[tuple[bool, int | None], tuple[int, int]] = {}
        self.load(disk)

    def load(self, disk: Disk | None) -> None:
        """Take another disk, or the same one anew."""
        self.disk = disk
        self.measure()
        self.settle()

    def measure(self) -> None:
        """Take the disk's size."""
        block = self.block_size
        self.shift = block.bit_length() - 1
        self.blocks = 0 if self.disk is None else self.disk.size // block

    @property
    def block_size(self) -> int:
        """Bytes of a logical block."""
        return 512 if self.disk is None else self.disk.sector_size

    def settle(self) -> None:
        """Find out anew whether transfers may be done at once."""
        disk = self.disk
        if disk is None or self.attention:
            self.attempts = (None, None)
        else:
            writable = self.write_cache and not disk.read_only and self.type == DeviceType.DISK
            self.attempts = (disk.try_read, disk.try_write if writable else None)

    # ------------------------------------------------------------ what the guest must be told

    def attend(self, sense: Sense) -> None:
        """Tell the guest with its next command."""
        if sense not in self.attention:
            self.attention.append(sense)
        self.settle()

    def take_attention(self) -> Sense | None:
        """What is first to be told, if anything; it counts as told."""
        if not self.attention:
            return None
        sense = self.attention.pop(0)
        self.settle()
        return sense

    def forget_attention(self, sense: Sense) -> None:
        """The guest has found out by itself."""
        if sense in self.attention:
            self.attention.remove(sense)
            self.settle()

    def reset(self) -> None:
        """The guest resets its units. Modes stay as they are, as on Hyper-V: a guest would not know."""

    def complain(self, title: str, error: DiskError, writing: bool, now: int) -> None:
        """Count a failure of the host, and tell the person: once a minute for each kind."""
        if writing:
            self.counters.write_errors += 1
        else:
            self.counters.read_errors += 1
        kind = (writing, error.errno)
        last, silent = self._complained.get(kind, (-COMPLAINT_PERIOD, 0))
        if now - last < COMPLAINT_PERIOD:
            self._complained[kind] = (last, silent + 1)
            return
        self._complained[kind] = (now, 0)
        more = f" ({silent} more like it were not shown)" if silent else ""
        doing = "write" if writing else "read"
        log.warning("%s LUN %d: the host cannot %s: %s%s", title, self.lun, doing, error, more)

    # ------------------------------------------------------------ for commands

    def medium(self) -> Disk:
        """The disk; raises `CheckCondition` if there is none."""
        if self.disk is None:
            raise CheckCondition(MEDIUM_NOT_PRESENT)
        return self.disk

    def check_range(self, lba: int, blocks: int) -> None:
        """Raises `CheckCondition` unless these blocks are on the medium."""
        if lba + blocks > self.blocks:
            raise CheckCondition(Sense(LBA_OUT_OF_RANGE.key, LBA_OUT_OF_RANGE.asc, 0, max(lba, self.blocks)))

    # ------------------------------------------------------------ saving

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        return {
            "type": self.type.name,
            "blocks": self.blocks,
            "write_cache": self.write_cache,
            "attention": [[int(s.key), s.asc, s.ascq] for s in self.attention],
            "last_sense": [int(self.last_sense.key), self.last_sense.asc, self.last_sense.ascq],
            "counters": asdict(self.counters),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self.write_cache = state["write_cache"]
        self.attention = [Sense(SenseKey(key), asc, ascq) for key, asc, ascq in state["attention"]]
        key, asc, ascq = state["last_sense"]
        self.last_sense = Sense(SenseKey(key), asc, ascq)
        self.counters = Counters(**state["counters"])
        if self.blocks != state["blocks"]:
            self.attend(self.size_changed)
        self.settle()


class DiskUnit(Unit):
    """A disk."""

    type = DeviceType.DISK
    disk: Disk

    def __init__(self, lun: int, disk: Disk) -> None:
        super().__init__(lun, disk, disk.identity)

"""Which devices can be played, and how they are made from a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ringminus.errors import ConfigError
from ringminus.machine.config import DiskConfig
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.vmbus.device import Device

if TYPE_CHECKING:
    from ringminus.disks.disk import Disk

SCSI = UUID("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f")
IDE = UUID("32412632-86cb-44a2-9b5c-50d1417354f5")


class Made(NamedTuple):
    """A device, and the disks under it, which are closed after it."""

    device: Device
    disks: list[Disk]


def make(recorded: RecordedDevice, disks: Sequence[DiskConfig] = ()) -> Made:
    """Our device as the recorded one; raises `ConfigError` for one that we do not have."""
    if recorded.interface in (SCSI, IDE):
        from ringminus.machine.replay.storage import build

        return Made(*build(recorded, disks))
    raise ConfigError(
        f"{recorded.title} cannot be replayed: ringminus replays storage channels (SCSI and IDE); "
        "name another one with --channel"
    )

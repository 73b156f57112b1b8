"""A DVD drive: a unit whose medium, an ISO image, comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from ringminus.devices.storage.mmc_wire import MediaEvent, Profile
from ringminus.devices.storage.scsi_wire import DeviceType
from ringminus.devices.storage.sense import MEDIUM_MAY_HAVE_CHANGED
from ringminus.devices.storage.unit import Unit
from ringminus.disks.disk import Disk
from ringminus.errors import ConfigError

BLOCK = 2048
CD_BLOCKS = 80 * 60 * 75  # what is larger is a DVD
EVENTS_LIMIT = 8


class DvdUnit(Unit):
    """A drive. The guest may lock its tray (`locked`); `events` wait for its next question about media.

    `ejected(disk)` is called when the guest took the medium out.
    """

    type = DeviceType.DVD
    removable = True
    size_changed = MEDIUM_MAY_HAVE_CHANGED

    def __init__(self, lun: int, disk: Disk | None, identity: UUID) -> None:
        self.locked = False
        self.events: list[MediaEvent] = []
        self.ejected: Callable[[Disk], None] = lambda disk: None
        check_medium(disk)
        super().__init__(lun, disk, identity)

    @property
    def block_size(self) -> int:
        return BLOCK

    @property
    def profile(self) -> Profile:
        """What kind of medium is in the drive."""
        if self.disk is None:
            return Profile.NONE
        return Profile.CD_ROM if self.blocks <= CD_BLOCKS else Profile.DVD_ROM

    def insert(self, disk: Disk) -> None:
        """Put a medium in, or another one; the guest is told. Raises `ConfigError`."""
        check_medium(disk)
        self._happened(MediaEvent.NEW_MEDIA)
        self.load(disk)
        self.attend(MEDIUM_MAY_HAVE_CHANGED)

    def remove(self) -> Disk | None:
        """Take the medium out; the guest is told."""
        disk = self.disk
        if disk is not None:
            self.forget_attention(MEDIUM_MAY_HAVE_CHANGED)
            self._happened(MediaEvent.MEDIA_REMOVAL)
            self.locked = False
            self.load(None)
        return disk

    def request_eject(self) -> None:
        """Ask the guest to let the medium go, as the button on a drive does."""
        self._happened(MediaEvent.EJECT_REQUEST)

    def _happened(self, event: MediaEvent) -> None:
        if self.events[-1:] != [event]:
            self.events.append(event)
            del self.events[:-EVENTS_LIMIT]

    def reset(self) -> None:
        super().reset()
        self.locked = False

    def save(self) -> dict[str, Any]:
        return super().save() | {"locked": self.locked, "events": [int(event) for event in self.events]}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.locked = state["locked"]
        self.events = [MediaEvent(event) for event in state["events"]]


def check_medium(disk: Disk | None) -> None:
    """Raises `ConfigError` if a DVD drive cannot read such a disk."""
    if disk is not None and BLOCK % disk.sector_size:
        raise ConfigError(
            f"a disk with sectors of {disk.sector_size} bytes in a DVD drive, whose blocks have {BLOCK}"
        )

"""A synthetic SCSI controller with up to 64 disks and DVD drives, which come and go while a guest runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar
from uuid import UUID, uuid5

from ringminus.devices.storage.adapter import MAX_UNITS, StorageAdapter
from ringminus.devices.storage.dvd import DvdUnit
from ringminus.devices.storage.sense import LUNS_CHANGED
from ringminus.devices.storage.unit import DiskUnit, Unit
from ringminus.devices.storage.wire import Operation
from ringminus.disks.disk import Disk
from ringminus.errors import ConfigError


class ScsiController(StorageAdapter):
    """Disks are at path 0, target 0, LUN 0 to 63, as on Hyper-V.

    What changes while a guest runs is told to it: by a message that makes it look at the bus, and by unit
    attentions to its next commands.
    """

    interface: ClassVar[UUID] = UUID("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f")
    name: ClassVar[str] = "SCSI"

    def __init__(self, instance: UUID | None = None, subchannels: int = 16) -> None:
        """`subchannels` is how many channels the guest may have besides the first."""
        super().__init__(instance, subchannels)
        self.ejected: Callable[[int, Disk], None] | None = None
        """Told of a medium that the guest has taken out of its drive; nobody uses it any more."""

    def attach_disk(self, lun: int, disk: Disk) -> None:
        """Put a disk at `lun`; raises `ConfigError` if there is one, or no such place."""
        self._check_free(lun)
        self._put(DiskUnit(lun, disk))

    def attach_dvd(self, lun: int, disk: Disk | None = None) -> None:
        """Put a DVD drive at `lun`, with a medium or without; raises `ConfigError`."""
        self._check_free(lun)
        unit = DvdUnit(lun, disk, uuid5(self.instance, f"dvd{lun}"))
        unit.ejected = lambda disk: self._guest_ejected(lun, disk)
        self._put(unit)

    def insert(self, lun: int, disk: Disk) -> Disk | None:
        """Put a medium into the drive at `lun`; gives the one that was in it, which nobody uses any more.
        Raises `ConfigError` if the guest has locked the drive."""
        unit = self._drive(lun)
        old = self.eject(lun) if unit.disk is not None else None
        unit.insert(disk)
        return old

    def eject(self, lun: int, force: bool = False) -> Disk | None:
        """Take the medium, if any, out of the drive at `lun`; nobody uses it any more.

        If the guest has locked the drive it is asked to let go, which Linux does, and `ConfigError` is
        raised; with `force` the medium is taken all the same.
        """
        unit = self._drive(lun)
        if unit.locked and unit.disk is not None and not force:
            unit.request_eject()
            raise ConfigError(
                f"the guest has locked the drive at LUN {lun}; it was asked to let go: wait, or force it"
            )
        disk = unit.remove()
        self._drain()
        return disk

    def _drive(self, lun: int) -> DvdUnit:
        unit = self.unit(lun)
        if not isinstance(unit, DvdUnit):
            raise ConfigError(f"LUN {lun} is a disk, no DVD drive")
        return unit

    def _guest_ejected(self, lun: int, disk: Disk) -> None:
        self._drain()
        if self.ejected is not None:
            self.ejected(lun, disk)

    def detach(self, lun: int) -> Disk | None:
        """Take away what is at `lun`: the disk, which nobody uses any more."""
        unit = self.unit(lun)
        self._units[lun] = None
        self._drain()
        self._inventory_changed(lun, Operation.REMOVE_DEVICE)
        return unit.disk

    def _put(self, unit: Unit) -> None:
        self._place(unit)
        self._inventory_changed(unit.lun, Operation.ENUMERATE_BUS)

    def _check_free(self, lun: int) -> None:
        if not 0 <= lun < MAX_UNITS:
            raise ConfigError(f"LUN {lun}: a SCSI controller has LUN 0 to {MAX_UNITS - 1}")
        if self._units[lun] is not None:
            raise ConfigError(f"LUN {lun} is taken: name a free one, or detach what is there")

    def _inventory_changed(self, lun: int, operation: Operation) -> None:
        """What is at `lun` came or went: the others tell the guest."""
        if self._ready:
            for unit in self.units.values():
                if unit.lun != lun:
                    unit.attend(LUNS_CHANGED)
            self._notify(operation)

"""A synthetic SCSI controller with up to 64 disks and DVD drives, which come and go while a guest runs."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from ringminus.devices.storage import commands
from ringminus.devices.storage.adapter import MAX_UNITS, StorageAdapter
from ringminus.devices.storage.sense import CAPACITY_CHANGED, LUNS_CHANGED
from ringminus.devices.storage.unit import DiskUnit, Unit
from ringminus.devices.storage.wire import Operation, VstorPacket
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

    def attach_disk(self, lun: int, disk: Disk) -> None:
        """Put a disk at `lun`; raises `ConfigError` if there is one, or no such place."""
        self._check_free(lun)
        self._put(DiskUnit(lun, disk))

    def detach(self, lun: int) -> Disk | None:
        """Take away what is at `lun`: the disk, which nobody uses any more."""
        unit = self._unit(lun)
        self._units[lun] = None
        self._drain()
        self._inventory_changed(Operation.REMOVE_DEVICE)
        return unit.disk

    def resized(self, lun: int) -> None:
        """Tell the guest that the disk at `lun` has another size now."""
        unit = self._unit(lun)
        unit.measure()
        unit.attend(CAPACITY_CHANGED)
        self._notify(Operation.ENUMERATE_BUS)

    def _put(self, unit: Unit) -> None:
        unit.hot = commands.HOT[unit.type]
        self._units[unit.lun] = unit
        self._inventory_changed(Operation.ENUMERATE_BUS)

    def _check_free(self, lun: int) -> None:
        if not 0 <= lun < MAX_UNITS:
            raise ConfigError(f"LUN {lun}: a SCSI controller has LUN 0 to {MAX_UNITS - 1}")
        if self._units[lun] is not None:
            raise ConfigError(f"LUN {lun} is taken: name a free one, or detach what is there")

    def _unit(self, lun: int) -> Unit:
        unit = self._units[lun] if 0 <= lun < MAX_UNITS else None
        if unit is None:
            raise ConfigError(f"there is nothing at LUN {lun}")
        return unit

    def _inventory_changed(self, operation: Operation) -> None:
        if self._ready:
            for unit in self.units.values():
                unit.attend(LUNS_CHANGED)
            self._notify(operation)

    def _notify(self, operation: Operation) -> None:
        """Make the guest look at the bus; before it is ready it will look anyway."""
        if self._ready:
            self._channels[0].send(VstorPacket(operation=operation).pack())

"""A disk on an emulated IDE controller, through the accelerator that guests prefer to it."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from ringminus.devices.storage.adapter import StorageAdapter
from ringminus.devices.storage.unit import DiskUnit
from ringminus.devices.storage.wire import ChannelFlags, OfferProperties
from ringminus.disks.disk import Disk
from ringminus.errors import ConfigError

_TYPE = 0x8899  # what Hyper-V puts into the third field of the instance GUID


class IdeDisk(StorageAdapter):
    """The disk at `target` (0 or 1) of controller `path` (0 or 1): one device on the bus for each.

    The guest finds the target in bytes 4 and 5 of the instance GUID, and names path 0 whatever it is.
    """

    interface: ClassVar[UUID] = UUID("32412632-86cb-44a2-9b5c-50d1417354f5")
    name: ClassVar[str] = "IDE"
    address_mask = 0xFF00

    def __init__(self, path: int, target: int, disk: Disk) -> None:
        if path not in (0, 1) or target not in (0, 1):
            raise ConfigError(f"IDE {path}:{target}: there are controllers 0 and 1, with disks 0 and 1 each")
        super().__init__(UUID(fields=(path, target, _TYPE, 0, 0, 0)))
        self.path = path
        self.target = target
        self.address = target << 8
        self._place(DiskUnit(0, disk))

    def user_defined(self) -> bytes:
        return OfferProperties(
            path_id=self.path, target_id=self.target, flags=ChannelFlags.EMULATED_IDE
        ).pack()

"""A machine's disks: which controller has which, as a person asked, and their files.

Controllers and formats are imported where the first is made: a guest without disks boots without them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from ringminus.errors import ConfigError
from ringminus.machine.config import CONTROLLERS, PLACES, SCSI, DiskConfig
from ringminus.vmbus.device import INSTANCES, Device

if TYPE_CHECKING:
    from ringminus.devices.storage.ide import IdeDisk
    from ringminus.devices.storage.scsi import ScsiController
    from ringminus.disks.disk import Disk


@dataclass(slots=True)
class Storage:
    """The controllers of a machine, and the disks that are open."""

    controllers: dict[int, ScsiController] = field(default_factory=dict)
    ide: list[IdeDisk] = field(default_factory=list)
    disks: list[Disk] = field(default_factory=list)

    @property
    def devices(self) -> list[Device]:
        """What to offer to the guest."""
        return [*self.controllers.values(), *self.ide]

    def controller(self, number: int) -> ScsiController:
        """SCSI controller `number`, made if need be."""
        if number not in self.controllers:
            from ringminus.devices.storage.scsi import ScsiController

            self.controllers[number] = ScsiController(_instance(f"scsi{number}"))
        return self.controllers[number]

    def close(self) -> None:
        """Flush and let go of all files; the first that fails is told when all have been closed."""
        with contextlib.ExitStack() as stack:
            for disk in self.disks:
                stack.callback(disk.close)
            self.disks = []


def _instance(name: str) -> UUID:
    """The same for the same place in every run, so that a guest knows its controller again."""
    return uuid5(INSTANCES, name)


def build_storage(configs: Sequence[DiskConfig]) -> Storage:
    """Open the disks and put them in their places; raises `ConfigError` and `DiskError`."""
    storage = Storage()
    try:
        taken: set[tuple[str, int, int]] = set()
        # who names his place has it, whatever the order
        for config in sorted(configs, key=lambda one: one.place is None):
            bus, controller, place = _place(config, taken)
            taken.add((bus, controller, place))
            _attach(storage, config, controller, place)
        storage.controllers = dict(sorted(storage.controllers.items()))
    except BaseException:
        storage.close()
        raise
    return storage


def _place(config: DiskConfig, taken: set[tuple[str, int, int]]) -> tuple[str, int, int]:
    controllers, places = CONTROLLERS[config.bus], PLACES[config.bus]
    name = config.path or "a DVD drive"
    if config.controller is not None and config.controller >= controllers:
        raise ConfigError(
            f"{name}: there is no {config.bus} controller {config.controller}: say 0 to {controllers - 1}"
        )
    if config.place is not None and config.place >= places:
        raise ConfigError(f"{name}: there is no LUN {config.place} on {config.bus}: say 0 to {places - 1}")
    for controller in range(controllers) if config.controller is None else (config.controller,):
        for place in range(places) if config.place is None else (config.place,):
            if (config.bus, controller, place) not in taken:
                return config.bus, controller, place
        if config.place is not None:
            break
    raise ConfigError(f"{name}: that place on {config.bus} is taken, or all are: name a free one")


def _attach(storage: Storage, config: DiskConfig, controller: int, place: int) -> None:
    from ringminus.disks.open import open_disk

    disk = None
    if config.path is not None:
        disk = open_disk(config.path, config.format, config.read_only, config.sector_size)
        storage.disks.append(disk)
    if config.dvd:
        storage.controller(controller).attach_dvd(place, disk)
    elif disk is not None and config.bus == SCSI:
        storage.controller(controller).attach_disk(place, disk)
    elif disk is not None:
        from ringminus.devices.storage.ide import IdeDisk

        storage.ide.append(IdeDisk(controller, place, disk))

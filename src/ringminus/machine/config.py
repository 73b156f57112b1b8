"""What a person asks of a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ringminus.errors import ConfigError
from ringminus.memory import GIB, MIB
from ringminus.vmbus.device import Device

if TYPE_CHECKING:
    from ringminus.machine.nics import NicConfig

SMALLEST_MEMORY = 64 * MIB
LARGEST_MEMORY = 8 * GIB
DEFAULT_MEMORY = 512 * MIB
UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": GIB, "T": GIB << 10}


SCSI, IDE = "scsi", "ide"
BUSES = (SCSI, IDE)
# as many as Hyper-V has
CONTROLLERS = {SCSI: 4, IDE: 2}
PLACES = {SCSI: 64, IDE: 2}


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """A disk or a DVD drive; `controller` and `place` (a LUN, or master and slave) are chosen when None.

    A DVD drive may be empty: `path` is None then.
    """

    path: Path | None
    dvd: bool = False
    read_only: bool = False
    format: str | None = None
    sector_size: int | None = None
    bus: str = SCSI
    controller: int | None = None
    place: int | None = None


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """A machine to build: `memory` in bytes, the rest as on the command line. `devices` are classes of
    synthetic devices beside ours; each is made anew with the machine."""

    kernel: Path
    initrd: Path | None = None
    command_line: str = ""
    memory: int = DEFAULT_MEMORY
    disks: tuple[DiskConfig, ...] = ()
    nics: tuple[NicConfig, ...] = ()
    devices: tuple[Callable[[], Device], ...] = ()


def parse_size(text: str) -> int:
    """A size such as `512M` or `2GiB` in bytes; raises `ConfigError` for what is none."""
    body = text.strip().upper().removesuffix("IB").removesuffix("B")
    number, unit = (body[:-1], body[-1:]) if body[-1:] in UNITS and body[-1:] else (body, "")
    if not number.isascii() or not number.isdigit() or len(number) > 20:
        raise ConfigError(f"{text!r} is not a size: say for example 512M or 2G")
    return int(number) * UNITS[unit]


def parse_memory(text: str) -> int:
    """The size of a guest's memory in bytes; raises `ConfigError` for what is none or is out of range."""
    size = parse_size(text)
    if not SMALLEST_MEMORY <= size <= LARGEST_MEMORY:
        raise ConfigError(f"{text} of memory: a guest has 64M to 8G")
    if size % MIB:
        raise ConfigError(f"{text} of memory is not a whole number of MiB")
    return size


def parse_disk(text: str, *, dvd: bool = False) -> DiskConfig:
    """`FILE[,OPTION…]` as on the command line; raises `ConfigError`.

    Options: `ro`, `format=NAME`, `sector=BYTES`, `bus=scsi|ide`, `controller=N`, `lun=N`. A comma of the
    file's name is doubled.
    """
    name, *options = text.replace(",,", "\0").split(",")
    if not name and not dvd:
        raise ConfigError(f"--disk {text}: name a file first, such as --disk root.vhdx,ro")
    config = DiskConfig(Path(name.replace("\0", ",")) if name else None, dvd, read_only=dvd)
    for option in options:
        config = _with_option(config, option, text)
    return config


def _with_option(config: DiskConfig, option: str, text: str) -> DiskConfig:
    key, _, value = option.partition("=")
    if key in ("ro", "readonly") and not value:
        return replace(config, read_only=True)
    if key == "format" and value:
        return replace(config, format=value)
    if key == "bus" and value in BUSES and not config.dvd:
        return replace(config, bus=value)
    if value.isascii() and value.isdigit():
        number = int(value)
        if key == "controller":
            return replace(config, controller=number)
        if key == "lun":
            return replace(config, place=number)
        if key == "sector":
            return replace(config, sector_size=number)
    raise ConfigError(
        f"{option!r} in {text!r}: say ro, format=NAME, sector=BYTES, bus=scsi or bus=ide, controller=N, lun=N"
    )

"""Making a disk of any format."""

from __future__ import annotations

from pathlib import Path

from ringminus.disks.nbd.qemu import CREATABLE, create_qemu
from ringminus.disks.open import QEMU_FORMATS, format_by_name
from ringminus.disks.raw import create_raw
from ringminus.disks.vhd import create_vhd
from ringminus.disks.vhdx import create_vhdx
from ringminus.disks.vhdx.create import Kind
from ringminus.errors import ConfigError

FORMATS = ("raw", "vhd", "vhdx", *CREATABLE)


def format_to_make(path: Path, format: str | None) -> str:
    """The format that a new file shall have, by default what its name says; raises `ConfigError`."""
    name = format or format_by_name(path)
    if name is None:
        raise ConfigError(f"{path}: which format? Name it, or call the file .vhdx, .vhd or .raw")
    if name not in FORMATS:
        raise ConfigError(f"{path}: no {name} disks are made here, only {', '.join(FORMATS)}")
    return name


def create_disk(
    path: Path,
    format: str,
    size: int | None,
    *,
    fixed: bool = False,
    parent: Path | None = None,
    block_size: int | None = None,
    sector_size: int | None = None,
) -> None:
    """Make a disk of `size` bytes; what is None is chosen. A disk with a `parent` has its size.

    Raises `ConfigError` for what the format does not have, and if the file exists; `DiskError`.
    """
    if format not in ("vhd", "vhdx") and (parent is not None or block_size is not None):
        raise ConfigError(f"{path}: {format} disks have no parents and no blocks here: make a VHDX")
    if format != "vhdx" and sector_size not in (None, 512):
        raise ConfigError(f"{path}: a {format} file does not hold its sector size: make a VHDX")
    if size is None and parent is None:
        raise ConfigError(f"{path}: how large? Say a size, such as 20G")
    if format == "vhdx":
        kind: Kind = "differencing" if parent is not None else "fixed" if fixed else "dynamic"
        if fixed and parent is not None:
            raise ConfigError("a disk that holds what differs from its parent cannot be fixed")
        create_vhdx(path, size, kind=kind, block_size=block_size, sector_size=sector_size, parent=parent)
    elif format == "vhd":
        choice = {} if block_size is None else {"block_size": block_size}
        create_vhd(path, size, fixed=fixed, parent=parent, **choice)
    elif size is not None and format == "raw":
        create_raw(path, size, fixed)
    elif size is not None and format in QEMU_FORMATS:
        if fixed:
            raise ConfigError(f"{path}: fixed {format} disks are not made here")
        create_qemu(path, format, size)

"""Checking, compacting and shrinking disks of any format."""

from __future__ import annotations

from pathlib import Path

from ringminus.disks.convert import Progress, end_of_data, punch_zeros
from ringminus.disks.disk import Disk
from ringminus.disks.findings import Finding
from ringminus.disks.nbd.qemu import check_qemu
from ringminus.disks.open import QEMU_FORMATS, is_url, open_disk, probe
from ringminus.disks.vhd import check_vhd, compact_vhd
from ringminus.disks.vhdx import check_vhdx, compact_vhdx
from ringminus.errors import ConfigError

_MIB = 1 << 20


def check_disk(path: Path, format: str | None = None, repair: bool = False) -> list[Finding]:
    """What is wrong with a disk; with `repair`, mended where that needs no guessing.

    Raw disks have nothing that could be wrong. Raises `ConfigError`, `HostError`, and `DiskError` if it
    cannot look.
    """
    if is_url(str(path)):
        raise ConfigError(f"{path}: only files are checked; check it where the server is")
    name = format or probe(path)
    if name == "vhdx":
        return check_vhdx(path, repair)
    if name == "vhd":
        return check_vhd(path, repair)
    if name in QEMU_FORMATS:
        return check_qemu(path, name, repair)
    open_disk(path, name, read_only=True).close()
    return []


def compact_disk(path: Path, format: str | None = None, progress: Progress = lambda fraction: None) -> None:
    """Make the file take less space: what is zeros loses its place. Raises `ConfigError`, `DiskError`."""
    if is_url(str(path)):
        raise ConfigError(f"{path}: only files are compacted; compact it where the server is")
    name = format or probe(path)
    if name == "vhdx":
        compact_vhdx(path, progress)
    elif name == "vhd":
        compact_vhd(path, progress)
    elif name in QEMU_FORMATS or name == "iso":
        raise ConfigError(
            f"{path}: {name} disks are not compacted in place: convert it instead, to a new file"
        )
    else:
        with open_disk(path, name) as disk:
            punch_zeros(disk, progress)


def smallest_size(disk: Disk) -> int:
    """The size in whole MiB that the disk could shrink to without losing what is not zeros."""
    return max(_MIB, -(-end_of_data(disk) // _MIB) * _MIB)


def resize_disk(disk: Disk, size: int, cut: bool = False) -> None:
    """Make the disk `size` bytes large. What would be cut off must be zeros, unless it is meant to be `cut`.

    Raises `ConfigError` where the format or the contents forbid it.
    """
    if size < disk.size:
        start = size // disk.sector_size * disk.sector_size
        end = end_of_data(disk, start)
        if end and not cut:
            where, enough = disk.info()["path"], smallest_size(disk) // _MIB
            raise ConfigError(
                f"{where} has data up to byte {end}, which would be lost: {enough}M would keep it"
            )
        if end:
            disk.write_zeros(start, disk.size - start)
    disk.resize(size)

"""Making VHDX files."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal
from uuid import uuid4

import ringminus
from ringminus.disks.files import HostFile, new_file
from ringminus.disks.vhdx.bat import Bat
from ringminus.disks.vhdx.geometry import Geometry
from ringminus.disks.vhdx.header import NO_LOG, new_guid, sealed
from ringminus.disks.vhdx.locator import ParentLocator
from ringminus.disks.vhdx.metadata import Metadata
from ringminus.disks.vhdx.open import open_vhdx
from ringminus.disks.vhdx.regions import Region, Regions
from ringminus.disks.vhdx.resize import bat_length
from ringminus.disks.vhdx.wire import (
    BAT_REGION,
    HEADER_OFFSETS,
    HEADER_SECTION_SIZE,
    IDENTIFIER_SIGNATURE,
    LARGEST_BLOCK,
    LARGEST_DISK,
    METADATA_REGION,
    MIB,
    REGION_TABLE_OFFSETS,
    SECTOR_SIZES,
    SMALLEST_BLOCK,
    BlockState,
    FileIdentifier,
    Header,
)
from ringminus.errors import ConfigError

Kind = Literal["fixed", "dynamic", "differencing"]

# as Hyper-V's New-VHD chooses
DEFAULT_BLOCK_SIZE = 32 * MIB
DEFAULT_DIFFERENCING_BLOCK_SIZE = 2 * MIB
_LOG_SIZE = MIB
_METADATA_SIZE = MIB


def create_vhdx(
    path: Path | str,
    size: int | None,
    *,
    kind: Kind = "dynamic",
    block_size: int | None = None,
    sector_size: int | None = None,
    physical_sector_size: int | None = None,
    parent: Path | str | None = None,
) -> None:
    """Make a new VHDX file; all sizes in bytes.

    `size` may be None for a differencing disk, which then has its parent's; so may the sector sizes, which
    else are 512 (logical) and 4096 (physical). Blocks are 32 MiB by default, or 2 MiB of a differencing
    disk, whose `parent` is a VHDX that must not be written any more. Raises `ConfigError`, `DiskError`.
    """
    path = Path(path)
    if (kind == "differencing") != (parent is not None):
        raise ConfigError("a differencing disk has a parent, and only a differencing disk has one")
    locator = None
    disk_id = uuid4()
    if parent is not None:
        with open_vhdx(parent, read_only=True) as base:
            size = base.size if size is None else size
            if sector_size not in (None, base.sector_size):
                raise ConfigError(f"{parent} has sectors of {base.sector_size} bytes, and so must its child")
            sector_size = base.sector_size
            physical_sector_size = physical_sector_size or base.physical_sector_size
            disk_id = base.identity
            locator = ParentLocator.naming(path, Path(parent), base.data_write_guid)
            if size < base.size:
                raise ConfigError(f"{parent} has {base.size} bytes: its child cannot be smaller")
    if size is None:
        raise ConfigError("a disk needs a size")
    default = DEFAULT_DIFFERENCING_BLOCK_SIZE if locator else DEFAULT_BLOCK_SIZE
    metadata = Metadata(
        block_size=block_size or default,
        fixed=kind == "fixed",
        size=size,
        disk_id=disk_id,
        sector_size=sector_size or 512,
        physical_sector_size=physical_sector_size or 4096,
        parent=locator,
    )
    _check(metadata)
    _write(path, metadata)


def _check(metadata: Metadata) -> None:
    block, size = metadata.block_size, metadata.size
    if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK or block & (block - 1):
        raise ConfigError(f"a block size of {block} bytes: a VHDX has a power of two from 1 MiB to 256 MiB")
    for name, sector in (("logical", metadata.sector_size), ("physical", metadata.physical_sector_size)):
        if sector not in SECTOR_SIZES:
            raise ConfigError(f"a {name} sector of {sector} bytes: a VHDX has 512 or 4096")
    if metadata.physical_sector_size < metadata.sector_size:
        raise ConfigError("a physical sector cannot be smaller than a logical one")
    if not 0 < size <= LARGEST_DISK:
        raise ConfigError(f"a disk of {size} bytes: a VHDX has at most {LARGEST_DISK} (64 TiB)")
    if size % metadata.sector_size:
        sector = metadata.sector_size
        raise ConfigError(f"a size of {size} bytes is not a whole number of {sector}-byte sectors")


def _write(path: Path, metadata: Metadata) -> None:
    geometry = Geometry(metadata.size, metadata.block_size, metadata.sector_size, metadata.parent is not None)
    log = HEADER_SECTION_SIZE
    metadata_region = Region(METADATA_REGION, log + _LOG_SIZE, _METADATA_SIZE)
    bat_region = Region(BAT_REGION, metadata_region.end, bat_length(geometry))
    end = bat_region.end
    with new_file(path) as file:
        file.truncate(end)
        file.allocate(log, _LOG_SIZE)
        file.write_at(metadata_region.offset, metadata.pack(_METADATA_SIZE))
        table = Regions((bat_region, metadata_region)).pack()
        for offset in REGION_TABLE_OFFSETS:
            file.write_at(offset, table)
        if metadata.fixed:
            _fill(file, bat_region, geometry, end)
        _write_headers(file, log)
        # last, so that nothing unfinished is taken for a VHDX
        identifier = FileIdentifier(
            signature=IDENTIFIER_SIGNATURE, creator=f"ringminus {ringminus.__version__}".encode("utf-16-le")
        )
        file.flush()
        file.write_at(0, identifier.pack())
        file.flush()


def _fill(file: HostFile, region: Region, geometry: Geometry, end: int) -> None:
    """All blocks of a fixed disk, in a row from `end` on."""
    file.allocate(end, geometry.blocks * geometry.block_size)
    bat = Bat(file, region, geometry)
    for block in range(geometry.blocks):
        bat.set(block, BlockState.FULLY_PRESENT, end + block * geometry.block_size)
    file.write_at(region.offset, bat.entries.cast("B"))


def _write_headers(file: HostFile, log: int) -> None:
    first = secrets.randbits(31)
    header = Header(
        sequence_number=first,
        file_write_guid=new_guid(),
        data_write_guid=new_guid(),
        log_guid=NO_LOG,
        log_length=_LOG_SIZE,
        log_offset=log,
    )
    for number, offset in enumerate(HEADER_OFFSETS):
        header.sequence_number = first + number
        file.write_at(offset, sealed(header))

"""All of a file's structure, loaded and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx.bat import Bat
from ringminus.disks.vhdx.geometry import Geometry
from ringminus.disks.vhdx.header import NO_LOG, Headers, creator_of, new_guid
from ringminus.disks.vhdx.metadata import Metadata, load_metadata
from ringminus.disks.vhdx.regions import Regions, load_regions
from ringminus.disks.vhdx.replay import Replayed, Source, replay
from ringminus.disks.vhdx.survey import Survey, Used, overlaps
from ringminus.disks.vhdx.wire import HEADER_SECTION_SIZE


@dataclass(slots=True)
class Image:
    """`source` is what metadata may be read from; `survey` tells what is where in the file;
    `replayed` counts the log entries that opening has replayed (for reading: will have to replay)."""

    creator: str
    headers: Headers
    source: Source
    regions: Regions
    metadata: Metadata
    geometry: Geometry
    bat: Bat
    survey: Survey
    replayed: int

    @property
    def problems(self) -> list[str]:
        """What is wrong with the BAT."""
        return self.survey.problems


def _fixed_ranges(headers: Headers, regions: Regions) -> Iterator[Used]:
    yield 0, HEADER_SECTION_SIZE, "the header section"
    log = headers.current
    if log.log_length:
        yield log.log_offset, log.log_offset + log.log_length, "the log"
    for region in regions.all:
        yield region.offset, region.end, f"the {region.name} region"


def _replay(file: HostFile, headers: Headers) -> tuple[Source, int]:
    if headers.log_guid == NO_LOG:
        return file, 0
    if file.read_only:
        replayed = Replayed(file, headers.current)
        return (replayed, len(replayed)) if len(replayed) else (file, 0)
    count = replay(file, headers.current)
    headers.update(file_write_guid=new_guid(), log_guid=NO_LOG)
    headers.update()
    return file, count


def load(file: HostFile) -> Image:
    """Read everything but the parents and the bitmaps, replaying the log first: in the file if it may be
    written, else in memory. Raises `CorruptDisk`, `DiskError`; `problems` is for the caller to judge."""
    creator = creator_of(file)
    headers = Headers(file)
    source, replayed = _replay(file, headers)
    regions = load_regions(source)
    fixed = sorted(_fixed_ranges(headers, regions))
    for problem in overlaps(fixed):
        raise CorruptDisk(f"{file.path}: {problem}")
    metadata = load_metadata(source, regions.metadata)
    geometry = Geometry(metadata.size, metadata.block_size, metadata.sector_size, metadata.parent is not None)
    bat = Bat(source, regions.bat, geometry)
    survey = Survey(bat, fixed, source.size)
    return Image(creator, headers, source, regions, metadata, geometry, bat, survey, replayed)


def load_sound(file: HostFile) -> Image:
    """`load`, raising `CorruptDisk` also for the BAT's problems, and `DiskError` for a file that must not be
    written but whose log changes the disk's contents."""
    image = load(file)
    if image.problems:
        raise CorruptDisk(f"{file.path}: {image.problems[0]}")
    source = image.source
    if isinstance(source, Replayed) and source.touches(image.survey.places, image.geometry.block_size):
        raise DiskError(f"{file.path} was not closed: open it once for writing to replay its log")
    return image

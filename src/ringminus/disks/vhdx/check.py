"""Looking for damage in VHDX files, and mending what can be mended without guessing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.findings import Finding, Severity
from ringminus.disks.vhdx.header import NO_LOG, Headers, read_header
from ringminus.disks.vhdx.image import Image, load
from ringminus.disks.vhdx.open import open_vhdx
from ringminus.disks.vhdx.regions import read_table
from ringminus.disks.vhdx.replay import LogReader
from ringminus.disks.vhdx.wire import HEADER_OFFSETS, MIB, REGION_TABLE_OFFSETS

_NAMES = ("first", "second")


def check_vhdx(path: Path | str, repair: bool = False) -> list[Finding]:
    """What is wrong with a VHDX, best known first; with `repair`, mended where possible.

    Repairing replays a log that was left, restores a damaged copy of the header and of the region table from
    the good one, and cuts space that holds nothing from the file's end. Raises `DiskError` if it cannot look.
    """
    path = Path(path)
    with contextlib.closing(HostFile(path, read_only=not repair)) as file:
        try:
            findings = list(_copies(file, repair))
            findings += _log(file, repair)
            image = load(file)
        except CorruptDisk as damage:
            return [Finding(Severity.DAMAGE, str(damage))]
        findings += [Finding(Severity.DAMAGE, f"{path}: {problem}") for problem in image.problems]
        if not image.problems:
            findings += _leaks(file, image, repair)
        has_parent = image.metadata.parent is not None
    if has_parent and not image.problems:
        findings += _parent(path)
    return findings


def _copies(file: HostFile, repair: bool) -> Iterator[Finding]:
    """Headers and region tables, of which there are two each."""
    headers = Headers(file)
    for number, offset in enumerate(HEADER_OFFSETS):
        if read_header(file, offset) is None:
            if repair:
                headers.update()  # which writes over the other one
            message = f"{file.path}: the {_NAMES[number]} header is not valid; the other one is good"
            yield Finding(Severity.DAMAGE, message, repairable=True, repaired=repair)
    if headers.log_guid != NO_LOG and LogReader(file, headers.current).active():
        return  # the tables may be in the log
    tables = [read_table(file, offset) for offset in REGION_TABLE_OFFSETS]
    for number, table in enumerate(tables):
        good = tables[1 - number]
        if table is None and good is not None:
            if repair:
                file.write_at(REGION_TABLE_OFFSETS[number], good)
                file.flush()
            message = f"{file.path}: the {_NAMES[number]} region table is not valid; the other one is good"
            yield Finding(Severity.DAMAGE, message, repairable=True, repaired=repair)
    if None not in tables and tables[0] != tables[1]:
        if repair and tables[0] is not None:
            file.write_at(REGION_TABLE_OFFSETS[1], tables[0])
            file.flush()
        message = f"{file.path}: the region tables differ; the first one counts"
        yield Finding(Severity.DAMAGE, message, repairable=True, repaired=repair)


def _log(file: HostFile, repair: bool) -> Iterator[Finding]:
    """A log that was left: `load` replays it, if it may write."""
    headers = Headers(file)
    if headers.log_guid == NO_LOG:
        return
    entries = len(LogReader(file, headers.current).active())
    message = f"{file.path} was not closed: {entries} log entries have to be replayed, as any start does"
    yield Finding(Severity.NOTE, message, repairable=True, repaired=repair)


def _leaks(file: HostFile, image: Image, repair: bool) -> Iterator[Finding]:
    """Space of the file that nothing uses."""
    space = image.survey.space()
    if space.end > file.size and not file.read_only and repair:
        file.truncate(space.end)
    if not space.gaps:
        return
    at_end = space.end - space.last_used
    if at_end:
        if repair:
            file.truncate(space.cut())
            file.flush()
        message = f"{file.path}: {at_end // MIB} MiB at the file's end hold nothing"
        yield Finding(Severity.LEAK, message, repairable=True, repaired=repair)
    if inside := sum(stop - start for start, stop in space.gaps if start < space.last_used):
        message = f"{file.path}: {inside // MIB} MiB inside are free; compacting makes the file smaller"
        yield Finding(Severity.NOTE, message)


def _parent(path: Path) -> Iterator[Finding]:
    try:
        open_vhdx(path, read_only=True).close()
    except DiskError as problem:
        yield Finding(Severity.DAMAGE, str(problem))

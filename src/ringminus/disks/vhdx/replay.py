"""Replaying the log of a file that was not closed ([MS-VHDX] 2.3.2 and 2.3.3).

Entries that are not whole (their checksum or structure is wrong) are as if they were not there. What a file
says here is checked before anything is written to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crc32c import crc32c

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx.header import NO_LOG
from ringminus.disks.vhdx.wire import (
    DATA_DESCRIPTOR_SIGNATURE,
    DATA_SIGNATURE,
    LARGEST_DISK,
    LOG_SECTOR_SIZE,
    LOG_SIGNATURE,
    MIB,
    SMALLEST_LOGGED_OFFSET,
    ZERO_SIGNATURE,
    DataDescriptor,
    DataSector,
    Header,
    LogEntryHeader,
    ZeroDescriptor,
)

_CHUNK = MIB
_LARGEST_FILE = 2 * LARGEST_DISK


class Source(Protocol):
    """Where metadata are read from: the file, or the file as it will be after its log was replayed."""

    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    def read_at(self, offset: int, length: int) -> bytes: ...
    def extent(self, offset: int, length: int) -> tuple[bool, int]: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that the log does: `length` zeros at `offset`, or the page whose middle is at `sector` of the
    log, with its ends."""

    offset: int
    length: int
    sector: int = -1
    leading: bytes = b""
    trailing: bytes = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole entry; `position` and `length` in the log, in bytes."""

    position: int
    length: int
    header: LogEntryHeader
    descriptors: bytes
    data: int

    def changes(self) -> Iterator[Change]:
        sector = self.data
        for at in range(0, len(self.descriptors), DataDescriptor.SIZE):
            if self.descriptors.startswith(ZERO_SIGNATURE, at):
                zero = ZeroDescriptor.unpack(self.descriptors, at)
                yield Change(zero.file_offset, zero.zero_length)
            else:
                data = DataDescriptor.unpack(self.descriptors, at)
                ends = data.leading_bytes, data.trailing_bytes
                yield Change(data.file_offset, LOG_SECTOR_SIZE, sector, *ends)
                sector += LOG_SECTOR_SIZE


class LogReader:
    """The log of a file, as `header` describes it."""

    def __init__(self, file: HostFile, header: Header) -> None:
        self._file = file
        self._offset, self._length = header.log_offset, header.log_length
        self._guid = header.log_guid

    def read(self, position: int, length: int) -> bytes:
        """Bytes of the log, which is a ring."""
        position %= self._length
        first = min(length, self._length - position)
        data = self._file.read_at(self._offset + position, first)
        return data if first == length else data + self._file.read_at(self._offset, length - first)

    def active(self) -> list[Entry]:
        """The entries to replay, in order; none if the log is empty."""
        if self._guid == NO_LOG or not self._length:
            return []
        entries = {position: entry for position in self._candidates() if (entry := self._entry(position))}
        best: list[Entry] = []
        done = -1
        for start in sorted(entries):
            if start < done:
                continue
            run = self._run(entries, start)
            done = start + sum(entry.length for entry in run)
            whole = [n for n, entry in enumerate(run) if entry.position == run[-1].header.tail]
            newest = best[-1].header.sequence_number if best else 0
            if whole and run[-1].header.sequence_number > newest:
                best = run[whole[0] :]
        return best

    def _run(self, entries: dict[int, Entry], start: int) -> list[Entry]:
        run = [entries[start]]
        length = run[0].length
        while (following := entries.get((start + length) % self._length)) is not None:
            expected = run[-1].header.sequence_number + 1
            length += following.length
            if following.header.sequence_number != expected or length > self._length:
                break
            run.append(following)
        return run

    def _candidates(self) -> Iterator[int]:
        """Where an entry of this log's GUID may begin."""
        position = 0
        while position < self._length:
            stored, length = self._file.extent(self._offset + position, self._length - position)
            # from the sector on in which the data or the hole begins
            step = max(LOG_SECTOR_SIZE, length // LOG_SECTOR_SIZE * LOG_SECTOR_SIZE)
            if stored:
                step = min(step, _CHUNK, self._length - position)
                chunk = self.read(position, step)
                for at in range(0, step, LOG_SECTOR_SIZE):
                    if chunk.startswith(LOG_SIGNATURE, at):
                        yield position + at
            position += step

    def _entry(self, position: int) -> Entry | None:
        header = LogEntryHeader.unpack(self.read(position, LogEntryHeader.SIZE))
        length, count = header.entry_length, header.descriptor_count
        if header.log_guid != self._guid or not header.sequence_number:
            return None
        sectors = -(-(LogEntryHeader.SIZE + count * DataDescriptor.SIZE) // LOG_SECTOR_SIZE)
        if length % LOG_SECTOR_SIZE or not sectors * LOG_SECTOR_SIZE <= length <= self._length:
            return None
        head = self.read(position, sectors * LOG_SECTOR_SIZE)
        descriptors = head[LogEntryHeader.SIZE :][: count * DataDescriptor.SIZE]
        pages = self._count_pages(descriptors, header.sequence_number)
        if pages < 0 or (sectors + pages) * LOG_SECTOR_SIZE > length:
            return None
        entry = Entry(position, length, header, descriptors, position + len(head))
        crc = crc32c(head[8:], crc32c(b"\0\0\0\0", crc32c(head[:4])))
        return entry if self._is_whole(entry, crc, pages) else None

    def _count_pages(self, descriptors: bytes, sequence: int) -> int:
        """How many pages the descriptors bring, or -1 if one of them is not valid."""
        pages = 0
        for at in range(0, len(descriptors), DataDescriptor.SIZE):
            if descriptors.startswith(DATA_DESCRIPTOR_SIGNATURE, at):
                descriptor: DataDescriptor | ZeroDescriptor = DataDescriptor.unpack(descriptors, at)
                pages += 1
            elif descriptors.startswith(ZERO_SIGNATURE, at):
                descriptor = ZeroDescriptor.unpack(descriptors, at)
                if descriptor.zero_length % LOG_SECTOR_SIZE:
                    return -1
            else:
                return -1
            if descriptor.sequence_number != sequence or descriptor.file_offset % LOG_SECTOR_SIZE:
                return -1
        return pages

    def _is_whole(self, entry: Entry, crc: int, pages: int) -> bool:
        """Go through the data sectors; entries that overlap fail here at their first common sector."""
        sequence = entry.header.sequence_number
        position, end = entry.data, entry.position + entry.length
        while position < end:
            chunk = self.read(position, min(_CHUNK, end - position))
            for at in range(0, len(chunk), LOG_SECTOR_SIZE):
                if pages:
                    sector = DataSector.unpack(chunk, at)
                    if sector.signature != DATA_SIGNATURE:
                        return False
                    if sector.sequence_high << 32 | sector.sequence_low != sequence:
                        return False
                    pages -= 1
            crc = crc32c(chunk, crc)
            position += len(chunk)
        return crc == entry.header.checksum

    def page(self, change: Change) -> bytes:
        """The page that a change brings."""
        sector = DataSector.unpack(self.read(change.sector, LOG_SECTOR_SIZE))
        return change.leading + sector.data + change.trailing


def _check(file: HostFile, entries: list[Entry]) -> int:
    """That the entries can be replayed; returns the size that the file needs. Raises `CorruptDisk`."""
    size, last = file.size, entries[-1].header
    if last.flushed_file_offset > size:
        raise CorruptDisk(
            f"{file.path} was cut off: its log was written when it had {last.flushed_file_offset} bytes, "
            f"and now it has {size}"
        )
    if last.last_file_offset > _LARGEST_FILE:
        raise CorruptDisk(f"{file.path}: its log wants the file to have {last.last_file_offset} bytes")
    end = max(size, last.last_file_offset)
    for entry in entries:
        for change in entry.changes():
            if change.offset < SMALLEST_LOGGED_OFFSET or change.offset + change.length > end:
                where = f"{change.length} bytes at {change.offset}"
                raise CorruptDisk(f"{file.path}: its log changes {where}, which it must not", change.offset)
    return end


def replay(file: HostFile, header: Header) -> int:
    """Do in place what the log says, durably; returns how many entries it had.

    The log stays: it is for the caller to clear it. Raises `CorruptDisk` and `DiskError`.
    """
    log = LogReader(file, header)
    entries = log.active()
    if not entries:
        return 0
    end = _check(file, entries)
    if end > file.size:
        file.truncate(end)
    for entry in entries:
        for change in entry.changes():
            if change.sector < 0:
                file.zero(change.offset, change.length)
            else:
                file.write_at(change.offset, log.page(change))
    file.flush()
    return len(entries)


class Replayed:
    """A file that must not be written, as it will be after its log was replayed; a `Source`."""

    def __init__(self, file: HostFile, header: Header) -> None:
        self._file = file
        self._log = LogReader(file, header)
        entries = self._log.active()
        self.path = file.path
        self.size = _check(file, entries) if entries else file.size
        self._changes = [change for entry in entries for change in entry.changes()]

    def __len__(self) -> int:
        return len(self._changes)

    def touches(self, places: list[int], size: int) -> bool:
        """Whether the log changes any byte of the ranges of `size` bytes that begin at `places` (sorted)."""
        for change in self._changes:
            near = places[bisect_right(places, change.offset - size) :][:1]
            if near and near[0] < change.offset + change.length:
                return True
        return False

    def read_at(self, offset: int, length: int) -> bytes:
        """As `HostFile.read_at`."""
        stored = max(0, min(length, self._file.size - offset))
        data = bytearray(self._file.read_at(offset, stored) + bytes(length - stored))
        for change in self._changes:
            start, end = max(change.offset, offset), min(change.offset + change.length, offset + length)
            if start >= end:
                continue
            piece = bytes(end - start)
            if change.sector >= 0:
                piece = self._log.page(change)[start - change.offset : end - change.offset]
            data[start - offset : end - offset] = piece
        return bytes(data)

    def extent(self, offset: int, length: int) -> tuple[bool, int]:
        """As `HostFile.extent`, without knowing of holes."""
        return True, length

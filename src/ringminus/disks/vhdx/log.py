"""Writing the log: changes of metadata are durable here before they are made in place.

An entry holds whole 4 KiB pages and becomes valid as one, by its checksum. Entries in sequence under one log
GUID form a run, and opening the file replays the run whose GUID the header names ([MS-VHDX] 2.3).

Runs alternate between the halves of the log. When a half is full, the next entry begins a new run in the
other half, and only after that entry is durable does the header name the new run's GUID. So the header names
a whole run at every moment; a run never wraps round, as QEMU finds only runs that do not; and an entry is
forgotten only after all earlier pages have been made durable in place.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringminus.disks.files import HostFile
from ringminus.disks.vhdx.checksums import seal
from ringminus.disks.vhdx.header import NO_LOG, Headers, new_guid
from ringminus.disks.vhdx.wire import LOG_SECTOR_SIZE, DataDescriptor, DataSector, LogEntryHeader

Page = tuple[int, bytes]
"""Where in the file, and 4 KiB."""

_LEADING, _TRAILING = 8, LOG_SECTOR_SIZE - 4


def _descriptor_sectors(count: int) -> int:
    return -(-(LogEntryHeader.SIZE + count * DataDescriptor.SIZE) // LOG_SECTOR_SIZE)


def entry_length(pages: int) -> int:
    """Bytes that an entry of so many pages takes in the log."""
    return (_descriptor_sectors(pages) + pages) * LOG_SECTOR_SIZE


def encode_entry(pages: Sequence[Page], guid: bytes, sequence: int, tail: int, end: int) -> bytearray:
    """One entry; `tail` is where in the log its run begins, `end` the file's durable size in bytes."""
    header = LogEntryHeader(
        entry_length=entry_length(len(pages)),
        tail=tail,
        sequence_number=sequence,
        descriptor_count=len(pages),
        log_guid=guid,
        flushed_file_offset=end,
        last_file_offset=end,
    )
    entry = bytearray(header.entry_length)
    header.pack_into(entry)
    at = _descriptor_sectors(len(pages)) * LOG_SECTOR_SIZE
    for number, (offset, page) in enumerate(pages):
        descriptor = DataDescriptor(
            trailing_bytes=page[_TRAILING:],
            leading_bytes=page[:_LEADING],
            file_offset=offset,
            sequence_number=sequence,
        )
        descriptor.pack_into(entry, LogEntryHeader.SIZE + number * DataDescriptor.SIZE)
        sector = DataSector(
            sequence_high=sequence >> 32, data=page[_LEADING:_TRAILING], sequence_low=sequence & 0xFFFFFFFF
        )
        sector.pack_into(entry, at + number * LOG_SECTOR_SIZE)
    seal(entry)
    return entry


class LogWriter:
    """The log of a file that is open for writing. Its caller writes one entry at a time."""

    def __init__(self, file: HostFile, headers: Headers) -> None:
        self._file = file
        self._headers = headers
        self._guid = NO_LOG
        self._base = self._position = self._sequence = 0

    @property
    def _half(self) -> int:
        return self._headers.current.log_length // 2

    @property
    def most_pages(self) -> int:
        """Pages that one entry can hold."""
        sectors = self._half // LOG_SECTOR_SIZE
        most = sectors - _descriptor_sectors(sectors)
        return min(most, 126)  # as many as have their descriptors in the first sector

    def append(self, pages: Sequence[Page], end: int) -> None:
        """Make an entry of at most `most_pages` durable; `end` is the file's size in bytes, durable already.

        Everything that the caller has written in place for earlier entries must be durable too. Raises
        `DiskError`; then the entry may or may not be in the log, and the same or more has to be logged again.
        """
        length = entry_length(len(pages))
        new_run = self._guid == NO_LOG or self._position + length > self._base + self._half
        if new_run:
            guid, sequence = new_guid(), 1
            base = position = self._half - self._base if self._guid != NO_LOG else 0
        else:
            guid, sequence, base, position = self._guid, self._sequence, self._base, self._position
        entry = encode_entry(pages, guid, sequence, base, end)
        self._file.write_at(self._headers.current.log_offset + position, entry)
        self._file.flush()
        if new_run:
            self._headers.update(log_guid=guid)
        self._guid, self._base = guid, base
        self._sequence, self._position = sequence + 1, position + length

    def clear(self) -> None:
        """Say that nothing is to be replayed; all that was logged must be durable in place."""
        if self._headers.log_guid != NO_LOG:
            self._headers.update(log_guid=NO_LOG)
            # the other header too, which would have old pages replayed if this one were ever damaged
            self._headers.update()
        self._guid, self._base = NO_LOG, 0

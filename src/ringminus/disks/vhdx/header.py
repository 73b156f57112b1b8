"""The two headers: which one counts, and changing them so that one is always good.

A change is written over the header that does not count, with the next sequence number, and made durable; from
then on it is the one that counts. A crash in between leaves the other.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx.checksums import is_sound, seal
from ringminus.disks.vhdx.wire import (
    FORMAT_VERSION,
    HEADER_OFFSETS,
    HEADER_SECTION_SIZE,
    HEADER_SIGNATURE,
    IDENTIFIER_OFFSET,
    IDENTIFIER_SIGNATURE,
    LOG_VERSION,
    MIB,
    FileIdentifier,
    Header,
)

NO_LOG = UUID(int=0).bytes_le
_LAST_SEQUENCE = (1 << 64) - (1 << 32)  # nobody counts so far


def new_guid() -> bytes:
    """A fresh GUID as it is stored."""
    return uuid4().bytes_le


def creator_of(file: HostFile) -> str:
    """The program that the file says has made it; raises `CorruptDisk` if the file is no VHDX."""
    if file.size < HEADER_SECTION_SIZE:
        raise CorruptDisk(f"{file.path} is too short for a VHDX: {file.size} bytes")
    identifier = FileIdentifier.unpack(file.read_at(IDENTIFIER_OFFSET, FileIdentifier.SIZE))
    if identifier.signature != IDENTIFIER_SIGNATURE:
        raise CorruptDisk(f"{file.path} is no VHDX: it does not begin with 'vhdxfile'", offset=0)
    return identifier.creator.decode("utf-16-le", "replace").partition("\0")[0]


def read_header(file: HostFile, offset: int) -> Header | None:
    """The header at `offset`, or None if it is not valid."""
    data = file.read_at(offset, Header.SIZE)
    header = Header.unpack(data)
    sound = header.signature == HEADER_SIGNATURE and is_sound(data) and header.version == FORMAT_VERSION
    return header if sound else None


def _check_log_fields(file: HostFile, header: Header) -> None:
    offset, length = header.log_offset, header.log_length
    if header.log_version != LOG_VERSION:
        raise CorruptDisk(f"{file.path}: a log of unknown version {header.log_version}")
    if length % MIB or offset % MIB or offset < HEADER_SECTION_SIZE:
        raise CorruptDisk(
            f"{file.path}: the header says the log is at {offset}, {length} bytes: not whole MiB"
        )
    if offset + length > file.size:
        raise CorruptDisk(f"{file.path}: the log at {offset} ends behind the file's end", offset=offset)


class Headers:
    """Both headers of an open file; `current` is the one that counts."""

    def __init__(self, file: HostFile) -> None:
        """Read; raises `CorruptDisk` if neither is valid."""
        self._file = file
        self.found = [read_header(file, offset) for offset in HEADER_OFFSETS]
        valid = [(header.sequence_number, -n, header) for n, header in enumerate(self.found) if header]
        if not valid:
            raise CorruptDisk(f"{file.path}: neither header is valid", offset=HEADER_OFFSETS[0])
        if len(valid) == 2 and valid[0][0] == valid[1][0] and valid[0][2] != valid[1][2]:
            # two equal ones are what Microsoft's Disk2vhd writes
            raise CorruptDisk(f"{file.path}: its headers differ, but neither is the newer one")
        _, number, self.current = max(valid, key=lambda found: found[:2])
        self._slot = -number
        if self.current.sequence_number >= _LAST_SEQUENCE:
            raise CorruptDisk(f"{file.path}: the header's sequence number is at its end")
        _check_log_fields(file, self.current)

    @property
    def log_guid(self) -> bytes:
        return self.current.log_guid

    def update(self, **fields: bytes | int) -> None:
        """Change fields of the header that counts, durably; raises `DiskError`."""
        header = Header.unpack(self.current.pack())
        for name, value in fields.items():
            setattr(header, name, value)
        header.sequence_number = self.current.sequence_number + 1
        slot = 1 - self._slot
        self._file.write_at(HEADER_OFFSETS[slot], sealed(header))
        self._file.flush()
        self._slot, self.current = slot, header


def sealed(header: Header) -> bytearray:
    """A header's bytes, with its checksum."""
    data = bytearray(header.pack())
    seal(data)
    return data

"""The parent locator: how a differencing disk names its parent ([MS-VHDX] 2.6.2.6).

Paths are Windows paths. The relative one, from the child's directory, is what both worlds understand; as the
absolute one we store and accept an absolute path of this host.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.vhdx.wire import (
    KEY_ABSOLUTE_PATH,
    KEY_LINKAGE,
    KEY_LINKAGE_2,
    KEY_RELATIVE_PATH,
    KEY_VOLUME_PATH,
    PARENT_IS_VHDX,
    ParentLocatorEntry,
    ParentLocatorHeader,
)
from ringminus.errors import ConfigError
from ringminus.wire import ShortBuffer

_LONGEST_STRING = 0xFFFF  # bytes


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """Keys and values, as they are stored."""

    values: dict[str, str]

    @classmethod
    def unpack(cls, path: Path, data: bytes) -> ParentLocator:
        """Parse the item; raises `CorruptDisk`."""
        try:
            header = ParentLocatorHeader.unpack(data)
            if UUID(bytes_le=header.locator_type) != PARENT_IS_VHDX:
                raise CorruptDisk(f"{path}: its parent is of a kind that is not known here")
            values: dict[str, str] = {}
            for number in range(header.key_value_count):
                at = ParentLocatorHeader.SIZE + number * ParentLocatorEntry.SIZE
                entry = ParentLocatorEntry.unpack(data, at)
                key = _text(data, entry.key_offset, entry.key_length)
                values[key] = _text(data, entry.value_offset, entry.value_length)
            locator = cls(values)
            linkages = locator.linkages
        except (ShortBuffer, ValueError):
            raise CorruptDisk(f"{path}: its parent locator is damaged") from None
        if not linkages:
            raise CorruptDisk(f"{path}: its parent locator does not identify the parent")
        return locator

    @classmethod
    def naming(cls, child: Path, parent: Path, data_write_guid: UUID) -> ParentLocator:
        """A locator for `child` of a parent whose contents are those of `data_write_guid`."""
        here = Path(os.path.realpath(child.parent))
        there = Path(os.path.realpath(parent))
        relative = os.path.relpath(there, here)
        # Windows wants backslashes; a name that has some of its own can be told only to this host
        spelled = relative if "\\" in relative else relative.replace("/", "\\")
        prefix = "" if relative.startswith("..") else ".\\" if "\\" not in relative else "./"
        values = {
            KEY_LINKAGE: f"{{{data_write_guid}}}",
            KEY_RELATIVE_PATH: prefix + spelled,
            KEY_ABSOLUTE_PATH: str(there),
        }
        return cls(values)

    @property
    def linkages(self) -> set[UUID]:
        """What the parent's DataWriteGuid may be; raises `ValueError` if that is no GUID."""
        found = set()
        for key in (KEY_LINKAGE, KEY_LINKAGE_2):
            if key in self.values:
                found.add(UUID(self.values[key].strip("{}")))
        return found

    def candidates(self, child: Path) -> list[Path]:
        """Where the parent may be, best first."""
        here = child.parent
        spelled = [self.values[key] for key in (KEY_RELATIVE_PATH, KEY_ABSOLUTE_PATH) if key in self.values]
        paths = [here / text.replace("\\", "/") for text in spelled]
        paths += [here / text for text in spelled]
        # last, beside the child: both may have been moved
        every = [*spelled, self.values.get(KEY_VOLUME_PATH, "")]
        paths += [here / text.replace("\\", "/").rpartition("/")[2] for text in every]
        return [path for path in dict.fromkeys(paths) if path not in (here, child) and "\0" not in str(path)]

    def pack(self) -> bytes:
        """The item's bytes; raises `ConfigError` for paths that are too long or cannot be spelled."""
        packed = bytearray(ParentLocatorHeader.SIZE + len(self.values) * ParentLocatorEntry.SIZE)
        ParentLocatorHeader(locator_type=PARENT_IS_VHDX.bytes_le, key_value_count=len(self.values)).pack_into(
            packed
        )
        for number, (key, value) in enumerate(self.values.items()):
            try:
                name, text = key.encode("utf-16-le"), value.encode("utf-16-le")
            except UnicodeEncodeError:
                raise ConfigError(f"{value!r} cannot be spelled in a VHDX: rename it") from None
            if len(text) > _LONGEST_STRING:
                raise ConfigError(f"{value}: too long a path for a VHDX")
            at = len(packed)
            entry = ParentLocatorEntry(
                key_offset=at,
                value_offset=at + len(name),
                key_length=len(name),
                value_length=len(text),
            )
            entry.pack_into(packed, ParentLocatorHeader.SIZE + number * ParentLocatorEntry.SIZE)
            packed += name + text
        return bytes(packed)


def _text(data: bytes, offset: int, length: int) -> str:
    """A string of the locator; raises `ValueError`."""
    if length % 2 or offset + length > len(data):
        raise ValueError
    text = data[offset : offset + length].decode("utf-16-le")
    if "\0" in text:
        raise ValueError
    return text

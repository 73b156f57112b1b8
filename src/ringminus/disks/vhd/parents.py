"""The parent of a differencing disk: writing its names, finding it, and checking that it is the one.

The child holds the parent's unique id and the time when the parent's file was last changed. Another id is
another disk. Another time means that the parent may have been written since, which would mix two disks'
data; it is also what copying without times leaves, so the person may accept it (`accept_parent`).
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ringminus.disks.disk import CorruptDisk
from ringminus.disks.files import HostFile, first_parent
from ringminus.disks.vhd.footer import sealed, stamp
from ringminus.disks.vhd.wire import LOCATORS, SECTOR, DynamicHeader, ParentLocator, Platform

_LONGEST_NAME = 64 << 10  # bytes of one locator; the longest path of Windows is half of that


def _text(platform: bytes, data: bytes) -> str:
    if platform == Platform.MAC_URL:
        return unquote(urlsplit(data.decode("utf-8", "replace").rstrip("\0")).path)
    return data.decode("utf-16-le", "replace").rstrip("\0")


def names(file: HostFile, header: DynamicHeader) -> list[tuple[bytes, str]]:
    """What the file calls its parent: pairs of a platform code and a path, as they are stored."""
    found = []
    for attribute in LOCATORS:
        locator: ParentLocator = getattr(header, attribute)
        length = locator.data_length
        known = (Platform.WINDOWS_RELATIVE, Platform.WINDOWS_ABSOLUTE, Platform.MAC_URL)
        if locator.platform_code not in known or not 0 < length <= _LONGEST_NAME:
            continue
        if locator.data_offset + length <= file.size:
            text = _text(locator.platform_code, file.read_at(locator.data_offset, length))
            found.append((locator.platform_code, text))
    return found


def candidates(file: HostFile, header: DynamicHeader) -> list[Path]:
    """Where the parent may be, best first: relative names, absolute ones, and beside the child."""
    here = Path(os.path.abspath(file.path)).parent  # noqa: PTH100 (a symbolic link's own directory)
    stored = names(file, header)
    stored.sort(key=lambda name: name[0] != Platform.WINDOWS_RELATIVE)
    spelled = [text.replace("\\", "/") for _, text in stored]
    spelled.append(header.parent_name.decode("utf-16-be", "replace").rstrip("\0").replace("\\", "/"))
    paths = [here / text for text in spelled if text]
    paths += [here / PurePosixPath(text).name for text in spelled if text]
    # a NUL cannot be in a path, and the child itself is not its parent
    plain = [Path(os.path.normpath(path)) for path in paths if "\0" not in str(path)]
    return [path for path in dict.fromkeys(plain) if path.name != "" and path != here / file.path.name]


def find(file: HostFile, header: DynamicHeader) -> Path:
    """The first candidate that exists; raises `DiskError` that says where it was looked for."""
    return first_parent(file.path, candidates(file, header))


def verify(file: HostFile, header: DynamicHeader, path: Path, unique_id: bytes) -> None:
    """That the disk at `path` with `unique_id` is the child's parent, unchanged; raises `CorruptDisk`."""
    if header.parent_unique_id != unique_id:
        raise CorruptDisk(f"{path} is not the parent of {file.path}, but another disk of its name")
    if not same_time(header, path):
        raise CorruptDisk(
            f"{path} was changed after {file.path} was made from it, or copied without its time; if you know "
            f"that its contents are the same, accept it with: ringminus disk check --repair {file.path}"
        )


def same_time(header: DynamicHeader, path: Path) -> bool:
    """Whether the parent's file was last changed when the child says."""
    return stamp(path.stat().st_mtime) == header.parent_timestamp


def accept_parent(file: HostFile, header_offset: int, header: DynamicHeader, path: Path) -> None:
    """Take the parent as it is now. The child keeps its own time, so that its children stay in peace."""
    times = os.fstat(file.fd)
    header.parent_timestamp = stamp(path.stat().st_mtime)
    file.write_at(header_offset, sealed(header).pack())
    file.flush()
    os.utime(file.fd, ns=(times.st_atime_ns, times.st_mtime_ns))


def name_parent(header: DynamicHeader, child: Path, parent: Path, offset: int) -> bytes:
    """Write the parent's names into the header; returns the locators' data, which belongs at `offset`."""
    child, parent = Path(os.path.abspath(child)), Path(os.path.abspath(parent))  # noqa: PTH100
    relative = os.path.relpath(parent, child.parent).replace("/", "\\")
    spelled = {
        Platform.WINDOWS_RELATIVE: relative if relative.startswith("..") else f".\\{relative}",
        Platform.WINDOWS_ABSOLUTE: str(parent),
    }
    header.parent_name = parent.name.encode("utf-16-be")[:510]
    data = bytearray()
    for attribute, (platform, text) in zip(LOCATORS, spelled.items(), strict=False):
        encoded = text.encode("utf-16-le")
        space = -(-len(encoded) // SECTOR) * SECTOR
        locator = ParentLocator(
            platform_code=platform,
            data_space=space,
            data_length=len(encoded),
            data_offset=offset + len(data),
        )
        setattr(header, attribute, locator)
        data += encoded.ljust(space, b"\0")
    return bytes(data)

"""Writing an initramfs: a cpio archive of the "newc" kind, device nodes included, without root.

Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath

from ringminus.errors import ConfigError

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_MAX_FILE = 0xFFFFFFFF


def clean_path(path: str) -> str:
    """A path inside the archive, without the leading slash; raises `ConfigError` for one that leaves it."""
    parts = [part for part in PurePosixPath(path).parts if part != "/"]
    if not parts or ".." in parts or "\0" in path:
        raise ConfigError(f"{path!r} is not a path in the guest: give one such as /data/file")
    return "/".join(parts)


class CpioWriter:
    """Collects entries; all belong to root and have no time, so equal contents give equal archives."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._paths: dict[str, int] = {}

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory and those above it that are missing."""
        path = clean_path(path)
        if path in self._paths:
            if not stat.S_ISDIR(self._paths[path]):
                raise ConfigError(f"/{path} is a file in the guest, and something is to go under it")
            return
        self._parents(path)
        self._entry(path, stat.S_IFDIR | mode, b"", links=2)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        path = clean_path(path)
        self._parents(path)
        self._entry(path, stat.S_IFREG | mode, data)

    def symlink(self, path: str, target: str) -> None:
        path = clean_path(path)
        self._parents(path)
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        path = clean_path(path)
        self._parents(path)
        self._entry(path, stat.S_IFCHR | mode, b"", device=(major, minor))

    def finish(self) -> bytes:
        """The whole archive, padded to 512 bytes."""
        self._append(_TRAILER, 0, b"", 1, (0, 0), 0)
        archive = b"".join(self._parts)
        return archive + bytes(-len(archive) % 512)

    def _parents(self, path: str) -> None:
        parent = str(PurePosixPath(path).parent)
        if parent != ".":
            self.directory(parent)

    def _entry(
        self, path: str, mode: int, data: bytes, links: int = 1, device: tuple[int, int] = (0, 0)
    ) -> None:
        if path in self._paths:
            raise ConfigError(f"/{path} is in the guest already: choose another name")
        if len(data) > _MAX_FILE:
            raise ConfigError(f"/{path} has more than 4 GiB, which an initrd cannot hold")
        self._paths[path] = mode
        self._append(path, mode, data, links, device, len(self._paths))

    def _append(
        self, path: str, mode: int, data: bytes, links: int, device: tuple[int, int], inode: int
    ) -> None:
        name = path.encode() + b"\0"
        fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(name), 0)
        header = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
        self._parts += (header, bytes(-len(header) % 4), data, bytes(-len(data) % 4))

"""Extracted kernels kept between runs, by the hash of the file that they came from.

The cache is a convenience: what cannot be read, is damaged or cannot be written is as if not there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import zlib
from pathlib import Path

from ringminus.errors import GuestError
from ringminus.machine.loader.wire import CACHE_MAGIC, CacheHeader

KEPT = 16


def cache_directory() -> Path | None:
    """RINGMINUS_CACHE, or ringminus under XDG_CACHE_HOME or ~/.cache; None where there is no home."""
    override = os.environ.get("RINGMINUS_CACHE")
    if override:
        return Path(override)
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():
        return xdg / "ringminus"
    try:
        return Path.home() / ".cache" / "ringminus"
    except RuntimeError:
        return None


def write_atomically(path: Path, *parts: bytes | bytearray | memoryview) -> None:
    """Write a file that is either whole or not there; makes its directory; raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def map_file(path: Path) -> memoryview:
    """The contents of a regular file, mapped read-only; raises `OSError`, and `ValueError` if empty."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _place(key: str) -> Path | None:
    directory = cache_directory()
    return directory / "kernels" / f"{key}.vmlinux" if directory else None


def recall(key: str) -> memoryview | None:
    """The image stored under `key`, or None; a damaged one is removed."""
    path = _place(key)
    if path is None:
        return None
    try:
        contents = map_file(path)
        header = CacheHeader.unpack(contents)
        image = contents[CacheHeader.SIZE :]
        if header.magic == CACHE_MAGIC and header.size == len(image) and header.checksum == zlib.crc32(image):
            with contextlib.suppress(OSError):
                os.utime(path)
            return image
    except OSError:
        return None
    except (ValueError, GuestError):
        pass
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def remember(key: str, image: bytes | bytearray) -> None:
    """Store `image`; keeps the `KEPT` that were used last."""
    path = _place(key)
    if path is None:
        return
    header = CacheHeader(size=len(image), checksum=zlib.crc32(image))
    with contextlib.suppress(OSError):
        write_atomically(path, header.pack(), image)
        entries = sorted(path.parent.glob("*.vmlinux"), key=lambda entry: entry.stat().st_mtime)
        for old in entries[:-KEPT]:
            old.unlink()

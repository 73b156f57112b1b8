"""Opening a disk of any format.

A guest decides what is in its disk, so contents alone must not choose the format: a guest could write
another format's header into its raw disk and have the next start read any file of the host as a "parent".
Therefore the name (its extension) and the contents have to agree, or the caller names the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ringminus.disks.disk import Disk
from ringminus.disks.files import HostFile
from ringminus.disks.raw import CD_SECTOR, Raw
from ringminus.errors import ConfigError

EXTENSIONS = {
    ".raw": "raw",
    ".img": "raw",
    ".dd": "raw",
    ".iso": "iso",
    ".vhd": "vhd",
    ".vhdx": "vhdx",
    ".avhd": "vhd",
    ".avhdx": "vhdx",
    ".qcow2": "qcow2",
    ".qcow": "qcow",
    ".vmdk": "vmdk",
    ".vdi": "vdi",
    ".qed": "qed",
}
# offset and bytes that files of a format have there; a VHD's are also in its last 512 bytes
_MAGIC = (
    ("vhdx", 0, b"vhdxfile"),
    ("vhd", 0, b"conectix"),
    ("qcow2", 0, b"QFI\xfb\0\0\0\x02"),
    ("qcow2", 0, b"QFI\xfb\0\0\0\x03"),
    ("qcow", 0, b"QFI\xfb\0\0\0\x01"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("qed", 0, b"QED\0"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
)
QEMU_FORMATS = ("qcow2", "qcow", "vmdk", "vdi", "qed", "parallels")
_VHD_FOOTERS = (512, 511)  # old Virtual PC wrote one of 511 bytes


_URL = re.compile(r"nbds?(\+\w+)?:/", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Whether this names the disk of an NBD server."""
    return _URL.match(text) is not None


def _contents(file: HostFile) -> list[str]:
    """The formats that the file's bytes look like, best first."""
    size = file.size
    head = file.read_at(0, min(size, 512))
    found = [name for name, offset, magic in _MAGIC if head.startswith(magic, offset)]
    for length in _VHD_FOOTERS:
        # of a fixed VHD the guest has all but the end
        if size >= length and file.read_at(size - length, 8) == b"conectix":
            found.insert(0, "vhd")
    return found


def format_by_name(path: Path) -> str | None:
    """The format that a file of this name has, or None if the name does not tell."""
    return EXTENSIONS.get(path.suffix.lower())


def _probe(file: HostFile) -> str:
    """The format of an open file; raises `ConfigError` where name and contents do not tell the same."""
    if file.is_block_device:
        return "raw"
    named, found = format_by_name(file.path), _contents(file)
    if named is None:
        if found:
            return found[0]
        known = ", ".join(EXTENSIONS)
        raise ConfigError(f"cannot tell the format of {file.path}: name it, or give the file one of {known}")
    if found and named not in found:
        raise ConfigError(
            f"{file.path} is called {named} but looks like {found[0]}: name the format "
            f"({named} if a guest may have written these bytes, {found[0]} if you know it is one)"
        )
    return named


def probe(path: Path) -> str:
    """The format of the file; raises `ConfigError` where it cannot be told, and `DiskError`."""
    file = HostFile(path, read_only=True, locked=False)
    try:
        return _probe(file)
    finally:
        file.close()


def _open_raw(path: Path, read_only: bool) -> Disk:
    return _raw(path, read_only, None)


def _open_iso(path: Path, read_only: bool) -> Disk:
    return _raw(path, True, CD_SECTOR)


def _raw(path: Path, read_only: bool, sector_size: int | None) -> Disk:
    file = HostFile(path, read_only)
    try:
        return Raw(file, sector_size)
    except BaseException:
        file.close()
        raise


def _open_vhdx(path: Path, read_only: bool) -> Disk:
    from ringminus.disks.vhdx import open_vhdx

    return open_vhdx(path, read_only=read_only)


def _open_vhd(path: Path, read_only: bool) -> Disk:
    from ringminus.disks.vhd import open_vhd

    return open_vhd(path, read_only)


def _open_qemu(format: str) -> Callable[[Path, bool], Disk]:
    def opener(path: Path, read_only: bool) -> Disk:
        from ringminus.disks.nbd.qemu import open_qemu

        return open_qemu(path, format, read_only)

    return opener


FORMATS: dict[str, Callable[[Path, bool], Disk]] = {
    "raw": _open_raw,
    "iso": _open_iso,
    "vhd": _open_vhd,
    "vhdx": _open_vhdx,
    **{name: _open_qemu(name) for name in QEMU_FORMATS},
}


def open_disk(
    path: Path | str, format: str | None = None, read_only: bool = False, sector_size: int | None = None
) -> Disk:
    """Open a disk and lock its file; `path` may also be the URL of an NBD server's disk.

    `format` is one of `FORMATS`; without it the name and the contents tell. `.iso` files (format `iso`) are
    read-only with 2048-byte sectors. `sector_size` is for raw disks, which do not say it themselves. Raises
    `ConfigError` for an unknown format, and `DiskError` for what the host or the file refuses.
    """
    if is_url(str(path)):
        from ringminus.disks.nbd.url import open_url

        if format not in (None, "nbd") or sector_size is not None:
            raise ConfigError(f"{path}: an NBD server decides on format and sectors")
        return open_url(str(path), read_only)
    path = Path(path)
    name = format or probe(path)
    if name not in FORMATS:
        raise ConfigError(f"{path}: unknown format {name}: known are {', '.join(FORMATS)}")
    if sector_size is None:
        return FORMATS[name](path, read_only)
    if name not in ("raw", "iso"):
        raise ConfigError(f"{path}: only of raw disks can the sector be chosen, and this one is {name}")
    return _raw(path, read_only or name == "iso", sector_size)

"""An ext4 image from a tar archive, by e2fsprogs, without root and without a loop device.

The archive is unpacked as whoever runs us, mke2fs copies the files, and debugfs then sets what only root
could have given them on the way: owners, some modes, and extended attributes.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ringminus.errors import ConfigError, HostError
from ringminus.guest.programs import find_program, run
from ringminus.memory import MIB

LABEL = "ringminus"
_BLOCK = 4096
# said here, so that the image does not depend on the mke2fs.conf of the machine that builds it
_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)
_XATTR = "SCHILY.xattr."


@dataclass(slots=True)
class Contents:
    """What was unpacked: `size` in bytes as the file system will need them, `files` that there are, and what
    unpacking could not do, as commands of debugfs; `values` are files that these read."""

    size: int = 0
    files: int = 0
    commands: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)


def _quoted(path: str) -> str:
    """A path as debugfs takes it; raises `HostError` for one that it cannot take."""
    if "\n" in path or "\r" in path:
        raise HostError(f"the file name {path!r} has a line break, which debugfs does not take")
    return '"/{}"'.format(path.replace('"', '""'))


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> bool:
    """Make one entry; False for what is left out, which are devices: the kernel makes them."""
    if member.isdir():
        target.mkdir(exist_ok=True)
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.isreg():
        source = tar.extractfile(member)
        assert source is not None
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    else:
        return False
    return True


def _inside(tree: Path, name: str) -> Path:
    """The place of an archive's path; raises `HostError` for one that leads out of the tree."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    place = tree.joinpath(*parts)
    if ".." in parts or any(parent.is_symlink() for parent in place.parents if parent != tree):
        raise HostError(f"the archive has the path {name}, which leads elsewhere")
    return place


def unpack(archive: IO[bytes], tree: Path) -> Contents:
    """Unpack a tar archive read from a stream; raises `tarfile.ReadError`, `OSError` and `HostError`."""
    contents, directories = Contents(), []
    owner = os.getuid(), os.getgid()
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for member in tar:
            target = _inside(tree, member.name)
            if member.islnk():
                target.hardlink_to(_inside(tree, member.linkname))
                continue
            if not _extract(tar, member, target):
                continue
            contents.files += 1
            contents.size += _BLOCK + -(-member.size // _BLOCK) * _BLOCK
            path = _quoted(str(target.relative_to(tree))) if target != tree else '"/"'
            contents.commands += _ownership(member, path, owner)
            contents.commands += _attributes(member, path, contents.values)
            if member.isdir():
                directories.append((target, member))
            elif member.isreg():
                _finish(target, member)
    for target, member in reversed(directories):  # a directory's time changes while it is filled
        _finish(target, member)
    return contents


def _finish(target: Path, member: tarfile.TarInfo) -> None:
    # mke2fs, which may be no root, must be able to read it
    target.chmod(member.mode & 0o7777 | (0o700 if member.isdir() else 0o400))
    os.utime(target, (member.mtime, member.mtime))


def _ownership(member: tarfile.TarInfo, path: str, owner: tuple[int, int]) -> Iterator[str]:
    for name, wanted, given in (("uid", member.uid, owner[0]), ("gid", member.gid, owner[1])):
        if wanted != given:
            yield f"set_inode_field {path} {name} {wanted}"
    readable = 0o700 if member.isdir() else 0o400
    if not member.issym() and member.mode & readable != readable:
        kind = stat.S_IFDIR if member.isdir() else stat.S_IFREG
        yield f"set_inode_field {path} mode 0{kind | member.mode & 0o7777:o}"


def _attributes(member: tarfile.TarInfo, path: str, values: list[bytes]) -> Iterator[str]:
    for key, text in member.pax_headers.items():
        if key.startswith(_XATTR):
            yield f"ea_set -f {len(values)} {path} {key.removeprefix(_XATTR)}"
            values.append(text.encode("utf-8", "surrogateescape"))


def _run(command: list[str], doing: str, directory: Path | None = None) -> str:
    answer = run(command, directory)
    if answer.returncode != 0:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        raise HostError(f"cannot {doing}: {said[-1] if said else f'status {answer.returncode}'}")
    return answer.stderr


def make_ext4(tree: Path, contents: Contents, image: Path, size: int, work: Path) -> None:
    """Make a sparse file `image` of `size` bytes that holds what was unpacked into `tree`.

    `work` is a directory for files of our own. Raises `ConfigError` when `size` is too small, and
    `HostError` when a program is missing or fails.
    """
    least = contents.size + contents.size // 10 + 32 * MIB  # journal, inodes and some room
    if size < least:
        raise ConfigError(f"{size // MIB} MiB are too few for this system: at least {-(-least // MIB)} MiB")
    with image.open("xb") as file:
        file.truncate(size)
    make = [
        find_program("mke2fs", "e2fsprogs"),
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        _FEATURES,
        "-b",
        str(_BLOCK),
        "-I",
        "256",
    ]
    make += ["-m", "1", "-J", "size=16", "-L", LABEL, "-d", str(tree)]
    # a new sparse file is zeros: neither mke2fs nor the guest need write them
    make += ["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0"]
    _run([*make, str(image)], "make the ext4 file system")
    _run_debugfs(contents, image, work)
    check = [find_program("e2fsck", "e2fsprogs"), "-f", "-n", str(image)]
    _run(check, "make a sound ext4 file system: e2fsck says")


def _run_debugfs(contents: Contents, image: Path, work: Path) -> None:
    for number, value in enumerate(contents.values):
        (work / str(number)).write_bytes(value)
    script = work / "debugfs"
    script.write_text("".join(f"{command}\n" for command in contents.commands), errors="surrogateescape")
    debugfs = [
        find_program("debugfs", "e2fsprogs"),
        "-w",
        "-f",
        str(script.absolute()),
        str(image.absolute()),
    ]
    said = _run(debugfs, "set owners in the ext4 file system", work)
    # debugfs ends well whatever happened; its first line is its version
    if failures := [line for line in said.splitlines() if line and not line.startswith("debugfs ")]:
        raise HostError(f"cannot set owners in the ext4 file system: {failures[0]}")

"""What ringminus adds to Debian in a guest's root file system: the files under `root/`, links, and modules.

The files lie in this package as they will lie in the guest; a script is known by its first line.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

MASKED = (
    # they tidy up or look for news, on a timer
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    # at every boot, for snapshots, partitions or hardware that are not here
    "e2scrub_reap.service",
    "systemd-pstore.service",
    "systemd-repart.service",
    "systemd-udev-load-credentials.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-random-seed.service",
    "systemd-journal-flush.service",
    "systemd-user-sessions.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-fs-fuse-connections.mount",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "getty@tty1.service",
    "getty-static.service",
    # after an update of /usr, which packages do themselves
    "ldconfig.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
)
"""Units that cost a guest its start and give it nothing."""

MASKED_GENERATORS = tuple(
    f"systemd-{name}-generator"
    for name in (
        *("cryptsetup", "gpt-auto", "hibernate-resume", "integritysetup", "rc-local"),
        *("run", "system-update", "veritysetup"),
    )
)
"""Programs that systemd runs before anything else, to find out that there is nothing to do."""

_UNITS = "etc/systemd/system"
LINKS = {
    **{f"{_UNITS}/{unit}": "/dev/null" for unit in MASKED},
    **{f"etc/systemd/system-generators/{name}": "/dev/null" for name in MASKED_GENERATORS},
    "etc/resolv.conf": "/run/resolv.conf",  # name servers that the network has told of
    "etc/tmpfiles.d/systemd-nologin.conf": "/dev/null",  # and systemd-user-sessions need not lift it
    f"{_UNITS}/default.target": "/lib/systemd/system/multi-user.target",
    f"{_UNITS}/multi-user.target.wants/ringminus-script.service": "../ringminus-script.service",
}
"""Symbolic links: path in the guest, and what it points to."""

REMOVED = ("etc/fstab", "etc/modules-load.d/modules.conf")
"""Files of Debian's that are empty, and whose presence makes systemd run what reads them."""

TEXTS = {
    "etc/hostname": "ringminus\n",
    "etc/hosts": "127.0.0.1 localhost ringminus\n::1 localhost ringminus\n",
    "etc/machine-id": "",  # each copy makes one up, and no boot is taken for the first
    "root/.hushlogin": "",
}
"""Files whose contents are short or nothing."""


@dataclass(frozen=True, slots=True)
class OverlayFile:
    """A regular file: `path` in the guest, without a leading slash."""

    path: str
    data: bytes

    @property
    def mode(self) -> int:
        return 0o755 if self.data.startswith(b"#!") else 0o644


def _walk(directory: Traversable, prefix: str) -> Iterator[OverlayFile]:
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{path}/")
        else:
            yield OverlayFile(path, entry.read_bytes())


def overlay_files() -> list[OverlayFile]:
    """All files that are the same in every guest."""
    texts = [OverlayFile(path, text.encode()) for path, text in TEXTS.items()]
    return [*_walk(files("ringminus.guest") / "root", ""), *texts]


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def write_overlay(path: Path, modules: Path) -> None:
    """Write the overlay as a tar archive; `modules` is a kernel's directory in lib/modules, put in whole.

    Raises `OSError`.
    """
    now = int(time.time())
    with tarfile.open(path, "w") as tar:
        for file in overlay_files():
            member = _owned_by_root(tarfile.TarInfo(file.path))
            member.size, member.mode, member.mtime = len(file.data), file.mode, now
            tar.addfile(member, io.BytesIO(file.data))
        for link, target in LINKS.items():
            member = _owned_by_root(tarfile.TarInfo(link))
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, target, 0o777
            member.mtime = now
            tar.addfile(member)
        tar.add(modules, f"usr/lib/modules/{modules.name}", filter=_owned_by_root)

"""Where processes of this user find each other: sockets and locks of named switches and of guests.

Only this user can reach them: the directory is $XDG_RUNTIME_DIR/ringminus, or /run/user/UID/ringminus, or
/tmp/ringminus-UID, is this user's, and nobody else may look into it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import ConfigError, HostError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_UCRED = struct.Struct("iII")  # struct ucred: pid, uid, gid
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of x86-64: type, whence, start, length, pid
LONGEST_SOCKET_PATH = 107
"""Bytes, of sockaddr_un.sun_path without its zero."""


def check_name(name: str, what: str) -> str:
    """The name of `what` (a switch, a guest) as it is; raises `ConfigError` if it cannot be one."""
    if NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} cannot name {what}: up to 32 letters, digits, dots, dashes and underscores, "
            "the first a letter or digit, such as lab"
        )
    return name


def _candidates() -> list[Path]:
    """Directories that may hold ours, the best first; the last is in a directory of everybody's."""
    user = os.geteuid()
    found = [Path(f"/run/user/{user}")]
    told = os.environ.get("XDG_RUNTIME_DIR", "")
    if told.startswith("/"):
        found.insert(0, Path(told))
    return [base / "ringminus" for base in found if _is_own(base)] + [Path(f"/tmp/ringminus-{user}")]


def _is_own(base: Path) -> bool:
    try:
        found = base.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and os.access(base, os.W_OK | os.X_OK)


def directory() -> Path:
    """The directory of this user's switches and guests; it is made if it is missing. Raises `HostError`."""
    path = _candidates()[0]
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise HostError(
            f"cannot make {path} for the sockets of switches and guests: {error.strerror}; "
            "set XDG_RUNTIME_DIR to a directory of your own"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise HostError(
            f"{path}, for the sockets of switches and guests, is not a directory of your own: "
            "set XDG_RUNTIME_DIR to one that is"
        )
    if found.st_mode & 0o077:
        raise HostError(
            f"others may look into {path}, where your switches and guests are: run chmod 700 {path}"
        )
    return path


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who is at the other end of a Unix socket, by the kernel's word (SO_PEERCRED)."""

    pid: int
    uid: int

    @classmethod
    def of(cls, connected: socket.socket) -> PeerCredentials:
        told = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _gid = _UCRED.unpack(told)
        return cls(pid, uid)


@dataclass(frozen=True, slots=True)
class Place:
    """Files of a process that others find by its name: `socket` is where they come in, `lock` is held for as
    long as it lives."""

    name: str
    directory: Path

    @property
    def socket(self) -> Path:
        return self.directory / f"{self.name}.socket"

    @property
    def lock(self) -> Path:
        return self.directory / f"{self.name}.lock"

    def files(self) -> tuple[Path, ...]:
        """All but the lock."""
        return (self.socket,)

    def check_length(self) -> None:
        """Raises `HostError` if the socket's path is longer than sockets have."""
        length = len(os.fsencode(self.socket))
        if length > LONGEST_SOCKET_PATH:
            raise HostError(
                f"{self.socket} is too long a path for a socket, {length} bytes of {LONGEST_SOCKET_PATH}: "
                "set XDG_RUNTIME_DIR to a shorter one"
            )

    def take_lock(self) -> int | None:
        """Become the process of this name: gives a descriptor to be kept, None if there is one already."""
        while True:
            try:
                fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise HostError(f"cannot make {self.lock}: {error.strerror}") from None
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
                # its owner may have deleted it before it let go, and another made it anew
                if os.path.samestat(os.fstat(fd), self.lock.stat()):
                    return fd
            except FileNotFoundError:
                pass
            except OSError as error:
                os.close(fd)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return None
                raise HostError(f"cannot lock {self.lock}: {error.strerror}") from None
            os.close(fd)

    def forget(self) -> bool:
        """Delete what a process left that ended without doing so; False if there is one."""
        fd = self.take_lock()
        if fd is None:
            return False
        for path in (*self.files(), self.lock):  # who finds no lock makes its own
            path.unlink(missing_ok=True)
        os.close(fd)
        return True

    def is_alive(self) -> bool:
        """Whether a process holds the name."""
        try:
            fd = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
        finally:
            os.close(fd)
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

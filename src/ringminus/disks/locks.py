"""Advisory locks, so that two machines do not write one disk.

They are QEMU's own (block/file-posix.c of QEMU): byte 100+n of the file says "I do n", byte 200+n says
"nobody else may do n", all as shared record locks that belong to the open file. So QEMU refuses a disk that
we have open, and we refuse one that QEMU has open. The kernel drops them when the file is closed, also by a
killed process.
"""

from __future__ import annotations

import errno
import fcntl
import struct

_DOES, _FORBIDS = 100, 200
_READ, _WRITE, _WRITE_UNCHANGED, _RESIZE = range(4)
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of x86-64: type, whence, start, length, pid
# a file system without locks is as good as one on which nobody else is
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


class InUse(Exception):
    """Somebody else has the file open in a way that excludes this one."""


def _set(fd: int, byte: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, 0, byte, 1, 0))


def _held_by_others(fd: int, byte: int) -> bool:
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, byte, 1, 0))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def lock(fd: int, read_only: bool) -> None:
    """Lock until the file is closed: readers exclude writers, a writer excludes all. Raises `InUse`."""
    does = [_READ] if read_only else [_READ, _WRITE, _WRITE_UNCHANGED, _RESIZE]
    forbids = [_WRITE, _RESIZE] if read_only else [_READ, _WRITE, _WRITE_UNCHANGED, _RESIZE]
    try:
        # say first, look afterwards: of two that come together at least one sees the other
        for number in does:
            _set(fd, _DOES + number)
        for number in forbids:
            _set(fd, _FORBIDS + number)
        taken = any(_held_by_others(fd, _FORBIDS + number) for number in does)
        taken = taken or any(_held_by_others(fd, _DOES + number) for number in forbids)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise InUse from None
        if error.errno in _NO_LOCKS:
            return
        raise
    if taken:
        raise InUse

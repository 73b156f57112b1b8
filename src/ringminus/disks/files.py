"""The file under a disk: exact reads and writes, holes, locks, and errors that name the file.

Every format stands on `HostFile`. All of the host's system calls for disks are here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Self

from ringminus.disks.disk import Buffers, CorruptDisk, DiskError
from ringminus.disks.locks import InUse, lock
from ringminus.errors import ConfigError, HostError

IOV_MAX = 1024
# bytes of a write that may be done on the thread that must not wait: to copy them into the page cache takes
# less than to hand them to another thread
LARGEST_INLINE_WRITE = 1 << 20
_COPY = 1 << 20
_RWF_NOWAIT = os.RWF_NOWAIT

# linux/falloc.h, linux/fs.h
_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE = 1, 2
_BLKSSZGET, _BLKPBSZGET = 0x1268, 0x127B
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL, errno.EPERM}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def disk_error(path: object, doing: str, error: OSError, offset: int | None = None) -> DiskError:
    """The host's error as ours, in one line: `cannot write disk.raw at 4096: No space left on device`."""
    where = f" at {offset}" if offset is not None else ""
    reason = error.strerror or str(error)
    return DiskError(f"cannot {doing} {path}{where}: {reason}", error.errno, offset)


def after(buffers: Buffers, done: int) -> list[memoryview]:
    """What remains of `buffers` when their first `done` bytes are finished."""
    rest: list[memoryview] = []
    for view in buffers:
        if done >= len(view):
            done -= len(view)
        else:
            rest.append(view[done:])
            done = 0
    return rest


def first(buffers: Buffers, length: int) -> list[memoryview]:
    """The first `length` bytes of `buffers`."""
    taken: list[memoryview] = []
    for view in buffers:
        if length <= 0:
            break
        taken.append(view[:length])
        length -= len(view)
    return taken


def fill_zeros(buffers: Buffers) -> None:
    """Fill all of `buffers` with zeros."""
    for view in buffers:
        view[:] = bytes(len(view))


def total(buffers: Buffers) -> int:
    """Bytes in `buffers`."""
    return len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))


def _open(path: Path, read_only: bool) -> int:
    flags = os.O_RDONLY if read_only else os.O_RDWR
    try:
        # a FIFO or a terminal must not hold us up before we see what it is
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if not read_only and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"cannot open {path} for writing: {error.strerror}; it can perhaps be opened read-only"
            raise DiskError(reason, error.errno) from None
        raise disk_error(path, "open", error) from None


class HostFile:
    """A regular file or block device, open and locked; its calls may come from several threads.

    `path` is as it was given, `fd` the descriptor, `is_block_device` tells the kinds apart. The lock excludes
    other users while the file is open: a reader excludes writers, a writer everybody. Without `locked` one
    may look at a file that others write, and has to expect that it changes.
    """

    __slots__ = ("fd", "is_block_device", "path", "read_only")

    def __init__(self, path: Path | str, read_only: bool = False, locked: bool = True) -> None:
        """Open; raises `DiskError` (missing, forbidden, in use), `ConfigError` (neither file nor device)."""
        self.path = Path(path)
        self.read_only = read_only
        self.fd = _open(self.path, read_only)
        try:
            mode = os.fstat(self.fd).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a block device"
                raise ConfigError(f"{path} is {kind}: a disk is a file or a block device")
            self.is_block_device = stat.S_ISBLK(mode)
            if locked:
                self._lock()
            os.set_blocking(self.fd, True)
        except BaseException:
            os.close(self.fd)
            raise

    @classmethod
    def create(cls, path: Path | str) -> Self:
        """Make a new, empty file; raises `ConfigError` if it is there already, and `DiskError`."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            raise ConfigError(f"{path} exists already") from None
        except OSError as error:
            raise disk_error(path, "create", error) from None
        return cls(path)

    def _lock(self) -> None:
        try:
            lock(self.fd, self.read_only)
        except InUse:
            what = "written" if self.read_only else "used"
            raise DiskError(
                f"{self.path} is in use: it is being {what} by another machine or program", errno.EBUSY
            ) from None
        except OSError as error:
            raise disk_error(self.path, "lock", error) from None

    @property
    def size(self) -> int:
        """Bytes, now."""
        try:
            # also right for block devices, whose st_size is 0
            return os.lseek(self.fd, 0, os.SEEK_END)
        except OSError as error:
            raise disk_error(self.path, "find the size of", error) from None

    @property
    def used(self) -> int:
        """Bytes that it takes on the host; a block device takes all of its own."""
        return self.size if self.is_block_device else os.fstat(self.fd).st_blocks * 512

    def sector_sizes(self) -> tuple[int, int]:
        """Logical and physical sector of a block device; 512 and the file system's block of a file."""
        if not self.is_block_device:
            block = os.fstat(self.fd).st_blksize
            return 512, block if block in (512, 1024, 2048, 4096) else 4096
        try:
            sizes = (fcntl.ioctl(self.fd, request, bytes(4)) for request in (_BLKSSZGET, _BLKPBSZGET))
            logical, physical = (struct.unpack("i", size)[0] for size in sizes)
        except OSError as error:
            raise disk_error(self.path, "find the sectors of", error) from None
        return logical, physical

    def read(self, offset: int, buffers: Buffers) -> None:
        """Fill `buffers` from `offset` on; raises `DiskError`, also where the file ends before."""
        try:
            if len(buffers) <= IOV_MAX:
                got = os.preadv(self.fd, buffers, offset)
                if got == total(buffers):
                    return
                buffers, offset = after(buffers, got), offset + got
            while buffers:
                got = os.preadv(self.fd, buffers[:IOV_MAX], offset)
                if not got:
                    raise CorruptDisk(f"{self.path} ends before offset {offset}", offset=offset)
                buffers, offset = after(buffers, got), offset + got
        except OSError as error:
            self._fail("read", error, offset)

    def write(self, offset: int, buffers: Sequence[memoryview | bytes | bytearray]) -> None:
        """Write all of `buffers` at `offset`; raises `DiskError`."""
        try:
            if len(buffers) <= IOV_MAX:
                done = os.pwritev(self.fd, buffers, offset)
                wanted = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
                if done == wanted:
                    return
            else:
                done = 0
            rest = after([memoryview(view) for view in buffers], done)
            offset += done
            while rest:
                done = os.pwritev(self.fd, rest[:IOV_MAX], offset)
                if not done:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                rest, offset = after(rest, done), offset + done
        except OSError as error:
            self._fail("write", error, offset)

    def try_read(self, offset: int, buffers: Buffers) -> bool:
        """`read` if the host has it all in memory; False if not. Raises `DiskError`."""
        try:
            return os.preadv(self.fd, buffers, offset, _RWF_NOWAIT) == total(buffers)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return False
            self._fail("read", error, offset)

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on. Raises `DiskError`; `CorruptDisk` where the file ends before."""
        data = b""
        try:
            data = os.pread(self.fd, length, offset)
            while len(data) < length:
                more = os.pread(self.fd, length - len(data), offset + len(data))
                if not more:
                    end = offset + len(data)
                    raise CorruptDisk(f"{self.path} ends before offset {offset + length}", offset=end)
                data += more
        except OSError as error:
            self._fail("read", error, offset)
        return data

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`; raises `DiskError`."""
        self.write(offset, (data,))

    def flush(self) -> None:
        """Make what was written durable, with the metadata that leads to it; raises `DiskError`."""
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            self._fail("flush", error)

    def punch(self, offset: int, length: int) -> bool:
        """Free a range, which then reads as zeros; False where the host cannot. Raises `DiskError`."""
        if length <= 0:
            return True
        mode = _FALLOC_PUNCH_HOLE | _FALLOC_KEEP_SIZE
        while _libc.fallocate(self.fd, mode, offset, length):
            number = ctypes.get_errno()
            if number in _UNSUPPORTED:
                return False
            if number != errno.EINTR:
                self._fail("free a part of", OSError(number, os.strerror(number)), offset)
        return True

    def zero(self, offset: int, length: int) -> None:
        """Make a range inside the file read as zeros: a hole where the host can, written where not."""
        if self.punch(offset, length):
            return
        zeros = memoryview(bytes(min(length, _COPY)))
        for position in range(offset, offset + length, _COPY):
            self.write(position, (zeros[: min(_COPY, offset + length - position)],))

    def allocate(self, offset: int, length: int) -> None:
        """Reserve host space for a range, extending the file to its end; raises `DiskError`."""
        if length <= 0:
            return
        try:
            os.posix_fallocate(self.fd, offset, length)
        except OSError as error:
            self._fail("reserve space for", error, offset)

    def truncate(self, size: int) -> None:
        """Make the file `size` bytes long; raises `DiskError`."""
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            self._fail("resize", error)

    def extent(self, offset: int, length: int) -> tuple[bool, int]:
        """Whether the host stores data at `offset`, and for how many bytes (at most `length`) that is so."""
        try:
            data = os.lseek(self.fd, offset, os.SEEK_DATA)
            if data > offset:
                return False, min(length, data - offset)
            return True, min(length, os.lseek(self.fd, offset, os.SEEK_HOLE) - offset)
        except OSError as error:
            # no data up to the end, or a host that does not tell
            return error.errno != errno.ENXIO, length

    def close(self) -> None:
        """Let go of the file and its lock; closing again is nothing."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def _fail(self, doing: str, error: OSError, offset: int | None = None) -> NoReturn:
        raise disk_error(self.path, doing, error, offset) from None


def sync_directory(directory: Path) -> None:
    """Make names in `directory` durable, where the host can."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def written_beside(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A free name beside `path`, to make a file at; it gets the name `path` when the block ends well, and is
    removed when it does not. Raises `ConfigError` if `path` is there and is not to be overwritten.
    """
    refuse = ConfigError(f"{path} exists already")
    if not overwrite and os.path.lexists(path):
        raise refuse
    if not path.parent.is_dir():
        raise HostError(f"cannot create {path}: {path.parent} is not a directory")
    if overwrite and path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file: only files are overwritten")
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield beside
        try:
            if overwrite:
                beside.replace(path)
            else:
                _take_name(beside, path)
        except FileExistsError:
            raise refuse from None
        except OSError as error:
            raise disk_error(path, "create", error) from None
        sync_directory(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _take_name(beside: Path, path: Path) -> None:
    """Rename without overwriting what has come there meanwhile."""
    try:
        os.link(beside, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, *_UNSUPPORTED):
            raise
        if os.path.lexists(path):
            raise FileExistsError from None
        beside.replace(path)


def first_parent(child: Path, tried: Sequence[Path]) -> Path:
    """The first place where the parent of a differencing disk may be and a file is; raises `DiskError` that
    says where it was looked for."""
    for path in tried:
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):
            continue
    where = ", ".join(map(str, tried)) or "nowhere: it names none"
    raise DiskError(f"{child} needs its parent disk, which was not found; looked for: {where}")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[HostFile]:
    """A file that was not there, to be made a disk; nothing is left of it when that fails."""
    file = HostFile.create(path)
    try:
        yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        file.close()

"""Guest RAM: one mapping of host memory, laid out in the guest's physical address space.

RAM below 3 GiB is at its own address; what does not fit there continues at 4 GiB, so that the last
GiB below 4 GiB is free for devices. All addresses from a guest are checked here, once.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import GuestError, HostError
from ringminus.wire import ReadableBuffer

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = PAGE_SIZE - 1
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAP_NORESERVE = 0x4000  # Linux; in the mmap module only from Python 3.13 on
LOW_RAM_END = 3 * GIB
HIGH_RAM_BASE = 4 * GIB

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class BadGuestAddress(GuestError):
    """A guest-physical range that is not all RAM."""

    def __init__(self, gpa: int, length: int) -> None:
        super().__init__(f"guest-physical {gpa:#x}+{length:#x} is not RAM")
        self.gpa = gpa
        self.length = length


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of RAM: `gpa` and `size` in bytes, `offset` into the host mapping."""

    gpa: int
    size: int
    offset: int


def _available_bytes() -> int | None:
    """What the host can still give, in bytes, swap included; None where /proc does not tell."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            facts = {k: int(v.split()[0]) * KIB for k, v in (line.split(":", 1) for line in lines)}
    except (OSError, ValueError, IndexError):
        return None
    if "MemAvailable" not in facts:
        return None
    return facts["MemAvailable"] + facts.get("SwapFree", 0)


class GuestMemory:
    """A guest's RAM of `size` bytes (a multiple of 4 KiB).

    `code_pages` has one byte per page of the mapping, set by an engine that caches translations of that
    page; a write from our side to such a page calls `invalidate(gpa, length)` so that the engine
    forgets them.
    """

    def __init__(self, size: int) -> None:
        if size <= 0 or size & PAGE_MASK:
            raise ValueError(f"RAM size {size:#x} is not a multiple of 4 KiB")
        available = _available_bytes()
        if available is not None and size > available:
            free = available // MIB
            raise HostError(
                f"the guest wants {size // MIB} MiB and this host has {free} MiB free: ask for less"
            )
        self.size = size
        try:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
            self._mapping = mmap.mmap(-1, size, flags=flags)
            self._mapping.madvise(mmap.MADV_HUGEPAGE)
        except (OSError, ValueError) as error:
            raise HostError(f"cannot map {size // MIB} MiB of guest memory: {error}") from error
        self._bytes = memoryview(self._mapping)
        self._low_size = min(size, LOW_RAM_END)
        low = Region(0, self._low_size, 0)
        high = Region(HIGH_RAM_BASE, size - self._low_size, self._low_size)
        self.regions: tuple[Region, ...] = (low, high) if high.size else (low,)
        self.host_address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        self.code_pages: bytearray | None = None
        self.invalidate: Callable[[int, int], None] | None = None

    def offset(self, gpa: int, length: int) -> int:
        """Offset into the mapping of `length` bytes at `gpa`; raises `BadGuestAddress`."""
        if length >= 0:
            if gpa >= 0 and gpa + length <= self._low_size:
                return gpa
            if gpa >= HIGH_RAM_BASE:
                offset = gpa - HIGH_RAM_BASE + self._low_size
                if offset + length <= self.size:
                    return offset
        raise BadGuestAddress(gpa, length)

    def is_ram(self, gpa: int, length: int = 1) -> bool:
        """Whether all of the range is RAM."""
        try:
            self.offset(gpa, length)
        except BadGuestAddress:
            return False
        return True

    def read(self, gpa: int, length: int) -> bytes:
        """A copy of `length` bytes."""
        offset = self.offset(gpa, length)
        return self._mapping[offset : offset + length]

    def view(self, gpa: int, length: int) -> memoryview:
        """A window on guest RAM, without a copy. Who writes through it must call `written` after."""
        offset = self.offset(gpa, length)
        return self._bytes[offset : offset + length]

    def write(self, gpa: int, data: ReadableBuffer) -> None:
        """Copy `data` to `gpa`."""
        length = len(data)
        offset = self.offset(gpa, length)
        self._bytes[offset : offset + length] = data
        if self.code_pages is not None:
            self.written(gpa, length)

    def written(self, gpa: int, length: int) -> None:
        """Tell that our side changed `length` bytes at `gpa` through a view."""
        code = self.code_pages
        if code is None or length == 0 or self.invalidate is None:
            return
        offset = self.offset(gpa, length)
        first, end = offset >> PAGE_SHIFT, ((offset + length - 1) >> PAGE_SHIFT) + 1
        if code.find(1, first, end) >= 0:
            self.invalidate(gpa, length)

    def read_u32(self, gpa: int) -> int:
        value: int = _U32.unpack_from(self._bytes, self.offset(gpa, 4))[0]
        return value

    def read_u64(self, gpa: int) -> int:
        value: int = _U64.unpack_from(self._bytes, self.offset(gpa, 8))[0]
        return value

    def write_u32(self, gpa: int, value: int) -> None:
        self.write(gpa, _U32.pack(value))

    def write_u64(self, gpa: int, value: int) -> None:
        self.write(gpa, _U64.pack(value))

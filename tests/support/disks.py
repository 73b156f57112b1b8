"""Working on disks at random, and knowing afterwards what may be in them."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

from ringminus.disks.disk import Disk
from ringminus.disks.files import HostFile

KIB, MIB = 1 << 10, 1 << 20
SECTOR = 512
KILLS = int(os.environ.get("RINGMINUS_KILLS", "24"))
"""How often the kill tests kill."""


def get(disk: Disk, offset: int, length: int) -> bytes:
    """Bytes of a disk."""
    data = bytearray(length)
    disk.read(offset, [memoryview(data)])
    return bytes(data)


def put(disk: Disk, offset: int, data: bytes) -> None:
    """Write bytes to a disk."""
    disk.write(offset, [memoryview(data)])


def everything(disk: Disk) -> bytes:
    """All bytes of a small disk."""
    return get(disk, 0, disk.size)


def qemu_img(*arguments: str | Path) -> str:
    """Run qemu-img; its standard output."""
    done = subprocess.run(["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_qemu_reads(path: Path, format: str) -> bytes:
    """All bytes of a disk as QEMU sees them."""
    raw = path.with_name(path.name + ".as-qemu-reads")
    qemu_img("convert", "-f", format, "-O", "raw", path, raw)
    data = raw.read_bytes()
    raw.unlink()
    return data


def by_qemu(path: Path, format: str, data: bytes, *options: str) -> Path:
    """A disk with these bytes, written by QEMU."""
    raw = path.with_name(path.name + ".raw-for-qemu")
    raw.write_bytes(data)
    qemu_img("convert", "-f", "raw", "-O", format, *options, raw, path)
    raw.unlink()
    return path


def sparse_bytes(size: int, seed: int = 1, pieces: int = 20) -> bytes:
    """Zeros with some random pieces in them."""
    source, data = random.Random(seed), bytearray(size)
    for _ in range(pieces):
        offset = source.randrange(size // SECTOR) * SECTOR
        piece = source.randbytes(source.choice([SECTOR, 4 * KIB, 100 * KIB]))
        data[offset : offset + len(piece)] = piece[: size - offset]
    return bytes(data)


@dataclass(frozen=True, slots=True)
class Operation:
    """`kind` is write, unmap, zero or flush; `stamp` is what a write writes into every sector."""

    kind: str
    offset: int = 0
    length: int = 0
    stamp: int = 0

    def sectors(self) -> range:
        return range(self.offset // SECTOR, (self.offset + self.length) // SECTOR)

    def data(self) -> bytes:
        return b"".join(content(self.stamp, sector) for sector in self.sectors())

    def run(self, disk: Disk) -> None:
        """Do it."""
        if self.kind == "write":
            put(disk, self.offset, self.data())
        elif self.kind == "unmap":
            disk.unmap(self.offset, self.length)
        elif self.kind == "zero":
            disk.write_zeros(self.offset, self.length)
        else:
            disk.flush()


def content(stamp: int, sector: int) -> bytes:
    """What write number `stamp` leaves in a sector: not zeros, and different in every sector."""
    return struct.pack("<QQ", stamp, sector + 1) * (SECTOR // 16)


def operations(seed: int, size: int, block: int) -> Iterator[Operation]:
    """Endless work on a disk: small and large writes, whole blocks forgotten, flushes."""
    source = random.Random(seed)
    for stamp in range(1, 1 << 62):
        kind = source.choices(["write", "unmap", "zero", "flush"], [80, 5, 5, 10])[0]
        if kind == "flush":
            yield Operation(kind)
        elif kind == "write" or source.random() < 0.3:
            length = source.choice([SECTOR, 4 * KIB, 16 * KIB, block, 2 * block])
            offset = source.randrange(size // SECTOR) * SECTOR
            yield Operation(kind, offset, min(length, size - offset), stamp)
        else:
            offset = source.randrange(size // block) * block
            yield Operation(kind, offset, min(source.choice([1, 3]) * block, size - offset), stamp)


class History:
    """What each sector may hold after a crash: what was there at the last flush, or anything done since."""

    ZERO = bytes(SECTOR)

    def __init__(self, before: bytes) -> None:
        split = (before[at : at + SECTOR] for at in range(0, len(before), SECTOR))
        self._durable = [{sector} for sector in split]
        self._since: dict[int, list[set[bytes]]] = {}

    def note(self, operation: Operation) -> None:
        """That this has been begun; a flush is only noted when it has ended."""
        if operation.kind == "flush":
            for sector, states in self._since.items():
                self._durable[sector] = states[-1]
            self._since = {}
            return
        for sector in operation.sectors():
            states = self._since.setdefault(sector, [])
            last = states[-1] if states else self._durable[sector]
            if operation.kind == "write":
                states.append({content(operation.stamp, sector)})
            else:
                states.append({self.ZERO} | (last if operation.kind == "unmap" else set()))

    def settle(self, now: bytes) -> None:
        """Check all sectors as after a crash, and go on from them."""
        for sector, durable in enumerate(self._durable):
            found = now[sector * SECTOR : (sector + 1) * SECTOR]
            admitted = durable.union(*self._since.get(sector, []))
            assert found in admitted, (
                f"sector {sector}: {found[:16].hex()} is none of {len(admitted)} admitted"
            )
            self._durable[sector] = {found}
        self._since = {}


def work_and_compare(disk: Disk, seed: int, steps: int, block: int) -> bytes:
    """Random work without crashes; every byte must be what the last write left. Returns all bytes."""
    history, work = History(everything(disk)), operations(seed, disk.size, block)
    for _ in range(steps):
        operation = next(work)
        operation.run(disk)
        history.note(operation)
    history.note(Operation("flush"))
    now = everything(disk)
    history.settle(now)
    return now


def _victim(path: Path, seed: int, block: int, open_it: Callable[[Path], Disk], counters: mmap) -> None:
    disk = open_it(path)
    for number, operation in enumerate(operations(seed, disk.size, block), 1):
        counters[:8] = struct.pack("<Q", number)  # begun
        operation.run(disk)
        if operation.kind == "flush":
            counters[8:] = struct.pack("<Q", number)  # durable


def kill_while_writing(
    path: Path, seed: int, block: int, open_it: Callable[[Path], Disk], history: History
) -> None:
    """A child works on the disk until it is killed at a random moment; `history` is told what it did."""
    counters = mmap(-1, 16)
    child = os.fork()
    if not child:
        try:
            _victim(path, seed, block, open_it, counters)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 30
    while not counters[0] and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(random.Random(seed).random() * 0.03)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), "the child ended by itself"
    begun, durable = struct.unpack("<QQ", counters[:])
    assert begun, "the child did nothing"
    work = operations(seed, len(history._durable) * SECTOR, block)
    for number in range(1, begun + 1):
        operation = next(work)
        if operation.kind != "flush" or number <= durable:
            history.note(operation)


class PowerLoss(BaseException):
    """The host stops here."""


class PowerlessFile(HostFile):
    """A file whose host loses power at its `calls_left`th change or flush, by raising `PowerLoss`.

    Then any sector that was written since the last flush may be lost; `after` is the file as it is found.
    """

    __slots__ = ("after", "calls_left", "durable", "pending", "source")

    def __init__(self, path: Path | str, calls_left: int, source: random.Random) -> None:
        super().__init__(path)
        self.durable = bytearray(Path(path).read_bytes())
        self.pending: list[tuple[int, bytes]] = []
        self.calls_left = calls_left
        self.source = source
        self.after = b""

    def write(self, offset: int, buffers: Sequence[memoryview | bytes | bytearray]) -> None:
        data = b"".join(buffers)
        super().write(offset, [data])
        self._remember(offset, data)

    def punch(self, offset: int, length: int) -> bool:
        done = super().punch(offset, length)
        self._remember(offset, bytes(length))
        return done

    def flush(self) -> None:
        super().flush()
        self._count()
        self._apply(self.durable, self.pending)
        self.pending.clear()

    def _remember(self, offset: int, data: bytes) -> None:
        pieces = [(offset + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]
        self.pending += pieces
        self._count()

    def _count(self) -> None:
        self.calls_left -= 1
        if self.calls_left == 0:
            image, chance = bytearray(self.durable), self.source.random()
            self._apply(image, [write for write in self.pending if self.source.random() < chance])
            self.after = bytes(image)
            raise PowerLoss

    @staticmethod
    def _apply(image: bytearray, writes: list[tuple[int, bytes]]) -> None:
        for offset, data in writes:
            if len(image) < offset:
                image.extend(bytes(offset - len(image)))
            image[offset : offset + len(data)] = data

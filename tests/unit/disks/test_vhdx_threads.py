"""Several threads use one VHDX: nobody sees another block's data, and nothing is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ringminus.disks.disk import DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx import Vhdx, open_vhdx
from ringminus.disks.vhdx.wire import BlockState
from support.disks import MIB, content, everything, get, put
from support.vhdx import BLOCK, make

SECTOR = 512


def together(*works: Callable[[], None]) -> None:
    """Run all at once; raises what any of them raises."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "differencing"])
def test_each_thread_finds_what_it_wrote(tmp_path: Path, kind: str) -> None:
    """Their sectors alternate, so all threads are in all blocks."""
    count = 4
    with make(tmp_path / "disk.vhdx", kind, size=4 * MIB) as disk:

        def work(number: int) -> None:
            source, mine = random.Random(number), dict[int, bytes]()
            for stamp in range(150):
                sector = source.randrange(disk.size // SECTOR // count) * count + number
                action = source.random()
                if action < 0.6:
                    data = content(stamp * count + number + 1, sector)
                    if not disk.try_write(sector * SECTOR, [memoryview(data)]):
                        put(disk, sector * SECTOR, data)
                    mine[sector] = data
                elif action < 0.63:
                    disk.flush()
                elif sector in mine:
                    read = [memoryview(bytearray(SECTOR))]
                    if not disk.try_read(sector * SECTOR, read):
                        disk.read(sector * SECTOR, read)
                    assert read[0] == mine[sector]
            for sector, data in mine.items():
                assert get(disk, sector * SECTOR, SECTOR) == data

        together(*((lambda n=n: work(n)) for n in range(count)))
        before = everything(disk)
    with open_vhdx(tmp_path / "disk.vhdx") as disk:
        assert everything(disk) == before


def test_blocks_come_and_go_under_readers_and_writers(tmp_path: Path) -> None:
    """Every sector says whose it is; a reader may find zeros, but never another sector's data."""
    blocks = 6
    with make(tmp_path / "disk.vhdx", size=blocks * BLOCK) as disk:
        stop = threading.Event()

        def check(data: bytes, sector: int) -> None:
            for at in range(0, len(data), SECTOR):
                found = data[at : at + SECTOR]
                assert found in (bytes(SECTOR), content(1, sector + at // SECTOR))

        def write(seed: int) -> None:
            source = random.Random(seed)
            while not stop.is_set():
                sector = source.randrange(blocks * BLOCK // SECTOR - 16)
                data = b"".join(content(1, sector + n) for n in range(16))
                if not disk.try_write(sector * SECTOR, [memoryview(data)]):
                    put(disk, sector * SECTOR, data)

        def read(seed: int) -> None:
            source = random.Random(seed)
            for _ in range(400):
                sector = source.randrange(blocks * BLOCK // SECTOR - 64)
                check(get(disk, sector * SECTOR, 64 * SECTOR), sector)

        def forget() -> None:
            source = random.Random(9)
            while not stop.is_set():
                block = source.randrange(blocks)
                (disk.unmap if source.random() < 0.5 else disk.write_zeros)(block * BLOCK, BLOCK)
                disk.flush()

        def read_and_stop() -> None:
            try:
                read(3)
            finally:
                stop.set()

        together(lambda: write(1), lambda: write(2), forget, read_and_stop)
        check(everything(disk), 0)
        used = disk.store.space.end - disk.store.space.free
        assert used <= (blocks + 5) * MIB


class SlowFile(HostFile):
    """A file whose writes and reads of data can be held up."""

    __slots__ = ("before_read", "before_write")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.before_write: Callable[[int], None] = lambda offset: None
        self.before_read: Callable[[int], None] = lambda offset: None

    def write(self, offset: int, buffers: object) -> None:
        self.before_write(offset)
        super().write(offset, buffers)  # type: ignore[arg-type]

    def read(self, offset: int, buffers: object) -> None:
        self.before_read(offset)
        super().read(offset, buffers)  # type: ignore[arg-type]


def slow(path: Path) -> tuple[Vhdx, SlowFile]:
    from ringminus.disks.vhdx.open import open_file

    with make(path) as disk:
        put(disk, 0, b"a" * BLOCK)
    file = SlowFile(path)
    return open_file(file), file


def test_a_place_is_not_reused_while_a_write_is_on_its_way_there(tmp_path: Path) -> None:
    disk, file = slow(tmp_path / "disk.vhdx")
    with disk:
        put(disk, BLOCK, b"b" * 512)
        place = disk.store.look_up(0)[1]
        held, go = threading.Event(), threading.Event()

        def hold(offset: int) -> None:
            if offset == place + 4096:
                held.set()
                assert go.wait(30)

        file.before_write = hold
        late = threading.Thread(target=put, args=(disk, 4096, b"late" * 128))
        late.start()
        assert held.wait(30)
        disk.unmap(0, BLOCK)
        disk.flush()
        put(disk, 2 * BLOCK, b"c" * BLOCK)
        assert disk.store.look_up(2)[1] != place
        go.set()
        late.join()
        assert get(disk, 2 * BLOCK, BLOCK) == b"c" * BLOCK
        disk.flush()
        put(disk, 3 * BLOCK, b"d" * 512)
        assert disk.store.look_up(3)[1] == place
        assert get(disk, 3 * BLOCK, BLOCK) == b"d" * 512 + bytes(BLOCK - 512)


def test_a_read_that_finds_its_place_reused_looks_again(tmp_path: Path) -> None:
    disk, file = slow(tmp_path / "disk.vhdx")
    with disk:
        place = disk.store.look_up(0)[1]

        def reuse(offset: int) -> None:
            file.before_read = lambda offset: None
            disk.unmap(0, BLOCK)
            disk.flush()
            put(disk, 3 * BLOCK, b"secret!!" * 64)
            assert disk.store.look_up(3)[1] == place

        file.before_read = reuse
        assert get(disk, 0, 512) == bytes(512)


def test_data_of_a_child_count_only_when_they_are_written(tmp_path: Path) -> None:
    """A flush in the middle of a write must not make the parent's data disappear."""
    from ringminus.disks.vhdx.open import open_file

    make(tmp_path / "disk.vhdx", "differencing").close()
    file = SlowFile(tmp_path / "disk.vhdx")
    with open_file(file) as disk:

        def flush(offset: int) -> None:
            file.before_write = lambda offset: None
            disk.flush()
            assert disk.store.look_up(0)[0] == BlockState.PARTIALLY_PRESENT
            assert get(disk, 0, 1024) == b"p" * 1024

        put(disk, 7 * BLOCK, b"x" * 512)
        file.before_write = flush
        put(disk, 0, b"x" * 512)
        assert get(disk, 0, 1024) == b"x" * 512 + b"p" * 512


def test_the_session_begins_once(tmp_path: Path) -> None:
    with make(tmp_path / "disk.vhdx") as disk:
        before = disk.store.image.headers.current.sequence_number
        together(*((lambda n=n: put(disk, n * BLOCK, b"x" * 512)) for n in range(8)))
        assert disk.store.image.headers.current.sequence_number == before + 1


def test_a_full_host_is_told_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path) as disk:
        put(disk, 0, b"x" * 512)

        def full(size: int) -> None:
            raise DiskError("cannot resize disk.vhdx: No space left on device", 28)

        monkeypatch.setattr(HostFile, "truncate", lambda self, size: full(size))
        with pytest.raises(DiskError, match="No space left"):
            put(disk, BLOCK, b"y" * 512)
        monkeypatch.undo()
        disk.flush()
        put(disk, 2 * BLOCK, b"z" * 512)
        disk.flush()
        disk.store.file.close()
    with open_vhdx(path) as disk:
        assert get(disk, 0, 512) + get(disk, BLOCK, 512) + get(disk, 2 * BLOCK, 512) == (
            b"x" * 512 + bytes(512) + b"z" * 512
        )


def test_after_a_failed_flush_nothing_is_promised_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.vhdx"
    disk = make(path)
    put(disk, 0, b"x" * 512)
    disk.flush()

    def fail() -> None:
        raise DiskError("cannot flush: Input/output error", 5)

    real = disk.store.journal._file
    monkeypatch.setattr(type(real), "flush", lambda self: fail())
    with pytest.raises(DiskError, match="Input/output"):
        disk.flush()
    monkeypatch.undo()
    for action in (disk.flush, lambda: put(disk, 0, b"y" * 512), lambda: put(disk, BLOCK, b"y" * 512)):
        with pytest.raises(DiskError, match="Input/output"):
            action()
    assert not disk.try_write(0, [memoryview(b"y" * 512)])
    assert get(disk, 0, 512) == b"x" * 512
    with pytest.raises(DiskError, match="Input/output"):
        disk.close()
    with open_vhdx(path) as disk:
        assert get(disk, 0, 512) == b"x" * 512

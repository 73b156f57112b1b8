"""The log of a VHDX: whoever opens the file next does what it says, and only what is whole in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.vhdx import open_vhdx
from ringminus.disks.vhdx.checksums import seal
from ringminus.disks.vhdx.header import NO_LOG, Headers, sealed
from ringminus.disks.vhdx.log import LogWriter, encode_entry, entry_length
from ringminus.disks.vhdx.replay import LogReader, replay
from ringminus.disks.vhdx.wire import (
    HEADER_OFFSETS,
    LOG_SECTOR_SIZE,
    BlockState,
    Header,
    LogEntryHeader,
    ZeroDescriptor,
)
from support.disks import MIB, as_qemu_reads, everything, get, put, qemu_img
from support.vhdx import BLOCK, abandoned, change, image_of, left_dirty_by_qemu, log_without_doing, make

PAGE = LOG_SECTOR_SIZE
LOG = MIB
GUID = b"g" * 16


def page(letter: bytes) -> bytes:
    return letter * PAGE


def spare_page(path: Path, number: int = 0) -> int:
    """Where changing a page of the file changes nothing that matters: behind the metadata items."""
    return image_of(path).regions.metadata.offset + 128 * 1024 + number * PAGE


def logged(path: Path) -> list[int]:
    """The sequence numbers of the entries that would be replayed."""
    file = HostFile(path, read_only=True, locked=False)
    try:
        entries = LogReader(file, Headers(file).current).active()
        return [entry.header.sequence_number for entry in entries]
    finally:
        file.close()


def with_log(path: Path, *entries: tuple[int, bytes | bytearray]) -> None:
    """Give a closed file a log with these entries at these positions, under `GUID`."""
    for position, entry in entries:
        change(path, LOG + position, bytes(entry))
    for offset in HEADER_OFFSETS:
        header = Header.unpack(path.read_bytes(), offset)
        header.log_guid = GUID
        change(path, offset, bytes(sealed(header)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed disk."""
    path = tmp_path / "disk.vhdx"
    make(path).close()
    return path


def entry(path: Path, sequence: int, tail: int = 0, number: int = 0) -> bytearray:
    """An entry that fills a spare page with its sequence number."""
    letter = bytes([sequence])
    return encode_entry([(spare_page(path, number), page(letter))], GUID, sequence, tail, path.stat().st_size)


def test_an_entry_is_replayed_and_the_log_is_empty_then(path: Path) -> None:
    at = spare_page(path)
    log_without_doing(path, [(at, page(b"1")), (at + PAGE, bytes(range(256)) * 16)])
    assert logged(path) == [1]
    with open_vhdx(path) as disk:
        assert disk.info()["log_entries_replayed"] == 1
    assert logged(path) == []
    assert path.read_bytes()[at : at + 2 * PAGE] == page(b"1") + bytes(range(256)) * 16


def test_qemu_replays_what_we_log(path: Path) -> None:
    with abandoned(path) as disk:
        put(disk, BLOCK, b"x" * BLOCK)
        disk.flush()
        disk.unmap(BLOCK, BLOCK)
        put(disk, 3 * BLOCK, b"y" * 512)
        disk.flush()
        put(disk, 0, b"lost" * 128)
    assert logged(path) == [1, 2]
    theirs = path.with_name("theirs.vhdx")
    shutil.copyfile(path, theirs)
    # as if we had been killed before the BAT was changed in place
    for file in (path, theirs):
        change(file, image_of(path).regions.bat.offset, bytes(PAGE))
    qemu_img("check", "-r", "all", theirs)
    assert logged(theirs) == []
    with open_vhdx(path) as disk:
        ours = everything(disk)
    assert as_qemu_reads(theirs, "vhdx") == ours
    assert ours[3 * BLOCK :][:1024] == b"y" * 512 + bytes(512)
    assert ours[: 2 * BLOCK] == bytes(2 * BLOCK)


@pytest.mark.parametrize("failing_write", range(1, 12))
def test_what_qemu_leaves_when_it_fails_in_the_middle(tmp_path: Path, failing_write: int) -> None:
    path = tmp_path / "disk.vhdx"
    left_dirty_by_qemu(path, failing_write)
    with open_vhdx(path, read_only=True) as disk:
        expected = everything(disk)
    entries = len(logged(path))
    assert entries == (failing_write in (8, 9))
    with open_vhdx(path) as disk:
        assert everything(disk) == expected
        if failing_write >= 8:
            assert expected == bytes(MIB) + b"\xa5" * 65536 + bytes(7 * MIB - 65536)
        put(disk, MIB, b"x" * 512)
    assert "No errors" in qemu_img("check", path)


def test_a_disk_that_must_not_be_written_is_read_as_if_replayed(path: Path) -> None:
    with abandoned(path) as disk:
        put(disk, BLOCK, b"x" * BLOCK)
        disk.flush()
    change(path, image_of(path).regions.bat.offset, bytes(PAGE))
    before = path.read_bytes()
    with open_vhdx(path, read_only=True) as disk:
        assert get(disk, BLOCK, BLOCK) == b"x" * BLOCK
    assert path.read_bytes() == before


def test_a_log_that_changes_contents_cannot_be_read_as_if_replayed(path: Path) -> None:
    with open_vhdx(path) as disk:
        put(disk, 0, b"x" * BLOCK)
        place = disk.store.look_up(0)[1]
    log_without_doing(path, [(place, page(b"l"))])
    with pytest.raises(DiskError, match="open it once for writing"):
        open_vhdx(path, read_only=True)
    with open_vhdx(path) as disk:
        assert get(disk, 0, 2 * PAGE) == page(b"l") + page(b"x")


def test_entries_count_from_the_tail_of_the_last_on(path: Path) -> None:
    size = entry_length(1)
    with_log(path, *((n * size, entry(path, n + 1, tail=size * min(n, 2), number=n)) for n in range(4)))
    assert logged(path) == [3, 4]
    open_vhdx(path).close()
    data = path.read_bytes()
    assert [data[spare_page(path, n)] for n in range(4)] == [0, 0, 3, 4]


def test_a_run_that_goes_round_the_end_of_the_log(path: Path) -> None:
    size, first = entry_length(1), MIB - entry_length(1) - PAGE
    beginning = entry(path, 7, tail=first)
    across = entry(path, 8, tail=first)
    after = entry(path, 9, tail=first)
    with_log(
        path,
        (first, beginning),
        (first + size, across[:PAGE]),
        (0, across[PAGE:]),
        (PAGE, after),
    )
    assert logged(path) == [7, 8, 9]
    open_vhdx(path).close()
    assert path.read_bytes()[spare_page(path)] == 9


def test_the_newer_of_two_runs_counts(path: Path) -> None:
    size = entry_length(1)
    old = [(n * size, entry(path, n + 1)) for n in range(3)]
    new = [(MIB // 2 + n * size, entry(path, n + 9, tail=MIB // 2)) for n in range(2)]
    with_log(path, *old, *new)
    assert logged(path) == [9, 10]


@pytest.mark.parametrize("damage", [0, 4, 12, 30, 63, 64, 100, PAGE, PAGE + 2000, 2 * PAGE - 1])
def test_an_entry_that_is_not_whole_is_as_if_it_were_not_there(path: Path, damage: int) -> None:
    size = entry_length(1)
    bad = entry(path, 2, number=1)
    bad[damage] ^= 1
    with_log(path, (0, entry(path, 1)), (size, bad), (2 * size, entry(path, 3, number=2)))
    # the third one follows nothing, and its tail is not in its own run
    assert logged(path) == [1]
    open_vhdx(path).close()
    data = path.read_bytes()
    assert [data[spare_page(path, n)] for n in range(3)] == [1, 0, 0]


def test_another_logs_entries_do_not_count(path: Path) -> None:
    other = encode_entry([(spare_page(path), page(b"o"))], b"o" * 16, 2, 0, path.stat().st_size)
    with_log(path, (0, entry(path, 1)), (entry_length(1), other))
    assert logged(path) == [1]


def test_a_named_log_without_entries_is_empty(path: Path) -> None:
    with_log(path)
    with open_vhdx(path) as disk:
        put(disk, 0, b"x" * 512)
    assert image_of(path).headers.log_guid == NO_LOG


def with_zeros(path: Path, offset: int, length: int) -> bytearray:
    """An entry that zeroes a range."""
    made = encode_entry([(offset, page(b"z"))], GUID, 1, 0, path.stat().st_size)[:PAGE]
    header = LogEntryHeader.unpack(made)
    header.entry_length = PAGE
    header.pack_into(made)
    zero = ZeroDescriptor(zero_length=length, file_offset=offset, sequence_number=1)
    zero.pack_into(made, LogEntryHeader.SIZE)
    seal(made)
    return made


def test_zeros_may_be_logged(path: Path) -> None:
    at = spare_page(path)
    change(path, at, page(b"o") * 3)
    with_log(path, (0, with_zeros(path, at + PAGE, PAGE)))
    with open_vhdx(path, read_only=True) as disk:
        source = disk.store.image.source
        assert source.read_at(at, 3 * PAGE) == page(b"o") + bytes(PAGE) + page(b"o")
    open_vhdx(path).close()
    assert path.read_bytes()[at : at + 3 * PAGE] == page(b"o") + bytes(PAGE) + page(b"o")


@pytest.mark.parametrize(
    ("offset", "length"), [(0, PAGE), (64 * 1024, PAGE), (MIB, 1 << 62), ((1 << 63) - PAGE, PAGE)]
)
def test_a_log_must_not_reach_outside(path: Path, offset: int, length: int) -> None:
    with_log(path, (0, with_zeros(path, offset, length)))
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(CorruptDisk, match="which it must not"):
            open_vhdx(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_file_that_was_cut_since_its_log_was_written(path: Path) -> None:
    made = encode_entry([(spare_page(path), page(b"c"))], GUID, 1, 0, path.stat().st_size + MIB)
    with_log(path, (0, made))
    with pytest.raises(CorruptDisk, match="was cut off"):
        open_vhdx(path)


def test_a_log_that_made_the_file_longer(path: Path) -> None:
    size = path.stat().st_size
    made = encode_entry([(spare_page(path), page(b"c"))], GUID, 1, 0, size)
    header = LogEntryHeader.unpack(made)
    header.last_file_offset = size + 3 * MIB
    header.pack_into(made)
    seal(made)
    with_log(path, (0, made))
    file = HostFile(path)
    assert replay(file, Headers(file).current) == 1
    assert file.size == size + 3 * MIB
    file.close()


def test_runs_alternate_between_the_halves_of_the_log(path: Path) -> None:
    file = HostFile(path)
    headers = Headers(file)
    at = spare_page(path)
    log, guids, positions = LogWriter(file, headers), list[bytes](), list[int]()
    for _ in range(70):
        log.append([(at, page(b"h")), (at + PAGE, page(b"i"))] * 3, file.size)
        guids.append(headers.log_guid)
        positions.append(LogReader(file, headers.current).active()[0].position)
    file.close()
    assert len(set(guids)) == 4
    assert [at for at, before in zip(positions, [-1, *positions], strict=False) if at != before] == [
        0,
        MIB // 2,
        0,
        MIB // 2,
    ]


def test_more_changes_than_fit_an_entry_are_all_made(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    with make(path, size=400 << 30) as disk:
        assert disk.store.geometry.block_size == BLOCK
        disk.store.begin()
        for number in range(300):
            with disk.store.lock:
                # so many at once that no single write could ask for
                disk.store.allocate(number * 1000)
        disk.flush()
        assert logged(path) == [1]  # the last of those that it took; they do not fit one run
    with open_vhdx(path, read_only=True) as disk:
        states = {disk.store.look_up(number * 1000)[0] for number in range(300)}
        assert states == {BlockState.FULLY_PRESENT}

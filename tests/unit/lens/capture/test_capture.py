"""What is written is read again: whole, cut anywhere, in rings of files, from pipes, after other tools."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.lens import record
from ringminus.lens.capture import section, section_reader
from ringminus.lens.capture.output import FileRing, Output, members, open_output
from ringminus.lens.capture.pcapng_wire import MOST_CAPTURED, MOST_IN_BLOCK, PacketHeader
from ringminus.lens.capture.reader import open_capture
from ringminus.lens.capture.writer import BATCH, CaptureWriter
from ringminus.lens.source import Source
from ringminus.tap import (
    EVENTS,
    ChannelState,
    DeviceMessage,
    Event,
    EventSignal,
    Interrupt,
    NetworkFrame,
    RingPacket,
    Tap,
)

CLASS, INSTANCE = UUID(int=0xC1A55), UUID(int=0x1257)
SIZE = 64 << 10


def channel(relid: int, opened: bool = True) -> ChannelState:
    return ChannelState(1, 0, relid, "SCSI", opened, CLASS, INSTANCE, 0, 0x10000 + relid, relid, 16384, 16384)


def packet(number: int, payload: bytes = bytes(64), relid: int = 3) -> RingPacket:
    return RingPacket(number, 0, relid, "SCSI", number % 2 == 0, 6, number, payload, (4096,), CLASS)


def frame(tci: int | None, data: bytes = bytes(range(60))) -> NetworkFrame:
    return NetworkFrame(1, 0, "NIC", False, data, tci, "MISSING", 1448)


def varied() -> list[Event]:
    return [
        channel(3),
        packet(1),
        EventSignal(2, 0, 2, 3, True),
        frame(None),
        frame(0x2005),
        frame(5, b"short"),
        DeviceMessage(3, 0, "NIC", "rndis", True, b"12345", 5000),
        Interrupt(4, 0, 0xF3, "sint2"),
    ]


def write(path: Path | str, events: Sequence[Event], **options: Any) -> CaptureWriter:
    tap = Tap()
    with CaptureWriter(tap, open_output(str(path), **options), partition="demo") as writer:
        for event in events:
            tap.tell(event)
    return writer


def numbers(events: list[Event]) -> list[int]:
    return [one.sequence for one in events]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path, events = tmp_path / "a.pcapng", varied()
    writer = write(path, events)
    assert (writer.written, writer.lost) == (len(events), 0)
    with open_capture(path) as source:
        assert isinstance(source, Source)
        assert source.partition == "demo"
        found = list(source)
    assert found == events and source.lost == 0
    assert numbers(found) == list(range(1, len(events) + 1))
    assert [one.host_ns for one in found] == [one.host_ns for one in events]


def test_a_file_that_is_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    path, events = tmp_path / "a.pcapng", varied()
    write(path, events)
    whole, cut, most = path.read_bytes(), tmp_path / "cut.pcapng", 0
    for size in range(1500, len(whole), 13):
        cut.write_bytes(whole[:size])
        found = list(open_capture(cut))
        assert found == events[: len(found)]
        assert len(found) >= most
        most = len(found)
    assert most == len(events)


def test_a_killed_writer_has_written_what_was_flushed(tmp_path: Path) -> None:
    tap, path = Tap(), tmp_path / "a.pcapng"
    writer = CaptureWriter(tap, open_output(str(path)))
    for event in (events := [packet(number) for number in range(10)]):
        tap.tell(event)
    assert list(open_capture(path)) == []
    writer.flush()
    tap.tell(packet(11))
    assert list(open_capture(path)) == events
    writer.close()


def test_events_are_written_without_a_flush_when_there_are_enough(tmp_path: Path) -> None:
    tap, path = Tap(), tmp_path / "a.pcapng"
    with CaptureWriter(tap, open_output(str(path))):
        for number in range(8 * BATCH):
            tap.tell(packet(number))
        assert len(list(open_capture(path))) > BATCH


def test_only_what_is_wanted_is_written_with_the_names_of_channels(tmp_path: Path) -> None:
    tap, path = Tap(), tmp_path / "a.pcapng"
    output = open_output(str(path))
    with CaptureWriter(tap, output, (RingPacket,), lambda event: event.time % 3 == 0):
        tap.tell(channel(3))
        assert tap.signals is None
        for number in range(10):
            tap.tell(packet(number))
    assert tap.packets is None
    assert [one.time for one in open_capture(path)] == [1, 0, 3, 6, 9]


def test_a_large_event_is_read_whole(tmp_path: Path) -> None:
    path, payload = tmp_path / "a.pcapng", random.Random(1).randbytes(3 * MOST_CAPTURED)
    events = [packet(1), packet(2, payload), packet(3)]
    write(path, events)
    assert list(open_capture(path)) == events
    cut = path.read_bytes()[: MOST_CAPTURED + 10_000]
    path.write_bytes(cut)
    assert list(open_capture(path)) == events[:1]


def test_an_event_that_is_too_large_for_any_file_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.pcapng"
    writer = write(path, [packet(1), packet(2, bytes(MOST_IN_BLOCK + MOST_CAPTURED)), packet(3)])
    source = open_capture(path)
    assert [one.time for one in source] == [1, 3]
    assert source.lost == writer.lost == 1
    assert "1 events are not in the capture" in caplog.text


# ------------------------------------------------------------ sizes and rings


def test_a_capture_ends_when_its_file_has_its_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.pcapng"
    events: list[Event] = [packet(number) for number in range(2000)]
    writer = write(path, events, size=SIZE)
    assert writer.ended and not writer.error and not writer.lost
    assert SIZE - 300 < path.stat().st_size <= SIZE
    found = list(open_capture(path))
    assert found == events[: len(found)] and len(found) == writer.written
    assert [one.message for one in caplog.records] == [
        f"the capture {path} has its size and ends, with {len(found)} events"
    ]


def test_a_ring_keeps_its_latest_files(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    events = [channel(3), channel(4), *(packet(number) for number in range(3000))]
    write(path, events, size=SIZE, files=3)
    files = members(path)
    assert len(files) == 3 and not path.exists()
    assert all(one.stat().st_size <= SIZE for one in files.values())
    found = list(open_capture(path))
    states, packets = found[:2], found[2:]
    assert [one.relid for one in states if isinstance(one, ChannelState)] == [3, 4]
    assert packets == events[-len(packets) :] and len(packets) > 500
    (last,) = list(files.values())[-1:]
    alone = list(open_capture(last))
    assert alone[:2] == states and alone[2:] == packets[-len(alone) + 2 :]


def test_a_ring_deletes_the_files_of_the_one_before_it_and_no_others(tmp_path: Path) -> None:
    path, other, theirs = (tmp_path / name for name in ("a.pcapng", "a_b_00001.pcapng", "a_00009.pcapng"))
    write(path, [packet(number) for number in range(3000)], size=SIZE, files=5)
    other.write_bytes(b"other")
    theirs.write_bytes(b"not of ringminus")
    write(path, [packet(1)], size=SIZE, files=5)
    assert sorted(tmp_path.iterdir()) == sorted((tmp_path / "a_00001.pcapng", other, theirs))


def test_a_file_without_room_for_one_event_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = write(path, [packet(1), packet(2, bytes(2 * SIZE)), packet(3)], size=SIZE, files=2)
    assert [one.time for one in open_capture(path)] == [1, 3]
    assert writer.lost == 1


# ------------------------------------------------------------ full disks, pipes


class FullDisk:
    """Takes so many bytes."""

    name, room = "disk", 1 << 40

    def __init__(self, bytes_left: int, fail: OSError) -> None:
        self.left, self.fail, self.data = bytes_left, fail, b""

    def write(self, data: bytes, events: int) -> int:
        if len(data) > self.left:
            raise self.fail
        self.left -= len(data)
        self.data += data
        return 0

    def next(self, last: bytes, events: int) -> bool:
        return False

    def close(self) -> int:
        return 0


def test_a_full_disk_ends_the_capture_with_one_message(caplog: pytest.LogCaptureFixture) -> None:
    tap = Tap()
    writer = CaptureWriter(tap, FullDisk(20_000, OSError(28, "No space left on device")))
    for number in range(1000):
        tap.tell(packet(number))
        if number % 50 == 49:
            writer.flush()
    writer.close()
    assert writer.ended and tap.packets is None
    assert (writer.written, writer.lost) == (50, 50)
    assert [one.message for one in caplog.records] == [
        "the capture disk ends after 50 events, 50 are lost: No space left on device"
    ]


def test_what_a_full_disk_took_in_part_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    made: Output = open_output(str(path))
    made.write(b"whole", 1)
    with pytest.raises(OSError), pytest.MonkeyPatch.context() as patch:
        written = os.write

        def full(fd: int, data: bytes) -> int:
            if len(data) < 100:
                raise OSError(28, "No space left on device")
            return written(fd, data[:50])

        patch.setattr(os, "write", full)
        made.write(bytes(120), 1)
    made.close()
    assert path.read_bytes() == b"whole"


def piped(directory: Path) -> tuple[Path, int]:
    path = directory / "pipe"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def test_a_pipe_without_a_reader_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(HostError, match="start the reader first"):
        open_output(str(path))


def test_a_pipes_reader_gets_everything(tmp_path: Path) -> None:
    path, reader = piped(tmp_path)
    tap, events = Tap(), varied()
    writer = CaptureWriter(tap, open_output(str(path)))
    found: list[Event] = []
    source = open_capture(path)  # while there is a writer
    thread = threading.Thread(target=lambda: found.extend(source), daemon=True)
    thread.start()
    for event in events:
        tap.tell(event)
        writer.flush()
    writer.close()
    thread.join(10)
    os.close(reader)
    assert found == events


def test_a_slow_reader_of_a_pipe_loses_events_and_not_the_guests_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ringminus.lens.capture.output.QUEUE_BYTES", 1 << 20)
    monkeypatch.setattr("ringminus.lens.capture.output._MOMENT", 0.01)
    path, reader = piped(tmp_path)
    tap = Tap()
    writer = CaptureWriter(tap, open_output(str(path)))
    for number in range(40):
        tap.tell(packet(number, bytes(100_000)))
        writer.flush()
    writer.close()
    os.close(reader)
    assert writer.written + writer.lost == 40 and writer.lost > 10
    assert "its reader was too slow" in caplog.text


def test_a_reader_that_goes_ends_the_capture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, reader = piped(tmp_path)
    tap = Tap()
    writer = CaptureWriter(tap, open_output(str(path)))
    os.close(reader)
    tap.tell(packet(1))
    writer.flush()
    assert writer.ended and "its reader went" in caplog.text
    writer.close()


def test_sizes_and_rings_are_of_files(tmp_path: Path) -> None:
    path, reader = piped(tmp_path)
    with pytest.raises(ConfigError, match="leave out size="):
        open_output(str(path), SIZE)
    with pytest.raises(ConfigError, match="leave it out"):
        open_output(str(path), SIZE, 2)
    os.close(reader)
    with pytest.raises(HostError, match="No such file"):
        open_output(str(tmp_path / "no" / "a.pcapng"))


# ------------------------------------------------------------ following


def test_a_file_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    tap = Tap()
    writer = CaptureWriter(tap, open_output(str(path), 2 * SIZE, 3))
    found: list[Event] = []
    source = open_capture(path, follow=True)
    thread = threading.Thread(target=lambda: found.extend(source), daemon=True)
    thread.start()
    for number in range(600):
        tap.tell(packet(number))
        if number % 100 == 0:
            writer.flush()
    assert thread.is_alive()
    writer.close()
    thread.join(10)
    assert not thread.is_alive() and [one.time for one in found] == list(range(600))


def test_following_ends_by_close(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = CaptureWriter(Tap(), open_output(str(path)))
    source = open_capture(path, follow=True)
    thread = threading.Thread(target=lambda: list(source), daemon=True)
    thread.start()
    source.close()
    thread.join(10)
    assert not thread.is_alive()
    writer.close()


# ------------------------------------------------------------ other versions, other tools, other files


def test_a_file_of_an_older_version_is_read_by_its_own_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.pcapng"
    old = [(name, [one for one in names if one != "source"]) for name, names in record.SCHEMA]
    number = [name for name, _ in old].index("interrupt")
    with monkeypatch.context() as patch:
        encoded = msgspec.msgpack.encode(old)
        patch.setattr(record, "schema", lambda: encoded)
        patch.setattr(section, "SCHEMA_CRC", zlib.crc32(encoded))
        values = [5, 0, *([9] * (len(old[number][1]) - 2))]
        values[old[number][1].index("changed")] = ""  # type: ignore[call-overload]
        data = PacketHeader(schema=zlib.crc32(encoded)).pack() + bytes((number,))
        data += msgspec.msgpack.encode(values)
        recipe = section._RECIPES[Interrupt]._replace(encode=(lambda _: data,) * 3)
        patch.setitem(section._RECIPES, Interrupt, recipe)
        write(path, [Interrupt(5, 0, 9, "x")])
    (found,) = open_capture(path)
    assert found == Interrupt(5, 0, 9, "")


def test_an_event_of_tomorrow_is_counted_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.pcapng"
    write(path, [packet(1), Interrupt(5, 0, 9, "x"), packet(2)])
    monkeypatch.setattr(record, "EVENTS", tuple(one for one in EVENTS if one is not Interrupt))
    monkeypatch.setattr(section_reader, "SCHEMA_CRC", 0)
    source = open_capture(path)
    assert [type(one) for one in source] == [RingPacket, RingPacket] and source.lost == 1


@pytest.fixture
def rewritten(tmp_path: Path) -> Iterator[Path]:
    """A capture that tshark has read and written again, frames and all."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("no tshark here: apt-get install tshark")
    path, other = tmp_path / "a.pcapng", tmp_path / "b.pcapng"
    write(path, varied())
    made = subprocess.run([tshark, "-r", path, "-w", other], capture_output=True, check=False, timeout=60)
    assert made.returncode == 0, made.stderr
    yield other


def test_a_file_that_wireshark_has_written_again_is_read(rewritten: Path) -> None:
    found = list(open_capture(rewritten))
    assert numbers(found) == list(range(1, 9))
    events = varied()
    for one, event in zip(found, events, strict=True):
        if not isinstance(event, NetworkFrame):
            assert one == event
        else:
            assert isinstance(one, NetworkFrame) and one.adapter == "NIC" and not one.to_guest


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    for content, problem in (
        (b"", "it is empty"),
        (b"\xd4\xc3\xb2\xa1" + bytes(40), "it is not pcapng"),
        (b"text of somebody's, and not a short one", "it is not pcapng"),
    ):
        path.write_bytes(content)
        with pytest.raises(HostError, match=problem):
            open_capture(path)
    with pytest.raises(HostError, match="No such file"):
        open_capture(tmp_path / "none.pcapng")
    with pytest.raises(HostError, match="Is a directory"):
        open_capture(tmp_path)


def test_a_capture_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    write(path, [frame(None)])
    data = path.read_bytes().replace((160).to_bytes(2, "little") + b"\0\0\0\0\4", b"\x02\0\0\0\0\0\4")
    path.write_bytes(data)
    with pytest.raises(HostError, match="of something else than ringminus"):
        list(open_capture(path))


def test_a_ring_is_named_by_what_it_was_given(tmp_path: Path) -> None:
    ring = FileRing(tmp_path / "a[1].pcapng", SIZE, 2)
    ring.close()
    assert list(members(tmp_path / "a[1].pcapng").values()) == [tmp_path / "a[1]_00001.pcapng"]

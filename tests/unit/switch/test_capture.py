"""A capture that grows: what Wireshark reads of it, and how it ends."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import pty
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.switch import capture_output
from ringminus.switch.capture import CaptureFile
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.pcap_wire import MAGIC_NANOSECONDS, PcapHeader, PcapRecord
from ringminus.switch.reactor import Reactor
from support.packets import ACK, PSH, TCP, UDP, Packet

F_SETPIPE_SZ = 1031
SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND + 123_456_789
SMALL = Packet(4, UDP, b"small")


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> int:
        return self.time


def records(data: bytes) -> list[tuple[PcapRecord, bytes]]:
    """All of a capture, which must be whole."""
    header = PcapHeader.unpack(data)
    assert (header.magic, header.version_major, header.version_minor) == (MAGIC_NANOSECONDS, 2, 4)
    assert (header.snaplen, header.linktype) == (262_144, 1)
    at, found = PcapHeader.SIZE, []
    while at < len(data):
        record = PcapRecord.unpack(data, at)
        at += PcapRecord.SIZE
        assert at + record.captured_length <= len(data), "a record that is not whole"
        found.append((record, data[at : at + record.captured_length]))
        at += record.captured_length
    return found


def frames(data: bytes) -> list[bytes]:
    return [frame for _, frame in records(data)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.pcap"


def small(number: int = 0) -> Frame:
    return Frame(Packet(4, UDP, b"%04d" % number).right)


# ------------------------------------------------------------ what is written


def test_a_file_is_one_from_the_first_moment(path: Path) -> None:
    CaptureFile(path)
    assert records(path.read_bytes()) == []


def test_records_appear_when_the_switch_has_no_more(path: Path) -> None:
    capture = CaptureFile(path, now=Clock())
    capture.deliver(small(1))
    capture.deliver(small(2))
    assert frames(path.read_bytes()) == []
    capture.flush()
    (first, data), (_, other) = records(path.read_bytes())
    assert (data, other) == (small(1).data, small(2).data)
    assert (first.seconds, first.nanoseconds) == (1_800_000_000, 123_456_789)
    assert first.captured_length == first.original_length == len(data)
    assert capture.captured == 2


def test_records_appear_after_a_second_while_more_come(path: Path) -> None:
    clock = Clock()
    capture = CaptureFile(path, now=clock)
    for number in range(4):
        capture.deliver(small(number))
        clock.time += SECOND // 4
    assert frames(path.read_bytes()) == []
    capture.deliver(small(4))
    assert len(frames(path.read_bytes())) == 5


def test_records_appear_when_they_are_many(path: Path) -> None:
    capture = CaptureFile(path, now=Clock())
    for _ in range(5):
        capture.deliver(Frame(bytes(60_000)))
    assert len(frames(path.read_bytes())) == 5


def test_what_was_left_undone_is_done(path: Path) -> None:
    """The frame itself stays as it is, for those who are given it too."""
    capture = CaptureFile(path)
    packet = Packet(6, TCP, b"x" * 40_000)
    frame = Frame(packet.data, 0x2005, Checksum.MISSING, 1440)
    capture.deliver(frame)
    capture.close()
    (written,) = frames(path.read_bytes())
    assert written == packet.right[:12] + b"\x81\0\x20\x05" + packet.right[12:]
    assert (frame.data, frame.tci, frame.checksum) == (packet.data, 0x2005, Checksum.MISSING)


def test_an_older_file_is_written_anew(path: Path) -> None:
    path.write_bytes(bytes(10_000))
    CaptureFile(path).close()
    assert frames(path.read_bytes()) == []


def test_an_open_file_stays_open() -> None:
    file = io.BytesIO()
    capture = CaptureFile(file)
    capture.deliver(small())
    capture.close()
    assert frames(file.getvalue()) == [small().data]


# ------------------------------------------------------------ bounds


def test_it_ends_after_so_many_packets(path: Path) -> None:
    ended: list[int] = []
    capture = CaptureFile(path, packets=3, on_end=lambda: ended.append(len(path.read_bytes())))
    for number in range(5):
        capture.deliver(small(number))
    assert len(frames(path.read_bytes())) == 3
    assert ended == [path.stat().st_size]
    assert (capture.ended, capture.captured, capture.dropped, capture.error) == (True, 3, 0, "")
    capture.flush()
    capture.close()


@pytest.mark.parametrize("spare", [0, 1])
def test_it_ends_before_so_many_bytes(path: Path, spare: int) -> None:
    size = PcapRecord.SIZE + len(small())
    capture = CaptureFile(path, bytes=PcapHeader.SIZE + 3 * size + spare)
    for number in range(5):
        capture.deliver(small(number))
    assert len(frames(path.read_bytes())) == 3
    assert capture.ended


# ------------------------------------------------------------ errors


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Lets no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_capture_and_nothing_else(
    path: Path, small_disk: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The file ends with a whole record, each frame is counted, and it is said once."""
    ended: list[tuple[int, int]] = []
    capture = CaptureFile(path)
    capture.on_end = lambda: ended.append((capture.captured, capture.dropped))
    small_disk(1000)
    for number in range(20):
        capture.deliver(small(number))
        if number % 3 == 2:
            capture.flush()
    capture.close()
    small_disk(resource.RLIM_INFINITY)
    written = frames(path.read_bytes())
    assert written == [small(number).data for number in range(len(written))]
    assert len(written) == 15 == capture.captured
    assert capture.dropped == 5
    assert ended == [(15, 3)]
    assert capture.error == "File too large"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text and "File too large" in caplog.text


def test_a_device_that_is_full(caplog: pytest.LogCaptureFixture) -> None:
    capture = CaptureFile("/dev/full")
    assert capture.ended and capture.error == "No space left on device"
    capture.deliver(small())
    capture.close()
    assert capture.dropped == 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("name", "said"), [("missing/lab.pcap", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_written(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(HostError, match=f"cannot write the capture .*{said}"):
        CaptureFile(tmp_path / name)


def test_a_terminal_is_no_place_for_it() -> None:
    controller, terminal = pty.openpty()
    try:
        with pytest.raises(ConfigError, match="is a terminal"):
            CaptureFile(os.ttyname(terminal))
    finally:
        os.close(controller)
        os.close(terminal)


# ------------------------------------------------------------ pipes


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A named pipe of 4 KiB, and the end that reads."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, F_SETPIPE_SZ, 4096)
    yield path, reader
    os.close(reader)


def drain(reader: int, reactor: Reactor) -> bytes:
    found = b""
    while True:
        try:
            part = os.read(reader, 1 << 20)
        except BlockingIOError:
            part = b""
        if not part and not reactor.dispatch(0):
            return found
        found += part


def test_a_pipe_without_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HostError, match=r"start the reader first \(wireshark -k -i .*pipe\)"):
        CaptureFile(tmp_path / "pipe")


def test_a_slow_reader_gets_all_and_stops_nobody(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    reactor = Reactor()
    capture = CaptureFile(path, reactor=reactor)
    for number in range(1000):
        capture.deliver(small(number))
        capture.flush()
    assert (capture.captured, capture.dropped) == (1000, 0)
    assert frames(drain(reader, reactor)) == [small(number).data for number in range(1000)]
    capture.close()


def test_a_reader_that_is_too_slow_misses_whole_records(
    pipe: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reader = pipe
    reactor = Reactor()
    monkeypatch.setattr(capture_output, "QUEUE_BYTES", 20_000)
    capture = CaptureFile(path, reactor=reactor)
    for number in range(1000):
        capture.deliver(small(number))
        if number % 2:
            capture.flush()
    got = frames(drain(reader, reactor))
    assert got == [small(number).data for number in range(len(got))]
    assert len(got) == capture.captured and capture.captured + capture.dropped == 1000
    capture.deliver(small(7))
    capture.flush()
    assert drain(reader, reactor).endswith(small(7).data)
    capture.close()


def test_what_a_slow_reader_did_not_take_before_the_end_is_counted(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    reactor = Reactor()
    capture = CaptureFile(path, reactor=reactor)
    for number in range(1000):
        capture.deliver(small(number))
        capture.flush()
    capture.close()
    assert len(frames(drain(reader, reactor))) == capture.captured
    assert capture.captured + capture.dropped == 1000 and capture.dropped > 900


def test_a_bounded_capture_ends_when_its_reader_has_all(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    reactor, ended = Reactor(), []
    capture = CaptureFile(path, reactor=reactor, packets=500, on_end=lambda: ended.append(True))
    for number in range(600):
        capture.deliver(small(number))
    assert capture.ended and not ended
    assert len(frames(drain(reader, reactor))) == 500
    assert ended == [True]


@pytest.mark.parametrize("waiting", [False, True])
def test_a_reader_that_goes_ends_the_capture(
    tmp_path: Path, waiting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    reactor, ended = Reactor(), []
    capture = CaptureFile(path, reactor=reactor, on_end=lambda: ended.append(True))
    for number in range(2000 if waiting else 0):
        capture.deliver(small(number))
    capture.flush()
    os.close(reader)
    assert reactor.dispatch(1) == 1
    assert (ended, capture.ended, capture.error) == ([True], True, "")
    capture.deliver(small())
    capture.flush()
    capture.close()
    assert reactor.dispatch(0) == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_a_reactor_a_pipe_is_waited_for(tmp_path: Path) -> None:
    """As a command does that does nothing else."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with (tmp_path / "read").open("wb") as read:
        reader = subprocess.Popen(["cat", path], stdout=read)
    while True:
        try:
            capture = CaptureFile(path)
            break
        except HostError:
            time.sleep(0.01)
    for number in range(3000):
        capture.deliver(small(number))
    capture.close()
    assert reader.wait(10) == 0
    assert len(frames((tmp_path / "read").read_bytes())) == 3000


STANDARD_OUTPUT = """
import sys
from ringminus.switch.capture import CaptureFile
from ringminus.switch.frame import Frame
from ringminus.switch.reactor import Reactor
reactor = Reactor()
capture = CaptureFile("-", reactor=reactor if sys.argv[1] == "reactor" else None)
for _ in range(100):
    capture.deliver(Frame(bytes(60)))
capture.close()
"""


@pytest.mark.parametrize("where", ["file", "pipe"])
@pytest.mark.parametrize("way", ["reactor", "plain"])
def test_standard_output(tmp_path: Path, where: str, way: str) -> None:
    command = [sys.executable, "-c", STANDARD_OUTPUT, way]
    if where == "pipe":
        data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    else:
        with (tmp_path / "out").open("wb") as out:
            subprocess.run(command, stdout=out, check=True)
        data = (tmp_path / "out").read_bytes()
    assert len(frames(data)) == 100


# ------------------------------------------------------------ Wireshark


@pytest.mark.skipif(shutil.which("tshark") is None, reason="there is no tshark")
def test_wireshark_finds_nothing_wrong(path: Path) -> None:
    """While the capture is open."""
    capture = CaptureFile(path)
    sent = [
        Packet(version, protocol, b"x" * size, flags=ACK | PSH, options=options, sequence=1000 + size)
        for version in (4, 6)
        for protocol, options in ((TCP, bytes([1] * 12)), (UDP, b""))
        for size in (1, 1000, 1448)
    ] + [Packet(4, TCP, b"x" * 60_000), Packet(6, TCP, b"y" * 60_000)]
    for packet in sent:
        capture.deliver(Frame(packet.data, None, Checksum.MISSING, 1448 * (len(packet.payload) > 1448)))
        capture.deliver(Frame(packet.data, 0x6005, Checksum.MISSING))
    capture.flush()
    good = ("-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    fields = ("frame.len", "vlan.id", "tcp.checksum.status", "udp.checksum.status", "_ws.malformed")
    command = ["tshark", "-n", "-r", str(path), *good, "-T", "json"]
    for name in fields:
        command += ["-e", name]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert len(shown) == 2 * len(sent)
    for packet, untagged, tagged in zip(sent, shown[::2], shown[1::2], strict=True):
        for found, tag in ((untagged, 0), (tagged, 4)):
            layers = found["_source"]["layers"]
            kind = "tcp" if packet.protocol == TCP else "udp"
            assert layers[f"{kind}.checksum.status"] == ["1"]
            assert layers["frame.len"] == [str(len(packet.data) + tag)]
            assert layers.get("vlan.id") == (["5"] if tag else None)
            assert "_ws.malformed" not in layers
    capture.close()

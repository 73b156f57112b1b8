"""NBD: QEMU's formats through a server of our own, and servers of others by their URLs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringminus.disks.disk import DiskError
from ringminus.disks.nbd.connection import Connection
from ringminus.disks.nbd.url import Address, parse_url
from ringminus.disks.nbd.wire import (
    OPTION_REPLY_MAGIC,
    SIMPLE_REPLY_MAGIC,
    ClientFlags,
    Command,
    ExportInfo,
    HandshakeFlag,
    Number32,
    Option,
    OptionReply,
    OptionReplyType,
    OptionRequest,
    Request,
    ServerHello,
    SimpleReply,
    TransmissionFlag,
)
from ringminus.disks.open import open_disk
from ringminus.errors import ConfigError, HostError
from support.disks import MIB, as_qemu_reads, by_qemu, everything, get, put, sparse_bytes


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vdi"])
def test_qemus_formats_are_read_and_written(tmp_path: Path, format: str) -> None:
    data = sparse_bytes(8 * MIB)
    path = by_qemu(tmp_path / f"disk.{format}", format, data)
    with open_disk(path) as disk:
        assert (disk.format, disk.size, everything(disk)) == (format, 8 * MIB, data)
        put(disk, 3 * MIB, b"q" * MIB)
        disk.write_zeros(5 * MIB, MIB)
        disk.flush()
        assert get(disk, 3 * MIB, MIB) + get(disk, 5 * MIB, MIB) == b"q" * MIB + bytes(MIB)
    expected = data[: 3 * MIB] + b"q" * MIB + data[4 * MIB : 5 * MIB] + bytes(MIB) + data[6 * MIB :]
    assert as_qemu_reads(path, format) == expected


def test_what_holds_nothing_is_told(tmp_path: Path) -> None:
    data = bytes(4 * MIB) + b"x" * MIB + bytes(3 * MIB)
    with open_disk(by_qemu(tmp_path / "disk.qcow2", "qcow2", data), read_only=True) as disk:
        assert disk.allocated(0, 8 * MIB) == (False, 4 * MIB)
        assert disk.allocated(4 * MIB, 4 * MIB) == (True, MIB)
        assert not disk.can_unmap


def test_unmapping_gives_space_back(tmp_path: Path) -> None:
    path = by_qemu(tmp_path / "disk.qcow2", "qcow2", b"x" * 8 * MIB)
    with open_disk(path) as disk:
        disk.unmap(0, 7 * MIB)
        disk.flush()
        assert disk.info()["used"] < 3 * MIB
        assert get(disk, 7 * MIB, MIB) == b"x" * MIB


def test_several_threads_at_once(tmp_path: Path) -> None:
    with open_disk(by_qemu(tmp_path / "disk.qcow2", "qcow2", bytes(8 * MIB))) as disk:

        def work(number: int) -> None:
            for turn in range(20):
                put(disk, number * MIB + turn * 4096, bytes([number + 1]) * 4096)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert everything(disk) == b"".join(
            bytes([number + 1]) * 20 * 4096 + bytes(MIB - 20 * 4096) for number in range(8)
        )


def test_one_writer_only(tmp_path: Path) -> None:
    path = by_qemu(tmp_path / "disk.qcow2", "qcow2", bytes(MIB))
    with open_disk(path), pytest.raises(DiskError, match=r"disk\.qcow2 is in use"):
        open_disk(path)


def test_a_damaged_image_is_said_in_qemus_words(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"QFI\xfb\0\0\0\x03" + b"\xff" * 500)
    with pytest.raises(DiskError, match=r"disk\.qcow2: qemu-nbd ended with status 1: Unsupported cluster"):
        open_disk(path)


def test_without_qemu_nbd_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = by_qemu(tmp_path / "disk.qcow2", "qcow2", bytes(MIB))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="install Debian's package qemu-utils"):
        open_disk(path)


def _is_served(path: Path) -> bool:
    lines = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return any(line.startswith("qemu-nbd") and str(path) in line for line in lines.splitlines())


def test_a_server_ends_with_its_disk_and_with_a_killed_process(tmp_path: Path) -> None:
    path = by_qemu(tmp_path / "disk.qcow2", "qcow2", bytes(MIB))
    with open_disk(path):
        assert _is_served(path)
    assert not _is_served(path)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            with open_disk(path):
                os.write(writing, b"x")
                time.sleep(60)
        finally:
            os._exit(1)
    assert os.read(reading, 1) == b"x"
    assert _is_served(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 20
    while _is_served(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_served(path)
    os.close(reading)
    os.close(writing)


def test_resizing_is_qemus(tmp_path: Path) -> None:
    with open_disk(by_qemu(tmp_path / "disk.qcow2", "qcow2", bytes(MIB))) as disk:
        with pytest.raises(ConfigError, match="qemu-img resize"):
            disk.resize(2 * MIB)
        with pytest.raises(ValueError, match="not in a disk of"):
            get(disk, MIB, 512)


# other people's servers


@contextmanager
def served(path: Path, *options: str) -> Iterator[Path]:
    """A qemu-nbd that was started by somebody else; the path of its socket."""
    where = path.with_name("socket")
    server = subprocess.Popen(["qemu-nbd", "-f", "raw", "-t", "-k", str(where), *options, str(path)])
    try:
        deadline = time.monotonic() + 20
        while not where.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        yield where
    finally:
        server.kill()  # it would wait for its clients
        server.wait()


def test_a_servers_export_by_its_url(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(sparse_bytes(2 * MIB))
    with served(path, "-x", "root", "-e", "8") as where:
        url = f"nbd+unix:///root?socket={where}"
        with open_disk(url) as disk:
            assert (disk.format, everything(disk)) == ("nbd", sparse_bytes(2 * MIB))
            put(disk, 0, b"x" * 512)
            identity = disk.identity
        # as a path, which is how a command line may have taken it
        with open_disk(Path(url), read_only=True) as disk:
            assert get(disk, 0, 512) == b"x" * 512
            with pytest.raises(DiskError, match="read-only"):
                put(disk, 0, bytes(512))
        with open_disk(url) as disk:
            assert disk.identity == identity
        with pytest.raises(DiskError, match="export 'other' not present"):
            open_disk(f"nbd+unix:///other?socket={where}")


def test_a_server_that_serves_read_only(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(MIB))
    with served(path, "-r") as where:
        with pytest.raises(DiskError, match="served read-only"):
            open_disk(f"nbd+unix:///?socket={where}")
        open_disk(f"nbd+unix:///?socket={where}", read_only=True).close()


def test_a_server_that_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(MIB))
    with served(path) as where:
        disk = open_disk(f"nbd+unix:///?socket={where}")
    for _ in range(2):
        with pytest.raises(DiskError, match=r"closed the connection|Broken pipe|Connection reset|was lost"):
            get(disk, 0, 512)
    with pytest.raises(DiskError):
        disk.close()
    with pytest.raises(DiskError, match="cannot connect"):
        open_disk(f"nbd+unix:///?socket={where}")


def test_urls() -> None:
    assert parse_url("nbd://host:123/a%20b") == Address("host", 123, "", "a b")
    assert parse_url("nbd:/host/x") == Address("host", 10809, "", "x")
    assert parse_url("nbd://[::1]") == Address("::1", 10809, "", "")
    assert parse_url("nbd+unix:///e?socket=/tmp/s") == Address("", 0, "/tmp/s", "e")
    assert parse_url("nbd+unix:/?socket=/tmp/s") == Address("", 0, "/tmp/s", "")
    for url in ("nbd://host:123/a%20b", "nbd://[::1]/", "nbd://host/x", "nbd+unix:///e?socket=/tmp/s"):
        assert parse_url(url).url == url
        assert parse_url(str(Path(url))).url == url
    for bad in ("nbd:///", "nbd://h:x/", "nbd+unix:///e", "nbds://host/x"):
        with pytest.raises(ConfigError, match="nbd://HOST:PORT/EXPORT"):
            parse_url(bad)
    with pytest.raises(ConfigError, match="decides on format"):
        open_disk("nbd://localhost/", format="qcow2")


# a server that knows nothing new

Script = Callable[[socket.socket], None]


def take(peer: socket.socket, length: int) -> bytes:
    return peer.recv(length, socket.MSG_WAITALL)


def old_server(peer: socket.socket) -> None:
    """Refuses every option but the oldest, and answers simply."""
    magic, option_magic = 0x4E42444D41474943, 0x49484156454F5054
    peer.sendall(
        ServerHello(magic=magic, option_magic=option_magic, flags=HandshakeFlag.FIXED_NEWSTYLE).pack()
    )
    assert ClientFlags.unpack(take(peer, 4)).flags == HandshakeFlag.FIXED_NEWSTYLE
    while True:
        option = OptionRequest.unpack(take(peer, OptionRequest.SIZE))
        data = take(peer, option.length)
        if option.option == Option.EXPORT_NAME:
            break
        refused = OptionReply(
            magic=OPTION_REPLY_MAGIC, option=option.option, type=OptionReplyType.UNSUPPORTED, length=0
        )
        peer.sendall(refused.pack())
    assert data == b"name"
    peer.sendall(ExportInfo(size=MIB, flags=TransmissionFlag.HAS_FLAGS).pack() + bytes(124))
    while True:
        request = Request.unpack(take(peer, Request.SIZE))
        if request.type == Command.DISCONNECT:
            return
        assert request.type == Command.READ
        error = 5 if request.offset else 0
        reply = (
            Number32(value=SIMPLE_REPLY_MAGIC).pack() + SimpleReply(error=error, handle=request.handle).pack()
        )
        peer.sendall(reply + (b"" if error else b"r" * request.length))


def test_a_server_of_an_older_time() -> None:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=old_server, args=(theirs,))
    server.start()
    connection = Connection(ours, "here", "name")
    assert (connection.export.size, connection.export.tells_allocation) == (MIB, False)
    data = bytearray(512)
    connection.run(Command.READ, 0, 512, receive=[memoryview(data)])
    assert data == b"r" * 512
    with pytest.raises(DiskError, match="here: read at 512: Input/output error"):
        connection.run(Command.READ, 512, 512, receive=[memoryview(data)])
    connection.run(Command.READ, 0, 512, receive=[memoryview(data)])
    connection.disconnect()
    server.join()
    theirs.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "this is no NBD server"),
        (b"NBDMAGICIHAVEOPT\0\0", "no fixed newstyle handshake"),
        (b"NBDMAGICIHAVEOPT\0\1" + bytes(20), "out of step"),
    ],
)
def test_what_is_no_server(said: bytes, reason: str) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(said)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(DiskError, match=reason):
        Connection(ours, "here", "")
    theirs.close()

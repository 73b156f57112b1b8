"""QEMU's formats (qcow2, VMDK, VDI and others), served by a qemu-nbd of our own.

The server gets its listening socket from us, with our connections already waiting in it. So nothing has to be
waited for, no name of the socket stays, and the server ends when its last connection does, however we end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ringminus.disks.disk import DiskError
from ringminus.disks.findings import Finding, Severity
from ringminus.disks.nbd.connection import Connection
from ringminus.disks.nbd.disk import CONNECTIONS, NbdDisk
from ringminus.disks.raw import identity_of
from ringminus.errors import ConfigError, HostError

CREATABLE = ("qcow2", "vmdk", "vdi")
_TIMEOUT = 30.0  # seconds for the server to open the image, or to end


Server = subprocess.Popen[bytes]


@contextlib.contextmanager
def _sockets() -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listening socket and connections to it; it is gone from the file system when the block begins."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        peers = [socket.socket(socket.AF_UNIX) for _ in range(CONNECTIONS)]
        try:
            with tempfile.TemporaryDirectory(prefix="ringminus-") as directory:
                listener.bind(f"{directory}/nbd")
                listener.listen(CONNECTIONS)
                for peer in peers:
                    peer.connect(f"{directory}/nbd")
            yield listener, peers
        except BaseException:
            for peer in peers:
                peer.close()
            raise


def _start(path: Path, format: str, read_only: bool, listener: socket.socket, errors: IO[bytes]) -> Server:
    command = ["qemu-nbd", f"--format={format}", f"--shared={CONNECTIONS}", "--discard=unmap"]
    command += ["--read-only"] * read_only
    # QEMU takes what begins with a slash for a file, and other names perhaps for a protocol
    command.append(os.path.abspath(path))  # noqa: PTH100 (a symbolic link stays one)
    # the socket has to be descriptor 3, and the variable the server's own process number
    activate = f"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec {shlex.join(command)}"
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", activate],
            stdin=listener.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            # Ctrl-C is ours to handle: the server must not end before us
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(f"cannot start qemu-nbd: {error.strerror}") from None


def _end(server: Server, path: Path, errors: IO[bytes]) -> None:
    """Wait until the server has ended, as it does after its last connection."""
    try:
        status = server.wait(_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
        raise DiskError(f"{path}: qemu-nbd does not end, and was killed") from None
    finally:
        said = _last_words(errors)
        errors.close()
    if status and re.search(r"Failed to get .* lock", said):
        raise DiskError(f"{path} is in use by another machine or program", errno.EBUSY)
    if status:
        raise DiskError(f"{path}: qemu-nbd ended with status {status}: {said}")


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    said = lines[0].removeprefix("qemu-nbd: ") if lines else "it said nothing"
    return re.sub(r"^Failed to blk_new_open '.*?': ", "", said)


class QemuDisk(NbdDisk):
    """A disk of one of QEMU's formats; `path` is its file."""

    path: Path

    def info(self) -> dict[str, Any]:
        """With what qemu-img knows of the file."""
        facts = super().info() | {"path": str(self.path), "kind": "through qemu-nbd"}
        told = json.loads(run_qemu_img("info", "-U", "--output=json", "-f", self.format, self._absolute))
        facts["used"] = told.get("actual-size")
        for key in ("cluster-size", "backing-filename", "backing-filename-format", "encrypted", "dirty-flag"):
            if told.get(key):
                facts[key.replace("-", "_")] = told[key]
        return facts

    def resize(self, size: int) -> None:
        raise ConfigError(
            f"{self.path}: {self.format} disks are resized by: qemu-img resize {self.path} {size}"
        )

    @property
    def _absolute(self) -> str:
        return os.path.abspath(self.path)  # noqa: PTH100


def run_qemu_img(*arguments: str, accept: tuple[int, ...] = ()) -> str:
    """Run qemu-img; its output. `accept` are good exit statuses beside 0. Raises `HostError`, `DiskError`."""
    try:
        done = subprocess.run(
            ["qemu-img", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise HostError("qemu-img is needed: install Debian's package qemu-utils") from None
    if done.returncode and done.returncode not in accept:
        said = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise DiskError(said[0].removeprefix("qemu-img: "))
    return done.stdout


def open_qemu(path: Path, format: str, read_only: bool = False) -> QemuDisk:
    """Open a disk of a format of QEMU's. Raises `HostError` without qemu-nbd, and `DiskError`."""
    if shutil.which("qemu-nbd") is None:
        raise HostError(f"{path}: {format} disks need qemu-nbd: install Debian's package qemu-utils")
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the server)
    with _sockets() as (listener, peers):
        server = _start(path, format, read_only, listener, errors)
        listener.close()
        try:
            connections = []
            for peer in peers:
                peer.settimeout(_TIMEOUT)
                connections.append(Connection(peer, str(path), ""))
                peer.settimeout(None)
            disk = QemuDisk(
                connections,
                str(path),
                format,
                identity_of(path),
                read_only,
                lambda: _end(server, path, errors),
            )
            disk.path = path
            return disk
        except BaseException as failure:
            for peer in peers:
                peer.close()
            try:
                _end(server, path, errors)
            except DiskError as said:
                if isinstance(failure, DiskError):
                    raise said from None
            raise


def check_qemu(path: Path, format: str, repair: bool = False) -> list[Finding]:
    """What qemu-img finds wrong with a disk. Raises `HostError`, and `DiskError` if it cannot look."""
    options = ["-r", "all"] if repair else []
    name = os.path.abspath(path)  # noqa: PTH100
    told = json.loads(run_qemu_img("check", "--output=json", "-f", format, *options, name, accept=(2, 3)))
    findings = []
    for key, severity, what in (
        ("corruptions", Severity.DAMAGE, "errors in its tables"),
        ("check-errors", Severity.DAMAGE, "places that could not be looked at"),
        ("leaks", Severity.LEAK, "clusters that hold nothing"),
    ):
        if fixed := told.get(f"{key}-fixed"):
            findings.append(Finding(severity, f"{path}: {fixed} {what}", repairable=True, repaired=True))
        if left := told.get(key):
            findings.append(Finding(severity, f"{path}: {left} {what}", repairable=key != "check-errors"))
    return findings


def create_qemu(path: Path, format: str, size: int) -> None:
    """Make an empty disk of `size` bytes of one of `CREATABLE`. Raises `ConfigError`, `DiskError`."""
    if format not in CREATABLE:
        raise ConfigError(
            f"{path}: {format} disks are not made here: only {', '.join(CREATABLE)}, vhd, vhdx, raw"
        )
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists already")
    run_qemu_img("create", "-q", "-f", format, os.path.abspath(path), str(size))  # noqa: PTH100

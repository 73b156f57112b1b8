"""The debugger's side: gdb itself in batch mode, and a client that speaks its protocol."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ringminus.machine.gdb.protocol import Packet, PacketStream

PATIENCE = 60  # seconds
PREPARE = "set pagination off\nset confirm off\nset tcp connect-timeout 30\nset remotetimeout 30\n"


def run_gdb(script: str, timeout: float = PATIENCE) -> str:
    """What gdb prints when it runs the lines of `script`; an error in one of them ends it."""
    program = shutil.which("gdb")
    if program is None:
        pytest.skip("no gdb here")
    lines = filter(None, map(str.strip, (PREPARE + script).splitlines()))
    commands = [word for line in lines for word in ("-ex", line)]
    ended = subprocess.run(
        [program, "-nx", "-batch", *commands],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    return ended.stdout.decode(errors="replace")


def wait_for(path: Path) -> None:
    """Until a Unix socket is there."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.01)


class GdbClient:
    """A connection to a Unix socket, with the protocol's packets; acknowledges, unless told not to."""

    def __init__(self, path: Path) -> None:
        wait_for(path)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._stream = PacketStream()
        self._packets: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self._stream.send(payload)
        self.socket.sendall(self._stream.take())

    def receive(self) -> bytes:
        """The next packet; raises `EOFError` when the other side has closed."""
        while not self._packets:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            events = self._stream.receive(data)
            self._packets += [event.payload for event in events if isinstance(event, Packet)]
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # after its last word it may be gone
                self.socket.sendall(self._stream.take())
        return self._packets.pop(0)

    def ask(self, payload: bytes) -> bytes:
        """The answer to a packet."""
        self.send(payload)
        return self.receive()

    def interrupt(self) -> None:
        self.socket.sendall(b"\x03")

    def close(self) -> None:
        self.socket.close()

"""A NAT in a process and a network namespace of its own, for frames that may end a process: it takes scripts
of frames from its standard input, and says what became of each. On its loopback listens a server.

Run as a program; `Worker` is its other side."""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from ringminus.clock import MockClock, TimerQueue
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import parse
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.nat import Nat
from ringminus.switch.reactor import Reactor
from ringminus.switch.wire import IpProtocol

PORT = 7
SOCKETS = 40
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
LENGTH = struct.Struct("<I")
MILLISECOND = 10_000

Step = tuple[str, int, int, int | None]
"""A frame in hexadecimal, its `Checksum`, segment size and tag; then milliseconds pass as the checksum of an
empty frame says."""


class Sink:
    """The port: it looks at what comes."""

    def __init__(self) -> None:
        self.frames = self.tcp_bytes = 0

    def send(self, frame: Frame) -> bool:
        self.frames += 1
        assert frame.checksum is not Checksum.MISSING
        headers = parse(frame.data)
        if headers is not None and headers.protocol == IpProtocol.TCP:
            self.tcp_bytes += headers.end - headers.payload
            assert not frame.segment_size or headers.end - headers.payload > frame.segment_size
        return self.frames % 50 != 0

    def flush(self) -> None:
        pass

    def set_address(self, address: bytes) -> None:
        raise AssertionError


def play(script: list[Step], servers: list[socket.socket]) -> dict[str, Any]:
    """A script from begin to end, with a NAT of its own."""
    clock, timers, reactor, sink = MockClock(), TimerQueue(), Reactor(), Sink()
    nat = Nat(NatConfig(sockets=SOCKETS), reactor, clock, timers)
    nat.plugged(sink)
    peers: list[socket.socket] = []
    for data, checksum, size, tci in script:
        if data:
            nat.deliver(Frame(bytes.fromhex(data), tci, Checksum(checksum), size))
            nat.flush()
        else:
            clock.advance(checksum * MILLISECOND)
            timers.fire(clock.reference_time())
        reactor.dispatch(0)
        nat.resumed()
        _serve(servers, peers)
    told = nat.describe()
    nat.close()
    for peer in peers:
        peer.close()
    assert told["sockets"]["open"] <= SOCKETS  # type: ignore[index]
    return {"frames": sink.frames, "tcp_bytes": sink.tcp_bytes, "dropped": told["dropped"]}


def _serve(servers: list[socket.socket], peers: list[socket.socket]) -> None:
    """Take connections, and answer what comes with more of the same."""
    for server in servers:
        try:
            peer, _ = server.accept()
        except BlockingIOError:
            continue
        peer.setblocking(False)
        peers.append(peer)
    for peer in peers:
        try:
            peer.send(peer.recv(1 << 16) * 3)
        except OSError:
            continue


def main() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    servers = [
        socket.create_server((host, PORT), family=family)
        for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))
    ]
    for server in servers:
        server.setblocking(False)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(LENGTH.size):
        script = json.loads(source.read(*LENGTH.unpack(head)))
        answer = json.dumps(play(script, servers)).encode()
        sink.write(LENGTH.pack(len(answer)) + answer)
        sink.flush()


class Died(Exception):
    """The process ended; the text is what it said."""


class Worker:
    """Plays scripts in that process, which is begun anew when it has died."""

    COMMAND = ("unshare", "--user", "--map-root-user", "--net")

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def why_not(cls) -> str:
        """Why there can be none here; "" if there can."""
        made = subprocess.run([*cls.COMMAND, "true"], capture_output=True, check=False)
        return made.stderr.decode().strip()

    def play(self, script: list[Step]) -> dict[str, Any]:
        """Play a script; raises `Died`."""
        if self._process is None:
            self._process = subprocess.Popen(
                [*self.COMMAND, sys.executable, "-X", "faulthandler", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PYTHONPATH": str(Path(__file__).parent.parent)},
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        text = json.dumps(script).encode()
        try:
            self._process.stdin.write(LENGTH.pack(len(text)) + text)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Died(self.close()) from None
        head = self._process.stdout.read(LENGTH.size)
        if len(head) < LENGTH.size:
            raise Died(self.close())
        answer: dict[str, Any] = json.loads(self._process.stdout.read(*LENGTH.unpack(head)))
        return answer

    def close(self) -> str:
        """End the process; gives how it ended and what it said."""
        process, self._process = self._process, None
        if process is None:
            return ""
        _, said = process.communicate()
        return f"exit status {process.returncode}: {said.decode(errors='replace')}"


if __name__ == "__main__":
    main()

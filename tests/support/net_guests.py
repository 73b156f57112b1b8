"""What tests of a guest's network share: a guest with iperf3 and ethtool, what listens on this host for it,
and guests in processes of their own."""

from __future__ import annotations

import base64
import hashlib
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

from ringminus.errors import HostError
from ringminus.guest.build import GuestImage, build
from ringminus.guest.init_script import STARTED
from support.command import kernel_words
from support.console_guest import ConsoleGuest
from support.guest_cache import CACHE, one_builds
from support.guest_programs import host_program
from support.live_guest import COMMAND_LOOP, LINE_LIMIT, LiveGuest

START_TIMEOUT = 10.0
NOTHING = subprocess.DEVNULL
HOST = "10.0.2.2"
"""The host, as a guest behind NAT sees it."""


def network_image() -> GuestImage:
    """The demo guest with iperf3, ethtool and VLANs; raises `HostError`."""
    programs = host_program("iperf3", "iperf3") | host_program("ethtool", "ethtool")
    with one_builds():
        return build(CACHE / "guest-network", extra=programs, modules=("8021q",))


# ---------------------------------------------------------------- what listens on this host


def content(size: int) -> bytes:
    """So many bytes that are the same in every run, and in which every mistake shows."""
    return hashlib.shake_128(size.to_bytes(8, "little")).digest(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Pages(BaseHTTPRequestHandler):
    """GET /SIZE gives `content(SIZE)`; POST gives the SHA-256 of what was posted."""

    def do_GET(self) -> None:
        self._answer(content(int(self.path[1:])))

    def do_POST(self) -> None:
        posted = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(f"{digest(posted)}\n".encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not onto the test's console."""


@contextmanager
def web_server(address: str = "127.0.0.1") -> Iterator[int]:
    """A web server on this host while the block runs; gives its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

    server = Server((address, 0), _Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether a process of this host waits for connections to that port of 127.0.0.1; none is made."""
    return f"0100007F:{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


@contextmanager
def listening(command: Sequence[str | Path], port: int) -> Iterator[None]:
    """A process that listens on that port of 127.0.0.1 while the block runs. Raises `HostError`."""
    with subprocess.Popen(command, stdin=NOTHING, stdout=NOTHING, stderr=NOTHING) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise HostError(f"{command[0]} does not listen on port {port}")
                time.sleep(0.02)
            yield
        finally:
            process.terminate()


@contextmanager
def iperf3_server() -> Iterator[int]:
    """iperf3 on the host's loopback while the block runs; gives its port."""
    port = free_port()
    with listening(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)], port):
        yield port


# ---------------------------------------------------------------- what a guest does


def download(port: int, size: int, host: str = HOST) -> str:
    """A command that fetches `content(size)` and fails if it is another."""
    wanted = digest(content(size))
    return f'[ "$(wget -q -O - http://{host}:{port}/{size} | sha256sum | cut -d" " -f1)" = {wanted} ]'


def upload(port: int, size: int, host: str = HOST) -> str:
    """A command that posts so many random bytes and fails if others arrive."""
    make = f"head -c {size} /dev/urandom >/tmp/posted"
    head = f"printf 'POST / HTTP/1.0\\r\\nContent-Length: {size}\\r\\n\\r\\n'"
    address = host.strip("[]")
    there = f"({head}; cat /tmp/posted) | nc {address} {port} | tail -n 1"
    return f'{make} && [ "$( {there} )" = "$(sha256sum </tmp/posted | cut -d" " -f1)" ]'


def both_ways(port: int, size: int, host: str = HOST) -> str:
    """A command that does both, and fails if either does."""
    return f"{download(port, size, host)} && {upload(port, size, host)}"


_TROUBLE = re.compile(
    r"WARNING: | BUG: | Oops | Call\ Trace | hung\ task | blocked\ for\ more | soft\ lockup | rcu:\ INFO"
    r"| NETDEV\ WATCHDOG | (?: hv_netvsc | hv_vmbus ) .* (?: error | fail | timeout | timed\ out | unable"
    r"| invalid | unknown | unhandled | unexpected ) | hw\ csum\ failure | refcount",
    re.VERBOSE | re.IGNORECASE,
)


def network_complaints(dmesg: str) -> list[str]:
    """The lines of a kernel's log that tell of trouble, with its network or in general."""
    return [line for line in dmesg.splitlines() if _TROUBLE.search(line)]


def csum_errors(snmp: str) -> int:
    """Checksum errors that a guest counts, from its /proc/net/snmp and snmp6."""
    total = 0
    lines = snmp.splitlines()
    for names, values in pairwise(lines):
        head, *keys = names.split()
        if head.endswith(":") and values.startswith(f"{head} ") and "InCsumErrors" in keys:
            total += int(values.split()[1 + keys.index("InCsumErrors")])
    total += sum(int(line.split()[1]) for line in lines if "InCsumErrors" in line and len(line.split()) == 2)
    return total


# ---------------------------------------------------------------- guests in processes of their own


class NetworkGuest(ConsoleGuest):
    """`ringminus run` with the guest of `network_image`, whose shell takes commands; use it in a `with`."""

    def __init__(self, image: GuestImage, *options: str, timeout: float = 120) -> None:
        files = ("-k", image.kernel, "-i", image.initrd)
        words = kernel_words(COMMAND_LOOP, "quiet")
        super().__init__(*files, "-a", words, *options, timeout=timeout)

    def ready(self) -> None:
        """Wait until it takes commands."""
        self.expect(STARTED)
        self.expect("== ready")

    def start(self, command: str) -> None:
        """Begin a command, of which `result` tells the end."""
        text = base64.b64encode(command.encode()).decode()
        lines = [text[at : at + LINE_LIMIT] for at in range(0, len(text), LINE_LIMIT)]
        self.type("".join(f"{line}\n" for line in [*lines, ""]))

    def result(self, status: int | None = 0) -> str:
        """Wait for the end of the command that was begun; gives what it printed. `status` is the exit status
        that it must have, None for any."""
        printed = self.expect("== status ")
        ended = int(self.expect("\n"))
        assert status is None or ended == status, f"ended with status {ended} after:\n{printed}"
        return printed

    def run(self, command: str, status: int | None = 0) -> str:
        """`start` and `result`."""
        self.start(command)
        return self.result(status)

    def stand_still(self, seconds: float) -> None:
        """Keep the whole process from running for a while, as a host that is busy does."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def power_off(self) -> tuple[int, str]:
        """End the guest in its own way; gives the exit status of the command and its standard error."""
        self.start("exit")
        return self.finish()


async def carrier(guest: LiveGuest, up: bool) -> None:
    """Wait until the guest sees its link up or down."""
    wanted = int(up)
    await guest.run(
        f"n=0; until [ $(cat /sys/class/net/eth0/carrier) = {wanted} ]; do"
        " n=$((n+1)); [ $n -lt 200 ] || exit 9; usleep 20000; done"
    )

"""A guest's network, side by side with QEMU: `python bench/network.py`.

Both boot the same kernel and initrd, with iperf3 in it, and connect the guest to this host's loopback
through libslirp: here by hv_netvsc and `--nic nat`, there by virtio-net on microvm and `-netdev user`. The
other ends, one iperf3 and one that sends each byte back, are the same processes for both.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import side_by_side
from image import SOURCES, prepare_with
from side_by_side import MEGABYTES, Line, Prepared, append

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ringminus.errors import HostError
from support.guest_programs import compile_program, host_program

SCRIPT_IN_GUEST = "bin/network.sh"
LINES = (
    Line("guest_to_host", "MB/s", MEGABYTES),
    Line("host_to_guest", "MB/s", MEGABYTES),
    Line("round_trips", "per s"),
)
"""A stream over one TCP connection each way, and a byte there and back over TCP as often as it goes."""
START_TIMEOUT = 5.0


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[None]:
    """A process that listens on that port while the block runs."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise HostError(f"{command[0]} does not listen on port {port}")
                time.sleep(0.02)
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    """Whether a process of this host waits for connections there; it is not connected to for that."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return wanted in Path("/proc/net/tcp").read_text()


@contextmanager
def prepare(guest: Path) -> Iterator[Prepared]:
    program = compile_program(SOURCES / "round_trips.c")
    files = host_program("iperf3", "iperf3") | {"bin/round_trips": program}
    files[SCRIPT_IN_GUEST] = (SOURCES / "network.sh").read_bytes()
    image = prepare_with(guest, "network-bench", files, ("virtio_mmio", "virtio_net"))
    iperf3, echo = free_port(), free_port()
    with tempfile.NamedTemporaryFile(prefix="ringminus-bench-") as copy, contextlib.ExitStack() as stack:
        copy.write(program)
        copy.flush()
        Path(copy.name).chmod(0o700)
        copy.file.close()  # a file that is open for writing cannot be executed
        stack.enter_context(server(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(iperf3)], iperf3))
        stack.enter_context(server([copy.name, "serve", str(echo)], echo))
        words = f"{append(SCRIPT_IN_GUEST)}bench.iperf3={iperf3} bench.echo={echo} "
        theirs = ("-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net")
        yield (
            image,
            [
                side_by_side.ours(image, ("--nic", "nat"), words),
                side_by_side.qemu(image, theirs, words),
            ],
        )


if __name__ == "__main__":
    sys.exit(side_by_side.main("network", LINES, prepare))

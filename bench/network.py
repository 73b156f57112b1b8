"""A guest's network, side by side with QEMU: `python bench/network.py`.

Both boot the same kernel and initrd, with iperf3 in it, and connect the guest to this host's loopback
through libslirp: here by hv_netvsc and `--nic nat`, there by virtio-net on microvm and `-netdev user`. The
other ends, one iperf3 and one that sends each byte back, are the same processes for both.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import side_by_side
from image import SOURCES, prepare_with
from side_by_side import MEGABYTES, Line, Prepared, append

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.guest_programs import compile_program, host_program
from support.net_guests import free_port, iperf3_server, listening

SCRIPT_IN_GUEST = "bin/network.sh"
LINES = (
    Line("guest_to_host", "MB/s", MEGABYTES),
    Line("host_to_guest", "MB/s", MEGABYTES),
    Line("round_trips", "per s"),
)
"""A stream over one TCP connection each way, and a byte there and back over TCP as often as it goes."""


@contextmanager
def prepare(guest: Path) -> Iterator[Prepared]:
    program = compile_program(SOURCES / "round_trips.c")
    files = host_program("iperf3", "iperf3") | {"bin/round_trips": program}
    files[SCRIPT_IN_GUEST] = (SOURCES / "network.sh").read_bytes()
    image = prepare_with(guest, "network-bench", files, ("virtio_mmio", "virtio_net"))
    echo = free_port()
    with tempfile.NamedTemporaryFile(prefix="ringminus-bench-") as copy, contextlib.ExitStack() as stack:
        copy.write(program)
        copy.flush()
        Path(copy.name).chmod(0o700)
        copy.file.close()  # a file that is open for writing cannot be executed
        iperf3 = stack.enter_context(iperf3_server())
        stack.enter_context(listening([copy.name, "serve", str(echo)], echo))
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

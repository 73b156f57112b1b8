"""Makes the recordings in this directory: what a real guest and its devices said to each other.

    .venv/bin/python tests/unit/machine/replay/record.py storage .cache/guest
    .venv/bin/python tests/unit/machine/replay/record.py network .cache/guest

The directory is one of `ringminus guest build`. For `storage.pcapng.gz` the guest finds a disk of 1 MiB with
an ext4 file system, mounts it, reads a file, writes another, deletes it, and reads the whole disk. For
`network.pcapng.gz` it has an adapter on NAT, gets an address, pings the gateway, and has another MTU then.
"""

from __future__ import annotations

import base64
import gzip
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import ringminus.cli.protocols  # noqa: F401
from ringminus.guest.programs import find_program
from ringminus.lens.capture.output import open_output
from ringminus.lens.capture.writer import CaptureWriter
from ringminus.machine.config import DiskConfig, MachineConfig
from ringminus.machine.machine import Machine
from ringminus.machine.nics import parse_nics
from ringminus.machine.outcome import End
from ringminus.machine.worker import run_machine
from ringminus.memory import MIB
from ringminus.tap import BusMessage, ChannelState, DeviceMessage, GpadlChange, NetworkFrame, RingPacket, Tap

HERE = Path(__file__).parent
EVENTS = (BusMessage, ChannelState, GpadlChange, RingPacket, DeviceMessage, NetworkFrame)
TEXT = "the quick brown fox jumps over the lazy dog\n" * 200
STORAGE = """
until [ -e /dev/sda ]; do sleep 0.1; done
mkdir -p /mnt
mount -t ext4 /dev/sda /mnt || exit 1
md5sum /mnt/fox
seq 1 3000 > /mnt/numbers
sync
echo 3 > /proc/sys/vm/drop_caches
tail -n 1 /mnt/numbers
rm /mnt/numbers
umount /mnt
dd if=/dev/sda of=/dev/null bs=64k 2>/dev/null
"""
NETWORK = """
ip link set eth0 up
udhcpc -i eth0 -n -q || exit 1
ping -c 2 -s 3000 10.0.2.2 || exit 1
ip link set eth0 down
ip link set eth0 mtu 4000
ip link set eth0 up
ip route add default via 10.0.2.2
ping -c 2 -s 3000 10.0.2.2 || exit 1
"""


def make_disk(path: Path, directory: Path) -> None:
    """A raw disk with a file system that holds one file."""
    directory.mkdir()
    (directory / "fox").write_text(TEXT)
    with path.open("wb") as file:
        file.truncate(1 * MIB)
    mke2fs = find_program("mke2fs", "e2fsprogs")
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-d", str(directory), str(path)]
    subprocess.run([mke2fs, *options], check=True, capture_output=True)


def record(config: MachineConfig, script: str, capture: Path) -> str:
    """Run a guest with a script; gives what it printed."""
    words = f"console=ttyS0 quiet ringminus.script={base64.b64encode(script.encode()).decode()}"
    tap, printed = Tap(), bytearray()
    tap.keeps_data = True
    with CaptureWriter(tap, open_output(str(capture)), EVENTS, partition="recorded"):
        machine = Machine(replace(config, command_line=words), printed.extend, tap)
        try:
            outcome = run_machine(machine)
        finally:
            machine.close()
    if outcome.end is not End.POWER_OFF or b"status 0" not in printed:
        sys.exit(f"the guest ended otherwise: {outcome}\n{printed.decode(errors='replace')}")
    return printed.decode()


def main() -> None:
    what, guest = sys.argv[1], Path(sys.argv[2])
    config = MachineConfig(guest / "vmlinuz", guest / "initrd.img", "", 256 * MIB)
    packed = HERE / f"{what}.pcapng.gz"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        capture, disk = directory / "capture.pcapng", directory / "disk.img"
        if what == "storage":
            make_disk(disk, directory / "tree")
            print(record(replace(config, disks=(DiskConfig(disk, format="raw"),)), STORAGE, capture))
        else:
            print(record(replace(config, nics=parse_nics(("nat",))), NETWORK, capture))
        with gzip.GzipFile(packed, "wb", mtime=0) as file:
            file.write(capture.read_bytes())
        print(f"{packed}: {packed.stat().st_size} bytes, {capture.stat().st_size} unpacked")


if __name__ == "__main__":
    main()

"""Makes `storage.pcapng.gz`: what a real guest and its SCSI controller said to each other.

    .venv/bin/python tests/unit/machine/replay/record_storage.py .cache/guest

The argument is a directory of `ringminus guest build`. The guest finds a disk of 1 MiB with an ext4 file
system, mounts it, reads a file, writes another, deletes it, and looks for what is not there.
"""

from __future__ import annotations

import base64
import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import ringminus.cli.protocols  # noqa: F401
from ringminus.guest.programs import find_program
from ringminus.lens.capture.output import open_output
from ringminus.lens.capture.writer import CaptureWriter
from ringminus.machine.config import DiskConfig, MachineConfig
from ringminus.machine.machine import Machine
from ringminus.machine.outcome import End
from ringminus.machine.worker import run_machine
from ringminus.memory import MIB
from ringminus.tap import BusMessage, ChannelState, GpadlChange, RingPacket, Tap

WHERE = Path(__file__).parent / "storage.pcapng.gz"
TEXT = "the quick brown fox jumps over the lazy dog\n" * 200
SCRIPT = """
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


def make_disk(path: Path, directory: Path) -> None:
    """A raw disk with a file system that holds one file."""
    (directory / "fox").write_text(TEXT)
    with path.open("wb") as file:
        file.truncate(1 * MIB)
    mke2fs = find_program("mke2fs", "e2fsprogs")
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-d", str(directory), str(path)]
    subprocess.run([mke2fs, *options], check=True, capture_output=True)


def record(guest: Path, disk: Path, capture: Path) -> str:
    """Run the guest; gives what it printed."""
    words = f"console=ttyS0 quiet ringminus.script={base64.b64encode(SCRIPT.encode()).decode()}"
    config = MachineConfig(
        guest / "vmlinuz", guest / "initrd.img", words, 256 * MIB, (DiskConfig(disk, format="raw"),)
    )
    tap, printed = Tap(), bytearray()
    tap.keeps_data = True
    events = (BusMessage, ChannelState, GpadlChange, RingPacket)
    with CaptureWriter(tap, open_output(str(capture)), events, partition="recorded"):
        machine = Machine(config, printed.extend, tap)
        try:
            outcome = run_machine(machine)
        finally:
            machine.close()
    if outcome.end is not End.POWER_OFF or b"status 0" not in printed:
        sys.exit(f"the guest ended otherwise: {outcome}\n{printed.decode(errors='replace')}")
    return printed.decode()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "tree").mkdir()
        disk, capture = directory / "disk.img", directory / "storage.pcapng"
        make_disk(disk, directory / "tree")
        print(record(Path(sys.argv[1]), disk, capture))
        with gzip.GzipFile(WHERE, "wb", mtime=0) as packed:
            packed.write(capture.read_bytes())
        print(f"{WHERE}: {WHERE.stat().st_size} bytes, {capture.stat().st_size} unpacked")


if __name__ == "__main__":
    main()

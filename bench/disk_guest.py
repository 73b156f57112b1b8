"""A guest's requests to a disk, side by side with QEMU: `python bench/disk_guest.py`.

Both boot the same kernel and initrd, with fio in it, and give the guest the same raw file as its disk: here
through hv_storvsc, there through virtio-blk on microvm. fio opens it with O_DIRECT, so every request is one
of the device; the file is in the host's page cache for both. All is timed by this process's clock, between
the moment in which fio's job begins and the one in which it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from contenders import MEMORY_MIB, Contender, Run, measure, our_program
from image import SOURCES, BenchImage, prepare_with

from ringminus.cpu.software.engine import SoftwareEngine
from ringminus.errors import ConfigError, HostError
from ringminus.memory import MIB, GuestMemory
from ringminus.tap import Tap

DISK_SIZE = 1 << 30
SCRIPT_IN_GUEST = "bin/disk.sh"
QEMU_MODULES = ("virtio_mmio", "virtio_blk")
OURS, QEMU = "ringminus", "QEMU"
TARGET = 0.8
LINES = (
    "random_read_1",
    "random_read_32",
    "random_write_1",
    "random_write_32",
    "sequential_read",
    "sequential_write",
)
"""Pieces of work: requests of 4 KiB at queue depth 1 and 32, and of 1 MiB at depth 4. How many of them each
makes, the guest's script says, where others say a checksum."""

GUEST = Path(__file__).parent.parent / ".cache" / "guest"
APPEND = f"quiet ringminus.run=/{SCRIPT_IN_GUEST} ringminus.end=reboot bench.only="


def fio_files() -> dict[str, bytes]:
    """The host's fio and the libraries that it needs, by their paths."""
    program = shutil.which("fio")
    if program is None:
        raise HostError("fio is needed: apt-get install fio")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return {path.lstrip("/"): Path(path).read_bytes() for path in {program, *paths}}


def image_with_fio(guest: Path) -> BenchImage:
    files = fio_files() | {SCRIPT_IN_GUEST: (SOURCES / "disk.sh").read_bytes()}
    return prepare_with(guest, "disk-bench", files, QEMU_MODULES)


def make_disk(path: Path) -> None:
    """A raw disk without holes, in the host's page cache."""
    with path.open("wb") as file:
        for _ in range(DISK_SIZE // MIB):
            file.write(os.urandom(4096) * (MIB // 4096))


def ours(image: BenchImage, disk: Path) -> Contender:
    command = (*our_program(), "run", "--kernel", str(image.bzimage), "--initrd", str(image.initrd))
    command += ("--memory", f"{MEMORY_MIB}M", "--console", "stdio", "--no-reboot", "--disk", str(disk))
    return Contender(OURS, (*command, "--append", APPEND))


def tsc_khz() -> int:
    """The host's TSC, which is the guest's in QEMU, too."""
    memory = GuestMemory(2 * MIB)
    engine = SoftwareEngine(memory, Tap())
    try:
        return engine.clock.tsc_hz // 1000
    finally:
        engine.close()


def qemu(image: BenchImage, disk: Path) -> Contender:
    """microvm finds its disk by ACPI here: Debian's kernel takes no virtio-mmio devices from its command
    line. The disk has the defaults of QEMU: the host's page cache, and threads for its requests."""
    command: tuple[str, ...] = ("qemu-system-x86_64", "-M", "microvm,acpi=on,pit=on,pic=on,rtc=on")
    command += ("-accel", "tcg", "-cpu", "qemu64", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config")
    command += ("-nographic", "-serial", "stdio", "-no-reboot")
    command += ("-kernel", str(image.vmlinux), "-initrd", str(image.initrd))
    command += (
        "-drive",
        f"file={disk},if=none,id=disk,format=raw",
        "-device",
        "virtio-blk-device,drive=disk",
    )
    # a busy host makes the guest fail to calibrate its TSC, and then it hangs
    clock = f"tsc=reliable tsc_early_khz={tsc_khz()}"
    return Contender(QEMU, (*command, "-append", f"console=ttyS0 reboot=t {clock} {APPEND}"))


def rate(run: Run, line: str) -> float:
    """Requests a second of 4 KiB, or MB/s."""
    return int(run.checksums[line]) / run.seconds[line] * (MIB / 1e6 if line.startswith("sequential") else 1)


def table(runs: dict[str, list[Run]], lines: list[str]) -> tuple[str, dict[str, Any]]:
    text = f"{'line':<18}{'unit':>6}{OURS:>12}{QEMU:>12}{'ratio':>8}  target\n"
    data: dict[str, Any] = {}
    for line in lines:
        rates = {name: [rate(run, line) for run in made] for name, made in runs.items()}
        mine, theirs = median(rates[OURS]), median(rates[QEMU])
        unit = "MB/s" if line.startswith("sequential") else "IOPS"
        verdict = "met" if mine / theirs >= TARGET else "missed"
        text += (
            f"{line:<18}{unit:>6}{mine:>12,.0f}{theirs:>12,.0f}{mine / theirs:>8.2f}  {TARGET} {verdict}\n"
        )
        data[line] = {"unit": unit, "rates": rates, "ratio": mine / theirs}
    return text, data


def run(arguments: argparse.Namespace) -> None:
    lines: list[str] = arguments.only.split(",") if arguments.only else list(LINES)
    if unknown := [line for line in lines if line not in LINES]:
        raise ConfigError(f"no line is named {', '.join(unknown)}: there are {', '.join(LINES)}")
    image = image_with_fio(arguments.guest)
    with tempfile.TemporaryDirectory(prefix="ringminus-bench-", dir=arguments.guest.parent) as directory:
        disk = Path(directory) / "disk.raw"
        make_disk(disk)
        chosen = [ours(image, disk), qemu(image, disk)]
        runs: dict[str, list[Run]] = {contender.name: [] for contender in chosen}
        for number in range(1, arguments.runs + 1):
            for contender in chosen:
                print(f"disk, round {number}/{arguments.runs}: {contender.name}", file=sys.stderr)
                runs[contender.name].append(measure(contender, lines, arguments.timeout))
    text, data = table(runs, lines)
    if arguments.json:
        arguments.json.write_text(json.dumps(data, indent=2) + "\n")
    print(
        f"Linux {image.kernel_version}, medians of {arguments.runs}; above 1 is faster than QEMU\n\n{text}",
        end="",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="A guest's disk, side by side with QEMU.")
    parser.add_argument(
        "--guest", type=Path, default=GUEST, help="a built guest, for its kernel (.cache/guest)"
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--only", metavar="LINES", help="lines, commas between")
    parser.add_argument("--timeout", type=float, default=240, help="for one boot (default: 240 seconds)")
    try:
        run(parser.parse_args())
    except (HostError, ConfigError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

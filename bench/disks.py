"""Measure the disk formats alone, side by side with `qemu-img bench` on the same files.

python bench/disks.py [--size MIB] [--rounds N] [--json]

One thread, one request at a time, through the host's page cache: so what is measured is the work that a
format costs, not the host's disk. QEMU makes the files. Both sides make the same requests at the same
offsets; 4 KiB requests are scattered over the disk by a large step that comes by every block. `new` writes to
an empty disk, so that blocks have to be added; its file is made anew for every run. Nobody flushes. The
figures are medians over the rounds, in which the two take turns, and begin in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ringminus.disks.open import open_disk
from ringminus.errors import HostError, RingminusError

KIB, MIB = 1 << 10, 1 << 20
FORMATS = {"raw": "raw", "vhd": "vpc", "vhdx": "vhdx"}
"""Our names of the formats, and QEMU's."""
TARGET = {"raw": 2.0, "vhd": 2.0, "vhdx": 2.0}
"""How many times QEMU's time ours may be."""
_STEP = 40_961 * 4 * KIB  # prime in blocks: no block comes twice before all have come
_COMPLETED = re.compile(r"Run completed in ([0-9.]+) seconds")


@dataclass(frozen=True, slots=True)
class Work:
    """`count` requests of `length` bytes, each `step` bytes behind the one before, around the disk's end."""

    name: str
    write: bool
    length: int
    step: int
    count: int
    empty: bool = False

    def offsets(self, size: int) -> list[int]:
        # as qemu-img computes them
        offsets, offset = [], 0
        for _ in range(self.count):
            offsets.append(offset)
            offset += self.step
            if size <= offset + self.length - 1:
                offset %= size
        return offsets


def works(format: str, size: int) -> list[Work]:
    whole = size // MIB
    # QEMU writes and syncs a bitmap with each write to a VHD, and takes a millisecond or more for one
    writes = 2_000 if format == "vhd" else 20_000
    return [
        Work("read 4 KiB scattered", False, 4 * KIB, _STEP, 20_000),
        Work("write 4 KiB scattered", True, 4 * KIB, _STEP, writes),
        Work("read 1 MiB in order", False, MIB, MIB, whole * 8),
        Work("write 1 MiB in order", True, MIB, MIB, whole * 2),
        Work("write 1 MiB new", True, MIB, MIB, whole, empty=True),
    ]


def _run(*command: str | Path) -> str:
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    except FileNotFoundError:
        raise HostError(f"{command[0]} is needed: install Debian's package qemu-utils") from None
    if done.returncode:
        raise HostError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


def qemu(path: Path, format: str, work: Work, size: int) -> float:
    """Seconds that qemu-img needs for the work."""
    options = [
        "-c",
        work.count,
        "-d",
        1,
        "-s",
        work.length,
        "-S",
        work.step,
        "-t",
        "writeback",
        "-f",
        FORMATS[format],
    ]
    if work.write:
        options.append("-w")
    said = _run("qemu-img", "bench", *map(str, options), path)
    found = _COMPLETED.search(said)
    if found is None:
        raise HostError(f"qemu-img bench said {said!r}")
    return float(found[1])


def ringminus(path: Path, format: str, work: Work, size: int) -> float:
    """Seconds that our format needs for the work."""
    buffers = [memoryview(bytearray(work.length))]
    offsets = work.offsets(size)
    with open_disk(path, format) as disk:
        request = disk.write if work.write else disk.read
        start = time.perf_counter()
        for offset in offsets:
            request(offset, buffers)
        return time.perf_counter() - start


def _fill(path: Path, format: str, size: int) -> None:
    """A disk all of whose blocks are there."""
    raw = path.with_suffix(".filling")
    with raw.open("wb") as file:
        block = bytes(range(256)) * (MIB // 256)
        for _ in range(size // MIB):
            file.write(block)
    _run("qemu-img", "convert", "-f", "raw", "-O", FORMATS[format], *_options(format), raw, path)
    raw.unlink()


def _empty(path: Path, format: str, size: int) -> None:
    path.unlink(missing_ok=True)
    _run("qemu-img", "create", "-q", "-f", FORMATS[format], *_options(format), path, str(size))


def _options(format: str) -> list[str]:
    return ["-o", "force_size=on"] if format == "vhd" else []


Contender = Callable[[Path, str, Work, int], float]
CONTENDERS: dict[str, Contender] = {"ringminus": ringminus, "qemu-img": qemu}


def measure(directory: Path, format: str, size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds by work and contender."""
    full, empty = directory / f"full.{format}", directory / f"empty.{format}"
    _fill(full, format, size)
    results = {}
    for work in works(format, size):
        seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for number in range(rounds):
            for name, contender in sorted(CONTENDERS.items(), reverse=bool(number % 2)):
                if work.empty:
                    _empty(empty, format, size)
                if work.write:
                    os.sync()  # what the one has left to write must not hold up the other
                seconds[name].append(contender(empty if work.empty else full, format, work, size))
        results[work.name] = {name: median(times) for name, times in seconds.items()}
    full.unlink()
    empty.unlink(missing_ok=True)
    return results


def _rate(work: Work, seconds: float) -> str:
    if work.length < MIB:
        return f"{seconds / work.count * 1e6:.1f} µs"
    return f"{work.length * work.count / seconds / 1e9:.2f} GB/s"


def show(format: str, results: dict[str, dict[str, float]], size: int) -> None:
    for work in works(format, size):
        ours, theirs = (results[work.name][name] for name in CONTENDERS)
        ratio = ours / theirs
        verdict = f"{TARGET[format]:.1f} {'met' if ratio <= TARGET[format] else 'missed'}"
        rates = f"{_rate(work, ours):>12}{_rate(work, theirs):>12}"
        print(f"{format:<6}{work.name:<24}{rates}{ratio:>8.2f}  {verdict}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="of the disks, in MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--directory", type=Path, help="where to make the disks, by default the temporary one"
    )
    parser.add_argument("--json", action="store_true", help="print seconds as JSON")
    arguments = parser.parse_args()
    size, everything = arguments.size * MIB, {}
    if not arguments.json:
        print(f"{'disks alone':<30}{'ringminus':>12}{'qemu-img':>12}{'time':>8}  target")
    try:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
            for format in FORMATS:
                everything[format] = measure(Path(name), format, size, arguments.rounds)
                if not arguments.json:
                    show(format, everything[format], size)
    except (RingminusError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps(everything, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

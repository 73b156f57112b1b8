"""What watching costs a guest: `python bench/lens.py`.

The same guest does the same with its disk three times in each round: with ringminus as it would be without
any point of observation, as it is while nobody listens, and while all that passes goes to a file. The first
two are copies of the package that differ in nothing but the tests of points. Promised are at most 3 % for
the second, and at most twice the time for the third. What is less than a machine's unrest is found in turns
(`turns.py`).
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import timeit
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import disk_guest
import side_by_side
import untapped
from contenders import MEMORY_MIB, Contender, Run, measure
from image import SOURCES, BenchImage, prepare_with
from side_by_side import Line, append
from turns import compare

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ringminus.lens.capture.reader import open_capture
from ringminus.tap import Tap
from support.guest_programs import host_program

WITHOUT, NOBODY, CAPTURE = "no points", "nobody listens", "all to a file"
PROMISED = {NOBODY: 1.03, CAPTURE: 2.0}
"""Times, relative to those of the contender before it."""
LINES = [line for line in disk_guest.LINES if line.name.startswith(("random", "sequential_read"))]
PROCESSOR = "processor, in all"
ENDLESS = "bin/disk_endless.sh"
TURNS = (
    ("random read, depth 1", "syscr", "fio.rw=randread fio.iodepth=1 fio.bs=4k"),
    ("random read, depth 32", "syscr", "fio.rw=randread fio.iodepth=32 fio.bs=4k"),
    ("random write, depth 1", "syscw", "fio.rw=randwrite fio.iodepth=1 fio.bs=4k"),
    ("1 MiB reads in order", "syscr", "fio.rw=read fio.iodepth=4 fio.bs=1m"),
)
"""What two guests do in turns: its name, what counts it, and the guest's words."""
TESTS = 200_000


def contenders(image: BenchImage, disk: Path, directory: Path) -> list[Contender]:
    plain, without = directory / untapped.PLAIN, directory / untapped.WITHOUT
    capture = directory / "all.pcapng"

    def made(name: str, package: Path, *options: str) -> Contender:
        command = (*guest_command(package, image, disk), *options)
        return Contender(name, (*command, "--append", f"{append(disk_guest.SCRIPT_IN_GUEST)}bench.only="))

    return [made(WITHOUT, without), made(NOBODY, plain), made(CAPTURE, plain, "--capture", str(capture))]


def guest_command(package: Path, image: BenchImage, disk: Path) -> tuple[str, ...]:
    """That copy's guest, but for its kernel's words."""
    command = (*untapped.command(package), "run", "-k", str(image.bzimage), "-i", str(image.initrd))
    return (*command, "--memory", f"{MEMORY_MIB}M", "--console", "stdio", "--no-reboot", "--disk", str(disk))


def in_turns(image: BenchImage, disk: Path, directory: Path, turns: int, timeout: float) -> dict[str, Any]:
    """Without points and while nobody listens, in turns: µs of a processor for a request, and the ratio."""
    copy = directory / "second.raw"
    shutil.copyfile(disk, copy)
    found = {}
    for name, counter, words in TURNS:
        print(f"lens, in turns: {name}", file=sys.stderr)
        pairs = (untapped.COPIES, untapped.COPIES[::-1])  # of two guests one has the better place
        one_way, other_way = (
            compare(
                *(
                    (*guest_command(directory / package, image, its), "--append", f"{append(ENDLESS)}{words}")
                    for package, its in zip(packages, (disk, copy), strict=True)
                ),
                counter=counter,
                turns=turns // 2,
                timeout=timeout,
            )
            for packages in pairs
        )
        without, nobody = (one_way[0] + other_way[1]) / 2, (one_way[1] + other_way[0]) / 2
        found[name] = without, nobody, (one_way[2] / other_way[2]) ** 0.5
    return found


def turns_table(found: dict[str, Any]) -> str:
    """The same for a person."""
    text = f"{'processor for a request':<26}{WITHOUT + ' µs':>14}{NOBODY + ' µs':>18}{'ratio':>8}\n"
    for name, (without, nobody, ratio) in found.items():
        text += f"{name:<26}{without:>14.1f}{nobody:>18.1f}{ratio:>8.3f}  "
        text += f"≤ {PROMISED[NOBODY]:.2f} {_word(ratio <= PROMISED[NOBODY])}\n"
    return text


@dataclass(slots=True)
class Results:
    """All runs by contender, in the order in which they were made; how many events the last capture has."""

    runs: dict[str, list[Run]]
    events: int = 0
    bytes: int = 0

    def ratio(self, name: str, to: str, line: str) -> float:
        """Of times: the median of those of a round, one by the other."""
        pairs = zip(self.runs[name], self.runs[to], strict=True)
        return median(one.seconds[line] / other.seconds[line] for one, other in pairs)


def point_ns() -> float:
    """What one test of a point costs while nobody listens."""
    tap = Tap()
    test, nothing = "if tap.packets is not None: pass", "pass"
    costs = [
        min(timeit.repeat(code, number=TESTS, repeat=7, globals={"tap": tap})) for code in (test, nothing)
    ]
    return (costs[0] - costs[1]) / TESTS * 1e9


def processor_seconds() -> float:
    """The time that processes which have ended were on a processor: what others do at the same time moves it
    less than the time by a clock."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def run_rounds(chosen: Sequence[Contender], wanted: Sequence[str], rounds: int, timeout: float) -> Results:
    """A round that does not count (it fills the caches), then the rounds; each begins with another one."""
    results = Results({one.name: [] for one in chosen})
    for number in range(rounds + 1):
        for contender in (*chosen[number % 3 :], *chosen[: number % 3]):
            print(f"lens, round {number}/{rounds}: {contender.name}", file=sys.stderr)
            before = processor_seconds()
            run = measure(contender, wanted if number else (), timeout)
            run.seconds[PROCESSOR] = processor_seconds() - before
            if number:
                results.runs[contender.name].append(run)
    return results


def table(results: Results, lines: Sequence[Line]) -> str:
    """The ratios for a person."""
    rows = ["boot", *(line.name for line in lines), PROCESSOR]
    text = f"{'time for':<18}{WITHOUT + ' s':>14}{NOBODY + ' s':>18}{'ratio':>8}"
    text += f"{CAPTURE + ' s':>18}{'ratio':>8}\n"
    for name in rows:
        seconds = {one: median(run.seconds[name] for run in runs) for one, runs in results.runs.items()}
        nobody, capture = results.ratio(NOBODY, WITHOUT, name), results.ratio(CAPTURE, NOBODY, name)
        text += f"{name:<18}{seconds[WITHOUT]:>14.3f}{seconds[NOBODY]:>18.3f}{nobody:>8.3f}"
        text += f"{seconds[CAPTURE]:>18.3f}{capture:>8.2f}  {_verdict(nobody, capture)}\n"
    whole = median(run.seconds["whole"] for run in results.runs[NOBODY])
    cost = results.events * point_ns() / 1e9 / whole
    text += (
        f"\na capture has {results.events:,} events in {results.bytes / 1e6:,.1f} MB; with a test of a point "
    )
    text += f"for each of them, {point_ns():.0f} ns, that is {cost:.2%} of a run\n"
    return text


def _verdict(nobody: float, capture: float) -> str:
    met = [ratio <= PROMISED[name] for name, ratio in ((NOBODY, nobody), (CAPTURE, capture))]
    return f"≤ {PROMISED[NOBODY]:.2f} {_word(met[0])}, ≤ {PROMISED[CAPTURE]:.0f} {_word(met[1])}"


def _word(met: bool) -> str:
    return "met" if met else "missed"


def as_json(results: Results, lines: Sequence[Line]) -> dict[str, Any]:
    """All figures."""
    names = ["boot", "whole", PROCESSOR, *(line.name for line in lines)]
    return {
        "events": results.events,
        "bytes": results.bytes,
        "point_ns": point_ns(),
        "seconds": {
            one: {name: [run.seconds[name] for run in runs] for name in names}
            for one, runs in results.runs.items()
        },
    }


def _run(arguments: argparse.Namespace) -> None:
    wanted = side_by_side.wanted_lines(arguments.only, LINES)
    files = host_program("fio", "fio") | {disk_guest.SCRIPT_IN_GUEST: (SOURCES / "disk.sh").read_bytes()}
    files[ENDLESS] = (SOURCES / "disk_endless.sh").read_bytes()
    image = prepare_with(arguments.guest, "lens-bench", files, ("virtio_mmio", "virtio_blk"))
    with tempfile.TemporaryDirectory(prefix="ringminus-bench-", dir=arguments.guest.parent) as text:
        directory = Path(text)
        disk = directory / "disk.raw"
        disk_guest.make_disk(disk)
        untapped.copies(directory)
        turns = in_turns(image, disk, directory, arguments.turns, arguments.timeout)
        print(f"Linux {image.kernel_version}, medians of {arguments.turns} turns\n\n{turns_table(turns)}")
        chosen = contenders(image, disk, directory)
        results = run_rounds(chosen, wanted, arguments.runs, arguments.timeout)
        capture = directory / "all.pcapng"
        results.bytes = capture.stat().st_size
        with open_capture(capture) as source:
            results.events = sum(1 for _ in source)
            assert source.lost == 0
    lines = [line for line in LINES if line.name in wanted]
    if arguments.json:
        arguments.json.write_text(json.dumps({"turns": turns, **as_json(results, lines)}, indent=2) + "\n")
    print(f"Linux {image.kernel_version}, medians of {arguments.runs}\n\n{table(results, lines)}", end="")


def main() -> int:
    parser = side_by_side.parser("What watching a guest costs.", runs=5)
    parser.add_argument("--turns", type=int, default=100, help="of two guests each (default: 100)")
    arguments = parser.parse_args()
    return side_by_side.ended(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main())

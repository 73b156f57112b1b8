"""Measure ringminus side by side with QEMU: `python bench/run.py --guest DIR`.

Every contender boots the same kernel and initrd, and runs the same work in it. One round runs each of them
once, so that a slow minute of the machine hits them all alike; the figures are medians over the rounds.
All is timed by this process's clock, between the lines that the guest prints when a piece of work begins
and ends; `boot` is the whole process, from its start until the first line of user space has come out of its
console, and `whole` until it has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from contenders import Contender, Run, measure, qemu, ringminus
from image import BenchImage, prepare

from ringminus.errors import ConfigError, HostError

WORK = (
    "fork_exec",
    "system_calls",
    "shell_loop",
    "sha256",
    "gzip",
    "page_faults",
    "memory_copy",
    "floating_point",
)
"""What the guest does, one line of the table each."""

TARGETS = {"boot": 1.0, **{name: 1.1 for name in WORK if name != "floating_point"}}
"""The promised ratio to QEMU with the vmlinux; floating point has none."""

COSTS = {
    "stats": ("--stats",),
    "log": ("--log", "exits,hypercalls,msrs"),
    "log_all": ("--log", "all"),
}
"""Options whose cost is measured, as a ratio to ringminus without them; logs go to a file."""

GUEST = Path(__file__).parent.parent / ".cache" / "guest"
OURS, VMLINUX, BZIMAGE = "ringminus", "QEMU (vmlinux)", "QEMU (bzImage)"


@dataclass(slots=True)
class Results:
    """All runs by contender, in the order in which they were made."""

    runs: dict[str, list[Run]] = field(default_factory=dict)

    def seconds(self, contender: str, line: str) -> list[float]:
        return [run.seconds[line] for run in self.runs.get(contender, ())]

    def median(self, contender: str, line: str) -> float:
        return median(self.seconds(contender, line))

    def ratio(self, contender: str, to: str, line: str) -> float:
        return self.median(contender, line) / self.median(to, line)

    def disagreements(self) -> list[str]:
        """Lines whose checksum is not the same in every run of every contender."""
        found: dict[str, dict[str, set[str]]] = {}
        for contender, runs in self.runs.items():
            for run in runs:
                for line, checksum in run.checksums.items():
                    found.setdefault(line, {}).setdefault(checksum, set()).add(contender)
        return [
            f"{line}: "
            + "; ".join(f"{checksum} by {', '.join(sorted(who))}" for checksum, who in sums.items())
            for line, sums in found.items()
            if len(sums) > 1
        ]


def contenders(image: BenchImage, lines: Sequence[str], log: Path) -> list[Contender]:
    """Those that the wanted lines need."""
    chosen = [ringminus(image, OURS)]
    if any(line not in COSTS for line in lines):
        chosen += [qemu(image, VMLINUX, image.vmlinux), qemu(image, BZIMAGE, image.bzimage)]
    for cost, options in COSTS.items():
        if cost in lines:
            to_file = ("--log-file", str(log)) if "--log" in options else ()
            chosen.append(ringminus(image, cost, (*options, *to_file)))
    return chosen


def run_rounds(chosen: Sequence[Contender], work: Sequence[str], rounds: int, timeout: float) -> Results:
    """A boot of each that does not count (it fills the caches), then the rounds."""
    for contender in chosen:
        print(f"warming up  {contender.name}", file=sys.stderr)
        measure(contender, (), timeout)
    results = Results({contender.name: [] for contender in chosen})
    for number in range(1, rounds + 1):
        for contender in chosen:
            run = measure(contender, work, timeout)
            results.runs[contender.name].append(run)
            times = f"boot {run.seconds['boot']:.2f} s, whole {run.seconds['whole']:.2f} s"
            print(f"round {number}/{rounds}  {contender.name:<15}  {times}", file=sys.stderr)
            for error in run.clock_errors():
                print(f"            the guest's clock is off, and not used: {error}", file=sys.stderr)
    return results


def _verdict(line: str, ratio: float) -> str:
    target = TARGETS.get(line)
    if target is None:
        return "-"
    return f"{target:.2f} {'met' if ratio <= target else 'missed'}"


def table(results: Results, lines: Sequence[str]) -> str:
    """The figures in plain text columns."""
    rows = []
    if VMLINUX in results.runs:
        rows.append(["line", f"{OURS} s", f"{VMLINUX} s", "ratio", f"{BZIMAGE} s", "target"])
        for line in [line for line in lines if line not in COSTS]:
            ratio = results.ratio(OURS, VMLINUX, line)
            seconds = [f"{results.median(name, line):.3f}" for name in (OURS, VMLINUX, BZIMAGE)]
            rows.append([line, *seconds[:2], f"{ratio:.2f}", seconds[2], _verdict(line, ratio)])
    text = _columns(rows)
    costs = [line for line in lines if line in COSTS]
    if costs:
        rows = [["cost of", "boot s", "ratio", "whole run s", "ratio"]]
        for name in (OURS, *costs):
            row = ["nothing" if name == OURS else " ".join(COSTS[name])]
            for line in ("boot", "whole"):
                row += [f"{results.median(name, line):.3f}", f"{results.ratio(name, OURS, line):.2f}"]
            rows.append(row)
        text += ("\n" if text else "") + _columns(rows)
    return text


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text: the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip() + "\n")
    return "".join(lines)


def as_json(results: Results, lines: Sequence[str], image: BenchImage) -> dict[str, Any]:
    """Every figure, with its spread, for a program."""

    def spread(contender: str, line: str) -> dict[str, Any]:
        seconds = results.seconds(contender, line)
        return {"median": median(seconds), "min": min(seconds), "max": max(seconds), "seconds": seconds}

    out: dict[str, Any] = {
        "kernel": image.kernel_version,
        "host": {"machine": platform.machine(), "system": platform.release(), "processors": os.cpu_count()},
        "lines": {},
        "costs": {},
        "by_the_guests_clock": {
            name: [run.guest_seconds for run in runs] for name, runs in results.runs.items()
        },
    }
    for line in lines:
        if line in COSTS:
            out["costs"][line] = {
                "options": list(COSTS[line]),
                **{
                    what: {
                        "without": spread(OURS, what),
                        "with": spread(line, what),
                        "ratio": results.ratio(line, OURS, what),
                    }
                    for what in ("boot", "whole")
                },
            }
        else:
            out["lines"][line] = {
                "target": TARGETS.get(line),
                "ratio": results.ratio(OURS, VMLINUX, line),
                "seconds": {name: spread(name, line) for name in (OURS, VMLINUX, BZIMAGE)},
            }
    return out


def _chosen_lines(text: str) -> list[str]:
    known = ["boot", *WORK, *COSTS]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(
            f"no line is named {', '.join(unknown)}: there are {', '.join(known)}"
        )
    return [name for name in known if name in names] if names else known


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure ringminus side by side with QEMU.")
    parser.add_argument(
        "--guest", type=Path, default=GUEST, help="a built guest, for its kernel (.cache/guest)"
    )
    parser.add_argument("--runs", type=_positive, default=5, help="rounds (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument(
        "--only", type=_chosen_lines, default=_chosen_lines(""), metavar="LINES", help="lines, commas between"
    )
    parser.add_argument("--timeout", type=_positive, default=180, help="for one boot (default: 180 seconds)")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> int:
    """The whole measurement; 1 when a contender computed something else."""
    lines: list[str] = arguments.only
    # a cost is that of a whole run, so it has work to do even where no line of it is wanted
    work = [line for line in lines if line in WORK] or (list(WORK) if set(lines) & set(COSTS) else [])
    image = prepare(arguments.guest)
    with tempfile.TemporaryDirectory(prefix="ringminus-bench-") as directory:
        chosen = contenders(image, lines, Path(directory) / "events.log")
        results = run_rounds(chosen, work, arguments.runs, float(arguments.timeout))
    if disagreements := results.disagreements():
        print("The contenders do not agree on a result:", *disagreements, sep="\n  ", file=sys.stderr)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(results, lines, image), indent=2) + "\n")
    print(f"Linux {image.kernel_version}, medians of {arguments.runs}, checksums agree\n")
    print(table(results, lines), end="")
    return 0


def _on_terminate(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _on_terminate)  # so that a child does not outlive us
    try:
        return run(arguments)
    except (HostError, ConfigError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

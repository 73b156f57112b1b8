"""A guest's device, side by side with QEMU's: the same kernel and initrd in both, the same work, and all
timed by this process's clock, between the moment in which a piece of work begins and the one in which it
ends."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from contenders import MEMORY_MIB, Contender, Run, measure, our_program
from image import BenchImage

from ringminus.cpu.software.engine import SoftwareEngine
from ringminus.errors import ConfigError, HostError
from ringminus.memory import MIB, GuestMemory
from ringminus.tap import Tap

OURS, QEMU = "ringminus", "QEMU"
TARGET = 0.8
GUEST = Path(__file__).parent.parent / ".cache" / "guest"


@dataclass(frozen=True, slots=True)
class Line:
    """One piece of work: its result's unit, and by what the amount that the guest's script tells is to be
    multiplied for that."""

    name: str
    unit: str
    scale: float = 1.0

    def rate(self, run: Run) -> float:
        """What one run did in a second."""
        return int(run.checksums[self.name]) / run.seconds[self.name] * self.scale


MEGABYTES = MIB / 1e6  # in a MiB


def append(script: str) -> str:
    """The guest's command line, to which the names of the lines are added."""
    return f"quiet ringminus.run=/{script} ringminus.end=reboot "


def ours(image: BenchImage, options: Sequence[str], words: str) -> Contender:
    """Our command, with these options for the device."""
    command = (*our_program(), "run", "--kernel", str(image.bzimage), "--initrd", str(image.initrd))
    command += ("--memory", f"{MEMORY_MIB}M", "--console", "stdio", "--no-reboot", *options)
    return Contender(OURS, (*command, "--append", f"{words}bench.only="))


def tsc_khz() -> int:
    """The host's TSC, which is the guest's in QEMU, too."""
    memory = GuestMemory(2 * MIB)
    engine = SoftwareEngine(memory, Tap())
    try:
        return engine.clock.tsc_hz // 1000
    finally:
        engine.close()


def qemu(image: BenchImage, options: Sequence[str], words: str) -> Contender:
    """QEMU's smallest machine. It finds its devices by ACPI here: Debian's kernel takes no virtio-mmio
    devices from its command line."""
    command: tuple[str, ...] = ("qemu-system-x86_64", "-M", "microvm,acpi=on,pit=on,pic=on,rtc=on")
    command += ("-accel", "tcg", "-cpu", "qemu64", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config")
    command += ("-nographic", "-serial", "stdio", "-no-reboot")
    command += ("-kernel", str(image.vmlinux), "-initrd", str(image.initrd), *options)
    # a busy host makes the guest fail to calibrate its TSC, and then it hangs
    clock = f"tsc=reliable tsc_early_khz={tsc_khz()}"
    return Contender(QEMU, (*command, "-append", f"console=ttyS0 reboot=t {clock} {words}bench.only="))


def table(runs: dict[str, list[Run]], lines: Sequence[Line]) -> tuple[str, dict[str, Any]]:
    """The medians for a person, and all figures for a program."""
    text = f"{'line':<18}{'unit':>6}{OURS:>12}{QEMU:>12}{'ratio':>8}  target\n"
    data: dict[str, Any] = {}
    for line in lines:
        rates = {name: [line.rate(run) for run in made] for name, made in runs.items()}
        mine, theirs = median(rates[OURS]), median(rates[QEMU])
        ratio = mine / theirs
        text += f"{line.name:<18}{line.unit:>6}{mine:>12,.0f}{theirs:>12,.0f}{ratio:>8.2f}"
        text += f"  {TARGET} {'met' if ratio >= TARGET else 'missed'}\n"
        data[line.name] = {"unit": line.unit, "rates": rates, "ratio": ratio}
    return text, data


Prepared = tuple[BenchImage, list[Contender]]


def _run(
    what: str,
    lines: Sequence[Line],
    prepare: Callable[[Path], AbstractContextManager[Prepared]],
    arguments: argparse.Namespace,
) -> None:
    wanted = wanted_lines(arguments.only, lines)
    with prepare(arguments.guest) as (image, chosen):
        runs: dict[str, list[Run]] = {contender.name: [] for contender in chosen}
        for number in range(1, arguments.runs + 1):
            for contender in chosen:
                print(f"{what}, round {number}/{arguments.runs}: {contender.name}", file=sys.stderr)
                runs[contender.name].append(measure(contender, wanted, arguments.timeout))
    text, data = table(runs, [line for line in lines if line.name in wanted])
    if arguments.json:
        arguments.json.write_text(json.dumps(data, indent=2) + "\n")
    rounds = f"medians of {arguments.runs}; above 1 is faster than QEMU"
    print(f"Linux {image.kernel_version}, {rounds}\n\n{text}", end="")


def parser(description: str, runs: int) -> argparse.ArgumentParser:
    """What all these benchmarks may be told."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--guest", type=Path, default=GUEST, help="a built guest, for its kernel (.cache/guest)"
    )
    made.add_argument("--runs", type=int, default=runs, help=f"rounds (default: {runs})")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    made.add_argument("--only", metavar="LINES", help="lines, commas between")
    made.add_argument("--timeout", type=float, default=240, help="for one boot (default: 240 seconds)")
    return made


def wanted_lines(only: str | None, lines: Sequence[Line]) -> list[str]:
    """The names of `--only`, or all; raises `ConfigError` for one that is not there."""
    names = [line.name for line in lines]
    wanted = only.split(",") if only else names
    if unknown := [name for name in wanted if name not in names]:
        raise ConfigError(f"no line is named {', '.join(unknown)}: there are {', '.join(names)}")
    return wanted


def ended(work: Callable[[], None]) -> int:
    """Do it; gives the exit status."""
    try:
        work()
    except (HostError, ConfigError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def main(
    what: str, lines: Sequence[Line], prepare: Callable[[Path], AbstractContextManager[Prepared]]
) -> int:
    """Measure as the command line says; `prepare(guest)` gives the image and whom to compare."""
    arguments = parser(f"A guest's {what}, side by side with QEMU.", runs=3).parse_args()
    return ended(lambda: _run(what, lines, prepare, arguments))

"""The programs that are compared, and one timed run of one of them."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from image import SCRIPT_IN_GUEST, BenchImage

from ringminus.errors import HostError
from ringminus.guest.init_script import STARTED

MEMORY_MIB = 512
_APPEND = f"quiet ringminus.modules=no ringminus.run=/{SCRIPT_IN_GUEST} ringminus.end=reboot bench.only="
# how far a guest's clock may be from ours: what the pipe and the two schedulers may add, and a share
_CLOCK_SLACK, _CLOCK_TOLERANCE = 0.05, 0.05
# as an installed program we find our bytecode made, wherever this runs
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that boots the image, the benchmarks' names being put after its last word."""

    name: str
    command: tuple[str, ...]

    def arguments(self, only: Sequence[str]) -> list[str]:
        return [*self.command[:-1], self.command[-1] + (",".join(only) or "none")]


@dataclass(slots=True)
class Run:
    """What one run gave: seconds by line (`boot` and `whole` among them) by our clock, those of the guest's
    own clock, and checksums."""

    seconds: dict[str, float] = field(default_factory=dict)
    guest_seconds: dict[str, float] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)

    def clock_errors(self) -> list[str]:
        """Lines where the guest's clock went clearly wrong."""
        return [
            f"{line}: {theirs:.3f} s by the guest's clock, {self.seconds[line]:.3f} s by ours"
            for line, theirs in self.guest_seconds.items()
            if abs(self.seconds[line] - theirs) > _CLOCK_SLACK + _CLOCK_TOLERANCE * self.seconds[line]
        ]


def our_program() -> tuple[str, ...]:
    """The command of the environment that runs this program."""
    program = Path(sys.executable).parent / "ringminus"
    if not program.exists():
        raise HostError(f"{program} is missing: run this with the project's own Python, by `make bench`")
    return (str(program),)


def ringminus(image: BenchImage, name: str, options: Sequence[str] = ()) -> Contender:
    """Our own command, from the environment that runs this program; it takes the bzImage as it is."""
    command: tuple[str, ...] = (
        *our_program(),
        "run",
        "--kernel",
        str(image.bzimage),
        "--initrd",
        str(image.initrd),
    )
    command += ("--memory", f"{MEMORY_MIB}M", "--console", "stdio", "--no-reboot", *options)
    return Contender(name, (*command, "--append", _APPEND))


def qemu(image: BenchImage, name: str, kernel: Path) -> Contender:
    """QEMU's smallest machine with its translator.

    The processor is qemu64, the faster of two for QEMU: with max it boots in the same time, and the work
    takes it about 8 % more processor time.
    """
    command: tuple[str, ...] = (
        "qemu-system-x86_64",
        "-M",
        "microvm,acpi=off,pit=on,pic=on,rtc=on",
        "-accel",
        "tcg",
    )
    command += ("-cpu", "qemu64", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-nographic")
    command += ("-serial", "stdio", "-no-reboot", "-kernel", str(kernel), "-initrd", str(image.initrd))
    return Contender(name, (*command, "-append", f"console=ttyS0 reboot=t {_APPEND}"))


@contextlib.contextmanager
def child(arguments: list[str], errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a process group of its own, which does not outlive the block."""
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env=_ENVIRONMENT,
        )
    except FileNotFoundError:
        raise HostError(f"{arguments[0]} is not installed") from None
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def timed_lines(pipe: IO[bytes], deadline: float) -> Iterator[tuple[float, str]]:
    """Each line with the time when its end was read. Raises `TimeoutError` at the deadline."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            data = os.read(pipe.fileno(), 1 << 16)
            at = time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield at, line.decode("utf-8", "replace").strip()
            if not data:
                return


def _take(run: Run, line: str, at: float, start: float, begun: dict[str, float]) -> None:
    """Add what one console line tells. Time is taken by our clock, the only one that all have in common:
    without Hyper-V's clocks QEMU's guest counts timer ticks, and loses some when the host is busy."""
    words = line.split()
    if line == STARTED:
        run.seconds["boot"] = at - start
    elif line.startswith("BEGIN ") and len(words) == 2:
        begun[words[1]] = at
    elif line.startswith("BENCH ") and len(words) == 4 and words[1] in begun:
        name = words[1]
        run.seconds[name], run.guest_seconds[name] = at - begun[name], float(words[2])
        run.checksums[name] = words[3]


def measure(contender: Contender, only: Sequence[str], timeout: float) -> Run:
    """Boot once, run the benchmarks `only`, and wait for the end. Raises `HostError` when it goes wrong."""
    run = Run()
    begun: dict[str, float] = {}
    console: list[str] = []

    def failure(what: str) -> HostError:
        errors.seek(0)
        last = "\n".join(["", *console[-15:], errors.read().decode("utf-8", "replace")[-2000:]])
        return HostError(f"{contender.name}: {what}{last.rstrip()}")

    with tempfile.TemporaryFile() as errors:
        start = time.monotonic()
        with child(contender.arguments(only), errors) as process:
            assert process.stdout is not None
            try:
                for at, line in timed_lines(process.stdout, start + timeout):
                    console.append(line)
                    _take(run, line, at, start, begun)
                status = process.wait(max(0.1, start + timeout - time.monotonic()))
            except (TimeoutError, subprocess.TimeoutExpired):
                raise failure(f"no end after {timeout:.0f} s") from None
            run.seconds["whole"] = time.monotonic() - start
        if status != 0:
            raise failure(f"ended with status {status}")
        if missing := [name for name in ("boot", *only) if name not in run.seconds]:
            raise failure(f"no result for {', '.join(missing)}")
    return run

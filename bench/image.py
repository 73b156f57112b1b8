"""What the benchmarks boot: the demo guest with the program `work` in it, and its kernel unpacked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import HostError
from ringminus.guest.build import DEFAULT_KERNEL_PACKAGE, build
from ringminus.machine.loader.cache import write_atomically
from ringminus.machine.loader.image import extract_kernel

SOURCES = Path(__file__).parent / "guest"
SCRIPT_IN_GUEST = "bin/bench.sh"
COMPILE_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class BenchImage:
    """The files that are booted: the same kernel twice, packed and as ELF, and one initrd."""

    bzimage: Path
    vmlinux: Path
    initrd: Path
    kernel_version: str


def _compile(directory: Path) -> bytes:
    program = directory / "work"
    # without errno, sqrt is the instruction and nothing else
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-fno-math-errno", "-static", "-o", str(program)]
    command += [str(SOURCES / "work.c"), "-lm"]
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT)
    except FileNotFoundError:
        raise HostError("gcc is needed to build the guest's benchmark program") from None
    except subprocess.TimeoutExpired:
        raise HostError("gcc does not end") from None
    if made.returncode != 0:
        raise HostError(f"gcc cannot build {SOURCES / 'work.c'}:\n{made.stderr}")
    return program.read_bytes()


def _kernel_source(guest: Path) -> tuple[str, str | None]:
    """The package and suite that the demo guest in `guest` was made from, to measure the same kernel."""
    try:
        recipe = json.loads((guest / "guest.json").read_bytes())["recipe"]
        return recipe["kernel_package"], recipe["suite"]
    except FileNotFoundError:
        return DEFAULT_KERNEL_PACKAGE, None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HostError(f"cannot read {guest / 'guest.json'}: {error}") from None


def _show(step: str, fraction: float) -> None:
    print(f"\r{step} {fraction:4.0%} ", end="", file=sys.stderr, flush=True)


def prepare_with(
    guest: Path, name: str, extra: Mapping[str, bytes], modules: Sequence[str] = ()
) -> BenchImage:
    """Build an image called `name` beside the demo guest `guest`, from the same packages, with those files
    and kernel modules in its initrd; cached. Raises `HostError`."""
    directory = guest.resolve().parent / name
    directory.mkdir(parents=True, exist_ok=True)
    package, suite = _kernel_source(guest)
    image = build(directory, _show, kernel_package=package, suite=suite, extra=extra, modules=modules)
    if not image.cached:
        print(file=sys.stderr)
    vmlinux = directory / "vmlinux"
    if not vmlinux.exists() or vmlinux.stat().st_mtime < image.kernel.stat().st_mtime:
        write_atomically(vmlinux, bytes(extract_kernel(image.kernel)))
    return BenchImage(image.kernel, vmlinux, image.initrd, image.kernel_version)


def prepare(guest: Path) -> BenchImage:
    """The image with the program `work` in it. Raises `HostError`."""
    directory = guest.resolve().parent / "bench"
    directory.mkdir(parents=True, exist_ok=True)  # for the program
    extra = {"bin/work": _compile(directory), SCRIPT_IN_GUEST: (SOURCES / "bench.sh").read_bytes()}
    return prepare_with(guest, "bench", extra)

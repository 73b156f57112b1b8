"""`ringminus guest`: making a guest to boot."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ringminus.errors import ConfigError, HostError
from ringminus.guest.build import DEFAULT_KERNEL_PACKAGE, GuestImage, as_json, build
from ringminus.guest.packages import Progress as ProgressCallback


@click.group()
def guest() -> None:
    """Make a guest to boot."""


@contextmanager
def _progress() -> Iterator[ProgressCallback]:
    """A bar for each step on a terminal; elsewhere a line for each; both on standard error."""
    if not sys.stderr.isatty():
        named: set[str] = set()

        def line(step: str, fraction: float) -> None:
            if step not in named:
                named.add(step)
                click.echo(f"{step} ...", err=True)

        yield line
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def bar(step: str, fraction: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            bars.update(tasks[step], completed=fraction)

        yield bar


def _extra_files(additions: tuple[str, ...]) -> dict[str, bytes]:
    extra = {}
    for addition in additions:
        host, separator, path = addition.rpartition(":")
        if not separator or not host or not path:
            raise ConfigError(f"--add {addition}: write HOST:GUEST, such as --add ./test.sh:/test.sh")
        try:
            extra[path] = Path(host).read_bytes()
        except OSError as error:
            raise HostError(f"cannot read {host}: {error.strerror}") from None
    return extra


def _tell(image: GuestImage, seconds: float) -> None:
    how = "was there already" if image.cached else f"built in {seconds:.1f} s"
    click.echo(f"{image.directory}: Linux {image.kernel_version}, {len(image.modules)} modules, {how}")
    kernel, initrd = shlex.quote(str(image.kernel)), shlex.quote(str(image.initrd))
    click.echo(f"boot it with: ringminus run --kernel {kernel} --initrd {initrd}")


@guest.command("build")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--kernel-package",
    metavar="NAME",
    default=DEFAULT_KERNEL_PACKAGE,
    show_default=True,
    help="Package of the kernel, or one that depends on it.",
)
@click.option("--suite", metavar="NAME", help="Prefer this distribution, such as bookworm-backports.")
@click.option("--add", "additions", metavar="HOST:GUEST", multiple=True, help="Put a file into the initrd.")
@click.option("--refresh", is_flag=True, help="Build again, from the newest packages.")
@click.option("--json", "as_data", is_flag=True, help="Print what was built as JSON.")
def build_command(
    directory: Path,
    kernel_package: str,
    suite: str | None,
    additions: tuple[str, ...],
    refresh: bool,
    as_data: bool,
) -> None:
    """Build a small Linux guest in DIRECTORY from Debian's packages, without root.

    \b
    It consists of:
      vmlinuz     Debian's own cloud kernel, unchanged
      initrd.img  busybox, every Hyper-V module, and an init that gives a shell
      guest.json  the packages that they came from, and hashes

    apt fetches and verifies the packages; its system-wide lists are used where they exist. A second
    build with the same options finds everything there and takes no time.

    \b
    Words on the guest's command line (ringminus run --append "...") steer its init:
      ringminus.script=BASE64   run this script instead of a shell, and end
      ringminus.run=PATH        run a script that is in the initrd, and end
      ringminus.modules=no      load no modules
      ringminus.end=reboot      end with a reboot instead of a power-off

    \b
    Examples:
      ringminus guest build guest
      ringminus guest build guest-new --suite bookworm-backports
      ringminus guest build guest-test --add ./test.sh:/test.sh
    """
    start = time.monotonic()
    extra = _extra_files(additions)
    with _progress() as progress:
        image = build(
            directory, progress, kernel_package=kernel_package, suite=suite, extra=extra, refresh=refresh
        )
    if as_data:
        click.echo(json.dumps(as_json(image), indent=2))
    else:
        _tell(image, time.monotonic() - start)

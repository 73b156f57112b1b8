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
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ringminus.cli.disk import human
from ringminus.cli.interrupts import interruptible
from ringminus.errors import ConfigError, HostError
from ringminus.guest.build import DEFAULT_KERNEL_PACKAGE, GuestImage, as_json, build
from ringminus.guest.packages import Progress as ProgressCallback
from ringminus.guest.rootfs import DEFAULT_SIZE, RootImage, RootOptions, build_with_root
from ringminus.guest.rootfs import as_json as root_as_json
from ringminus.machine.config import parse_size

EPILOG = """\b
Words on the guest's command line (ringminus run --append "...") steer its init:
  root=/dev/sda             go on with the system on this disk (also LABEL=NAME, UUID=ID)
  ringminus.script=BASE64   run this script instead of a shell, and end
  ringminus.run=PATH        run a script that is in the initrd, or in the root, and end
  ringminus.modules=no      load no modules
  ringminus.end=reboot      end with a reboot instead of a power-off

\b
Examples:
  ringminus guest build guest
  ringminus guest build guest --rootfs guest/root.vhdx
  ringminus guest build guest --rootfs big.vhdx --size 20G --install gdb --install vim-tiny
  ringminus guest build guest-new --suite bookworm-backports
  ringminus guest build guest-test --add ./test.sh:/test.sh"""


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
    bars = Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def bar(step: str, fraction: float) -> None:
        if step not in tasks:
            bars.start()  # not before there is something to show
            tasks[step] = bars.add_task(step, total=1.0)
        bars.update(tasks[step], completed=fraction)

    try:
        yield bar
    finally:
        if tasks:
            bars.stop()


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


def _built(cached: bool, seconds: float) -> str:
    return "was there already" if cached else f"built in {seconds:.1f} s"


def _tell(image: GuestImage, root: RootImage | None, seconds: float) -> None:
    how = _built(image.cached, seconds) if root is None or image.cached else "built too"
    click.echo(f"{image.directory}: Linux {image.kernel_version}, {len(image.modules)} modules, {how}")
    kernel, initrd = shlex.quote(str(image.kernel)), shlex.quote(str(image.initrd))
    more = ""
    if root is not None:
        sizes = f"{human(root.size)}, {human(root.file_size)} here"
        click.echo(f"{root.path}: {root.name}, {sizes}, {_built(root.cached, seconds)}")
        more = f' --disk {shlex.quote(str(root.path))} --append "quiet root=/dev/sda"'
    click.echo(f"boot it with: ringminus run --kernel {kernel} --initrd {initrd}{more}")


@guest.command("build", epilog=EPILOG)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--rootfs",
    metavar="FILE.vhdx",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also make a root file system, a disk with Debian and systemd on it.",
)
@click.option("--size", metavar="SIZE", help="Size of the root as the guest sees it.  [default: 4G]")
@click.option("--install", metavar="NAME", multiple=True, help="Install a Debian package into the root.")
@click.option(
    "--kernel-package",
    metavar="NAME",
    default=DEFAULT_KERNEL_PACKAGE,
    show_default=True,
    help="Package of the kernel, or one that depends on it.",
)
@click.option("--suite", metavar="NAME", help="Prefer this distribution, such as bookworm-backports.")
@click.option("--add", "additions", metavar="HOST:GUEST", multiple=True, help="Put a file into the initrd.")
@click.option(
    "--module",
    "modules",
    metavar="NAME",
    multiple=True,
    help="Put a kernel module and what it needs into the initrd, which loads it when it gives a shell.",
)
@click.option("--refresh", is_flag=True, help="Build again, from the newest packages.")
@click.option("--json", "as_data", is_flag=True, help="Print what was built as JSON.")
def build_command(
    directory: Path,
    rootfs: Path | None,
    size: str | None,
    install: tuple[str, ...],
    kernel_package: str,
    suite: str | None,
    additions: tuple[str, ...],
    modules: tuple[str, ...],
    refresh: bool,
    as_data: bool,
) -> None:
    """Build a small Linux guest in DIRECTORY from Debian's packages, without root.

    \b
    It consists of:
      vmlinuz     Debian's own cloud kernel, unchanged
      initrd.img  busybox, every Hyper-V module, and an init that gives a shell or goes on to a root
      guest.json  the packages that they came from, and hashes

    With --rootfs also a disk of Debian, which boots with systemd to a root shell on the console: the
    kernel's modules, Hyper-V's daemons, tools for disks and the network, fio, iperf3, `lsvmbus`, and an
    address by DHCP for each adapter. mmdebstrap installs it: as root, or as a user in a namespace of its own.
    FILE.vhdx grows as the guest fills it; beside it FILE.vhdx.json tells what is in it. A disk that a guest
    has written to is replaced only with --refresh.

    apt fetches and verifies the packages; its system-wide lists are used where they exist. A second
    build with the same options finds everything there and takes no time.
    """
    start = time.monotonic()
    extra = _extra_files(additions)
    if rootfs is None and (size is not None or install):
        raise ConfigError("--size and --install are of the root: name its file with --rootfs")
    options = RootOptions(parse_size(size) if size is not None else DEFAULT_SIZE, install, suite)
    root: RootImage | None = None
    with interruptible(), _progress() as progress:
        if rootfs is None:
            image = build(
                directory,
                progress,
                kernel_package=kernel_package,
                suite=suite,
                extra=extra,
                modules=modules,
                refresh=refresh,
            )
        else:
            image, root = build_with_root(
                directory,
                rootfs,
                progress,
                kernel_package=kernel_package,
                extra=extra,
                modules=modules,
                options=options,
                refresh=refresh,
            )
    if as_data:
        facts = as_json(image) | ({} if root is None else {"root": root_as_json(root)})
        click.echo(json.dumps(facts, indent=2))
    else:
        _tell(image, root, time.monotonic() - start)

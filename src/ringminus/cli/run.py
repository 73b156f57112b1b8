"""`ringminus run`: boot a guest."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ringminus.cli.lens_source import complete_filter_word
from ringminus.cli.terminal import is_terminal, terminal_size
from ringminus.errors import ConfigError
from ringminus.machine.config import MachineConfig, parse_disk, parse_memory
from ringminus.tap import EVENTS, Tap
from ringminus.vmbus.device import Device

if TYPE_CHECKING:
    from ringminus.cli.changing import Changing
    from ringminus.cli.session import Wishes
    from ringminus.lens.capture.options import CaptureOptions
    from ringminus.machine.gdb.address import GdbAddress
    from ringminus.machine.nics import NicConfig

FILE = click.Path(path_type=Path)
MORE_DEVICES = "ringminus.more_devices"
"""In the meta of click's context: what makes devices that another command puts into the guest."""
POINTS = (*(event.POINT for event in EVENTS), "all")
EPILOG = """\b
Exit status:
  0    the guest powered off (or restarted, with --no-reboot)
  1    something on this host is missing: a file, memory, a permission
  2    the request was wrong
  3    the guest crashed, or halted for ever
  4    triple fault
  70   a failure of ringminus itself, or of a --device
  124  time-out
  130  interrupted: by a signal, by Ctrl-], by gdb, or nobody reads the console

\b
Examples:
  ringminus run -k demo/vmlinuz -i demo/initrd.img
  ringminus run -k demo/vmlinuz -i demo/initrd.img --disk root.vhdx -a "quiet root=/dev/sda"
  ringminus run -k demo/vmlinuz -i demo/initrd.img --nic nat,forward=tcp:2222:22
  ringminus run -k vmlinux -i initrd.img -a quiet --timeout 60 --stats </dev/null
  ringminus run -k vmlinux -i initrd.img --log msrs,hypercalls --log-file log.txt
  ringminus run -k vmlinux -i initrd.img --disk root.vhdx --capture boot.pcapng"""


def _complete_points(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """What can follow in a list with commas."""
    before, comma, last = typed.rpartition(",")
    return [f"{before}{comma}{point}" for point in POINTS if point.startswith(last)]


def _complete_files(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Files, and no options after them."""
    return [CompletionItem(typed, type="file")]


def _nics(texts: tuple[str, ...]) -> tuple[NicConfig, ...]:
    if not texts:
        return ()
    from ringminus.machine.nics import parse_nics

    return parse_nics(texts)


def _gdb(text: str | None, wait: bool) -> GdbAddress | None:
    if text is None:
        if wait:
            raise ConfigError("--gdb-wait without --gdb: say where gdb will come, such as --gdb :1234")
        return None
    from ringminus.machine.gdb.address import parse_gdb

    return parse_gdb(text)


def _captures(texts: tuple[str, ...], console: str) -> tuple[CaptureOptions, ...]:
    if not texts:
        return ()
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.capture.options import parse_capture

    found = tuple(map(parse_capture, texts))
    if console != "none" and any(one.is_standard_output for one in found):
        raise ConfigError(
            "--capture - and the guest's console cannot share standard output: add --console none"
        )
    if len({one.path for one in found}) < len(found):
        raise ConfigError("--capture twice with the same file: name another")
    return found


def _devices(texts: tuple[str, ...]) -> tuple[Callable[[], Device], ...]:
    if not texts:
        return ()
    from ringminus.cli.devices import load_devices

    return load_devices(texts)


@click.command(epilog=EPILOG)
@click.option("--kernel", "-k", type=FILE, required=True, help="A bzImage, or an ELF vmlinux.")
@click.option("--initrd", "-i", type=FILE, help="An initial RAM disk.")
@click.option("--append", "-a", default="", metavar="WORDS", help="The kernel's command line.")
@click.option("--memory", "-m", default="512M", show_default=True, metavar="SIZE", help="64M to 8G.")
@click.option(
    "--disk",
    "disks",
    multiple=True,
    metavar="FILE[,OPTION...]",
    shell_complete=_complete_files,
    help="A disk: raw, VHD, VHDX, or what qemu-nbd reads. A single one is the guest's sda. "
    "Options: ro, format=NAME, sector=BYTES (raw), bus=scsi|ide, controller=N, lun=N.",
)
@click.option(
    "--dvd",
    "dvds",
    multiple=True,
    metavar="[FILE][,OPTION...]",
    shell_complete=_complete_files,
    help="A DVD drive with that ISO image in it; an empty word is an empty drive.",
)
@click.option(
    "--nic",
    "nics",
    multiple=True,
    metavar="BACKEND[,OPTION...]",
    help="A network adapter, up to 8, connected to: nat (out through this host), tap[:NAME], switch:NAME, "
    "or none. Options: mac=, vlan=, trunk=, native=, limit=, speed=, spoofing, dhcp-guard, router-guard, "
    "mirror=, link=down, capture=FILE; nat: forward=tcp:2222:22, net=, ipv6=off, restrict.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="MODULE:CLASS",
    help="A synthetic device of your own, in Python.",
)
@click.option(
    "--console",
    type=click.Choice(["tty", "stdio", "none"]),
    help="tty: this terminal is the guest's, and Ctrl-] leaves. stdio: plain standard input and output, "
    "and Ctrl-C ends. none: no console.  [default: tty on a terminal, else stdio]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after this time, over all restarts.",
)
@click.option(
    "--gdb",
    metavar="ADDRESS",
    help="Let gdb attach there: :PORT, HOST:PORT or unix:PATH.",
)
@click.option("--gdb-wait", is_flag=True, help="Do not run the guest before gdb says continue.")
@click.option(
    "--name",
    metavar="NAME",
    help="How ringminus lens finds the guest.  [default: its disk's or its kernel's name]",
)
@click.option(
    "--capture",
    "captures",
    multiple=True,
    metavar="FILE[,OPTION...]",
    shell_complete=_complete_files,
    help="Write what passes between guest and host to a pcapng file; Wireshark reads it by ringminus lens "
    "wireshark install; a named pipe, or - for standard output. Options: size=100M, files=5 (then the "
    "latest files are kept), points=exits+packets, data (what packets' memory held, for ringminus replay), "
    "filter=FILTER (the last).",
)
@click.option(
    "--addon",
    "addons",
    multiple=True,
    metavar="FILE[,KEY=VALUE...]",
    shell_complete=_complete_files,
    help="Python that sees and changes what crosses the boundary; ringminus lens hooks tells what it may be.",
)
@click.option(
    "--break",
    "breaks",
    multiple=True,
    metavar="FILTER",
    shell_complete=complete_filter_word,
    help="Stop the guest at such events, and open a prompt; so do Ctrl-C, and Ctrl-] on a terminal. Where "
    "standard input is no terminal, it is for the prompt.",
)
@click.option("--symbols", type=FILE, help="Names for the prompt: a vmlinux, System.map or kallsyms.")
@click.option("--no-reboot", is_flag=True, help="End where the guest restarts.")
@click.option("--stats", is_flag=True, help="At the end, tell what left the guest, how often, at what cost.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="The statistics as JSON; on standard output with --console none, else on standard error.",
)
@click.option(
    "--log",
    metavar="EVENTS",
    shell_complete=_complete_points,
    help=f"Print events, one line each, to standard error: {', '.join(POINTS)}; commas between.",
)
@click.option("--log-file", type=FILE, help="Print them to this file instead.")
def run(
    kernel: Path,
    initrd: Path | None,
    append: str,
    memory: str,
    disks: tuple[str, ...],
    dvds: tuple[str, ...],
    nics: tuple[str, ...],
    devices: tuple[str, ...],
    console: str | None,
    timeout: float | None,
    gdb: str | None,
    gdb_wait: bool,
    name: str | None,
    captures: tuple[str, ...],
    addons: tuple[str, ...],
    breaks: tuple[str, ...],
    symbols: Path | None,
    no_reboot: bool,
    stats: bool,
    as_json: bool,
    log: str | None,
    log_file: Path | None,
) -> None:
    """Boot a guest and run it to its end.

    Its console is its first serial port: `console=ttyS0` is put before the command line unless that names
    a console of its own, or --console is none.

    On a terminal the guest gets every key but Ctrl-]. A serial line has no way to tell of the terminal's
    size: the demo guest finds it in `ringminus.size=ROWSxCOLUMNS`, which is put before the command line
    too. When the window changes later, tell the guest with `stty rows R cols C`, or with xterm's `resize`,
    which asks the terminal through the line.
    """
    console = console or ("tty" if is_terminal() else "stdio")
    if console == "tty" and not is_terminal():
        raise ConfigError("--console tty needs a terminal: say --console stdio")
    if log_file is not None and log is None:
        raise ConfigError("--log-file without --log: name the events, such as --log exits,hypercalls")
    if log is not None and console == "tty" and log_file is None:
        raise ConfigError("--log would write across the guest's screen: add --log-file FILE")
    config = MachineConfig(
        kernel,
        initrd,
        command_line(append, console),
        parse_memory(memory),
        (*map(parse_disk, disks), *(parse_disk(dvd, dvd=True) for dvd in dvds)),
        _nics(nics),
        (*_devices(devices), *click.get_current_context().meta.get(MORE_DEVICES, ())),
    )
    tap = Tap()
    with contextlib.ExitStack() as stack:
        if log is not None:
            _start_log(stack, tap, log, log_file)
        from ringminus.cli.session import Wishes

        debugger, files = _gdb(gdb, gdb_wait), _captures(captures, console)
        changing = _changing(tap, addons, breaks, symbols)
        wishes = Wishes(console, timeout, not no_reboot, debugger, gdb_wait, name, files, changing)
        status = _run(config, wishes, tap, stats, as_json)
    sys.exit(status)


def _changing(
    tap: Tap, addons: tuple[str, ...], breaks: tuple[str, ...], symbols: Path | None
) -> Changing | None:
    if not addons and not breaks:
        if symbols is not None:
            raise ConfigError("--symbols without --break: say where to stop, such as --break scsi")
        return None
    from ringminus.cli.changing import Changing

    return Changing(tap, addons, breaks, symbols)


def _start_log(stack: contextlib.ExitStack, tap: Tap, points: str, path: Path | None) -> None:
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.log import EventLog, parse_points

    stack.enter_context(EventLog(tap, parse_points(points), path))


def _run(config: MachineConfig, wishes: Wishes, tap: Tap, stats: bool, as_json: bool) -> int:
    """Run, report, and give the exit status."""
    from ringminus.cli.report import STATUS, say, tell_end
    from ringminus.cli.session import Session

    statistics = None
    if stats or as_json:
        from ringminus.lens.stats import Statistics

        statistics = Statistics(tap)
    session = Session(config, wishes, tap, statistics)
    outcome = session.run()
    tell_end(outcome, session.last_lines.text())
    if statistics is not None and as_json:
        say(statistics.as_json(), err=wishes.console != "none")
    elif statistics is not None:
        statistics.show(sys.stderr)
    return STATUS[outcome.end]


def command_line(append: str, console: str) -> str:
    """The guest's command line: what the person wants, after what the console needs."""
    words = []
    if console != "none" and not any(word.startswith("console=") for word in append.split()):
        words.append("console=ttyS0")
    size = terminal_size() if console == "tty" else None
    if size is not None:
        words.append(f"ringminus.size={size[0]}x{size[1]}")
    return " ".join([*words, append]).strip()

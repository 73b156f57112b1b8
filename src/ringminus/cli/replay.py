"""`ringminus replay`: play one side of a recorded channel again."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ringminus.cli.devices import load_devices
from ringminus.cli.progress import progress
from ringminus.cli.run import MORE_DEVICES
from ringminus.cli.run import run as run_command
from ringminus.errors import ConfigError
from ringminus.machine.config import parse_disk

if TYPE_CHECKING:
    from ringminus.machine.replay.recording import RecordedDevice, Recording
    from ringminus.machine.replay.result import Result
    from ringminus.vmbus.device import Device

DIFFERENT = 1
ABOUT_GUEST = "Options of ringminus run, for the guest of --side host"
EPILOG = """\b
Exit status:
  0    all messages were as they were recorded
  1    some were not, or something on this host is missing
  2    the request was wrong
  With --side host, that of ringminus run if the guest did not power off.

\b
Examples:
  ringminus run -k demo/vmlinuz -i demo/initrd.img --disk root.vhdx,ro --capture boot.pcapng,data
  ringminus replay boot.pcapng --side guest
  ringminus replay boot.pcapng --side guest --channel SCSI --disk root.vhdx
  ringminus replay boot.pcapng --side host --channel SCSI -k demo/vmlinuz -i demo/initrd.img
  ringminus run -k demo/vmlinuz -i demo/initrd.img --nic nat --capture net.pcapng
  ringminus replay net.pcapng --side host --channel "NIC 0" -k demo/vmlinuz -i demo/initrd.img"""


class ReplayCommand(click.Command):
    """It has the options of `ringminus run`, too, which its help names after its own."""

    own = ("file", "side", "channel", "disks", "as_json", "devices", "help")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        names = {one.name for one in self.params}
        for parameter in run_command.params:
            if parameter.name not in names:
                taken = copy.copy(parameter)
                taken.required = False
                self.params.append(taken)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS] FILE"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and parameter.name != "file":
                found[parameter.name in self.own].append(record)
        for is_own, title in ((True, "Options"), (False, ABOUT_GUEST)):
            with formatter.section(title):
                formatter.write_dl(found[is_own])


@click.command(cls=ReplayCommand, epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--side", type=click.Choice(["guest", "host"]), required=True, help="Whose part is played.")
@click.option("--channel", metavar="NAME|RELID", help="Which channel, if several were recorded.")
@click.option(
    "--disk",
    "disks",
    multiple=True,
    metavar="FILE[,OPTION...]",
    help="With --side guest, a disk of the recorded storage channel: nothing is written to it. Without one "
    "it is made from what the recording tells. With --side host, one more of the guest, as of ringminus run.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="MODULE:CLASS",
    help="With --side guest, the device to play to; with --side host, one more of the guest.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def replay(
    file: Path,
    side: str,
    channel: str | None,
    disks: tuple[str, ...],
    devices: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Play one side of a recorded channel again, and compare.

    FILE is a capture of ringminus run. With --side guest the recorded guest's packets are sent to our own
    device, without a guest, and what the device answers is compared with what was recorded. With --side host
    a guest is booted that finds the recorded device, which answers as the recorded one did.
    """
    import ringminus.cli.protocols  # noqa: F401

    _check(side, options)
    recording = _read(file)
    recorded = recording.device(channel)
    if side == "guest":
        result, status = _play_guest(recording, recorded, disks, load_devices(devices)), 0
    else:
        result, status = _play_host(recorded, {**options, "disks": disks, "devices": devices})
    from ringminus.cli.replay_view import as_text, show

    err = side == "host" and options["console"] != "none"
    if as_json:
        click.echo(as_text(recorded.title, recorded.relid, side, result), err=err)
    else:
        show(f"{recorded.title}, relid {recorded.relid}", side, result, err=err)
    sys.exit(status or (0 if result.same else DIFFERENT))


def _check(side: str, options: dict[str, Any]) -> None:
    context = click.get_current_context()
    if side == "host" and options["kernel"] is None:
        raise ConfigError("--side host needs a guest: name its kernel with --kernel, as of ringminus run")
    if side == "guest":
        for parameter in context.command.params:
            name = parameter.name or ""
            given = name in options and context.get_parameter_source(name)
            if given is click.core.ParameterSource.COMMANDLINE:
                raise ConfigError(f"--side guest boots no guest: leave out {parameter.opts[0]}")


def _read(file: Path) -> Recording:
    from ringminus.lens.capture.reader import open_capture
    from ringminus.machine.replay.recording import Recording

    with open_capture(file) as source:
        return Recording(source)


def _play_guest(
    recording: Recording,
    recorded: RecordedDevice,
    disks: tuple[str, ...],
    factories: tuple[Callable[[], Device], ...],
) -> Result:
    from ringminus.machine.replay.devices import make
    from ringminus.machine.replay.guest import GuestReplay

    made = make(recorded, [parse_disk(disk) for disk in disks], factories)
    with contextlib.ExitStack() as stack:
        for disk in made.disks:
            stack.callback(disk.close)
        player = GuestReplay(recorded, made.device, recording.version, made.network)
        stack.callback(player.close)
        with progress(f"replaying {recorded.title}") as told:
            return player.run(told)


def _play_host(recorded: RecordedDevice, options: dict[str, Any]) -> tuple[Result, int]:
    """Run a guest with the recorded device; gives the exit status of its run as well."""
    from ringminus.machine.replay.devices import host_of
    from ringminus.machine.replay.result import Result

    result = Result()
    context = click.get_current_context()
    context.meta[MORE_DEVICES] = (lambda: host_of(recorded, result),)
    status = 0
    try:
        # a guest that restarts would find the disk as it was recorded, and not what it has written
        context.invoke(run_command, **{**options, "no_reboot": True})
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    return result, status

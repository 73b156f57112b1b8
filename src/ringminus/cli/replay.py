"""`ringminus replay`: play one side of a recorded channel again."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ringminus.cli.progress import progress
from ringminus.errors import ConfigError
from ringminus.machine.config import parse_disk

if TYPE_CHECKING:
    from ringminus.machine.replay.compare import Difference
    from ringminus.machine.replay.guest import Result
    from ringminus.machine.replay.recording import Recording

DIFFERENT = 1
MARKS = {"changed": "~", "missing": "-", "extra": "+", "failed": "!"}
MEANINGS = {
    "changed": "is not as it was recorded",
    "missing": "did not come",
    "extra": "was not recorded",
    "failed": "",
}
EPILOG = """\b
Exit status:
  0    all messages were as they were recorded
  1    some were not, or something on this host is missing
  2    the request was wrong

\b
Examples:
  ringminus run -k demo/vmlinuz -i demo/initrd.img --disk root.vhdx,ro --capture boot.pcapng,data
  ringminus replay boot.pcapng --side guest
  ringminus replay boot.pcapng --side guest --channel SCSI --disk root.vhdx"""


@click.command(epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--side", type=click.Choice(["guest", "host"]), required=True, help="Whose part is played.")
@click.option("--channel", metavar="NAME|RELID", help="Which channel, if several were recorded.")
@click.option(
    "--disk",
    "disks",
    multiple=True,
    metavar="FILE[,OPTION...]",
    help="A disk of the recorded storage channel, as of ringminus run; nothing is written to it. "
    "Without one it is made from what the recording tells.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def replay(file: Path, side: str, channel: str | None, disks: tuple[str, ...], as_json: bool) -> None:
    """Play one side of a recorded channel again, and compare.

    FILE is a capture of ringminus run --capture. With --side guest the recorded guest's packets are sent to
    our own device, without a guest, and what the device answers is compared with what was recorded.
    """
    import ringminus.cli.protocols  # noqa: F401

    recording = _read(file)
    recorded = recording.device(channel)
    from ringminus.machine.replay.devices import make
    from ringminus.machine.replay.guest import GuestReplay

    made = make(recorded, [parse_disk(disk) for disk in disks])
    with contextlib.ExitStack() as stack:
        for disk in made.disks:
            stack.callback(disk.close)
        player = GuestReplay(recorded, made.device, recording.version)
        stack.callback(player.close)
        with progress(f"replaying {recorded.title}") as told:
            result = player.run(told)
    if as_json:
        click.echo(_json(recorded.title, recorded.relid, side, result))
    else:
        _show(f"{recorded.title}, relid {recorded.relid}", result)
    sys.exit(0 if result.same else DIFFERENT)


def _read(file: Path) -> Recording:
    from ringminus.lens.capture.reader import open_capture
    from ringminus.machine.replay.recording import Recording

    if not file.exists():
        raise ConfigError(f"{file} is not there: record one with ringminus run --capture {file}")
    with open_capture(file) as source:
        return Recording(source)


def _json(title: str, relid: int, side: str, result: Result) -> str:
    return json.dumps(
        {
            "channel": title,
            "relid": relid,
            "side": side,
            "same": result.same,
            "sent": result.sent,
            "compared": result.compared,
            "differences": [asdict(one) for one in result.differences],
            "notes": result.notes,
        }
    )


def _show(title: str, result: Result) -> None:
    for one in result.differences:
        _show_difference(one)
    differ = len(result.differences)
    words = f"{differ} differ{'s' * (differ == 1)}" if differ else "all the same"
    click.echo(f"{title}: {result.sent} packets sent, {result.compared} answers compared, {words}")
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


def _show_difference(one: Difference) -> None:
    color = {"+": "green", "-": "red"}
    mark = MARKS[one.what]
    number = f"#{one.sequence} " if one.sequence else ""
    click.secho(f"{mark} {number}{one.message} {MEANINGS[one.what]}".rstrip(), bold=True)
    if one.answers:
        click.echo(f"  it answers {one.answers}")
    if one.note:
        click.echo(f"  {one.note}")
    for change in one.changes:
        for sign, text in (("-", change.recorded), ("+", change.replayed)):
            if text is not None:
                click.secho(f"  {sign} {change.field}: {text}", fg=color[sign])

"""How a replay's result is shown."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ringminus.machine.replay.compare import Difference
    from ringminus.machine.replay.result import Result

MARKS = {"changed": "~", "missing": "-", "extra": "+", "failed": "!"}
MEANINGS = {
    "changed": "is not as it was recorded",
    "missing": "did not come",
    "extra": "was not recorded",
    "failed": "",
}
COLORS = {"+": "green", "-": "red"}


def as_text(title: str, relid: int, side: str, result: Result) -> str:
    """As JSON."""
    return json.dumps(
        {
            "channel": title,
            "relid": relid,
            "side": side,
            "same": result.same,
            "sent": result.sent,
            "compared": result.compared,
            "differences": [
                {**asdict(one), "changes": [change._asdict() for change in one.changes]}
                for one in result.differences
            ],
            "notes": result.notes,
        }
    )


def show(title: str, side: str, result: Result, *, err: bool) -> None:
    """As lines, for a person."""
    for one in result.differences:
        _show_difference(one, err)
    differ = len(result.differences)
    words = f"{differ} differ{'s' * (differ == 1)}" if differ else "all the same"
    compared = "answers" if side == "guest" else "packets of the guest"
    sent = "packets" if side == "guest" else "answers"
    click.echo(f"{title}: {result.sent} {sent} sent, {result.compared} {compared} compared, {words}", err=err)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


def _show_difference(one: Difference, err: bool) -> None:
    number = f"#{one.sequence} " if one.sequence else ""
    click.secho(f"{MARKS[one.what]} {number}{one.message} {MEANINGS[one.what]}".rstrip(), bold=True, err=err)
    if one.answers:
        click.echo(f"  it answers {one.answers}", err=err)
    if one.note:
        click.echo(f"  {one.note}", err=err)
    for change in one.changes:
        for sign, text in (("-", change.recorded), ("+", change.replayed)):
            if text is not None:
                click.secho(f"  {sign} {change.field}: {text}", fg=COLORS[sign], err=err)

"""`ringminus lens list` and `fields`: what can be watched, and what filters can name."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import click

from ringminus.errors import ConfigError, RingminusError

MIB = 1 << 20


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with each guest's channels.")
def list_(as_json: bool) -> None:
    """List the guests that run and can be watched.

    \b
    Examples:
      ringminus lens list
      ringminus lens list --json | jq -r '.[].name'
    """
    from ringminus.lens.guests import guests

    found = [_facts(one.name) for one in guests()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo("\n".join(_lines(found)))
    else:
        click.echo("no guest runs: ringminus run boots one", err=True)


def _facts(name: str) -> dict[str, Any]:
    """What a guest's process says of itself, or that it says nothing."""
    from ringminus.lens.live import connect

    with contextlib.suppress(RingminusError), connect(name, ()) as source:
        facts: dict[str, Any] = source.request("describe")
        return facts
    return {"name": name, "pid": None}


def _lines(found: list[dict[str, Any]]) -> list[str]:
    rows = [("NAME", "PROCESS", "FOR", "MEMORY", "CHANNELS", "WATCHERS", "KERNEL")]
    for one in found:
        if one["pid"] is None:
            rows.append((one["name"], "does not answer", "", "", "", "", ""))
            continue
        channels = sum(channel["open"] for channel in one.get("channels", ()))
        rows.append(
            (
                one["name"],
                str(one["pid"]),
                f"{time.time() - one['started']:.0f} s",
                f"{one['memory'] // MIB}M",
                str(channels),
                str(one["watchers"] - 1),  # without us
                one["kernel"],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


@click.command()
@click.argument("prefix", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, hidden=True, help="Print the table of docs/reference/filters.md.")
def fields(prefix: str, as_json: bool, markdown: bool) -> None:
    """List the fields that filters can name, with what they hold and what their values are called.

    With PREFIX only those that begin so: an event, a protocol, or one of their fields, which is listed with
    the names of all its values.

    \b
    Examples:
      ringminus lens fields
      ringminus lens fields scsi
      ringminus lens fields hypercall.code
    """
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.describe import describe, field_lines, table
    from ringminus.lens.fields import Kind

    if markdown:
        click.echo(table(), nl=False)
        return
    every = describe()
    found = [one for one in every if one["name"] == prefix and one["kind"] != Kind.THERE.value]
    found = found or [one for one in every if one["name"].startswith(prefix)]
    if not found:
        raise ConfigError(f"no field begins with {prefix}: ringminus lens fields lists all")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n".join(field_lines(found, with_values=len(found) == 1)))

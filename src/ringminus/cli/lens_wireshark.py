"""`ringminus lens wireshark`: Wireshark's dissector of captures, made from the declarations of messages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import click

from ringminus.errors import ConfigError, HostError

ASKED = "Personal Lua Plugins:"
"""The line of `tshark -G folders`."""
ASK_TIMEOUT = 20.0
DIRECTORY = click.Path(path_type=Path, file_okay=False)
directory_option = click.option(
    "--directory",
    type=DIRECTORY,
    metavar="PATH",
    help="Instead of Wireshark's folder for Lua plugins of this user.",
)


@click.group()
def wireshark() -> None:
    """Let Wireshark and tshark read captures by name.

    What ringminus run --capture writes is decoded with a Lua script, which is made from this version's
    messages. Install it again after an update of ringminus.
    """


@wireshark.command()
@directory_option
def install(directory: Path | None) -> None:
    """Install the script, or bring it up to date."""
    script, path = _script(), _path(directory)
    before = _installed(path)
    if before is not None and not _version(before) and before.strip():
        raise ConfigError(f"{path} is not of ringminus: move it away first")
    if before == script:
        click.echo(f"{path} is up to date ({_version(script)})")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(script, encoding="utf-8")
        new.replace(path)  # Wireshark never sees half of it
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"{path} is {'new' if before is None else 'up to date now'} ({_version(script)})")
    click.echo("Wireshark that runs takes it with Analyze > Reload Lua Plugins (Ctrl+Shift+L).", err=True)


@wireshark.command()
@directory_option
def uninstall(directory: Path | None) -> None:
    """Delete the script again."""
    path = _path(directory)
    before = _installed(path)
    if before is None:
        click.echo(f"there is no {path}")
        return
    if not _version(before):
        raise ConfigError(f"{path} is not of ringminus, and stays")
    try:
        path.unlink()
    except OSError as error:
        raise HostError(f"cannot delete {path}: {error.strerror}") from None
    click.echo(f"{path} is deleted")


@wireshark.command()
@directory_option
def path(directory: Path | None) -> None:
    """Tell where the script is or would be, and whether it is this version's."""
    where = _path(directory)
    click.echo(where)
    before = _installed(where)
    if before is None:
        click.echo("not installed: ringminus lens wireshark install", err=True)
    elif before != _script():
        what = _version(before) or "not of ringminus"
        click.echo(f"of another version ({what}): ringminus lens wireshark install", err=True)


@wireshark.command()
def show() -> None:
    """Print the script, such as for tshark -X lua_script:FILE."""
    click.echo(_script(), nl=False)


def _script() -> str:
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.capture.wireshark import dissector

    return dissector()


def _version(script: str) -> str:
    from ringminus.lens.capture.wireshark import version_of

    return version_of(script)


def _installed(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}") from None


def _path(directory: Path | None) -> Path:
    from ringminus.lens.capture.wireshark import SCRIPT

    return (directory or _plugins()) / SCRIPT


def _plugins() -> Path:
    """Where Wireshark looks for this user's Lua scripts: it says so itself, where it is installed."""
    for program in ("tshark", "wireshark"):
        found = shutil.which(program)
        if found is None:
            continue
        try:
            told = subprocess.run(
                [found, "-G", "folders"], capture_output=True, text=True, timeout=ASK_TIMEOUT
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        for line in told.stdout.splitlines():
            name, _, value = line.partition("\t")
            if name.strip() == ASKED and value.strip():
                return Path(value.strip())
    home = os.environ.get("HOME")
    if not home:
        raise ConfigError(
            "HOME is not set, so nobody knows where Wireshark's plugins are: say --directory PATH"
        )
    return Path(home) / ".local" / "lib" / "wireshark" / "plugins"

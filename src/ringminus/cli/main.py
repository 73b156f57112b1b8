"""The command `ringminus`."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click

from ringminus import __version__
from ringminus.errors import ConfigError, HostError, RingminusError

EXIT_HOST = 1
EXIT_REQUEST = 2

# a command's module is imported when it is used, so that a guest boots without what only others need
COMMANDS = {"run": "ringminus.cli.run:run", "guest": "ringminus.cli.guest:guest"}

EPILOG = """\b
Completion of options and files in the shell:
  bash:  eval "$(_RINGMINUS_COMPLETE=bash_source ringminus)"
  zsh:   eval "$(_RINGMINUS_COMPLETE=zsh_source ringminus)"
  fish:  _RINGMINUS_COMPLETE=fish_source ringminus | source"""


class LazyGroup(click.Group):
    """A group whose commands are named in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ringminus")
def cli() -> None:
    """A Hyper-V-compatible hypervisor in Python.

    Boots unmodified guests that find Hyper-V beneath them, on any x86-64 Linux machine.

    \b
    First steps:
      ringminus guest build demo
      ringminus run --kernel demo/vmlinuz --initrd demo/initrd.img
    """


def fail(message: str, status: int) -> NoReturn:
    """Say in one line what went wrong, and end."""
    click.echo(f"ringminus: error: {message}", err=True)
    sys.exit(status)


def main() -> None:
    """Entry point; turns our errors into one line and an exit status."""
    try:
        cli.main(prog_name="ringminus", standalone_mode=True)
    except ConfigError as error:
        fail(str(error), EXIT_REQUEST)
    except (HostError, RingminusError) as error:
        fail(str(error), EXIT_HOST)

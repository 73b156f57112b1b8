"""The command `ringminus`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

import click

from ringminus import __version__
from ringminus.cli.lazy import LazyGroup
from ringminus.errors import ConfigError, RingminusError

EXIT_HOST = 1
EXIT_REQUEST = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

# a command's module is imported when it is used, so that a guest boots without what only others need
COMMANDS = {
    "run": "ringminus.cli.run:run",
    "guest": "ringminus.cli.guest:guest",
    "disk": "ringminus.cli.disk:disk",
    "switch": "ringminus.cli.switch:switch",
    "lens": "ringminus.cli.lens:lens",
    "replay": "ringminus.cli.replay:replay",
}

EPILOG = """\b
First steps:
  ringminus guest build demo --rootfs demo/root.vhdx
  ringminus run --kernel demo/vmlinuz --initrd demo/initrd.img --disk demo/root.vhdx \\
      --append "quiet root=/dev/sda"

\b
Completion of commands, options and files in the shell:
  bash:  eval "$(_RINGMINUS_COMPLETE=bash_source ringminus)"
  zsh:   eval "$(_RINGMINUS_COMPLETE=zsh_source ringminus)"
  fish:  _RINGMINUS_COMPLETE=fish_source ringminus | source"""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="ringminus")
def cli() -> None:
    """A Hyper-V-compatible hypervisor in Python.

    Boots unmodified guests that find Hyper-V beneath them, on any x86-64 Linux machine.
    """


def fail(message: str, status: int) -> NoReturn:
    """Say in one line what went wrong, and end."""
    with contextlib.suppress(OSError):
        click.echo(f"ringminus: error: {message}", err=True)
    sys.exit(status)


def _usage(error: click.UsageError) -> str:
    """A usage error in one line that says where help is."""
    text = error.format_message().rstrip(".").replace("\n", " ")
    where = error.ctx.command_path if error.ctx is not None else "ringminus"
    return f"{text[:1].lower()}{text[1:]} (see {where} --help)"


def _open_standard_streams() -> None:
    """A standard stream that is closed becomes /dev/null, so that no other file gets its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> None:
    """Entry point; turns our errors into one line and an exit status."""
    _open_standard_streams()
    try:
        sys.exit(cli.main(prog_name="ringminus", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(EXIT_REQUEST)
    except click.UsageError as error:
        fail(_usage(error), EXIT_REQUEST)
    except click.ClickException as error:
        fail(error.format_message(), EXIT_HOST)
    except ConfigError as error:
        fail(str(error), EXIT_REQUEST)
    except RingminusError as error:
        fail(str(error), EXIT_HOST)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        sys.excepthook(*sys.exc_info())
        fail(_blame(error), EXIT_BUG)


def _blame(error: Exception) -> str:
    """Whose bug it is; nobody has a device of his own unless the module that loads it was used."""
    devices = sys.modules.get("ringminus.cli.devices")
    place = devices.place_of(error) if devices is not None else None
    if place is not None:
        return f"a device raised an exception: look at {place}"
    return "this is a bug of ringminus: please report the lines above"

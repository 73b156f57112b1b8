"""`ringminus lens tui`: the lens in a terminal."""

from __future__ import annotations

import sys

import click

from ringminus.cli.lens_source import (
    complete_either,
    filter_argument,
    is_file,
    open_either,
    open_file,
    tell_end,
)
from ringminus.cli.terminal import is_terminal
from ringminus.errors import ConfigError, HostError


@click.command()
@click.argument("what", metavar="FILE|GUEST", shell_complete=complete_either)
@filter_argument
@click.option("--follow", "-f", is_flag=True, help="Of a file: go on with what is written later.")
def tui(what: str, words: tuple[str, ...], follow: bool) -> None:
    """Look through the events of a capture, or of a guest that runs, in the terminal.

    A list of events, the fields and bytes of the selected one, what caused it and what it caused; channels
    with their rings; exits per second by reason. Keys are in the last line, and all of them behind ?.

    \b
    Examples:
      ringminus lens tui boot.pcapng
      ringminus lens tui root 'scsi.op == write_10'
    """
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.filter import compile_filter
    from ringminus.tap import EVENTS

    text = " ".join(words)
    compile_filter(text)
    if what == "-":
        raise ConfigError("the terminal interface needs standard input for itself: name a file")
    if not is_terminal():
        raise ConfigError("ringminus lens tui needs a terminal: ringminus lens show prints lines anywhere")
    if not sys.stderr.isatty():
        raise ConfigError("ringminus lens tui draws on standard error: leave that on the terminal")
    try:
        from ringminus.lens.tui.app import LensApp
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise HostError(
            "the terminal interface needs Textual: install it with pip install 'ringminus[tui]', "
            "or pip install textual"
        ) from None
    live = not is_file(what)
    source = open_either(what, [kind.POINT for kind in EVENTS]) if live else open_file(what, follow=follow)
    with source:
        app = LensApp(source, text, live=live or follow)
        app.run()
    tell_end(source)
    if app.return_code:
        sys.exit(app.return_code)

"""What the commands of `ringminus lens` have in common: sources of events, filters, and their completion."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ringminus.errors import ConfigError, RingminusError

if TYPE_CHECKING:
    from ringminus.lens.decode import Decoder
    from ringminus.lens.filter import Filter
    from ringminus.lens.source import Source

SUFFIX = ".pcapng"
MOST_COMPLETIONS = 200


def is_file(text: str) -> bool:
    """Whether FILE|GUEST means a file."""
    return text == "-" or "/" in text or text.endswith(SUFFIX) or Path(text).exists()


def open_file(path: str, *, follow: bool = False) -> Source:
    """A capture; raises `HostError`."""
    from ringminus.lens.capture.reader import open_capture

    return open_capture(path, follow=follow)


def open_guest(name: str, points: Iterable[str]) -> Source:
    """A guest that runs; raises `ConfigError` or `HostError`."""
    from ringminus.lens.live import connect

    return connect(name, points)


def open_either(text: str, points: Iterable[str]) -> Source:
    """A capture, or a guest that runs."""
    if is_file(text):
        return open_file(text)
    from ringminus.lens.guests import NoSuchGuest

    try:
        return open_guest(text, points)
    except NoSuchGuest as error:
        raise ConfigError(f"{error}; nor is there a file {text}") from None


def compiled(words: tuple[str, ...], decoder: Decoder) -> Filter:
    """The filter of a command line: its last words, which need no quotes then. Raises `ConfigError`."""
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.filter import compile_filter

    return compile_filter(" ".join(words), decoder)


def tell_end(source: Source) -> None:
    """Say on standard error what one may otherwise miss: how a guest ended, and that events are missing."""
    ended = getattr(source, "ended", "")
    if ended:
        click.echo(f"ringminus: {ended}", err=True)
    if source.lost:
        what = "event was" if source.lost == 1 else "events were"
        click.echo(f"ringminus: {source.lost} {what} lost", err=True)


@contextlib.contextmanager
def reading(source: Source) -> Iterator[None]:
    """In the block Ctrl-C ends the reading, and so does the end of who reads us."""
    from ringminus.cli.interrupts import interruptible

    try:
        with interruptible(), source:
            yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()


# ------------------------------------------------------------ completion


def complete_guest(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of guests that run."""
    from ringminus.lens.guests import guests

    with contextlib.suppress(RingminusError):
        return [CompletionItem(one.name) for one in guests() if one.name.startswith(typed)]
    return []


def complete_either(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of guests, or files."""
    return complete_guest(context, parameter, typed) or [CompletionItem(typed, type="file")]


def complete_filter(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """What can follow in a filter: names of fields, and of their values."""
    before = context.params.get("words") or ()
    whole = " ".join([*before, typed])
    return _completions(whole, len(whole) - len(typed))


def complete_filter_word(_context: object, _parameter: object, typed: str) -> list[CompletionItem]:
    """The same for a filter that is one word, as an option's value is."""
    return _completions(typed, 0)


def _completions(filter_text: str, skipped: int) -> list[CompletionItem]:
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.complete import complete

    found = complete(filter_text)[:MOST_COMPLETIONS]
    return [CompletionItem(one.text[skipped:], help=one.help) for one in found]


filter_argument = click.argument(
    "words", nargs=-1, metavar="[FILTER]", type=click.UNPROCESSED, shell_complete=complete_filter
)
guest_argument = click.argument("guest", metavar="GUEST", shell_complete=complete_guest)
either_argument = click.argument("what", metavar="FILE|GUEST", shell_complete=complete_either)

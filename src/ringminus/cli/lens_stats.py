"""`ringminus lens stats`: what a guest's use of its host costs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ringminus.cli.lens_note import ReadingNote
from ringminus.cli.lens_source import either_argument, is_file, open_either, reading, tell_end
from ringminus.errors import ConfigError

if TYPE_CHECKING:
    from ringminus.lens.figures import Figures
    from ringminus.lens.source import Source

Tell = Callable[["Figures"], None]
SECONDS = click.FloatRange(min=0, min_open=True)


@click.command()
@either_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --interval one object in a line.")
@click.option("--prometheus", is_flag=True, help="Print Prometheus's text format.")
@click.option("--interval", type=SECONDS, metavar="SECONDS", help="Print again and again, what is so far.")
@click.option("--for", "duration", type=SECONDS, metavar="SECONDS", help="Watch a guest for so long.")
def stats(what: str, as_json: bool, prometheus: bool, interval: float | None, duration: float | None) -> None:
    """Count what crosses the boundary, and what it costs.

    Exits by reason and by instruction with the time that answering them took, hypercalls, MSRs, interrupts;
    of each channel the packets, bytes and signals a second, and how many packets one signal is for; how long
    requests took until they were completed.

    A guest that runs is counted from now until it ends, or Ctrl-C. Watching costs it some µs for each event.

    \b
    Examples:
      ringminus lens stats boot.pcapng
      ringminus lens stats root --for 10
      ringminus lens stats root --interval 2
      ringminus lens stats root --for 10 --prometheus > /var/lib/node_exporter/ringminus.prom
      ringminus lens stats root --json --for 5 | jq '.requests[] | {request, p99}'
    """
    import ringminus.cli.protocols  # noqa: F401
    from ringminus.lens.decode import Decoder
    from ringminus.lens.figures import Figures

    if as_json and prometheus:
        raise ConfigError("--json or --prometheus, not both")
    if is_file(what) and (interval or duration):
        raise ConfigError(f"--interval and --for are for guests that run, and {what} is a file")
    figures = Figures(Decoder())
    source = open_either(what, figures.points)
    tell = _teller(source.partition, as_json, prometheus, several=interval is not None)
    with reading(source):
        if is_file(what):
            _count(source, figures)
        else:
            _watch(source, figures, tell, interval, duration)
    figures.lost = source.lost
    tell(figures)
    tell_end(source)


def _count(source: Source, figures: Figures) -> None:
    for event in ReadingNote(source).events():
        figures.add(event)


def _watch(
    source: Source, figures: Figures, tell: Tell, interval: float | None, duration: float | None
) -> None:
    """Count in a thread, so that there is something to tell while nothing happens."""
    lock, ended = threading.Lock(), threading.Event()
    failures: list[BaseException] = []

    def count() -> None:
        try:
            for event in source:
                with lock:
                    figures.add(event)
        except BaseException as error:
            failures.append(error)
        finally:
            ended.set()

    threading.Thread(target=count, daemon=True).start()
    until = time.monotonic() + duration if duration is not None else None
    due = time.monotonic() + interval if interval is not None else None
    try:
        while not ended.is_set():
            waits = [one - time.monotonic() for one in (until, due) if one is not None]
            ended.wait(max(min(waits), 0) if waits else None)
            now = time.monotonic()
            if until is not None and now >= until:
                break
            if due is not None and interval is not None and now >= due and not ended.is_set():
                with lock:
                    figures.lost = source.lost
                    tell(figures)
                due += interval
    finally:
        source.close()
        ended.wait()
    if failures:
        raise failures[0]


def _teller(partition: str, as_json: bool, prometheus: bool, *, several: bool) -> Tell:
    def tell(figures: Figures) -> None:
        if as_json:
            sys.stdout.write(figures.as_json(indent=None if several else 2) + "\n")
        elif prometheus:
            from ringminus.lens.prometheus import as_prometheus

            sys.stdout.write(as_prometheus(figures, partition))
        else:
            if several:
                sys.stdout.write("\n" if not sys.stdout.isatty() else "\x1b[H\x1b[2J")
            figures.show(sys.stdout)
        sys.stdout.flush()

    return tell

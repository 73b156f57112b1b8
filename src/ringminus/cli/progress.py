"""Progress on standard error: bars on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_PATIENCE = 1.0  # seconds that may pass in silence


@contextmanager
def progress(step: str) -> Iterator[Callable[[float], None]]:
    """A bar for one step, told the share that is done, which appears if the step takes more than a second."""
    start = time.monotonic()
    if not sys.stderr.isatty():
        told = False

        def line(fraction: float) -> None:
            nonlocal told
            if not told and time.monotonic() - start > _PATIENCE:
                told = True
                click.echo(f"{step} ...", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bars.add_task(step, total=1.0)
    shown = False

    def bar(fraction: float) -> None:
        nonlocal shown
        bars.update(task, completed=fraction)
        if not shown and time.monotonic() - start > _PATIENCE:
            shown = True
            bars.start()

    try:
        yield bar
    finally:
        if shown:
            bars.stop()

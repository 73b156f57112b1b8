"""Running other programs so that an interrupt leaves none of them behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ringminus.errors import HostError


def environment() -> dict[str, str]:
    """Ours, with answers in English, and with programs for administrators."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def find_program(name: str, package: str) -> str:
    """The path of a program that makes roots; raises `HostError` that names its package."""
    path = shutil.which(name, path=environment()["PATH"])
    if path is None:
        raise HostError(
            f"a root is made with {name}, and this host has none: install the Debian package {package}, "
            "or boot a disk of your own: ringminus run --disk FILE"
        )
    return path


def end_group(process: subprocess.Popen[bytes] | subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a program and to those that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextmanager
def started(command: Sequence[str], directory: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program whose output, errors in it, is read as text in the block; it is dead at the block's end.

    It is a process group of its own: an interrupt from the terminal reaches it through us, whole.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=directory,
        env=environment(),
        process_group=0,
    ) as process:
        try:
            yield process
        except BaseException:
            end_group(process, signal.SIGKILL)
            raise


def run(command: Sequence[str], directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `subprocess.run` does; dead with all it started after an interrupt."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=directory,
        env=environment(),
        process_group=0,
    ) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            end_group(process, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)

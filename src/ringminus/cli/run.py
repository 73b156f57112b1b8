"""`ringminus run`: boot a guest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ringminus.cli.console import Input, LastLines, RawTerminal, is_terminal, terminal_size, write_all
from ringminus.cli.report import tell_end
from ringminus.errors import ConfigError
from ringminus.lens.log import EventLog, parse_points
from ringminus.lens.stats import Statistics
from ringminus.machine.config import MachineConfig, parse_memory
from ringminus.machine.outcome import End, Outcome
from ringminus.tap import Tap

if TYPE_CHECKING:
    from ringminus.machine.worker import Worker

EXISTING = click.Path(path_type=Path)
STATUS = {
    End.POWER_OFF: 0,
    End.REBOOT: 0,
    End.CRASH: 3,
    End.TRIPLE_FAULT: 4,
    End.FAILURE: 70,
    End.TIMEOUT: 124,
    End.INTERRUPTED: 130,
}
EPILOG = """\b
Exit status:
  0    the guest powered off (or restarted, with --no-reboot)
  1    something on this host is missing
  2    the request was wrong
  3    the guest crashed
  4    triple fault
  70   a failure of ringminus itself
  124  time-out
  130  interrupted"""


@click.command(epilog=EPILOG)
@click.option("--kernel", "-k", type=EXISTING, required=True, help="A bzImage, or an ELF vmlinux.")
@click.option("--initrd", "-i", type=EXISTING, help="An initial RAM disk.")
@click.option("--append", "-a", default="", metavar="WORDS", help="The kernel's command line.")
@click.option("--memory", "-m", default="512M", show_default=True, metavar="SIZE", help="64M to 8G.")
@click.option(
    "--console",
    type=click.Choice(["tty", "stdio", "none"]),
    help="tty: this terminal is the guest's, and Ctrl-] leaves. stdio: plain standard input and output, "
    "and Ctrl-C ends. none: no console. [default: tty on a terminal, else stdio]",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="End after this time."
)
@click.option("--no-reboot", is_flag=True, help="End where the guest restarts.")
@click.option(
    "--stats", is_flag=True, help="At the end, tell what left the guest, how often, and what it cost."
)
@click.option("--json", "as_json", is_flag=True, help="The statistics as JSON.")
@click.option(
    "--log",
    metavar="EVENTS",
    help="Print events, one line each, to standard error: exits, hypercalls, msrs, messages, signals, "
    "interrupts, timers, ports, mmio or all, with commas between.",
)
@click.option("--log-file", type=click.Path(path_type=Path), help="Print them to this file instead.")
def run(
    kernel: Path,
    initrd: Path | None,
    append: str,
    memory: str,
    console: str | None,
    timeout: float | None,
    no_reboot: bool,
    stats: bool,
    as_json: bool,
    log: str | None,
    log_file: Path | None,
) -> None:
    """Boot a guest and run it to its end.

    Its console is its first serial port: `console=ttyS0` is put before the command line unless that names
    a console of its own, or --console is none.

    \b
    ringminus run -k demo/vmlinuz -i demo/initrd.img
    ringminus run -k vmlinux -i initrd.img -a "quiet" --console stdio --timeout 60 --stats
    """
    console = console or ("tty" if is_terminal() else "stdio")
    if console == "tty" and not is_terminal():
        raise ConfigError("--console tty needs a terminal: say --console stdio")
    if log and console == "tty" and log_file is None:
        raise ConfigError("--log would write across the guest's screen: add --log-file FILE")
    tap = Tap()
    config = MachineConfig(kernel, initrd, _command_line(append, console), parse_memory(memory))
    with contextlib.ExitStack() as stack:
        if log:
            stack.enter_context(EventLog(tap, parse_points(log), log_file))
        statistics = Statistics(tap) if stats or as_json else None
        session = Session(config, console, timeout, no_reboot, tap, statistics)
        outcome = session.run()
    tell_end(outcome, session.last_lines)
    if statistics is not None:
        if as_json:
            click.echo(statistics.as_json(), err=console != "none")
        else:
            statistics.show()
    sys.stdout.flush()
    sys.exit(STATUS[outcome.end])


def _command_line(append: str, console: str) -> str:
    words = append.split()
    if console != "none" and not any(word.startswith("console=") for word in words):
        words.insert(0, "console=ttyS0")
    if console == "tty":
        rows, columns = terminal_size()
        words.append(f"ringminus.size={rows}x{columns}")
    return " ".join(words)


class Session:
    """One use of the command: a machine after another while the guest restarts."""

    def __init__(
        self,
        config: MachineConfig,
        console: str,
        timeout: float | None,
        no_reboot: bool,
        tap: Tap,
        statistics: Statistics | None,
    ) -> None:
        self._config = config
        self._console = console
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._no_reboot = no_reboot
        self._tap = tap
        self._statistics = statistics
        self._worker: Worker | None = None
        self.last_lines = LastLines()

    def run(self) -> Outcome:
        with contextlib.ExitStack() as stack:
            outcome = self._run_once(stack)
            while outcome.end is End.REBOOT and not self._no_reboot:
                outcome = self._run_once(stack)
            return outcome

    def _run_once(self, stack: contextlib.ExitStack) -> Outcome:
        # the machine is built before the terminal is touched, so that its errors are plain lines
        from ringminus.machine.machine import Machine
        from ringminus.machine.worker import run_machine

        machine = Machine(self._config, self._write, self._tap)
        if self._console == "tty" and self._worker is None:
            click.echo("The guest has this terminal; Ctrl-] leaves.", err=True)
            stack.enter_context(RawTerminal(sys.stdin.fileno()))
        started = time.perf_counter()
        try:
            return run_machine(machine, self._prepare)
        finally:
            if self._statistics is not None:
                self._statistics.add_run(
                    time.perf_counter() - started, machine.partition, machine.engine.counters()
                )
            machine.close()

    def _write(self, data: bytes) -> None:
        self.last_lines.add(data)
        if self._console == "none":
            return
        try:
            write_all(sys.stdout.fileno(), data)
        except OSError as error:
            # nobody reads any more; there is nothing that a message could reach
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._end(Outcome(End.INTERRUPTED, f"standard output: {error.strerror}"))

    def _end(self, outcome: Outcome) -> None:
        if self._worker is not None:
            self._worker.end(outcome)

    def _prepare(self, worker: Worker) -> None:
        """Inside the loop: time-out, signals, input."""
        self._worker = worker
        loop = asyncio.get_running_loop()
        if self._deadline is not None:
            remaining = max(0.0, self._deadline - time.monotonic())
            outcome = Outcome(End.TIMEOUT, f"after {self._timeout:g} s")
            loop.call_later(remaining, worker.end, outcome)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            ended = Outcome(End.INTERRUPTED, f"by {signal.Signals(number).name}")
            loop.add_signal_handler(number, worker.end, ended)
        if self._console != "none":
            leave = Outcome(End.INTERRUPTED, "by Ctrl-]")
            keys = Input(
                sys.stdin.fileno(),
                worker.machine.type,
                (lambda: worker.end(leave)) if self._console == "tty" else None,
            )
            keys.start()

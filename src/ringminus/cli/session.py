"""One use of `ringminus run`: a machine after another while the guest restarts, and what comes from outside.

The loop, the signals, the time-out and the console last as long as the session; a machine lasts from one
restart of the guest to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import click

from ringminus.cli.console import Input, LastLines, Output
from ringminus.cli.terminal import STDIN, STDOUT, RawTerminal
from ringminus.machine.machine import Machine
from ringminus.machine.outcome import End, Outcome
from ringminus.machine.worker import Worker, run_on_loop
from ringminus.tap import Tap
from ringminus.vmbus.bus import VmBus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringminus.cli.changing import Changing
    from ringminus.cli.watching import Watching
    from ringminus.lens.capture.options import CaptureOptions
    from ringminus.lens.capture.writer import CaptureWriter
    from ringminus.lens.stats import ChannelRow, NicRow, Statistics
    from ringminus.machine.config import MachineConfig
    from ringminus.machine.gdb.address import GdbAddress
    from ringminus.machine.gdb.server import GdbServer
    from ringminus.machine.network import Network

FLUSH_SECONDS = 0.25
"""How long events of a capture wait."""
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to run: `console` is tty, stdio or none, `timeout` is in seconds, `gdb` is where a gdb may come,
    for which the guest waits with `gdb_wait`. `name` is how others find the guest; without one it has its
    disk's or its kernel's name. `captures` are files that what passes is written to. `changing` are addons
    and breakpoints."""

    console: str = "stdio"
    timeout: float | None = None
    reboot: bool = True
    gdb: GdbAddress | None = None
    gdb_wait: bool = False
    name: str | None = None
    captures: tuple[CaptureOptions, ...] = ()
    changing: Changing | None = None


class Session:
    """Runs guests of `config`. The time-out counts from here."""

    def __init__(
        self, config: MachineConfig, wishes: Wishes, tap: Tap, statistics: Statistics | None = None
    ) -> None:
        self._config = config
        self._wishes = wishes
        self._tap = tap
        self._statistics = statistics
        self._started = time.monotonic()
        self._worker: Worker | None = None
        self._output: Output | None = None
        self._terminal: RawTerminal | None = None
        self._changing = wishes.changing
        self._gdb: GdbServer | None = None
        self._watching: Watching | None = None
        self._ended: Outcome | None = None
        self._changed = asyncio.Event()
        self.last_lines = LastLines()

    def run(self) -> Outcome:
        """Run until the guest ends or somebody ends it; raises `ConfigError` and `HostError`."""
        return run_on_loop(self._main)

    async def _main(self, selector: selectors.BaseSelector) -> Outcome:
        outcome = None
        with contextlib.ExitStack() as stack:
            self._listen_outside(stack)
            self._watching = self._let_watch()
            try:
                self._start_captures(stack)
                outcome = await self._run_machines(selector, stack)
            finally:
                if self._watching is not None:
                    await self._watching.close(outcome)
        return outcome

    def _let_watch(self) -> Watching | None:
        from ringminus.cli.watching import open_watching

        return open_watching(self._config, self._wishes.name, self._tap, self._machine)

    @property
    def _name(self) -> str:
        """How others find the guest."""
        return self._watching.hub.place.name if self._watching is not None else self._wishes.name or ""

    def _start_captures(self, stack: contextlib.ExitStack) -> None:
        writers = [stack.enter_context(one.start(self._tap, self._name)) for one in self._wishes.captures]
        if writers:
            self._flush(writers)

    def _flush(self, writers: list[CaptureWriter]) -> None:
        for one in writers:
            one.flush()
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush, writers)

    def _machine(self) -> Machine | None:
        return self._worker.machine if self._worker is not None else None

    async def _run_machines(self, selector: selectors.BaseSelector, stack: contextlib.ExitStack) -> Outcome:
        await self._listen_for_gdb()
        outcome = await self._run_machine(selector, lambda: self._open_console(stack))
        while outcome.end is End.REBOOT and self._wishes.reboot and self._ended is None:
            gc.collect()  # a machine is full of cycles, and the next one wants the memory
            nics = tuple(replace(nic, restarted=True) for nic in self._config.nics)
            self._config = replace(self._config, nics=nics)
            outcome = await self._run_machine(selector, None)
        await self._drain()
        if self._gdb is not None:
            await self._gdb.close(self._ended or outcome)
        return self._ended or outcome

    async def _listen_for_gdb(self) -> None:
        if self._wishes.gdb is None:
            return
        from ringminus.machine.gdb.server import GdbServer

        wait, by_gdb = self._wishes.gdb_wait, Outcome(End.INTERRUPTED, "by gdb")
        self._gdb = GdbServer(self._wishes.gdb, waits=wait, kill=lambda: self._end(by_gdb))
        words = await self._gdb.open()
        click.echo(f"ringminus: {'the guest waits for gdb' if wait else 'for gdb'}: {words}", err=True)

    async def _run_machine(
        self, selector: selectors.BaseSelector, opened: Callable[[], None] | None
    ) -> Outcome:
        machine = Machine(self._config, self._print, self._tap)
        machine.vmbus.timed = self._statistics is not None
        started = time.perf_counter()
        try:
            if opened is not None:
                opened()
            self._worker = Worker(machine, selector)
            if self._output is not None and self._output.waits:
                self._worker.hold()
            if self._gdb is not None:
                self._gdb.attach(self._worker)
            if self._changing is not None:
                self._changing.attach(self._worker, self._name)
            if self._ended is not None:
                self._worker.end(self._ended)
            return await self._worker.run()
        finally:
            if self._changing is not None:
                self._changing.detach()
            self._worker = None
            if self._gdb is not None:
                self._gdb.detach_worker()
            if self._statistics is not None:
                seconds = time.perf_counter() - started
                idle = (vp.idle_time for vp in machine.partition.vps)
                self._statistics.add_run(
                    seconds,
                    idle,
                    machine.engine.counters(),
                    channel_rows(machine.vmbus),
                    nic_rows(machine.network),
                )
            machine.close()

    def _end(self, outcome: Outcome) -> None:
        """The end comes from outside; the first one counts."""
        self._ended = self._ended or outcome
        self._changed.set()
        if self._worker is not None:
            self._worker.end(outcome)

    def _interrupt(self, how: str) -> None:
        """A person wants the guest to stop: at the prompt if there is one, else for good."""
        if self._changing is None or not self._changing.has_prompt or not self._changing.stop():
            self._end(Outcome(End.INTERRUPTED, how))

    def _listen_outside(self, stack: contextlib.ExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in ENDING_SIGNALS:
            name = signal.Signals(number).name
            loop.add_signal_handler(number, self._end, Outcome(End.INTERRUPTED, f"by {name}"))
            stack.callback(loop.remove_signal_handler, number)
        if self._changing is not None and self._changing.has_prompt:
            loop.add_signal_handler(signal.SIGINT, self._interrupt, "by SIGINT")
        if self._wishes.console == "tty":
            self._terminal = terminal = stack.enter_context(RawTerminal(STDIN))
            for number, react in ((signal.SIGTSTP, terminal.suspend), (signal.SIGCONT, terminal.set_raw)):
                loop.add_signal_handler(number, react)
                stack.callback(loop.remove_signal_handler, number)
        timeout = self._wishes.timeout
        if timeout is not None:
            remaining = self._started + timeout - time.monotonic()
            loop.call_later(remaining, self._end, Outcome(End.TIMEOUT, f"after {timeout:g} s"))

    # ------------------------------------------------------------ console

    def _open_console(self, stack: contextlib.ExitStack) -> None:
        """After the first machine was built, so that its errors find the terminal as it was."""
        if self._wishes.console == "none":
            return
        leave = None
        if self._terminal is not None:
            leave, does = lambda: self._interrupt("by Ctrl-]"), "ends the guest"
            if self._changing is not None:
                self._changing.terminal = self._terminal
                does = "opens the prompt" if self._changing.has_prompt else does
            click.echo(f"The guest has this terminal; Ctrl-] leaves it and {does}.", err=True)
            self._terminal.set_raw()
        self._output = Output(STDOUT, self._hold, self._release, self._closed)
        stack.callback(self._output.close)
        if self._changing is None or not self._changing.takes_input:
            stack.callback(Input(STDIN, self._type, leave).close)

    def _print(self, data: bytes) -> None:
        self.last_lines.add(data)
        if self._output is not None:
            self._output.write(data)

    def _type(self, data: bytes) -> int:
        return self._worker.machine.type(data) if self._worker is not None else 0

    def _hold(self) -> None:
        """Who reads the console is behind: the guest waits rather than that its words fill our memory."""
        if self._worker is not None:
            self._worker.hold()

    def _release(self) -> None:
        self._changed.set()
        if self._worker is not None:
            self._worker.release()

    def _closed(self, reason: str) -> None:
        self._end(Outcome(End.INTERRUPTED, f"because standard output is closed ({reason})"))

    async def _drain(self) -> None:
        """The guest's last words reach their reader, unless somebody ends us first."""
        while self._output is not None and self._output.waits and self._ended is None:
            self._changed.clear()
            await self._changed.wait()


def channel_rows(bus: VmBus) -> Iterator[ChannelRow]:
    """What passed on each channel, for the statistics."""
    from ringminus.lens.stats import ChannelRow

    version = bus.last_version
    text = f"{version >> 16}.{version & 0xFFFF}" if version else ""
    for slot in bus.slots():
        counts = asdict(slot.counters())
        instance = str(slot.device.instance)
        yield ChannelRow(slot.device.title, instance, slot.index, text, slot.opened, slot.failed, **counts)


def nic_rows(network: Network | None) -> Iterator[NicRow]:
    """What passed each network adapter, for the statistics."""
    from ringminus.lens.stats import NicRow

    for connection in network.connections if network is not None else ():
        adapter, counters = connection.adapter, connection.adapter.counters
        passed = counters.sent_frames, counters.sent_bytes, counters.received_frames, counters.received_bytes
        address = adapter.permanent_address.hex(":")
        yield NicRow(adapter.title, address, connection.connected_to, *passed, connection.dropped())

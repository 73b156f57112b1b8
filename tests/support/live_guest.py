"""A real guest in this process, on whose machine a test can act while the guest runs.

    def test_it(live_guest: RunLive) -> None:
        async def scenario(guest: LiveGuest) -> None:
            assert "sda" not in await guest.run("ls /dev")
            guest.machine.attach(device)
            await guest.run("until [ -e /dev/sda ]; do sleep 0.1; done")

        live_guest(scenario)

The scenario runs on the machine's own loop, so between two of its `await`s the guest stands still and the
host's functions may be called as they are. The guest is powered off when the scenario returns. When it
raises, or does not end in time, or when the guest ends before it, the test fails with the end of the
guest's console.
"""

from __future__ import annotations

import asyncio
import base64
import selectors
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ringminus.guest.build import GuestImage
from ringminus.guest.init_script import STARTED
from ringminus.machine.config import DEFAULT_MEMORY, DiskConfig, MachineConfig
from ringminus.machine.machine import Machine
from ringminus.machine.nics import NicConfig
from ringminus.machine.outcome import End, Outcome
from ringminus.machine.worker import Worker, run_on_loop
from ringminus.tap import Tap
from ringminus.vmbus.device import Device
from support.command import kernel_words

T = TypeVar("T")
TYPING_PAUSE = 0.002  # seconds; the serial port is busy
LINE_LIMIT = 2000  # a terminal line of Linux takes 4095 bytes
TAIL = 3000  # characters of the console that a failure shows

# What the guest runs: commands come as lines of base64 that end with an empty one; each answer ends with its
# status. Nothing else is on the console: the kernel's messages are read with `dmesg`.
COMMAND_LOOP = """
stty -echo
dmesg -n 1
echo "== ready"
command=
while read -r line; do
    if [ -n "$line" ]; then command=$command$line; continue; fi
    eval "$(echo "$command" | base64 -d)" </dev/null
    echo "== status $?"
    command=
done
"""


class GuestFailed(AssertionError):
    """The guest did not do what the scenario waited for; the message has the end of its console."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What to boot. `words` are for the kernel, `devices` are on the bus from the beginning."""

    image: GuestImage
    devices: Sequence[Device] = ()
    disks: Sequence[DiskConfig] = ()
    words: str = "quiet"
    memory: int = DEFAULT_MEMORY
    tap: Tap | None = None
    nics: Sequence[NicConfig] = ()


class LiveGuest:
    """The guest, seen from a scenario."""

    def __init__(self, setup: Setup, selector: selectors.BaseSelector) -> None:
        self._console = bytearray()
        self._read = 0
        self._printed = asyncio.Event()
        config = MachineConfig(
            setup.image.kernel,
            setup.image.initrd,
            kernel_words(COMMAND_LOOP, f"console=ttyS0 {setup.words}"),
            setup.memory,
            tuple(setup.disks),
            tuple(setup.nics),
        )
        self.machine = Machine(config, self._print, setup.tap)
        try:
            for device in setup.devices:
                self.machine.attach(device)
            self.worker = Worker(self.machine, selector)
        except BaseException:
            self.machine.close()
            raise
        self.outcome: Outcome | None = None
        self._ended = False
        self._failure: BaseException | None = None

    @property
    def console(self) -> str:
        """All that the guest has printed, without carriage returns."""
        return self._console.decode(errors="replace")

    async def expect(self, text: str) -> str:
        """Wait until the guest prints `text`; gives what it printed since the last `expect`, up to there."""
        wanted = text.encode()
        while (found := self._console.find(wanted, self._read)) < 0:
            if self._ended:
                self._raise_failure()
                raise GuestFailed(f"the guest ended before it printed {text!r}: {self.outcome}")
            self._printed.clear()
            await self._printed.wait()
        before = self._console[self._read : found]
        self._read = found + len(wanted)
        return before.decode(errors="replace")

    async def ready(self) -> None:
        """Wait until the guest takes commands; needed only after one that has restarted it."""
        await self.expect(STARTED)
        await self.expect("== ready\n")

    async def start(self, command: str) -> None:
        """Have the guest's shell begin a command, of which `finish` gives the result."""
        text = base64.b64encode(command.encode())
        lines = [text[start : start + LINE_LIMIT] for start in range(0, len(text), LINE_LIMIT)]
        typed = b"".join(line + b"\n" for line in [*lines, b""])
        while typed:
            typed = typed[self.machine.type(typed) :]
            await asyncio.sleep(TYPING_PAUSE)

    async def finish(self, status: int | None = 0) -> str:
        """Wait for the end of the command that was begun; gives what it printed. `status` is the exit status
        that it must have, None for any."""
        printed = await self.expect("== status ")
        ended = int(await self.expect("\n"))
        if status is not None and ended != status:
            raise GuestFailed(f"the command ended with status {ended}, not {status}, after:\n{printed}")
        return printed

    async def run(self, command: str, status: int | None = 0) -> str:
        """`start` and `finish`."""
        await self.start(command)
        return await self.finish(status)

    async def sleep(self, seconds: float) -> None:
        """Let the guest run on for a while."""
        await asyncio.sleep(seconds)

    async def power_off(self) -> None:
        """End the guest in its own way: what it has written is on its disks then. A scenario need not call
        this, except to look at something afterwards."""
        if self.outcome is None:
            await self.start("exit")
            await self.expect("the script ended with status 0")
        while not self._ended:
            self._printed.clear()
            await self._printed.wait()
        self._raise_failure()
        if self.outcome is None or self.outcome.end is not End.POWER_OFF:
            raise GuestFailed(f"the guest ended otherwise: {self.outcome}")

    def _print(self, data: bytes) -> None:
        self._console += data.replace(b"\r", b"")
        self._printed.set()

    async def live(self) -> None:
        """Run the machine to its end."""
        try:
            self.outcome = await self.worker.run()
        except BaseException as error:
            self._failure = error
        finally:
            self._ended = True
            self._printed.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


Scenario = Callable[[LiveGuest], Awaitable[T]]


class RunLive(Protocol):
    """Boots a guest and plays a scenario with it; gives what the scenario returned."""

    def __call__(
        self,
        scenario: Scenario[T],
        *,
        devices: Sequence[Device] = (),
        disks: Sequence[DiskConfig] = (),
        words: str = "quiet",
        tap: Tap | None = None,
        timeout: float = 120,
    ) -> T: ...


def run_live(scenario: Scenario[T], setup: Setup, timeout: float = 120) -> T:
    """See `RunLive`; `timeout` is in seconds."""

    async def main(selector: selectors.BaseSelector) -> T:
        guest = LiveGuest(setup, selector)
        life = asyncio.create_task(guest.live())
        try:
            async with asyncio.timeout(timeout):
                await guest.ready()
                result = await scenario(guest)
                await guest.power_off()
            return result
        except BaseException as error:
            what = f"It did not end in {timeout:g} s. " if isinstance(error, TimeoutError) else ""
            error.add_note(f"{what}The guest's console ends with:\n{guest.console[-TAIL:]}")
            raise
        finally:
            guest.worker.end(Outcome(End.INTERRUPTED, "the test is over"))
            await asyncio.wait((life,))
            guest.machine.close()

    return run_on_loop(main)

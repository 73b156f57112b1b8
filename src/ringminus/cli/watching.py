"""How `ringminus run` lets others watch its guest: the guest's name, and what is told of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from ringminus.clock import REFERENCE_HZ
from ringminus.errors import HostError
from ringminus.lens.guests import take_free_name, take_name
from ringminus.lens.hub import Hub
from ringminus.machine.config import MachineConfig
from ringminus.machine.machine import Machine
from ringminus.machine.outcome import End, Outcome
from ringminus.tap import ChannelState, Tap
from ringminus.vmbus.slot import Slot

WORDS = {
    End.POWER_OFF: "the guest powered off",
    End.REBOOT: "the guest restarted",
    End.CRASH: "the guest crashed",
    End.TRIPLE_FAULT: "triple fault",
    End.TIMEOUT: "time-out",
    End.INTERRUPTED: "interrupted",
    End.FAILURE: "ringminus failed",
}


class Watching:
    """The guest's socket for watchers. `machine` gives the machine, if there is one right now."""

    def __init__(
        self, config: MachineConfig, name: str | None, tap: Tap, machine: Callable[[], Machine | None]
    ) -> None:
        files = [disk.path for disk in config.disks if disk.path is not None] + [config.kernel]
        place, lock = take_free_name(files) if name is None else take_name(name)
        self._hub = Hub(tap, place, lock, self._channels)
        self._hub.operations["describe"] = lambda _: self.describe()
        self._config = config
        self._machine = machine
        self._started = time.time()
        try:
            self._hub.open()
        except OSError as error:
            os.close(lock)
            raise HostError(f"cannot listen at {place.socket}: {error.strerror}") from None

    @property
    def hub(self) -> Hub:
        """Where others may add operations."""
        return self._hub

    def _channels(self) -> list[ChannelState]:
        machine = self._machine()
        return machine.vmbus.channel_states() if machine is not None else []

    def describe(self) -> dict[str, Any]:
        """All that there is to be seen of the guest, as `ringminus lens list --json` prints it."""
        machine = self._machine()
        facts: dict[str, Any] = {
            "name": self._hub.place.name,
            "pid": os.getpid(),
            "started": self._started,
            "watchers": self._hub.watchers,
            "kernel": str(self._config.kernel),
            "memory": self._config.memory,
            "running": machine is not None,
        }
        if machine is not None:
            clock = machine.partition.clock
            facts["time"] = clock.reference_time() / REFERENCE_HZ
            facts["channels"] = [_channel(slot) for slot in machine.vmbus.slots()]
        return facts

    async def close(self, outcome: Outcome | None) -> None:
        """The guest has ended, or could not begin."""
        words = "it could not be started" if outcome is None else WORDS[outcome.end]
        detail = outcome.detail if outcome is not None else ""
        await self._hub.close(f"{words} {detail}".strip())


def _channel(slot: Slot) -> dict[str, Any]:
    """A channel, how full its rings are, and what passed on it; sizes are in bytes."""
    facts: dict[str, Any] = {
        "device": slot.device.title,
        "channel": slot.index,
        "relid": slot.relid,
        "open": slot.channel is not None,
        "instance": str(slot.device.instance),
        "opened": slot.opened,
        "failed": slot.failed,
        "counters": asdict(slot.counters()),
    }
    if slot.channel is not None:
        for name, ring in zip(("ring_in", "ring_out"), slot.channel.rings, strict=True):
            facts[name] = {"size": ring.size, "used": ring.used()}
    return facts


def open_watching(
    config: MachineConfig, name: str | None, tap: Tap, machine: Callable[[], Machine | None]
) -> Watching | None:
    """Let others watch; who did not ask for a name is told why nobody can, and goes on."""
    try:
        return Watching(config, name, tap, machine)
    except HostError as error:
        if name is not None:
            raise
        click.echo(f"ringminus: nobody can watch this guest: {error}", err=True)
        return None

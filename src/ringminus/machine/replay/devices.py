"""Which devices can be played, and how they are made from a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ringminus.errors import ConfigError
from ringminus.machine.config import DiskConfig
from ringminus.machine.replay.host import HostReplay, offered_as
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.result import Result
from ringminus.vmbus.device import Device

if TYPE_CHECKING:
    from ringminus.disks.disk import Disk
    from ringminus.machine.replay.network import NetworkPlay

SCSI = UUID("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f")
IDE = UUID("32412632-86cb-44a2-9b5c-50d1417354f5")
NETWORK = UUID("f8615163-df3e-46c5-913f-f2d2f965ed0e")
STORAGE = (SCSI, IDE)


class Made(NamedTuple):
    """A device, the disks under it, which are closed after it, and a network adapter's network."""

    device: Device
    disks: list[Disk]
    network: NetworkPlay | None = None


def make(
    recorded: RecordedDevice,
    disks: Sequence[DiskConfig] = (),
    factories: Sequence[Callable[[], Device]] = (),
) -> Made:
    """Our device as the recorded one, or what one of `factories` makes, if it is of that class; raises
    `ConfigError` for one that we do not have."""
    for factory in factories:
        device = factory()
        if device.interface == recorded.interface:
            return Made(device, [])
        device.close()
    if factories:
        raise ConfigError(f"{recorded.title} is of class {recorded.interface}: no --device is of that class")
    if recorded.interface in STORAGE:
        from ringminus.machine.replay.storage import build

        return Made(*build(recorded, disks))
    if recorded.interface == NETWORK:
        from ringminus.machine.replay.network import NetworkPlay, build_nic

        nic = build_nic(recorded)
        return Made(nic, [], NetworkPlay(recorded, nic))
    raise ConfigError(_refusal(recorded))


def host_of(recorded: RecordedDevice, result: Result) -> Device:
    """A device that plays the recorded host; raises `ConfigError` for one that cannot be played."""
    if recorded.interface == NETWORK:
        from ringminus.machine.replay.adapter import build_adapter

        return build_adapter(recorded, result)
    if recorded.interface not in STORAGE:
        return offered_as(recorded, HostReplay)(recorded, result)
    from ringminus.machine.replay.storage import build, reads_what_was_written

    adapter, _ = build(recorded, ())
    own = partial(reads_what_was_written, adapter)
    return offered_as(recorded, HostReplay, type(adapter))(recorded, result, adapter, own)


def _refusal(recorded: RecordedDevice) -> str:
    return (
        f"ringminus has no device of class {recorded.interface} to play {recorded.title} to: "
        "name yours with --device MODULE:CLASS, or another channel with --channel"
    )

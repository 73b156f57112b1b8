"""What the bus knows of each channel that it offers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ringminus.vmbus.channel import OpenChannel
from ringminus.vmbus.control.actions import OpenRequest
from ringminus.vmbus.control.offers import Offer
from ringminus.vmbus.counters import Counters
from ringminus.vmbus.device import Device


@dataclass(slots=True)
class Slot:
    """An offer and what stands behind it; `index` is 0 for a device's primary channel."""

    device: Device
    index: int
    monitor_id: int | None = None
    relid: int = 0
    channel: OpenChannel | None = None
    request: OpenRequest | None = None
    opened: int = 0
    failed: int = 0
    past: Counters = field(default_factory=Counters)

    def counters(self) -> Counters:
        """What passed on all of its openings."""
        total = replace(self.past)
        if self.channel is not None:
            total.add(self.channel.counters)
        return total


def offer_of(device: Device, monitor_id: int | None) -> Offer:
    """What the guest is told of a device's primary channel."""
    return Offer(
        interface=device.interface,
        instance=device.instance,
        flags=device.flags,
        pipe_mode=device.pipe_mode,
        user_defined=device.user_defined(),
        mmio_megabytes=device.mmio_megabytes,
        subchannel_index=0,
        monitor_id=monitor_id,
    )

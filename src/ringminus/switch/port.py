"""The line between a switch and what is plugged into it.

A `Port` is what an endpoint sees of the switch, whether that is in this process (`switch.SwitchPort`) or in
another (`link.client.RemotePort`). An `Endpoint` is what the switch sees of a network adapter, of NAT, of a
tap device, of a capture file, of a link to another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ringminus.switch.frame import Frame

ADDRESS_SIZE = 6
BROADCAST = b"\xff" * ADDRESS_SIZE


class Port(Protocol):
    """A switch, as an endpoint sees it."""

    def send(self, frame: Frame) -> bool:
        """Take a frame from the endpoint. It is taken in any case; False asks the endpoint to send no more
        until its `resumed` is called. Who sends on all the same may lose frames, and they are counted."""

    def flush(self) -> None:
        """The endpoint has no more to send for now; what was sent goes on at the latest now."""

    def set_address(self, address: bytes) -> None:
        """The endpoint's MAC address is another one now."""


class Endpoint(Protocol):
    """What is plugged into a switch, as the switch sees it. It must not send from within `plugged`."""

    def plugged(self, port: Port) -> None:
        """It was plugged in; frames for the switch go to `port`."""

    def deliver(self, frame: Frame) -> None:
        """Take a frame. What it has no room for it keeps in a bounded queue, or drops and counts."""

    def flush(self) -> None:
        """No more frames come for now."""

    def resumed(self) -> None:
        """The port takes frames again, after it said that it wants no more."""

    def set_link(self, up: bool, megabits: int) -> None:
        """The port's link went up or down, or has another speed (megabits per second)."""

    def close(self) -> None:
        """It was unplugged, or the switch ends: give everything back."""


@dataclass(frozen=True, slots=True)
class VlanMode:
    """Which VLANs a port carries.

    Without `trunk` the port is an access port: its frames are untagged outside and belong to `access`
    inside (0: to none, and then only to ports like it). With `trunk`, a set of VLAN ids, tagged frames of
    those pass, and untagged ones belong to `access` (the native VLAN)."""

    access: int = 0
    trunk: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class PortSettings:
    """What a person asks of a port; the defaults are Hyper-V's.

    `address` is the endpoint's MAC address, None for one that has many behind it (NAT, tap, an uplink): no
    guard of addresses applies there. `megabits` is the speed that the endpoint is told, `limit` bounds what
    it may send (bits per second, 0: no bound). `spoofing` lets it send from other addresses than its own,
    `dhcp_guard` drops its DHCP server's answers, `router_guard` its router advertisements and redirects.
    `mirror` is "", "source" (its frames are also shown to mirror destinations) or "destination" (it is
    shown the frames of all mirror sources; a capture is one)."""

    name: str = ""
    address: bytes | None = None
    vlan: VlanMode = field(default_factory=VlanMode)
    link: bool = True
    megabits: int = 10_000
    limit: int = 0
    spoofing: bool = False
    dhcp_guard: bool = False
    router_guard: bool = False
    mirror: str = ""


@dataclass(slots=True)
class PortCounters:
    """What passed a port, seen from the switch: `received` is what the endpoint sent. Each frame that does
    not arrive is in one of the `dropped` reasons, by name."""

    received_frames: int = 0
    received_bytes: int = 0
    sent_frames: int = 0
    sent_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, frames: int = 1) -> None:
        """Count frames that go no further."""
        self.dropped[reason] = self.dropped.get(reason, 0) + frames

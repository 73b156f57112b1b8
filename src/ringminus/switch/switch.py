"""A learning Ethernet switch with VLANs, as Hyper-V's vmswitch is for its guests.

A frame of an endpoint goes to the port behind which its destination is known, otherwise to all of its VLAN.
With a port's address known and `spoofing` off, which is Hyper-V's default, that port is *secured*: it sends
only from its address, which no other port can take from it, and is given, of what is for one receiver, only
what is for that address; so it takes no part when frames for an unknown address are flooded. (Hyper-V does so
since Windows Server 2008 R2: AllowMacSpoofing of Msvm_EthernetSwitchPortSecuritySettingData.)

Everything is on one thread, and any endpoint may send, be configured or be unplugged while the switch
delivers to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue
from ringminus.errors import ConfigError
from ringminus.switch import mirroring
from ringminus.switch.addresses import AddressTable, Entry
from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.port import Endpoint, PortSettings
from ringminus.switch.settings import check_settings
from ringminus.switch.switchport import SwitchPort
from ringminus.switch.vlans import Tagging

__all__ = ["KnownAddress", "Switch", "SwitchPort", "Vlan"]

_WHO_IS_THERE = ("vlan", "address", "spoofing", "link")  # settings that say who may be behind a port


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """A row of `Switch.addresses`: `age` is in seconds, None for a port's own address."""

    vlan: int
    address: bytes
    port: int
    age: float | None


class Vlan:
    """A VLAN: `table` is where its addresses are, `members` the ports that get frames for groups, `unknown`
    those that get frames for addresses that nobody has been heard of."""

    __slots__ = ("members", "table", "unknown")

    def __init__(self, table: dict[bytes, Entry[SwitchPort]]) -> None:
        self.table = table
        self.members: tuple[SwitchPort, ...] = ()
        self.unknown: tuple[SwitchPort, ...] = ()


class Switch:
    """A switch and its ports. `timers` is fired by who owns the process; `clock` is the time of ageing and of
    bandwidth limits."""

    def __init__(self, name: str, clock: ReferenceClock, timers: TimerQueue) -> None:
        self.name = name
        self.clock = clock
        self.timers = timers
        self.learned: AddressTable[SwitchPort] = AddressTable(clock, timers)
        self._ports: dict[int, SwitchPort] = {}
        self._vlans: dict[int, Vlan] = {}  # those that had a frame since the last arrangement
        self._last_number = 0
        self._watched = False  # whether any port is
        self._closed = False

    # ------------------------------------------------------------------ ports

    def plug(self, endpoint: Endpoint, settings: PortSettings) -> SwitchPort:
        """A new port for an endpoint; it is told its port, and then the link. Raises `ConfigError`."""
        if self._closed:
            raise ConfigError(f"the switch {self.name} is closed; name another")
        self._check(settings, None)
        self._last_number += 1
        port = self._ports[self._last_number] = SwitchPort(self, self._last_number, endpoint, settings)
        port.limit()
        self._arrange()
        try:
            endpoint.plugged(port)
        except BaseException:
            self._remove(port)
            raise
        endpoint.set_link(settings.link, settings.megabits)
        return port

    def unplug(self, port: SwitchPort) -> None:
        """The port is no more, and its endpoint is closed. To do it again does nothing."""
        if port.plugged:
            self._remove(port)
            port.endpoint.close()

    def _remove(self, port: SwitchPort) -> None:
        port.plugged = port.up = False
        del self._ports[port.number]
        self.learned.forget(port)
        self.learned.withdraw(port)
        self._arrange_port(port)
        self._arrange()
        port.limit()

    def ports(self) -> tuple[SwitchPort, ...]:
        """Those that are plugged, in the order of their numbers."""
        return tuple(self._ports.values())

    def close(self) -> None:
        """Unplug all, and plug no more."""
        self._closed = True
        for port in self.ports():
            self.unplug(port)
        self.learned.close()

    def configure(self, port: SwitchPort, settings: PortSettings) -> None:
        """See `SwitchPort.configure`."""
        self._check(settings, port)
        before, before_mirror_only = port.settings, port.mirror_only
        port.apply(settings)
        if before.address != settings.address:
            port.address = settings.address
        if not port.plugged:
            return
        self.learned.withdraw(port)
        changed = any(getattr(before, name) != getattr(settings, name) for name in _WHO_IS_THERE)
        if changed or before_mirror_only != port.mirror_only:
            self.learned.forget(port)
        self._arrange()
        if (before.link, before.megabits) != (settings.link, settings.megabits):
            port.endpoint.set_link(settings.link, settings.megabits)
        if before.limit != settings.limit:
            port.limit()

    def watch(self, port: SwitchPort, *numbers: int) -> None:
        """Show the mirror destination `port` the frames of these ports (of all, if none is named) instead of
        those of mirror sources. Ports that come later count too."""
        port.watches = frozenset(numbers)
        self._arrange()

    def _check(self, settings: PortSettings, port: SwitchPort | None) -> None:
        """Refuse what is impossible, and an address that is another secured port's own in a VLAN of both."""
        check_settings(settings)
        if settings.address is None or settings.spoofing:
            return
        vlans = Tagging(settings.vlan).vlans()
        for other in self.ports():
            if (
                other is not port
                and other.secured
                and other.settings.address == settings.address
                and not vlans.isdisjoint(other.tagging.vlans())
            ):
                raise ConfigError(
                    f"{settings.address.hex(':')} is the address of port {other.number} of {self.name}"
                    " already; write another with mac="
                )

    # ------------------------------------------------------------------ what follows from the settings

    def _arrange(self) -> None:
        """Work out anew who gets what, after a port came, went or was configured."""
        ports = self.ports()
        self._vlans = {}
        self._watched = mirroring.arrange(ports)
        for port in ports:
            self._arrange_port(port)
            if port.up and not port.mirror_only:
                for vlan in self.learned.vlans() & port.tagging.vlans():
                    self._secure(port, vlan)
        for entry in self.learned:
            self._note(entry)

    def _arrange_port(self, port: SwitchPort) -> None:
        port.direct_out = port.up and not port.watchers
        port.direct_in = port.direct_out and not port.mirror_only
        port.table = self._vlan(port.tagging.native).table if port.up else {}

    def _vlan(self, number: int) -> Vlan:
        """A VLAN as the ports are now."""
        vlan = self._vlans.get(number)
        if vlan is None:
            vlan = self._vlans[number] = Vlan(self.learned.vlan(number))
            members = [p for p in self.ports() if p.up and not p.mirror_only and p.tagging.carries(number)]
            vlan.members = tuple(members)
            vlan.unknown = tuple(port for port in members if not port.secured)
            for port in members:
                self._secure(port, number)
        return vlan

    def _secure(self, port: SwitchPort, number: int) -> None:
        """Have a secured port's address known in a VLAN that it is a member of."""
        if port.secured and port.settings.address is not None:
            self._note(self.learned.assign(number, port.settings.address, port))

    @staticmethod
    def _note(entry: Entry[SwitchPort]) -> None:
        entry.direct = entry.port.direct_out and entry.vlan == entry.port.tagging.native

    # ------------------------------------------------------------------ frames

    def forward(
        self, port: SwitchPort, number: int, frame: Frame, sent: Frame, source: bytes, destination: bytes
    ) -> None:
        """Learn from a frame that `port` let in, and pass it on. `frame` is what is inside of what was
        `sent`."""
        vlan = self._vlans.get(number) or self._vlan(number)
        entry = vlan.table.get(source)
        if entry is not None and entry.port is port:
            entry.active = True
        else:
            self._note(self.learned.learn(number, source, port))
        known = vlan.table.get(destination)
        if known is not None:
            targets: tuple[SwitchPort, ...] = (known.port,)
        else:
            targets = vlan.members if destination[0] & 1 else vlan.unknown
        if self._watched:
            mirroring.show(port, number, sent, frame, targets)
        nobody = True
        for to in targets:
            if to is not port:
                nobody = False
                to.deliver(port, number, frame)
        if nobody:
            port.counters.drop(Drop.NOBODY if known is None else Drop.SAME_PORT)

    # ------------------------------------------------------------------ what it knows

    def addresses(self) -> list[KnownAddress]:
        """Every address and where it is, by VLAN and address."""
        rows = [
            KnownAddress(
                entry.vlan,
                entry.address,
                entry.port.number,
                None if entry.static else self.learned.age(entry) / REFERENCE_HZ,
            )
            for entry in self.learned
        ]
        return sorted(rows, key=lambda row: (row.vlan, row.address))

    def describe(self) -> dict[str, Any]:
        """All of it as plain data: what `show --json` prints."""
        return {
            "name": self.name,
            "ports": [port.describe() for port in self.ports()],
            "addresses": [
                {"vlan": row.vlan, "address": row.address.hex(":"), "port": row.port, "age": row.age}
                for row in self.addresses()
            ],
        }

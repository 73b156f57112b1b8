"""A learning Ethernet switch with VLANs, as Hyper-V's vmswitch is for its guests.

A frame of an endpoint goes to the port behind which its destination is known, otherwise to all of its VLAN.
With a port's address known and `spoofing` off, which is Hyper-V's default, that port is *secured*: it sends
only from its address, which no other port can take from it, and is given, of what is for one receiver, only
what is for that address; so it takes no part when frames for an unknown address are flooded. (Hyper-V does so
since Windows Server 2008 R2.)

Everything is on one thread, and any endpoint may send, be configured or be unplugged while the switch
delivers to it."""

from __future__ import annotations

from dataclasses import dataclass

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue
from ringminus.errors import ConfigError
from ringminus.switch.addresses import AddressTable, Entry
from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.port import ADDRESS_SIZE, Endpoint, PortCounters, PortSettings
from ringminus.switch.vlans import TAG_TYPE, TYPE, Tagging
from ringminus.switch.wire import EthernetHeader

_HEADER = EthernetHeader.SIZE
_DESTINATION = slice(0, ADDRESS_SIZE)
_SOURCE = slice(ADDRESS_SIZE, 2 * ADDRESS_SIZE)
_NO_ADDRESS = bytes(ADDRESS_SIZE)
_RESERVED = bytes.fromhex("0180c20000")
_LAST_RESERVED = 0x0F


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


class SwitchPort:
    """A port of a `Switch`; made by `Switch.plug`. A large frame counts as one, with its bytes."""

    def __init__(self, switch: Switch, number: int, endpoint: Endpoint, settings: PortSettings) -> None:
        self.number = number
        self.endpoint = endpoint
        self.counters = PortCounters()
        self.plugged = True
        self._switch = switch
        self._reached: dict[SwitchPort, None] = {}  # since the last flush, in order
        self._direct = False  # nothing to do for untagged frames but to learn and forward
        self._table: dict[bytes, Entry[SwitchPort]] = {}
        self._set(settings)

    def _set(self, settings: PortSettings) -> None:
        self.settings = settings
        self.tagging = Tagging(settings.vlan)
        self.secured = settings.address is not None and not settings.spoofing

    @property
    def up(self) -> bool:
        """Whether frames pass."""
        return self.plugged and self.settings.link

    # ------------------------------------------------------------------ what the endpoint calls

    def send(self, frame: Frame) -> bool:
        """See `Port.send`."""
        data = frame.data
        size = len(data)
        counters = self.counters
        counters.received_frames += 1
        counters.received_bytes += size
        if self._direct and frame.tci is None and size >= _HEADER and data[TYPE] != TAG_TYPE:
            table = self._table
            source, destination = table.get(data[_SOURCE]), table.get(data[_DESTINATION])
            if source is not None and destination is not None and source.port is self and destination.direct:
                to = destination.port
                if to is not self:
                    source.active = True
                    counters = to.counters
                    counters.sent_frames += 1
                    counters.sent_bytes += size
                    self._reached[to] = None
                    to.endpoint.deliver(frame)
                    return True
        self.admit(frame)
        return True

    def flush(self) -> None:
        """See `Port.flush`."""
        reached = self._reached
        if reached:
            self._reached = {}
            for port in reached:
                if port.plugged:
                    port.endpoint.flush()

    def set_address(self, address: bytes) -> None:
        """See `Port.set_address`. It does not move what a secured port may use."""
        self._switch.learned.forget(self)

    # ------------------------------------------------------------------ what people call

    def configure(self, settings: PortSettings) -> None:
        """Work by other settings from now on. What they leave as it was goes on undisturbed."""
        self._switch.configure(self, settings)

    # ------------------------------------------------------------------ on the way

    def admit(self, frame: Frame) -> None:
        """Forward a frame of the endpoint, or count why not."""
        if not self.up:
            return self.counters.drop(Drop.LINK_DOWN if self.plugged else Drop.UNPLUGGED)
        data = frame.data
        if len(data) < _HEADER:
            return self.counters.drop(Drop.SHORT)
        source, destination = data[_SOURCE], data[_DESTINATION]
        if source[0] & 1 or source == _NO_ADDRESS:
            return self.counters.drop(Drop.SOURCE)
        if self.secured and source != self.settings.address:
            return self.counters.drop(Drop.SPOOFED)
        if destination.startswith(_RESERVED) and destination[-1] <= _LAST_RESERVED:
            return self.counters.drop(Drop.RESERVED)
        where = self.tagging.inside(frame)
        if where is None:
            return self.counters.drop(Drop.VLAN)
        self._switch.forward(self, *where, source, destination)

    def deliver(self, sender: SwitchPort, vlan: int, frame: Frame) -> None:
        """Give the endpoint a frame that another port let in."""
        if not self.up:
            return  # since the way was chosen
        out = self.tagging.outside(vlan, frame)
        if out is None:
            return self.counters.drop(Drop.TAG)
        self.counters.sent_frames += 1
        self.counters.sent_bytes += len(out.data)
        sender._reached[self] = None
        self.endpoint.deliver(out)


class Switch:
    """A switch and its ports. `timers` is fired by who owns the process; `clock` is the time of ageing and of
    bandwidth limits."""

    def __init__(self, name: str, clock: ReferenceClock, timers: TimerQueue) -> None:
        self.name = name
        self.clock = clock
        self.timers = timers
        self.learned: AddressTable[SwitchPort] = AddressTable(clock, timers)
        self._ports: dict[int, SwitchPort] = {}
        self._vlans: dict[int, Vlan] = {}
        self._last_number = 0
        self._closed = False

    # ------------------------------------------------------------------ ports

    def plug(self, endpoint: Endpoint, settings: PortSettings) -> SwitchPort:
        """A new port for an endpoint; it is told its port, and then the link. Raises `ConfigError`."""
        if self._closed:
            raise ConfigError(f"the switch {self.name} is closed")
        self._check(settings, None)
        self._last_number += 1
        port = SwitchPort(self, self._last_number, endpoint, settings)
        self._ports[port.number] = port
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
        port.plugged = False
        del self._ports[port.number]
        self.learned.forget(port)
        self.learned.withdraw(port)
        self._arrange()

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
        before = port.settings
        port._set(settings)
        if not port.plugged:
            return
        self.learned.withdraw(port)
        if (before.vlan, before.address, before.spoofing, before.link) != (
            settings.vlan,
            settings.address,
            settings.spoofing,
            settings.link,
        ):
            self.learned.forget(port)
        self._arrange()
        if (before.link, before.megabits) != (settings.link, settings.megabits):
            port.endpoint.set_link(settings.link, settings.megabits)

    def _check(self, settings: PortSettings, port: SwitchPort | None) -> None:
        """Refuse an address that is another secured port's own in a VLAN of both."""
        if settings.address is None or settings.spoofing:
            return
        vlans = Tagging(settings.vlan).vlans()
        for other in self._ports.values():
            if (
                other is not port
                and other.secured
                and other.settings.address == settings.address
                and not vlans.isdisjoint(other.tagging.vlans())
            ):
                raise ConfigError(
                    f"{settings.address.hex(':')} is the address of port {other.number} already;"
                    " choose another with mac="
                )

    # ------------------------------------------------------------------ what follows from the settings

    def _arrange(self) -> None:
        """Work out anew who gets what, after a port came, went or was configured."""
        used = [vlan for vlan in self._vlans if any(p.up and p.tagging.carries(vlan) for p in self.ports())]
        for vlan in set(self._vlans).difference(used):
            self.learned.forget_vlan(vlan)
        self._vlans = {vlan: self._vlan(vlan) for vlan in used}
        for port in self.ports():
            native = port.tagging.native
            if port.up and native not in self._vlans:
                self._vlans[native] = self._vlan(native)
            port._table = self._vlans[native].table if port.up else {}
            port._direct = port.up
        for entry in self.learned:
            entry.direct = entry.port._direct and entry.vlan == entry.port.tagging.native

    def _vlan(self, number: int) -> Vlan:
        """A VLAN as the ports are now."""
        vlan = Vlan(self.learned.vlan(number))
        vlan.members = tuple(p for p in self.ports() if p.up and p.tagging.carries(number))
        vlan.unknown = tuple(p for p in vlan.members if not p.secured)
        for port in vlan.members:
            if port.secured and port.settings.address is not None:
                self._note(self.learned.assign(number, port.settings.address, port))
        return vlan

    @staticmethod
    def _note(entry: Entry[SwitchPort]) -> None:
        entry.direct = entry.port._direct and entry.vlan == entry.port.tagging.native

    # ------------------------------------------------------------------ frames

    def forward(self, port: SwitchPort, number: int, frame: Frame, source: bytes, destination: bytes) -> None:
        """Learn from a frame that `port` let in, and send it on."""
        vlan = self._vlans.get(number)
        if vlan is None:
            vlan = self._vlans[number] = self._vlan(number)
        if not port.secured:
            entry = self.learned.learn(number, source, port)
            if entry is not None:
                self._note(entry)
        known = vlan.table.get(destination)
        if known is not None:
            targets: tuple[SwitchPort, ...] = (known.port,)
        else:
            targets = vlan.members if destination[0] & 1 else vlan.unknown
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

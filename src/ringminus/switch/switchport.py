"""A port of the switch: what an endpoint sends is counted, held back, refused or let in here."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ringminus.switch import mirroring
from ringminus.switch.addresses import Entry
from ringminus.switch.bandwidth import Shaper
from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.guards import guard
from ringminus.switch.port import ADDRESS_SIZE, Endpoint, PortCounters, PortSettings
from ringminus.switch.settings import to_dict
from ringminus.switch.vlans import TAG_TYPE, TYPE, Tagging
from ringminus.switch.wire import EthernetHeader

if TYPE_CHECKING:
    from ringminus.switch.switch import Switch

_HEADER = EthernetHeader.SIZE
_DESTINATION = slice(0, ADDRESS_SIZE)
_SOURCE = slice(ADDRESS_SIZE, 2 * ADDRESS_SIZE)
_NO_ADDRESS = bytes(ADDRESS_SIZE)
_RESERVED = bytes.fromhex("0180c20000")
_LAST_RESERVED = 0x0F


class SwitchPort:
    """A port of a `Switch`; made by `Switch.plug`. Bytes count without tag, a large frame as one frame."""

    def __init__(self, switch: Switch, number: int, endpoint: Endpoint, settings: PortSettings) -> None:
        self.number = number
        self.endpoint = endpoint
        self.counters = PortCounters()
        self.plugged = True
        self.up = False
        """Whether frames pass: it is plugged, and its link is up."""
        self.address = settings.address
        """What the endpoint says that its address is."""
        self.watchers: tuple[SwitchPort, ...] = ()
        self.watches: frozenset[int] | None = None  # see Switch.watch
        self._switch = switch
        self._reached: dict[SwitchPort, None] = {}  # since the last flush, in order
        self._shaper: Shaper | None = None
        # what follows is arranged by the switch
        self.table: dict[bytes, Entry[SwitchPort]] = {}
        self.direct_in = False  # untagged frames need no more than forwarding, and the guards
        self.direct_out = False  # untagged frames of the native VLAN may be delivered as they are
        self.apply(settings)

    def apply(self, settings: PortSettings) -> None:
        """Take other settings for the frames to come. Only for the switch."""
        self.settings = settings
        self.up = self.plugged and settings.link
        self.tagging = Tagging(settings.vlan)
        self.secured = settings.address is not None and not settings.spoofing
        self.mirror_only = settings.mirror == mirroring.DESTINATION and settings.address is None
        self._guard = guard(settings)

    @property
    def waiting(self) -> int:
        """Frames that wait for the bandwidth limit: received, and neither sent nor dropped yet."""
        return len(self._shaper) if self._shaper is not None else 0

    # ------------------------------------------------------------------ what the endpoint calls

    def send(self, frame: Frame) -> bool:
        """See `Port.send`."""
        counters = self.counters
        counters.received_frames += 1
        counters.received_bytes += len(frame.data)
        if self._shaper is not None and self.up:
            return self._shaper.send(frame)
        self._admit(frame)
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
        """See `Port.set_address`. Nothing is behind the old one any more; but which address a secured port
        may use is the settings' to say, not the endpoint's."""
        if self.address is not None and self.address != address:
            self._switch.learned.forget(self, self.address)
        self.address = bytes(address)

    # ------------------------------------------------------------------ what people call

    def configure(self, settings: PortSettings) -> None:
        """Work by other settings from now on; what they leave as it was goes on undisturbed. Raises
        `ConfigError`, and then nothing has changed."""
        self._switch.configure(self, settings)

    def describe(self) -> dict[str, Any]:
        """Settings and counters as plain data."""
        counters: dict[str, Any] = {
            field.name: getattr(self.counters, field.name) for field in fields(PortCounters)
        }
        counters["dropped"] = {str(reason): count for reason, count in self.counters.dropped.items()}
        return {
            "number": self.number,
            "name": self.settings.name,
            "address": self.address.hex(":") if self.address is not None else None,
            "link": "up" if self.up else "down",
            "settings": to_dict(self.settings),
            "counters": counters | {"waiting": self.waiting},
        }

    # ------------------------------------------------------------------ on the way

    def _admit(self, frame: Frame) -> None:
        """Forward a frame of the endpoint, or count why not."""
        data = frame.data
        if self.direct_in and frame.tci is None and len(data) >= _HEADER and data[TYPE] != TAG_TYPE:
            table = self.table
            source, known = table.get(data[_SOURCE]), table.get(data[_DESTINATION])
            if source is not None and known is not None and source.port is self and known.direct:
                to = known.port
                if to is not self and (self._guard is None or self._guard(data) is None):
                    source.active = True
                    counters = to.counters
                    counters.sent_frames += 1
                    counters.sent_bytes += len(data)
                    self._reached[to] = None
                    to.endpoint.deliver(frame)
                    return
        self._look(frame, data, data[_SOURCE], data[_DESTINATION])

    def _look(self, frame: Frame, data: bytes, source: bytes, destination: bytes) -> None:
        """`_admit` for frames that more has to be known of than two addresses."""
        reason = self._refusal(data, source, destination)
        if reason is None:
            inside = self.tagging.inside(frame)
            if inside is not None and not self.mirror_only:
                return self._switch.forward(self, *inside, frame, source, destination)
            reason = Drop.VLAN
        self.counters.drop(reason)

    def _refusal(self, data: bytes, source: bytes, destination: bytes) -> Drop | None:
        if not self.up:
            return self._why_down()
        if len(data) < _HEADER:
            return Drop.SHORT
        if source[0] & 1 or source == _NO_ADDRESS:
            return Drop.SOURCE
        if destination.startswith(_RESERVED) and destination[-1] <= _LAST_RESERVED:
            return Drop.RESERVED
        if self.secured and source != self.settings.address:
            return Drop.SPOOFED
        return self._guard(data) if self._guard is not None else None

    def _why_down(self) -> Drop:
        return Drop.LINK_DOWN if self.plugged else Drop.UNPLUGGED

    def deliver(self, sender: SwitchPort, vlan: int, frame: Frame) -> None:
        """Give the endpoint a frame of its VLAN that `sender` let in."""
        if not self.up:
            return self.counters.drop(self._why_down())  # since the way was chosen
        out = self.tagging.outside(vlan, frame)
        if out is None:
            return self.counters.drop(Drop.TAG)
        self.give(sender, out)

    def give(self, sender: SwitchPort, frame: Frame) -> None:
        """Give the endpoint a frame as it is."""
        self.counters.sent_frames += 1
        self.counters.sent_bytes += len(frame.data)
        sender._reached[self] = None
        self.endpoint.deliver(frame)

    # ------------------------------------------------------------------ the bandwidth limit

    def limit(self) -> None:
        """Begin, change or end the limit as the settings say. Only for the switch."""
        shaper, rate = self._shaper, self.settings.limit if self.plugged else 0
        if rate and shaper is not None:
            shaper.set_rate(rate)
        elif rate:
            switch = self._switch
            self._shaper = Shaper(
                rate, switch.clock, switch.timers, self._admit, self.counters.drop, self._released
            )
        elif shaper is not None:
            self._shaper = None
            if self.plugged:
                shaper.release()
            else:
                shaper.close(Drop.UNPLUGGED)

    def _released(self, all_gone: bool) -> None:
        self.flush()
        if all_gone and self.plugged:
            self.endpoint.resumed()

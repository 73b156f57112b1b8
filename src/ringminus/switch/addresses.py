"""Which address is behind which port, learned per VLAN (independent learning of IEEE 802.1Q).

A frame costs a known address one attribute: it marks the entry as active. One timer for all turns marks into
times, and forgets what was silent for the ageing time. So an address is forgotten between `AGEING` and
`AGEING` + 2 × `SWEEP` after its last frame."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Set
from typing import Generic, TypeVar

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue

AGEING = 300 * REFERENCE_HZ
"""As a Linux bridge's default."""
SWEEP = AGEING // 10
PER_PORT = 1024
"""Addresses learned at one port. One more makes the port forget one of its own, never another's."""
_CHANCES = 8
"""Active entries that are passed over in search of one to forget."""

P = TypeVar("P", bound=Hashable)


class Entry(Generic[P]):
    """An address of a VLAN, behind `port`. `direct` is the switch's note that untagged frames go there as
    they are; a `static` one is the port's own, does not age and cannot be learned at another port."""

    __slots__ = ("active", "address", "direct", "port", "seen", "static", "vlan")

    def __init__(self, vlan: int, address: bytes, port: P, seen: int, static: bool) -> None:
        self.vlan = vlan
        self.address = address
        self.port = port
        self.seen = seen
        self.static = static
        self.active = False
        self.direct = False


class AddressTable(Generic[P]):
    """See the module. Ports are only names here."""

    def __init__(self, clock: ReferenceClock, timers: TimerQueue, per_port: int = PER_PORT) -> None:
        self._clock = clock
        self._timer = timers.timer(self._sweep)
        self._per_port = per_port
        self._vlans: dict[int, dict[bytes, Entry[P]]] = {}
        self._learned: dict[P, OrderedDict[tuple[int, bytes], Entry[P]]] = {}

    def vlan(self, vlan: int) -> dict[bytes, Entry[P]]:
        """The entries of a VLAN, by address; always the same object."""
        return self._vlans.setdefault(vlan, {})

    def vlans(self) -> Set[int]:
        """Those that were asked for."""
        return self._vlans.keys()

    def learn(self, vlan: int, address: bytes, port: P) -> Entry[P]:
        """A frame from `address` came in by `port`: gives a new entry, or one that moved here, or that of
        the port that it is the own address of."""
        table = self.vlan(vlan)
        entry = table.get(address)
        if entry is not None:
            if entry.static or entry.port == port:
                entry.active = True
                return entry
            self._remove(entry)
        mine = self._learned.setdefault(port, OrderedDict())
        if len(mine) >= self._per_port:
            self._forget_one(mine)
        entry = table[address] = Entry(vlan, address, port, self._clock.reference_time(), False)
        mine[vlan, address] = entry
        if self._timer.deadline is None:
            self._timer.arm(entry.seen + SWEEP)
        return entry

    def assign(self, vlan: int, address: bytes, port: P) -> Entry[P]:
        """`address` is the port's own from now on."""
        entry = self.vlan(vlan).get(address)
        if entry is not None and entry.static and entry.port == port:
            return entry
        if entry is not None and not entry.static:
            self._remove(entry)
        entry = self._vlans[vlan][address] = Entry(vlan, address, port, 0, True)
        return entry

    def forget(self, port: P, address: bytes | None = None) -> None:
        """Nothing (or not this address) is behind the port any more. Its own addresses stay, see
        `withdraw`."""
        for entry in list(self._learned.get(port, {}).values()):
            if address is None or entry.address == address:
                self._remove(entry)
        if not self._learned.get(port):
            self._learned.pop(port, None)

    def withdraw(self, port: P) -> None:
        """The port has no addresses of its own any more."""
        for table in self._vlans.values():
            for entry in [entry for entry in table.values() if entry.static and entry.port == port]:
                del table[entry.address]

    def close(self) -> None:
        """Forget all."""
        self._vlans.clear()
        self._learned.clear()
        self._timer.disarm()

    def __iter__(self) -> Iterator[Entry[P]]:
        """All entries."""
        for table in self._vlans.values():
            yield from table.values()

    def age(self, entry: Entry[P]) -> int:
        """Time since the address was last known to send, in units of 100 ns; `SWEEP` at most too high."""
        return 0 if entry.active or entry.static else self._clock.reference_time() - entry.seen

    def _remove(self, entry: Entry[P]) -> None:
        del self._vlans[entry.vlan][entry.address]
        del self._learned[entry.port][entry.vlan, entry.address]

    def _forget_one(self, mine: OrderedDict[tuple[int, bytes], Entry[P]]) -> None:
        """Forget the oldest that was silent since the last sweep or search, as a clock page replacement."""
        for _ in range(_CHANCES):
            key, entry = next(iter(mine.items()))
            if not entry.active:
                break
            entry.active, entry.seen = False, self._clock.reference_time()
            mine.move_to_end(key)
        self._remove(next(iter(mine.values())))

    def _sweep(self, now: int) -> None:
        now = self._clock.reference_time()
        for port in list(self._learned):
            for entry in list(self._learned[port].values()):
                if entry.active:
                    entry.active, entry.seen = False, now
                elif now - entry.seen >= AGEING:
                    self._remove(entry)
            if not self._learned[port]:
                del self._learned[port]
        if self._learned:
            self._timer.arm(now + SWEEP)

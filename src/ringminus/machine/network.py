"""A machine's network: its adapters, and what each of them is plugged into, as a person asked.

What an adapter may be connected to is imported where the first such is made: a guest without adapters boots
without this module, and one with NAT without links and tap devices.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import uuid5

from ringminus.clock import ReferenceClock, TimerQueue
from ringminus.devices.network.nic import SyntheticNic
from ringminus.errors import HostError
from ringminus.machine.nics import MICROSOFT, NAT, NONE, SWITCH, TAP, NicConfig, random_address
from ringminus.switch.port import ADDRESS_SIZE, Endpoint, PortSettings, VlanMode
from ringminus.switch.reactor import Reactor
from ringminus.switch.switch import Switch, SwitchPort
from ringminus.switch.vlans import LARGEST_ID
from ringminus.vmbus.device import INSTANCES

log = logging.getLogger(__name__)

ALL_VLANS = VlanMode(0, frozenset(range(1, LARGEST_ID + 1)))


class Connection:
    """An adapter and what it is plugged into. `connected_to` is for a person, `port` the adapter's own port
    on a switch of this process, None if it is on none."""

    def __init__(self, adapter: SyntheticNic, connected_to: str) -> None:
        self.adapter = adapter
        self.connected_to = connected_to
        self.port: SwitchPort | None = None
        self.losses: list[Callable[[], Mapping[str, int]]] = [
            lambda: adapter.counters.sending_dropped,
            lambda: adapter.counters.receiving_dropped,
        ]
        """Who counts frames that did not arrive."""

    def dropped(self) -> dict[str, int]:
        """Frames from or for the guest that were lost in this process, by reason."""
        total: Counter[str] = Counter()
        for counted in self.losses:
            total.update(counted())
        return dict(total)


class Network:
    """The adapters of a machine, in order, and the files that what they are plugged into waits for.

    Made by `build_network`; closed after the machine's devices.
    """

    def __init__(self, clock: ReferenceClock, timers: TimerQueue) -> None:
        self.connections: list[Connection] = []
        self._clock = clock
        self._timers = timers
        self._stack = contextlib.ExitStack()
        self.reactor = Reactor()
        self._stack.callback(self.reactor.close)

    @property
    def adapters(self) -> list[SyntheticNic]:
        """What to offer to the guest."""
        return [connection.adapter for connection in self.connections]

    def add(self, config: NicConfig) -> None:
        """One more adapter; raises `ConfigError` and `HostError`."""
        place = len(self.connections)
        settings = config.settings
        if settings.address is None:
            settings = replace(settings, address=address_of(config.backend, place))
        assert settings.address is not None
        title = f"NIC {place}"
        adapter = SyntheticNic(settings.address, uuid5(INSTANCES, f"nic{place}"), title=title)
        connection = Connection(adapter, ":".join(filter(None, (config.backend, config.name))))
        endpoint: Endpoint = adapter
        if config.capture is not None:
            endpoint = self._recorder(adapter, config)
        self._plug(config, connection, endpoint, replace(settings, name=settings.name or title))
        self.connections.append(connection)

    def close(self) -> None:
        """Unplug all, and give their files back; the first failure is told when all have been closed."""
        self._stack.close()

    def _recorder(self, adapter: SyntheticNic, config: NicConfig) -> Endpoint:
        from ringminus.machine.recorder import Recorder
        from ringminus.switch.capture import CaptureFile

        path = config.capture
        assert path is not None
        if not config.restarted:
            return Recorder(adapter, CaptureFile(path, reactor=self.reactor))
        try:
            return Recorder(adapter, CaptureFile(path, reactor=self.reactor, go_on=path.is_file()))
        except HostError as error:  # such as a pipe whose reader has gone
            log.warning("%s: after the restart nothing is captured: %s", adapter.title, error)
            return adapter

    def _plug(
        self, config: NicConfig, connection: Connection, endpoint: Endpoint, settings: PortSettings
    ) -> None:
        if config.backend == SWITCH:
            self._plug_link(config, connection, endpoint, settings)
        elif config.backend == NONE:
            self._stack.callback(endpoint.close)
            endpoint.set_link(False, settings.megabits)
        else:
            switch = Switch(settings.name, self._clock, self._timers)
            self._stack.callback(switch.close)
            connection.port = port = switch.plug(endpoint, settings)
            connection.losses.append(lambda: port.counters.dropped)
            far = self._nat(config, connection) if config.backend == NAT else self._tap(config, connection)
            # NAT is in the adapter's VLAN, and behind a tap device there may be a switch that knows them all
            vlan = VlanMode(settings.vlan.access) if config.backend == NAT else ALL_VLANS
            uplink = switch.plug(far, PortSettings(name=connection.connected_to, vlan=vlan))
            connection.losses.append(lambda: uplink.counters.dropped)

    def _nat(self, config: NicConfig, connection: Connection) -> Endpoint:
        from ringminus.switch.nat.config import NatConfig
        from ringminus.switch.nat.nat import Nat

        nat = Nat(config.nat or NatConfig(), self.reactor, self._clock, self._timers)
        connection.losses.append(lambda: nat.dropped)
        return nat

    def _tap(self, config: NicConfig, connection: Connection) -> Endpoint:
        from ringminus.switch.tap import TapDevice

        device = TapDevice(config.name or None, self.reactor)
        connection.connected_to = f"tap:{device.name}"
        connection.losses.append(lambda: device.dropped)
        return device

    def _plug_link(
        self, config: NicConfig, connection: Connection, endpoint: Endpoint, settings: PortSettings
    ) -> None:
        from ringminus.switch.link.client import RemotePort

        def trouble(what: str) -> None:
            log.warning("%s: %s", connection.adapter.title, what)

        title = f"{connection.adapter.title} of process {os.getpid()}"
        port = RemotePort(
            config.name,
            replace(config.settings, address=settings.address),
            self.reactor,
            self._clock,
            self._timers,
            title=title,
            on_trouble=trouble,
        )
        self._stack.callback(port.close)
        connection.losses.append(lambda: port.counters.dropped)
        port.plug(endpoint)
        port.wait()


def address_of(backend: str, place: int) -> bytes:
    """The MAC address of an adapter whose config has none."""
    if backend in (TAP, SWITCH):
        return random_address()
    size = ADDRESS_SIZE - len(MICROSOFT)
    return MICROSOFT + uuid5(INSTANCES, f"nic{place}").bytes[:size]


def build_network(configs: Sequence[NicConfig], clock: ReferenceClock, timers: TimerQueue) -> Network:
    """Make the adapters and plug them in; raises `ConfigError` and `HostError`."""
    network = Network(clock, timers)
    try:
        for config in configs:
            network.add(config)
    except BaseException:
        network.close()
        raise
    return network

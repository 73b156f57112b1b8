"""Ports of a named switch that lead out of it: NAT, and TAP devices of the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ringminus.clock import ReferenceClock, TimerQueue
from ringminus.errors import ConfigError
from ringminus.switch.port import Endpoint, PortSettings, VlanMode
from ringminus.switch.reactor import Reactor
from ringminus.switch.settings import parse_port_options
from ringminus.switch.vlans import LARGEST_ID

NAT, TAP = "nat", "tap"
ALL_VLANS = VlanMode(0, frozenset(range(1, LARGEST_ID + 1)))
"""A TAP device without a word about VLANs is a trunk with all of them."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """An endpoint that leads out, and the `options` that it was made from. `lost` are frames that it dropped
    itself, by reason; `about` gives more for a person."""

    kind: str
    options: str
    endpoint: Endpoint
    settings: PortSettings
    lost: Mapping[str, int] = field(default_factory=dict)
    about: Callable[[], dict[str, object]] = dict


def make_uplink(
    kind: str, options: str, reactor: Reactor, clock: ReferenceClock, timers: TimerQueue
) -> Uplink:
    """A NAT of the options of `--nic nat`, or a TAP device of `NAME` and the options of a port, with commas
    between. Raises `ConfigError` and `HostError`."""
    words = [word for word in options.split(",") if word]
    if kind == NAT:
        return _make_nat(options, words, reactor, clock, timers)
    if kind == TAP:
        return _make_tap(options, words, reactor)
    raise ConfigError(f"there is no uplink {kind[:40]!r}: write {NAT} or {TAP}")


def _port_settings(words: list[str], name: str) -> PortSettings:
    settings = parse_port_options(words)
    if settings.address is not None:
        raise ConfigError("mac= is for one guest's port, and many are behind this one")
    return settings if settings.name else replace(settings, name=name)


def _make_nat(
    options: str, words: list[str], reactor: Reactor, clock: ReferenceClock, timers: TimerQueue
) -> Uplink:
    from ringminus.switch.nat.nat import Nat
    from ringminus.switch.nat.options import OPTIONS, parse_nat_options

    of_nat = [word for word in words if word.partition("=")[0] in OPTIONS]
    settings = _port_settings([word for word in words if word not in of_nat], NAT)
    nat = Nat(parse_nat_options(of_nat), reactor, clock, timers)
    return Uplink(NAT, options, nat, settings, nat.dropped, nat.describe)


def _make_tap(options: str, words: list[str], reactor: Reactor) -> Uplink:
    from ringminus.switch.tap import TapDevice

    name = words[0] if words and "=" not in words[0] else None
    settings = _port_settings(words[1:] if name is not None else words, "")
    device = TapDevice(name, reactor)
    if not any(word.partition("=")[0] in ("vlan", "trunk", "native") for word in words):
        settings = replace(settings, vlan=ALL_VLANS)
    if not settings.name:
        settings = replace(settings, name=device.name)
    return Uplink(TAP, options or device.name, device, settings, device.dropped)

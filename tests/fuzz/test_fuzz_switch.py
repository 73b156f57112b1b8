"""Any frames in any order through any ports, beside a simple model of a switch; guards and settings against
arbitrary input."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from ringminus.errors import ConfigError
from ringminus.switch.addresses import AGEING, SWEEP
from ringminus.switch.frame import Frame
from ringminus.switch.guards import guard
from ringminus.switch.port import BROADCAST, PortSettings, VlanMode
from ringminus.switch.settings import (
    MIRRORS,
    check_settings,
    format_port_options,
    from_dict,
    parse_port_options,
    to_dict,
)
from ringminus.switch.switch import SwitchPort
from support.effort import examples
from support.endpoints import Bed, RecordingEndpoint, frame, mac
from support.ip_packets import DHCP_OFFER, DHCPV6_ADVERTISE, ROUTER_ADVERTISEMENT, extension, tagged

SLOW = settings(max_examples=examples(250), deadline=None, suppress_health_check=[HealthCheck.too_slow])

# ------------------------------------------------------------------ a switch and its model

ADDRESSES = [mac(number) for number in range(1, 5)]
GROUPS = [BROADCAST, bytes.fromhex("01005e000001"), bytes.fromhex("0180c2000003")]
VLANS = (0, 1, 2)
SETTINGS = [one.name for one in fields(PortSettings)]

modes = st.builds(VlanMode, st.sampled_from(VLANS), st.frozensets(st.sampled_from((1, 2, 3)), max_size=3))
port_settings = st.builds(
    PortSettings,
    address=st.none() | st.sampled_from(ADDRESSES),
    vlan=modes,
    link=st.sampled_from((True, True, True, False)),
    limit=st.sampled_from((0, 0, 0, 64_000)),
    spoofing=st.booleans(),
    dhcp_guard=st.booleans(),
    mirror=st.sampled_from(("", "", "", "source", "destination")),
)
tags = st.none() | st.sampled_from((0, 0xA000, 1, 2, 3, 0xF001))


@dataclass(eq=False)
class ModelPort:
    """What the model knows of a port, and what it expects its endpoint to have got."""

    endpoint: RecordingEndpoint
    port: SwitchPort
    settings: PortSettings
    got: list[tuple[bytes, int | None]] = field(default_factory=list)
    waiting: list[Frame] = field(default_factory=list)
    sent = delivered = refused = 0

    @property
    def secured(self) -> bool:
        return self.settings.address is not None and not self.settings.spoofing

    @property
    def shown_only(self) -> bool:
        return self.settings.mirror == "destination" and self.settings.address is None

    def carries(self, vlan: int) -> bool:
        mode = self.settings.vlan
        return self.settings.link and not self.shown_only and vlan in mode.trunk | {mode.access}

    def outside(self, vlan: int, data: bytes, tci: int | None) -> tuple[bytes, int | None] | None:
        """The frame as it leaves by this port."""
        if vlan == self.settings.vlan.access:
            return None if data[12:14] == b"\x81\x00" else (data, None)
        return data, (tci or 0) & 0xF000 | vlan


class Model:
    """Where frames go, worked out from scratch for each."""

    def __init__(self) -> None:
        self.ports: list[ModelPort] = []
        self.learned: dict[tuple[int, bytes], ModelPort] = {}

    def owner(self, vlan: int, address: bytes) -> ModelPort | None:
        for one in self.ports:
            if one.secured and one.settings.address == address and one.carries(vlan):
                return one
        return None

    def forget(self, port: ModelPort) -> None:
        self.learned = {key: one for key, one in self.learned.items() if one is not port}

    def settle(self) -> None:
        """After ports changed: secured addresses are nobody else's."""
        self.learned = {key: one for key, one in self.learned.items() if self.owner(*key) is None}

    def enter(self, port: ModelPort, sent: Frame) -> tuple[int, bytes, int | None] | None:
        """VLAN, data and tag of a frame that may come in."""
        data, tci, mode = sent.data, sent.tci, port.settings.vlan
        source, destination = data[6:12], data[:6]
        if not port.settings.link or port.shown_only or len(data) < 14:
            return None
        if source[0] & 1 or not any(source) or destination in (GROUPS[2],):
            return None
        if port.secured and source != port.settings.address:
            return None
        if port.settings.dhcp_guard and DHCP_OFFER[14:] in data:
            return None
        if tci is None and data[12:14] == b"\x81\x00":
            tci, data = int.from_bytes(data[14:16], "big"), data[:12] + data[16:]
        vlan = (tci or 0) & 0xFFF
        if vlan:
            return (vlan, data, tci) if vlan in mode.trunk else None
        return None if data[12:14] == b"\x81\x00" else (mode.access, data, tci)

    def send(self, port: ModelPort, sent: Frame) -> None:
        entered = self.enter(port, sent)
        if entered is None:
            port.refused += 1
            return
        vlan, data, tci = entered
        source, destination = data[6:12], data[:6]
        if self.owner(vlan, source) is None:
            self.learned[vlan, source] = port
        known = self.owner(vlan, destination) or self.learned.get((vlan, destination))
        if known is not None:
            targets = [known]
        elif destination[0] & 1:
            targets = [one for one in self.ports if one.carries(vlan)]
        else:
            targets = [one for one in self.ports if one.carries(vlan) and not one.secured]
        self._mirror(port, targets, vlan, sent, data, tci)
        targets = [one for one in targets if one is not port]
        port.refused += not targets
        for one in targets:
            out = one.outside(vlan, data, tci)
            if out is None:
                one.refused += 1
            else:
                one.got.append(out)
                one.delivered += 1

    def _mirror(
        self, port: ModelPort, targets: list[ModelPort], vlan: int, sent: Frame, data: bytes, tci: int | None
    ) -> None:
        for watcher in self.ports:
            if watcher.settings.mirror != "destination" or not watcher.settings.link:
                continue
            if watcher is port or watcher in targets:
                continue
            if port.settings.mirror == "source":
                watcher.got.append((sent.data, sent.tci))
                watcher.delivered += 1
                continue
            for one in targets:
                out = one.outside(vlan, data, tci) if one is not port else None
                if one.settings.mirror == "source" and out is not None:
                    watcher.got.append(out)
                    watcher.delivered += 1
                    break


class SwitchMachine(RuleBasedStateMachine):
    """Every frame goes to exactly the ports that the model says, and is counted."""

    plugged = Bundle("plugged")

    @initialize()
    def begin(self) -> None:
        self.bed = Bed()
        self.model = Model()

    def _refused(self, wanted: PortSettings, but: ModelPort | None = None) -> bool:
        """Whether another secured port has the address already."""
        if wanted.address is None or wanted.spoofing:
            return False
        vlans = wanted.vlan.trunk | {wanted.vlan.access}
        return any(
            one is not but
            and one.secured
            and one.settings.address == wanted.address
            and vlans & (one.settings.vlan.trunk | {one.settings.vlan.access})
            for one in self.model.ports
        )

    @rule(target=plugged, wanted=port_settings)
    def plug(self, wanted: PortSettings) -> Any:
        endpoint = RecordingEndpoint()
        try:
            port = self.bed.switch.plug(endpoint, wanted)
        except ConfigError:
            assert self._refused(wanted)
            return None
        assert not self._refused(wanted)
        made = ModelPort(endpoint, port, wanted)
        self.model.ports.append(made)
        self.model.settle()
        return made

    @rule(port=consumes(plugged))
    def unplug(self, port: ModelPort | None) -> None:
        if port is not None:
            self.bed.switch.unplug(port.port)
            port.refused += len(port.waiting)
            port.waiting.clear()
            self._check(port)
            self.model.ports.remove(port)
            self.model.forget(port)
            self.model.settle()

    @rule(port=plugged, other=port_settings, names=st.sets(st.sampled_from(SETTINGS), min_size=1, max_size=2))
    def configure(self, port: ModelPort | None, other: PortSettings, names: set[str]) -> None:
        if port is None:
            return
        wanted = replace(port.settings, **{name: getattr(other, name) for name in names})
        try:
            port.port.configure(wanted)
        except ConfigError:
            assert self._refused(wanted, port)
            return
        assert not self._refused(wanted, port)
        before, shown_only, port.settings = port.settings, port.shown_only, wanted
        who = ("vlan", "address", "spoofing", "link")
        if any(getattr(before, name) != getattr(wanted, name) for name in who):
            self.model.forget(port)
        if port.shown_only != shown_only:
            self.model.forget(port)
        self.model.settle()
        if not wanted.limit:
            self._let_go(port, len(port.waiting))

    @rule(
        port=plugged,
        destination=st.sampled_from(ADDRESSES + GROUPS),
        source=st.sampled_from([*ADDRESSES, *ADDRESSES, BROADCAST, bytes(6)]),
        tci=tags,
        inner=st.lists(tags, max_size=2),
        server=st.booleans(),
        cut=st.sampled_from((None, None, None, None, 0, 13)),
    )
    def send(
        self,
        port: ModelPort | None,
        destination: bytes,
        source: bytes,
        tci: int | None,
        inner: list[int | None],
        server: bool,
        cut: int | None,
    ) -> None:
        if port is None:
            return
        data = destination + source + DHCP_OFFER[12:] if server else frame(destination, source).data
        for tag in inner:
            data = tagged(data, tag) if tag is not None else data
        self._send(port, Frame(data[:cut], tci))

    @rule(port=plugged, destination=st.sampled_from(ADDRESSES), repeat=st.integers(1, 40))
    def talk(self, port: ModelPort | None, destination: bytes, repeat: int) -> None:
        """The usual: untagged frames from its own address."""
        if port is not None:
            source = port.settings.address or ADDRESSES[0]
            for _ in range(repeat):
                self._send(port, frame(destination, source, bytes(1000)))

    @rule(first=plugged, second=plugged, greeting=tags, tci=tags, inner=tags, server=st.booleans())
    def exchange(
        self,
        first: ModelPort | None,
        second: ModelPort | None,
        greeting: int | None,
        tci: int | None,
        inner: int | None,
        server: bool,
    ) -> None:
        """Two get to know each other, and then one says something strange."""
        if first is None or second is None:
            return
        here, there = (one.settings.address or mac(16 + one.port.number) for one in (first, second))
        self._send(second, frame(BROADCAST, there, tci=greeting))
        self._send(first, frame(there, here))
        data = there + here + DHCP_OFFER[12:] if server else frame(there, here).data
        self._send(first, Frame(tagged(data, inner) if inner is not None else data, tci))

    def _send(self, port: ModelPort, sent: Frame) -> None:
        port.sent += 1
        before = port.port.waiting
        answer = port.endpoint.port.send(sent)
        if port.port.waiting > before:  # only the limit holds frames back: believed, and checked elsewhere
            assert port.settings.limit and not answer
            port.waiting.append(sent)
        else:
            assert answer
            self.model.send(port, sent)

    @rule(units=st.sampled_from((10_000, 1_000_000, 100_000_000)))
    def wait(self, units: int) -> None:
        waiting = [(one, one.port.waiting) for one in self.model.ports]
        while units > 0:  # in steps, to know in which order ports let their frames go
            step = min(units, max(1, self.bed.timers.next_deadline() - self.bed.clock.reference_time()))
            self.bed.advance(step)
            units -= step
            waiting = self._catch_up(waiting)

    def _catch_up(self, before: list[tuple[ModelPort, int]]) -> list[tuple[ModelPort, int]]:
        for one, count in before:
            self._let_go(one, count - one.port.waiting)
        return [(one, one.port.waiting) for one, _ in before]

    def _let_go(self, port: ModelPort, count: int) -> None:
        for sent in port.waiting[:count]:
            self.model.send(port, sent)
        del port.waiting[:count]

    @rule()
    def age(self) -> None:
        """Everybody is silent for long: nobody is remembered."""
        self.wait(1_000_000_000)
        self.bed.advance(AGEING + 2 * SWEEP)
        self.model.learned.clear()

    def _check(self, port: ModelPort) -> None:
        # two ports whose limits let frames go at the same instant may do so in either order
        assert sorted((one.data, one.tci or -1) for one in port.endpoint.taken()) == sorted(
            (data, tci or -1) for data, tci in port.got
        )
        port.got.clear()
        counters = port.port.counters
        assert counters.received_frames == port.sent
        assert counters.sent_frames == port.delivered
        assert sum(counters.dropped.values()) == port.refused
        assert port.port.waiting == len(port.waiting)

    @invariant()
    def as_the_model_says(self) -> None:
        for port in self.model.ports:
            self._check(port)
        known = {
            (row.vlan, row.address): row.port for row in self.bed.switch.addresses() if row.age is not None
        }
        assert known == {key: one.port.number for key, one in self.model.learned.items()}
        json.dumps(self.bed.switch.describe())


SwitchMachine.TestCase.settings = settings(
    max_examples=examples(100),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSwitchMachine = SwitchMachine.TestCase


# ------------------------------------------------------------------ guards


@given(
    st.sampled_from((DHCP_OFFER, DHCPV6_ADVERTISE, ROUTER_ADVERTISEMENT)),
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=6),
    st.integers(0, 400),
)
@SLOW
def test_guards_answer_any_bytes(base: bytes, changes: list[tuple[int, bytes]], length: int) -> None:
    data = bytearray(base)
    for offset, value in changes:
        data[offset : offset + len(value)] = value
    check = guard(PortSettings(dhcp_guard=True, router_guard=True))
    assert check is not None
    check(bytes(data[:length]))


@given(
    st.lists(st.sampled_from(("tag", "service tag", "snap")), max_size=6),
    st.lists(st.integers(0, 4), max_size=5),
)
@SLOW
def test_no_wrapping_hides_a_router_advertisement(layers: list[str], units: list[int]) -> None:
    payload, kind = ROUTER_ADVERTISEMENT[54:], 58
    for number in units:
        payload, kind = extension(kind, number) + payload, 60
    data = ROUTER_ADVERTISEMENT[:18] + len(payload).to_bytes(2, "big") + bytes((kind,))
    data += ROUTER_ADVERTISEMENT[21:54] + payload
    for layer in layers:
        if layer == "snap":
            rest = bytes.fromhex("aaaa03000000") + data[12:]
            data = data[:12] + len(rest).to_bytes(2, "big") + rest
        else:
            data = tagged(data, 5, 0x8100 if layer == "tag" else 0x88A8)
    check = guard(PortSettings(router_guard=True))
    assert check is not None
    assert check(data) is not None


# ------------------------------------------------------------------ settings

names = st.text(st.characters(exclude_characters=",", categories=("L", "N", "P", "S")), max_size=64)
all_settings = st.builds(
    PortSettings,
    name=names.filter(str.isprintable),
    address=st.none() | st.integers(1, (1 << 48) - 1).map(lambda n: (n & ~(1 << 40) or 2).to_bytes(6, "big")),
    vlan=st.builds(VlanMode, st.integers(0, 4094), st.frozensets(st.integers(1, 4094), max_size=20)),
    link=st.booleans(),
    megabits=st.integers(1, 1_000_000),
    limit=st.just(0) | st.integers(8000, 10**12),
    spoofing=st.booleans(),
    dhcp_guard=st.booleans(),
    router_guard=st.booleans(),
    mirror=st.sampled_from(("", *MIRRORS)),
)


@given(all_settings)
@SLOW
def test_settings_survive_words_and_plain_data(wanted: PortSettings) -> None:
    check_settings(wanted)
    assert parse_port_options(format_port_options(wanted)) == wanted
    assert from_dict(json.loads(json.dumps(to_dict(wanted)))) == wanted


words = st.sampled_from(
    ("vlan=", "trunk=", "native=", "limit=", "speed=", "mac=", "mirror=", "link=", "name=", "spoofing", "")
)


@given(st.lists(st.builds(str.__add__, words, st.text(max_size=20)), max_size=4))
@SLOW
def test_any_words_are_settings_or_a_typed_error(options: list[str]) -> None:
    try:
        check_settings(parse_port_options(options))
    except ConfigError as error:
        assert str(error)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    plain
    | st.fixed_dictionaries(
        {}, optional={name: plain | st.just(value) for name, value in to_dict(PortSettings()).items()}
    )
    | st.fixed_dictionaries({"vlan": st.fixed_dictionaries({}, optional={"access": plain, "trunk": plain})})
)
@SLOW
def test_any_data_is_settings_or_a_typed_error(data: Any) -> None:
    try:
        check_settings(from_dict(data))
    except ConfigError as error:
        assert str(error)

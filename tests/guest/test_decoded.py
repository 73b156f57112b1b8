"""Everything that a real guest and its host say to each other in a boot with a disk and a network is shown by
name: no message is a number, none has bytes that nothing explains, none lacks any. What led to what is known
from the guest's doorbell to the interrupt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.errors import HostError
from ringminus.lens.decode import Decoder, EventLayer, flat
from ringminus.machine.config import DiskConfig
from ringminus.machine.nics import parse_nic
from ringminus.protocol import REST, Layer
from ringminus.tap import (
    EVENTS,
    BusMessage,
    DeviceMessage,
    Event,
    Hypercall,
    MsrAccess,
    NetworkFrame,
    RingPacket,
    SynicMessage,
    Tap,
)
from support.guest_disks import wait_for
from support.live_guest import LiveGuest, Setup, run_live
from support.net_guests import HOST, network_image, web_server

WITHOUT_NAME = {r"cpuid_leaf 0x4000[0-9a-f]{2}00": "there Linux looks for hypervisors that we are not"}
"""Messages that may have a number for a name, and why."""
SPOKEN = (
    *("vmbus", "gpa_range", "hypercall_input", "msr_value", "cpuid_leaf", "ring", "transfer_range"),
    *("vstor", "scsi", "nvsp", "rndis", "rndis_info", "oid", "rndis_indication"),
    *("ethernet", "arp", "ipv4", "ipv6", "tcp", "udp", "dhcp", "icmp", "icmpv6"),
)
"""Protocols that must have been seen, or the rest proves little."""


@dataclass
class Shown:
    """All events of a guest, taken apart, and what was found wanting, each with an example."""

    decoder: Decoder = field(default_factory=Decoder)
    kinds: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    causes: dict[int, tuple[str, int]] = field(default_factory=dict)
    last: dict[str, Event] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        name = _name(event)
        self.kinds[event.NAME] += 1
        self.causes[event.sequence] = name, event.cause
        self.last[name] = event
        for what in self._wrong(event, self.decoder.layers(event)):
            self.faults.setdefault(what, repr(event))

    def _wrong(self, event: Event, layers: list[Layer]) -> Iterator[str]:
        if len(layers) == 1 and _carries(event):
            yield f"{name_of(event)} is not taken apart"
        if isinstance(event, MsrAccess | Hypercall | BusMessage) and event.name.startswith("0x"):
            yield f"{event.NAME} {event.name} has no name"
        for layer in flat(layers):
            if not isinstance(layer, EventLayer):
                yield from self._wanting(layer)

    def _wanting(self, layer: Layer) -> Iterator[str]:
        name = f"{layer.protocol} {layer.message}"
        self.messages[name] += 1
        if not layer.message or layer.message.startswith("0x"):
            yield f"{name} has no name"
        if layer.missing:
            yield f"{name} lacks {layer.missing} bytes"
        rest = next((one for one in layer.values if one.name == REST), None)
        if rest is not None and all(one.offset != rest.offset for one in layer.inner):
            yield f"{name} has {rest.size} bytes that nothing explains"

    def way(self, event: Event) -> list[str]:
        """What led to an event, the first cause first."""
        found, number = [], event.sequence
        while number:
            name, number = self.causes[number]
            found.append(name)
        return found[::-1]


def _carries(event: Event) -> bool:
    """Whether there is something in an event to take apart."""
    if isinstance(event, RingPacket | SynicMessage | DeviceMessage):
        return bool(event.payload)
    return isinstance(event, NetworkFrame | BusMessage)


def _name(event: Event) -> str:
    to_guest = getattr(event, "to_guest", None)
    return event.NAME + {None: "", True: " to guest", False: " to host"}[to_guest]


def name_of(event: Event) -> str:
    return f"{event.NAME} of {getattr(event, 'device', getattr(event, 'message_type', ''))}"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    try:
        image = network_image()
    except HostError as error:
        pytest.skip(f"no guest with network programs here: {error}")
    found, tap = Shown(), Tap()
    for kind in EVENTS:
        tap.listen(kind, found.see)
    disk = tmp_path_factory.mktemp("decoded") / "disk.img"
    with disk.open("wb") as file:
        file.truncate(16 << 20)

    async def scenario(guest: LiveGuest) -> None:
        await guest.run("udhcpc -i eth0 -f -q -n 2>&1")
        await guest.run(f"ping -c 2 -W 5 {HOST}")
        await guest.run(f"wget -q -O /dev/null http://{HOST}:{port}/100000")
        await guest.run(wait_for("[ -e /dev/sda ]"))
        await guest.run("dd if=/dev/zero of=/dev/sda bs=64k count=16 && sync")
        await guest.run("dd if=/dev/sda of=/dev/null bs=1M")
        await guest.run("ethtool -x eth0; ip link set eth0 mtu 1400; ip link set eth0 down")

    with web_server() as port:
        run_live(scenario, Setup(image, disks=[DiskConfig(disk)], nics=[parse_nic("nat")], tap=tap), 300)
    return found


def test_every_message_has_a_name_and_every_byte_a_meaning(shown: Shown) -> None:
    wrong = {
        what: example
        for what, example in shown.faults.items()
        if not any(re.fullmatch(f"{pattern} has no name", what) for pattern in WITHOUT_NAME)
    }
    assert not wrong, "\n".join(f"{what}: {example[:500]}" for what, example in wrong.items())


def test_enough_was_said(shown: Shown) -> None:
    spoken = {name.partition(" ")[0] for name in shown.messages}
    assert set(SPOKEN) - spoken == set()
    silent = {"violation", "mmio"}
    assert {kind.NAME for kind in EVENTS} - set(shown.kinds) - silent == set()


def test_what_may_be_without_a_name_is(shown: Shown) -> None:
    """An entry of the list that is not needed any more is to go."""
    for pattern in WITHOUT_NAME:
        assert any(re.fullmatch(pattern, name) for name in shown.messages), pattern


def test_a_frame_to_the_host_leads_back_to_the_guests_doorbell(shown: Shown) -> None:
    way = shown.way(shown.last["frame to host"])
    assert way == ["exit", "hypercall", "packet to host", "device to host", "frame to host"]


def test_an_interrupt_leads_back_to_what_it_tells_of(shown: Shown) -> None:
    signalled = [
        number for number, (name, cause) in shown.causes.items() if name == "signal" and cause in shown.causes
    ]
    led = Counter(shown.causes[shown.causes[number][1]][0] for number in signalled)
    assert led["packet to guest"] > len(signalled) * 0.9, led


def test_a_buffer_that_is_given_back_leads_back_to_the_frame_in_it(shown: Shown) -> None:
    given_back = [
        number
        for number, (name, cause) in shown.causes.items()
        if name == "packet to host" and shown.causes.get(cause, ("", 0))[0] == "packet to guest"
    ]
    assert given_back
    for number in given_back:
        brought = shown.causes[shown.causes[number][1]]
        assert shown.causes[brought[1]][0] == "device to guest"

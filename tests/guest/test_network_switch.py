"""Two guests in two processes on one named switch: they ping and run iperf3 both ways, over IPv4 and IPv6,
with small, jumbo and the largest frames, with each offload on and off, and in a VLAN. Bytes arrive as they
were sent, no receiver finds a wrong checksum, and nothing is lost without a counter."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ringminus.errors import HostError
from support.command import run_command
from support.links import own_runtime_directory
from support.net_guests import NetworkGuest, csum_errors, network_complaints, network_image

TIMEOUT = 600
MEBIBYTE = 1 << 20
LARGEST_MTU = 65535 - 14
V4, V6 = "192.168.7.{}", "fd07::{}"
VLAN4 = "192.168.5.{}"
FEATURES = ("tx", "rx", "sg", "tso", "lro", "rxhash")


@dataclass
class Pair:
    """The two guests. eth0 of both is in no VLAN; eth1 of the first is a trunk with VLAN 5, and that of the
    second is in it."""

    first: NetworkGuest
    second: NetworkGuest

    @property
    def guests(self) -> tuple[NetworkGuest, NetworkGuest]:
        return self.first, self.second

    def both(self, command: str) -> None:
        """Run a command in both."""
        for guest in self.guests:
            guest.run(command)

    def mtu(self, size: int) -> None:
        self.both(f"ip link set eth0 mtu {size}")

    def assert_healthy(self) -> None:
        """Neither found a wrong checksum, and no kernel complains."""
        for guest in self.guests:
            assert csum_errors(guest.run("cat /proc/net/snmp /proc/net/snmp6")) == 0
            assert network_complaints(guest.run("dmesg")) == []

    def ports(self) -> list[dict[str, Any]]:
        """The switch's ports, as `ringminus switch show` has them."""
        shown = run_command("switch", "show", "lab", "--json")
        assert shown.status == 0, shown.errors
        ports: list[dict[str, Any]] = json.loads(shown.output)["ports"]
        return ports


def prepare(guest: NetworkGuest, number: int) -> None:
    guest.ready()
    guest.run(
        f"ip addr add {V4.format(number)}/24 dev eth0 && echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad"
        f" && ip -6 addr add {V6.format(number)}/64 dev eth0 && ip link set eth0 up && ip link set eth1 up"
    )
    vlan = "eth1"
    if number == 1:
        guest.run("ip link add link eth1 name eth1.5 type vlan id 5; ip link set eth1.5 up")
        vlan = "eth1.5"
    guest.run(f"ip addr add {VLAN4.format(number)}/24 dev {vlan}; iperf3 -s -D")


@contextlib.contextmanager
def connected() -> Iterator[Pair]:
    """Two guests that can reach each other."""
    try:
        image = network_image()
    except HostError as error:
        pytest.skip(f"no guest with network programs here: {error}")
    with own_runtime_directory(), contextlib.ExitStack() as stack:
        guests = []
        for nic in ("switch:lab,trunk=5,native=9", "switch:lab,vlan=5"):
            nics = ("--nic", "switch:lab", "--nic", nic, "--json")
            guests.append(stack.enter_context(NetworkGuest(image, *nics, timeout=TIMEOUT)))
        for number, guest in enumerate(guests, 1):
            prepare(guest, number)
        yield Pair(guests[0], guests[1])


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected() as made:
        yield made
        made.assert_healthy()


def iperf3(guest: NetworkGuest, to: str, *options: str) -> dict[str, Any]:
    """Run a client in the guest; gives what it says of the whole."""
    said = guest.run(f"iperf3 -J -c {to} {' '.join(options)}")
    end: dict[str, Any] = json.loads(said[said.index("{") :])["end"]  # after a warning
    return end


def copy(pair: Pair, size: int = MEBIBYTE, to: str = V4.format(2)) -> None:
    """Random bytes from the first guest to the second, and others back, which must arrive as they are."""
    pair.first.run(f"head -c {size} /dev/urandom >/tmp/here")
    pair.second.run(f"head -c {size} /dev/urandom >/tmp/back; rm -f /tmp/there")
    pair.second.run("nc -l -p 9 >/tmp/there </tmp/back & sleep 0.2")
    pair.first.run(f"nc {to} 9 </tmp/here >/tmp/got")
    pair.second.run("wait $!")
    for sender, sent, receiver, got in (
        (pair.first, "here", pair.second, "there"),
        (pair.second, "back", pair.first, "got"),
    ):
        assert sender.run(f"sha256sum </tmp/{sent}") == receiver.run(f"sha256sum </tmp/{got}")


# ---------------------------------------------------------------- ping


@pytest.mark.parametrize("to", [V4.format(2), V6.format(2)])
def test_they_ping_each_other(pair: Pair, to: str) -> None:
    """Also with packets that have to be cut, and put together again."""
    back = to.replace("2", "1") if ":" in to else V4.format(1)
    for guest, other in ((pair.first, to), (pair.second, back)):
        assert ", 3 packets received, 0% packet loss" in guest.run(f"ping -c 3 -i 0.2 -W 5 {other}")
        assert ", 2 packets received, 0% packet loss" in guest.run(f"ping -c 2 -W 5 -s 20000 {other}")


# ---------------------------------------------------------------- iperf3


@pytest.mark.parametrize("mtu", [1500, 9000, LARGEST_MTU])
@pytest.mark.parametrize("to", [V4.format(2), V6.format(2)])
def test_tcp_both_ways(pair: Pair, mtu: int, to: str) -> None:
    pair.mtu(mtu)
    for direction in ("", "-R"):
        end = iperf3(pair.first, to, f"-n {4 * MEBIBYTE} -w 128K", direction)
        # what is under way at the end counts not
        assert 3 * MEBIBYTE < end["sum_received"]["bytes"] <= end["sum_sent"]["bytes"]
    copy(pair, to=to)


@pytest.mark.parametrize(
    ("mtu", "size"), [(1500, 16), (1500, 64), (1500, 1440), (9000, 8900), (LARGEST_MTU, 60_000), (1500, 9000)]
)
@pytest.mark.parametrize("to", [V4.format(2), V6.format(2)])
def test_udp_both_ways(pair: Pair, mtu: int, size: int, to: str) -> None:
    """Nothing overtakes, and nothing is lost but where a receiver's socket is full and its kernel says so."""
    pair.mtu(mtu)
    rate = 100 * 8 * size  # bits a second: 100 datagrams
    for direction, receiver in (("", pair.second), ("-R", pair.first)):
        before = full_sockets(receiver)
        end = iperf3(pair.first, to, f"-u -b {rate} -l {size} -n {50 * size}", direction)
        assert end["sum"]["packets"] >= 50
        assert end["sum"]["lost_packets"] <= full_sockets(receiver) - before
        assert end["streams"][0]["udp"]["out_of_order"] == 0


def full_sockets(guest: NetworkGuest) -> int:
    """Datagrams for which a guest's sockets had no room."""
    udp = guest.run("grep ^Udp: /proc/net/snmp | tail -n 1; grep ^Udp6RcvbufErrors /proc/net/snmp6").split()
    return int(udp[5]) + int(udp[-1])


# ---------------------------------------------------------------- offloads


@pytest.mark.parametrize("feature", [*FEATURES, " off ".join(FEATURES)])
def test_an_offload_that_one_of_them_does_not_use(pair: Pair, feature: str) -> None:
    """Whatever the other does: large frames and missing checksums never reach who has not asked for them."""
    pair.mtu(1500)
    for guest in pair.guests:
        guest.run(f"ethtool -K eth0 {feature} off")
        for to in (V4.format(2), V6.format(2)):
            copy(pair, MEBIBYTE // 2, to)
        guest.run(f"ethtool -K eth0 {feature.replace('off', 'on')} on")


# ---------------------------------------------------------------- VLANs


def test_a_trunk_and_an_access_port_of_one_vlan(pair: Pair) -> None:
    assert ", 3 packets received" in pair.first.run(f"ping -c 3 -i 0.2 -W 5 {VLAN4.format(2)}")
    end = iperf3(pair.first, VLAN4.format(2), f"-n {2 * MEBIBYTE} -w 128K")
    assert end["sum_received"]["bytes"] > MEBIBYTE
    copy(pair, to=VLAN4.format(2))


def test_a_vlan_is_not_reached_from_outside(pair: Pair) -> None:
    pair.second.run("echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore")  # each address on its interface only
    pair.first.run(f"ip addr add {VLAN4.format(77)}/32 dev eth0; ip route add {VLAN4.format(2)}/32 dev eth0")
    pair.first.run(f"ping -c 2 -i 0.2 -W 1 {VLAN4.format(2)}", 1)
    pair.first.run(f"ip route del {VLAN4.format(2)}/32 dev eth0; ip addr del {VLAN4.format(77)}/32 dev eth0")
    pair.first.run(f"ping -c 1 -W 5 {VLAN4.format(2)}")


# ---------------------------------------------------------------- in the end


def test_nothing_is_lost_without_a_counter() -> None:
    """Of a flood for a guest that stands still for a while: what was sent was received, or is in a counter
    with a reason."""
    with connected() as pair:
        pair.mtu(LARGEST_MTU)
        pair.first.start(f"iperf3 -c {V4.format(2)} -u -b 0 -l 60000 -t 3")
        time.sleep(1)
        pair.second.stand_still(1.5)
        pair.first.result()
        pair.assert_healthy()
        pair.both("ip link set eth0 down; ip link set eth1 down; sleep 0.5")
        lost: Counter[str] = Counter()
        for port in pair.ports():
            lost.update(port["counters"]["dropped"])
        assert lost  # of so much at least something
        sent = received = 0
        for guest in pair.guests:
            status, errors = guest.power_off()
            assert status == 0, errors
            for adapter in json.loads(errors[errors.index("{") :])["network"]:
                sent += adapter["sent_frames"]
                received += adapter["received_frames"]
                lost.update(adapter["dropped"])
        print(f"{sent} frames sent, {received} received, lost: {dict(lost)}")
        assert sent == received + lost.total()

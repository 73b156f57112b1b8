"""A real guest's network behind NAT: Linux's hv_netvsc gets an address, moves bytes both ways unharmed, with
each offload on and off, and keeps its temper when links, sizes, addresses and the driver itself change under
traffic. What the guest counts is what we count."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ringminus.devices.network.nic import SyntheticNic
from ringminus.errors import HostError
from ringminus.guest.build import GuestImage
from ringminus.machine.network import Connection
from ringminus.machine.nics import parse_nic
from ringminus.switch.port import PortSettings
from support.live_guest import LiveGuest, Scenario, Setup, T, run_live
from support.net_guests import (
    HOST,
    both_ways,
    carrier,
    content,
    csum_errors,
    download,
    free_port,
    iperf3_server,
    network_complaints,
    network_image,
    web_server,
)

SIZE = 3 << 20
LARGEST_MTU = 65535 - 14
LEASE = "udhcpc -i eth0 -f -q -n 2>&1"


@pytest.fixture(scope="session")
def image() -> GuestImage:
    try:
        return network_image()
    except HostError as error:
        pytest.skip(f"no guest with network programs here: {error}")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with web_server() as number:
        yield number


def run(image: GuestImage, scenario: Scenario[T], nic: str = "nat", timeout: float = 120) -> T:
    """Play a scenario with a guest that has this adapter and an address; the kernel must not complain, and
    nothing may be left behind in the adapter."""

    async def connected(guest: LiveGuest) -> T:
        await guest.run(LEASE)
        result = await scenario(guest)
        assert network_complaints(await guest.run("dmesg")) == []
        await settled(guest)
        return result

    return run_live(connected, Setup(image, nics=[parse_nic(nic)]), timeout)


def connection(guest: LiveGuest) -> Connection:
    assert guest.machine.network is not None
    return guest.machine.network.connections[0]


def adapter(guest: LiveGuest) -> SyntheticNic:
    return connection(guest).adapter


def configure(guest: LiveGuest, **changes: object) -> None:
    """Change the settings of the adapter's port while the guest runs."""
    port = connection(guest).port
    assert port is not None
    settings: PortSettings = replace(port.settings, **changes)  # type: ignore[arg-type]
    port.configure(settings)


async def settled(guest: LiveGuest) -> None:
    """When nothing is on its way any more, no receive slot is in use and nothing waits."""
    for _ in range(100):
        counters = adapter(guest).counters
        if not (counters.receive_slots_used or counters.queued_frames or counters.waiting_packets):
            return
        await guest.sleep(0.02)
    raise AssertionError(f"left behind: {adapter(guest).counters}")


async def number(guest: LiveGuest, command: str) -> int:
    return int(await guest.run(command))


# ---------------------------------------------------------------- addresses and bytes


def test_nat_gives_an_address_a_router_and_a_name_server(image: GuestImage) -> None:
    async def scenario(guest: LiveGuest) -> None:
        told = await guest.run("ip addr show eth0; ip route; cat /etc/resolv.conf")
        assert "inet 10.0.2.15/24 " in told
        assert "default via 10.0.2.2 dev eth0" in told
        assert "nameserver 10.0.2.3\n" in told
        assert f"link/ether {adapter(guest).permanent_address.hex(':')} " in told
        await guest.run(f"ping -c 3 -W 5 {HOST}")
        # of the router's advertisement
        await guest.run(
            "n=0; until ip -6 addr show eth0 | grep -q ' fec0::.* scope site dynamic'; do"
            " n=$((n+1)); [ $n -lt 100 ] || exit 9; usleep 100000; done"
        )

    run(image, scenario)


def test_bytes_arrive_as_they_were_sent(image: GuestImage, port: int) -> None:
    """To and from the host's loopback, over IPv4 and IPv6, and from the host into the guest by a forward. The
    guest's counters and ours agree, and it found no wrong checksum."""
    into = free_port()

    async def scenario(guest: LiveGuest) -> None:
        await guest.run(both_ways(port, SIZE))
        with web_server("::1") as port6:
            await guest.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
            await guest.run("ip -6 addr add fec0::99/64 dev eth0")
            await guest.run(both_ways(port6, SIZE, "[fec0::2]"))
        await guest.run("nc -ll -p 7 -e cat & sleep 0.3")
        assert await echoed(guest, into, content(SIZE)) == content(SIZE)
        assert csum_errors(await guest.run("cat /proc/net/snmp /proc/net/snmp6")) == 0
        await compare_counters(guest)

    run(image, scenario, f"nat,forward=tcp:{into}:7")


async def echoed(guest: LiveGuest, port: int, data: bytes) -> bytes:
    """What comes back when `data` is sent to that port of the host, while the guest runs on."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as connected:
        connected.setblocking(False)
        rest = memoryview(data)
        while len(received) < len(data):
            with contextlib.suppress(BlockingIOError):
                rest = rest[connected.send(rest[: 1 << 16]) :] if rest else rest
            with contextlib.suppress(BlockingIOError):
                got = connected.recv(1 << 16)
                assert got, f"closed after {len(received)} bytes"
                received += got
            await guest.sleep(0.001)
    return bytes(received)


async def compare_counters(guest: LiveGuest) -> None:
    """The guest's counters of its interface and ours are the same, and neither tells of a loss."""
    await guest.sleep(0.5)
    names = ("rx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors")
    for _ in range(10):
        theirs = {name: await number(guest, f"cat /sys/class/net/eth0/statistics/{name}") for name in names}
        counters = adapter(guest).counters
        ours = counters.received_bytes, counters.sent_bytes
        if ours == (theirs["rx_bytes"], theirs["tx_bytes"]):
            break
        await guest.sleep(0.1)  # a frame was under way between the two
    assert ours == (theirs["rx_bytes"], theirs["tx_bytes"])
    assert [theirs[name] for name in names[3:]] == [0, 0, 0, 0]
    assert counters.sending_dropped == {}
    assert set(counters.receiving_dropped) <= {"filtered", "not ready"}
    more = await guest.run("ethtool -S eth0")
    for name in ("tx_scattered", "tx_no_memory", "tx_no_space", "tx_too_big", "tx_busy", "rx_no_memory"):
        assert re.search(rf" {name}: 0$", more, re.M), more


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_a_capture_has_what_passed(image: GuestImage, port: int, tmp_path: Path) -> None:
    """And Wireshark finds no fault in it, checksums included."""
    path = tmp_path / "out.pcap"

    async def scenario(guest: LiveGuest) -> tuple[int, int]:
        await guest.run(download(port, 100_000))
        await guest.sleep(0.3)
        counters = adapter(guest).counters
        return counters.sent_frames, counters.received_frames

    sent, received = run(image, scenario, f"nat,capture={path}")
    checks = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    shown = subprocess.run(
        ["tshark", "-r", path, *checks, "-T", "fields", "-e", "_ws.malformed", "-e", "_ws.expert.message"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(shown.splitlines()) >= sent + received
    assert [line for line in shown.splitlines() if re.search("malformed|bad|checksum", line, re.I)] == []


# ---------------------------------------------------------------- offloads

FEATURES = {
    # name of ethtool -K: what it is called by ethtool -k
    "tx": "tx-checksumming",
    "rx": "rx-checksumming",
    "sg": "scatter-gather",
    "tso": "tcp-segmentation-offload",
    "lro": "large-receive-offload",
    "rxhash": "receive-hashing",
}


def test_each_offload_can_be_off(image: GuestImage, port: int) -> None:
    """And what passes is the same without it, and with all of them off."""

    async def scenario(guest: LiveGuest) -> None:
        offered = await guest.run("ethtool -k eth0")
        for feature in FEATURES.values():
            assert re.search(rf"^{feature}: on$", offered, re.M), f"{feature}: {offered}"
        size = SIZE // 3
        for name, feature in FEATURES.items():
            await guest.run(f"ethtool -K eth0 {name} off")
            assert re.search(rf"^{feature}: off", await guest.run("ethtool -k eth0"), re.M)
            await guest.run(both_ways(port, size))
            await guest.run(f"ethtool -K eth0 {name} on")
        every = " ".join(f"{name} off" for name in FEATURES)
        await guest.run(f"ethtool -K eth0 {every} gso off gro off && {both_ways(port, size)}")
        every = " ".join(f"{name} on" for name in FEATURES)
        await guest.run(f"ethtool -K eth0 {every} gso on gro on && {both_ways(port, size)}")
        assert re.search(r"^tcp-segmentation-offload: on$", await guest.run("ethtool -k eth0"), re.M)
        assert csum_errors(await guest.run("cat /proc/net/snmp /proc/net/snmp6")) == 0

    run(image, scenario)


def test_offloads_are_used_when_they_are_on(image: GuestImage) -> None:
    """Large frames come from the guest and go to it: it sees far fewer than a wire would."""

    async def scenario(guest: LiveGuest) -> None:
        with iperf3_server() as port:
            frames = adapter(guest).counters.sent_frames
            await guest.run(f"iperf3 -c {HOST} -p {port} -n {SIZE}")
            assert adapter(guest).counters.sent_frames - frames < SIZE // 1448 // 2
            frames = adapter(guest).counters.received_frames
            await guest.run(f"iperf3 -c {HOST} -p {port} -n {SIZE} -R")
            assert adapter(guest).counters.received_frames - frames < SIZE // 1448 // 2

    run(image, scenario)


# ---------------------------------------------------------------- changes under traffic

TRAFFIC = "while :; do timeout 5 wget -q -O /dev/null http://{host}:{port}/300000; done & traffic=$!"
STOP = "kill $traffic; wait $traffic; killall -q wget"


def test_the_guest_sees_its_link_go_and_come(image: GuestImage, port: int) -> None:
    async def scenario(guest: LiveGuest) -> None:
        assert await number(guest, "cat /sys/class/net/eth0/speed") == 10_000
        configure(guest, link=False)
        await carrier(guest, False)
        await guest.run(f"ping -c 1 -W 1 {HOST}", 1)
        configure(guest, link=True)
        await carrier(guest, True)
        await guest.run(f"ping -c 1 -W 5 {HOST}")
        configure(guest, megabits=2500)
        await guest.run(
            "n=0; until [ $(cat /sys/class/net/eth0/speed) = 2500 ]; do"
            " n=$((n+1)); [ $n -lt 100 ] || exit 9; usleep 50000; done"
        )
        await guest.run(both_ways(port, 100_000))

    run(image, scenario)


def test_a_link_that_flaps_under_traffic(image: GuestImage, port: int) -> None:
    async def scenario(guest: LiveGuest) -> None:
        await guest.run(TRAFFIC.format(host=HOST, port=port))
        for _ in range(5):
            await guest.sleep(0.3)
            configure(guest, link=False)
            await guest.sleep(0.1)
            configure(guest, link=True)
        await guest.run(STOP, None)
        await carrier(guest, True)
        await guest.run(both_ways(port, 1_000_000))

    run(image, scenario)


def test_other_sizes_of_packets(image: GuestImage, port: int) -> None:
    """Under traffic, small, jumbo and the largest that the guest's driver takes."""

    async def scenario(guest: LiveGuest) -> None:
        await guest.run(TRAFFIC.format(host=HOST, port=port))
        for mtu in (1280, 9000, LARGEST_MTU, 1500):
            await guest.sleep(0.2)
            await guest.run(f"ip link set eth0 mtu {mtu}")
            assert await number(guest, "cat /sys/class/net/eth0/mtu") == mtu
            await guest.run(f"ip route add default via {HOST} 2>/dev/null; {both_ways(port, 300_000)}")
        await guest.run(STOP, None)

    run(image, scenario)


def test_another_address(image: GuestImage, port: int) -> None:
    """Where the port allows it, else the switch drops what comes from it."""
    other = "00:15:5d:aa:bb:cc"

    change = "ip link set eth0 down && ip link set eth0 address {} && ip link set eth0 up"
    change += f" && ip route add default via {HOST}"

    async def scenario(guest: LiveGuest) -> None:
        await guest.run(change.format(other))
        await guest.run(f"ping -c 1 -W 1 {HOST}", 1)
        assert connection(guest).dropped()["spoofed address"] > 0
        configure(guest, spoofing=True)
        await guest.run(TRAFFIC.format(host=HOST, port=port))
        for address in ("00:15:5d:aa:bb:cd", other):
            await guest.sleep(0.2)
            await guest.run(change.format(address))
        await guest.run(STOP, None)
        await guest.run(f"{both_ways(port, 300_000)} && ip link show eth0 | grep -q {other}")

    run(image, scenario)


def test_down_and_up_under_traffic(image: GuestImage, port: int) -> None:
    async def scenario(guest: LiveGuest) -> None:
        await guest.run(TRAFFIC.format(host=HOST, port=port))
        for _ in range(5):
            await guest.sleep(0.2)
            await guest.run(f"ip link set eth0 down; ip link set eth0 up; ip route add default via {HOST}")
        await guest.run(STOP, None)
        await guest.run(both_ways(port, 300_000))

    run(image, scenario)


def test_the_driver_goes_and_comes_under_traffic(image: GuestImage, port: int) -> None:
    async def scenario(guest: LiveGuest) -> None:
        await guest.run(TRAFFIC.format(host=HOST, port=port))
        for _ in range(3):
            await guest.sleep(0.2)
            await guest.run("rmmod hv_netvsc && insmod /lib/modules/hv_netvsc.ko")
            await guest.run(LEASE)
        await guest.run(STOP, None)
        await guest.run(both_ways(port, 300_000))

    run(image, scenario)

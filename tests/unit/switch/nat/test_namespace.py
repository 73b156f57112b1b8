"""A real TCP/IP stack behind NAT: Linux in a network namespace, with all offloads on, and programs of the
host on the other side. The receivers look whether the bytes are right."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from ringminus.clock import TimerQueue, TscClock
from ringminus.errors import HostError
from ringminus.switch.frame import Frame
from ringminus.switch.nat import library
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.forwards import parse
from ringminus.switch.nat.nat import Nat
from ringminus.switch.reactor import Reactor
from support.namespaces import Namespace, Wire, why_not

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

MEGABYTES = 6
HOST, HOST6 = "10.9.0.2", "fd09::2"
SERVER = """
import hashlib, random, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print("ready", flush=True)
peer, _ = server.accept()
digest = hashlib.sha256()
while data := peer.recv(1 << 20):
    digest.update(data)
peer.sendall(digest.digest())
data = random.Random(4).randbytes(1 << 20)
digest = hashlib.sha256()
for _ in range(int(sys.argv[3])):
    peer.sendall(data)
    digest.update(data)
peer.sendall(digest.digest())
"""
CLIENT = """
import hashlib, random, socket, sys, time
for _ in range(200):
    try:
        peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
        break
    except OSError:
        time.sleep(0.02)
data = random.Random(3).randbytes(1 << 20)
digest = hashlib.sha256()
for _ in range(int(sys.argv[3])):
    digest.update(data)
    peer.sendall(data)
peer.shutdown(socket.SHUT_WR)
print("arrived" if peer.recv(32, socket.MSG_WAITALL) == digest.digest() else "damaged")
digest = hashlib.sha256()
left = int(sys.argv[3]) << 20
while left:
    data = peer.recv(min(left, 1 << 20))
    digest.update(data)
    left -= len(data)
print("arrived" if peer.recv(32, socket.MSG_WAITALL) == digest.digest() else "damaged")
"""


RESOLVER = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from support.nat_guest import DNS, HOST, Guest
guest = Guest()
guest.arp(HOST)
with socket.socket(type=socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 53))
    guest.send_udp(DNS, 53, b"question")
    asked, peer = server.recvfrom(100)
    server.sendto(asked + b" answered", peer)
    guest.until(lambda: guest.heard)
[(address, port, _, data)] = guest.heard
assert (address, port, data) == (DNS, 53, b"question answered")
guest.close()
"""
UNREACHABLE = """
import sys
sys.path.insert(0, sys.argv[1])
from support.nat_guest import ADDRESS, DNS, HOST, Guest, icmp
guest = Guest()
guest.arp(HOST)
guest.frames.clear()
guest.send_udp(DNS, 53, b"question")
guest.connect(bytes((192, 0, 2, 1)), 80)
guest.send_ip(ADDRESS, bytes((192, 0, 2, 1)), 1, icmp(8, bytes(8)))
assert [frame.data[34:36] for frame in guest.frames] == [b"\\3\\0"] * 3, guest.frames
guest.close()
"""


class Bed:
    """A namespace with the address .15 behind a NAT."""

    def __init__(self, *forwards: str, mtu: int = 1500) -> None:
        self.reactor, self.timers = Reactor(), TimerQueue()
        self.clock = TscClock(time.monotonic_ns, 1_000_000_000)
        self.namespace = Namespace(15, self.reactor)
        config = NatConfig(
            network=IPv4Network("10.9.0.0/24"),
            ipv6=IPv6Network("fd09::/64"),
            forwards=tuple(parse(text) for text in forwards),
            mtu=mtu,
        )
        self.nat = Nat(config, self.reactor, self.clock, self.timers)
        self.to_guest, self.from_guest = Wire(self.namespace.tap), Wire(self.nat)
        self.nat.plugged(self.to_guest)
        self.namespace.tap.plugged(self.from_guest)
        self.namespace.ip(f"link set {self.namespace.tap.name} mtu {mtu}")

    def serve(self, *processes: subprocess.Popen[str], seconds: float = 30) -> list[str]:
        """Let frames pass until all have ended; gives what they printed."""
        end = time.monotonic() + seconds
        while any(process.poll() is None for process in processes):
            assert time.monotonic() < end, "it takes too long"
            self.timers.fire(self.clock.reference_time())
            self.reactor.dispatch(0.005)
        return [process.communicate()[0] for process in processes]

    def close(self) -> None:
        self.nat.close()
        self.namespace.close()
        self.reactor.close()


@pytest.fixture
def bed() -> Iterator[Bed]:
    try:
        library.load()
    except HostError as error:
        pytest.skip(str(error))
    made = Bed()
    yield made
    made.close()


def on_host(program: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    )
    if program is SERVER:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def largest(frames: list[Frame]) -> int:
    return max(len(frame) for frame in frames)


@pytest.mark.parametrize(("loopback", "host"), [("127.0.0.1", HOST), ("::1", HOST6)])
@pytest.mark.parametrize("mtu", [1500, 9000])
def test_bytes_go_both_ways_in_large_frames(loopback: str, host: str, mtu: int, free_port: int) -> None:
    bed = Bed(mtu=mtu)
    try:
        server = on_host(SERVER, loopback, str(free_port), str(MEGABYTES))
        client = bed.namespace.python(CLIENT, host, str(free_port), str(MEGABYTES))
        assert bed.serve(client, server)[0].split() == ["arrived", "arrived"]
        assert largest(bed.from_guest.frames) > 30_000
        assert largest(bed.to_guest.frames) > 20_000
        overhead = 40 if ":" not in host else 60
        large = {frame.segment_size for frame in bed.to_guest.frames} - {0}
        assert large == {mtu - overhead}
        assert bed.nat.dropped == {}
        errors = bed.namespace.counters()
        assert not {name for name in errors if "InCsumErrors" in name}
    finally:
        bed.close()


def test_a_forward_leads_into_the_namespace(free_port: int) -> None:
    bed = Bed(f"tcp:{free_port}:7000")
    try:
        server = bed.namespace.python(SERVER, bed.namespace.ipv4, "7000", "2")
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        client = on_host(CLIENT, "127.0.0.1", str(free_port), "2")
        assert bed.serve(client, server)[0].split() == ["arrived", "arrived"]
        assert {frame.segment_size for frame in bed.to_guest.frames} - {0} == {1460}
    finally:
        bed.close()


def alone(program: str, resolv_conf: str, tmp_path: Path, *before: str) -> None:
    """Run a program on a host without a network, whose /etc/resolv.conf says this."""
    file = tmp_path / "resolv.conf"
    file.write_text(resolv_conf)
    script = "; ".join((*before, 'mount --bind "$1" /etc/resolv.conf', 'exec "$2" -c "$3" "$4"'))
    arguments = [str(file), sys.executable, program, str(Path(__file__).parents[3])]
    command = ["unshare", "--net", "--mount", "sh", "-ec", script, "sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_name_server_is_the_host_s(tmp_path: Path) -> None:
    alone(RESOLVER, "nameserver 127.0.0.1\n", tmp_path, "ip link set lo up")


def test_without_a_network_or_a_name_server_guests_hear_at_once_that_there_is_none(tmp_path: Path) -> None:
    """Type 3 of ICMP, code 0: network unreachable."""
    alone(UNREACHABLE, "", tmp_path)


@pytest.mark.parametrize("address", [HOST, HOST6])
@pytest.mark.parametrize("size", ["56", "4000"])
def test_the_gateway_is_there_for_ping(bed: Bed, address: str, size: str) -> None:
    program = (
        "import subprocess, sys; print(subprocess.run(['ping', '-c1', '-W5', '-s', sys.argv[2], sys.argv[1]],"
        " stdout=subprocess.PIPE, text=True).stdout)"
    )
    if subprocess.run(["sh", "-c", "command -v ping"], capture_output=True).returncode:
        pytest.skip("there is no ping")
    [said] = bed.serve(bed.namespace.python(program, address, size))
    assert ", 0% packet loss" in said

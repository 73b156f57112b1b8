"""A TAP device between two of the host's TCP/IP stacks: each in a network namespace, each with a device of
ours. What we write wrongly, the kernels drop and count."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.switch import tap as tap_module
from ringminus.switch.checksum import complete, verify
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.reactor import Reactor
from ringminus.switch.segmentation import segments
from ringminus.switch.tap import TapDevice
from support.namespaces import Namespace, Wire, serve, why_not
from support.packets import ACK, CWR, TCP, UDP, Packet, number, ones_complement_sum

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

MEGABYTES = 8
SERVER = """
import hashlib, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], 5001), family=family)
peer, _ = server.accept()
digest = hashlib.sha256()
while data := peer.recv(1 << 20):
    digest.update(data)
peer.sendall(digest.digest())
"""
CLIENT = """
import hashlib, random, socket, sys, time
for _ in range(100):
    try:
        peer = socket.create_connection((sys.argv[1], 5001), 10)
        break
    except OSError:
        time.sleep(0.02)
data = random.Random(3).randbytes(1 << 20)
digest = hashlib.sha256()
for _ in range(int(sys.argv[2])):
    digest.update(data)
    peer.sendall(data)
peer.shutdown(socket.SHUT_WR)
print("arrived" if peer.recv(32, socket.MSG_WAITALL) == digest.digest() else "damaged")
"""
LISTENER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
socket_ = socket.socket(family, socket.SOCK_DGRAM)
socket_.settimeout(5)
socket_.bind((sys.argv[1], 5002))
while True:
    data, sender = socket_.recvfrom(65536)
    socket_.sendto(data[::-1], sender)
    if data == b"end":
        break
"""
TALKER = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
socket_ = socket.socket(family, socket.SOCK_DGRAM)
for data in (*(bytes([size & 255]) * size for size in (1, 63, 1000, 1472 - 20, 4000)), b"end"):
    for _ in range(100):
        try:
            socket_.settimeout(0.1)
            socket_.sendto(data, (sys.argv[1], 5002))
            assert socket_.recv(65536) == data[::-1]
            break
        except OSError:
            time.sleep(0.02)
    else:
        sys.exit(f"{len(data)} bytes did not come back")
print("all came back")
"""


@dataclass
class Lab:
    """Two namespaces whose devices are connected."""

    reactor: Reactor = field(default_factory=Reactor)

    def __post_init__(self) -> None:
        self.a, self.b = Namespace(1, self.reactor), Namespace(2, self.reactor)
        self.from_a, self.from_b = Wire(self.b.tap), Wire(self.a.tap)
        self.a.tap.plugged(self.from_a)
        self.b.tap.plugged(self.from_b)

    def change(self, change: Callable[[Frame], list[Frame]]) -> None:
        self.from_a.change = self.from_b.change = change  # type: ignore[method-assign,assignment]

    def transfer(self, address: str, client: Namespace, server: Namespace) -> None:
        started = [server.python(SERVER, address), client.python(CLIENT, address, str(MEGABYTES))]
        assert serve(self.reactor, started) == ["", "arrived\n"]

    def talk(self, address: str) -> None:
        started = [self.b.python(LISTENER, address), self.a.python(TALKER, address)]
        assert serve(self.reactor, started) == ["", "all came back\n"]

    def assert_clean(self) -> None:
        for one in (self.a, self.b):
            counters = one.counters()
            assert [name for name in counters if "CsumErr" in name or "InErrs" in name] == []
            assert not one.tap.dropped

    def close(self) -> None:
        self.a.close()
        self.b.close()
        self.reactor.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.close()


def small_and_whole(frame: Frame) -> list[Frame]:
    """As for a receiver that can be told nothing."""
    return [replaced(complete(one), Checksum.UNKNOWN) for one in segments(frame)]


def trusted(frame: Frame) -> list[Frame]:
    """A large frame whose checksum is known to be right, as NAT makes them."""
    return [complete(frame)]


def unseen(frame: Frame) -> list[Frame]:
    """A large frame whose checksum the receiver has to look at."""
    return [replaced(complete(frame), Checksum.UNKNOWN)]


def replaced(frame: Frame, state: Checksum) -> Frame:
    return Frame(frame.data, frame.tci, state, frame.segment_size)


# ------------------------------------------------------------ traffic


@pytest.mark.parametrize("version", [4, 6])
def test_a_ping_is_answered(lab: Lab, version: int) -> None:
    address = lab.b.ipv4 if version == 4 else lab.b.ipv6
    (said,) = serve(lab.reactor, [lab.a.start(["ping", "-c", "3", "-i", "0.01", "-s", "1400", address])])
    assert "3 packets transmitted, 3 received" in said
    lab.assert_clean()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("change", [lambda frame: [frame], trusted, unseen, small_and_whole])
def test_a_stream_arrives_whatever_is_done_on_the_way(
    lab: Lab, version: int, change: Callable[[Frame], list[Frame]]
) -> None:
    """The host sends large frames without checksums; all four states of them arrive."""
    lab.change(change)
    lab.transfer(lab.b.ipv4 if version == 4 else lab.b.ipv6, lab.a, lab.b)
    lab.assert_clean()
    assert max(len(frame) for frame in lab.from_a.frames) > 20_000
    assert {frame.segment_size for frame in lab.from_a.frames if len(frame) > 20_000} <= {1448, 1428}
    assert Checksum.MISSING in {frame.checksum for frame in lab.from_a.frames}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("change", [lambda frame: [frame], small_and_whole])
def test_datagrams_arrive(lab: Lab, version: int, change: Callable[[Frame], list[Frame]]) -> None:
    lab.change(change)
    lab.talk(lab.b.ipv4 if version == 4 else lab.b.ipv6)
    lab.assert_clean()


@pytest.mark.parametrize("change", [lambda frame: [frame], small_and_whole])
def test_a_stream_arrives_in_a_vlan(lab: Lab, change: Callable[[Frame], list[Frame]]) -> None:
    for host, one in enumerate((lab.a, lab.b), 1):
        try:
            one.ip(f"link add link {one.tap.name} name v type vlan id 5")
        except AssertionError:
            pytest.skip("the host's kernel has no VLANs (8021q)")
        one.ip(f"link set v up; addr add 10.8.0.{host}/24 dev v")
    lab.change(change)
    lab.transfer("10.8.0.2", lab.a, lab.b)
    lab.assert_clean()
    assert max(len(frame) for frame in lab.from_a.frames if frame.tci == 5) > 20_000


def test_a_wrong_checksum_is_seen_by_the_kernel(lab: Lab) -> None:
    """So the other tests would fail if ours were wrong."""

    def damage(frame: Frame) -> list[Frame]:
        data = complete(frame).data
        return [Frame(data[:-1] + b"!"), frame] if verify(data) else [frame]

    lab.change(damage)
    lab.talk(lab.b.ipv4)
    assert lab.b.counters("Udp")["UdpInCsumErrors"] >= 4


# ------------------------------------------------------------ frame by frame

LARGE = Packet(4, TCP, bytes(range(256)) * 20, options=bytes(12), field=b"\0\0")
SMALL = Packet(4, UDP, b"small")
LARGE6 = replace(LARGE, version=6)
TAG = b"\x81\x00\x60\x05"
PACKET_AUXDATA, PACKET_VNET_HDR, SOL_PACKET, ETH_P_ALL = 8, 15, 263, 3


class Inside:
    """A device whose other side is a packet socket: it shows what the kernel made of each of our frames."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.tap = TapDevice(None, self.reactor)
        self.out = Wire(self.tap)
        self.out.change = lambda frame: []  # type: ignore[method-assign]
        self.tap.plugged(self.out)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.bind((self.tap.name, ETH_P_ALL))
        self.socket.settimeout(2)

    def received(self, frame: Frame) -> tuple[int | None, bytes, tuple[int, ...]]:
        """Tag, frame, and the offload header with which the kernel took the frame that is delivered."""
        self.tap.deliver(frame)
        while True:
            data, extra, _, _ = self.socket.recvmsg(1 << 17, 100)
            if data[16:22] == frame.data[6:12]:  # the host itself sends too
                break
        status, *_, tci, _ = struct.unpack("=IIIHHHH", extra[0][2])
        return tci if status & 0x10 else None, data[10:], struct.unpack("<BBHHHH", data[:10])

    def sent(self, header: bytes, data: bytes) -> Frame:
        """What a frame of the host's becomes, with its offload header."""
        self.socket.send(header + data)
        while True:
            for frame in self.out.frames:
                if frame.data[6:12] == data[6:12]:
                    return frame
            assert self.reactor.dispatch(2)

    def close(self) -> None:
        self.socket.close()
        self.tap.close()


@pytest.fixture
def inside() -> Iterator[Inside]:
    inside = Inside()
    yield inside
    inside.close()


@pytest.mark.parametrize("tci", [None, 0x6005])
@pytest.mark.parametrize("packet", [LARGE, LARGE6], ids=["IPv4", "IPv6"])
def test_the_kernel_takes_a_large_frame_as_one(inside: Inside, packet: Packet, tci: int | None) -> None:
    found_tci, data, (flags, gso, header_size, size, start, offset) = inside.received(
        Frame(packet.data, tci, Checksum.MISSING, 1000)
    )
    assert found_tci == tci
    assert (flags, gso, size) == (1, 1 if packet.version == 4 else 4, 1000)
    assert (start, offset) == (packet.transport, 16) and header_size >= packet.payload_at
    at = packet.field_at
    assert data[:at] + data[at + 2 :] == packet.data[:at] + packet.data[at + 2 :]
    assert data[at : at + 2] != b"\0\0"  # the pseudo-header's sum


@pytest.mark.parametrize("state", [Checksum.UNKNOWN, Checksum.VALID])
def test_a_frame_that_lacks_nothing_is_given_as_it_is(inside: Inside, state: Checksum) -> None:
    data = Packet(4, UDP, b"x", padding=b"padding").right
    assert inside.received(Frame(data, 7, state)) == (7, data, (0, 0, 0, 0, 0, 0))


def test_udp_that_is_shorter_than_its_packet_is_completed_here(inside: Inside) -> None:
    """The kernel would count what follows it."""
    packet = Packet(4, UDP, b"1234tail")
    data = packet.data[:38] + number(12) + packet.data[40:]
    _, found, header = inside.received(Frame(data, None, Checksum.MISSING))
    assert header[0] == 0
    assert found == complete(Frame(data, None, Checksum.MISSING)).data != data


def test_congestion_window_reduced_is_told_with_a_large_frame(inside: Inside) -> None:
    packet = replace(LARGE, flags=ACK | CWR)
    _, _, header = inside.received(Frame(packet.data, None, Checksum.MISSING, 1000))
    assert header[1] == 1 | 0x80


def test_a_frame_that_is_no_larger_than_a_segment_is_none_to_cut(inside: Inside) -> None:
    _, _, header = inside.received(Frame(LARGE.data, None, Checksum.MISSING, 9000))
    assert header[1] == 0 and header[3] == 0


@pytest.mark.parametrize("tag", [b"", TAG])
@pytest.mark.parametrize("packet", [LARGE, LARGE6], ids=["IPv4", "IPv6"])
def test_a_large_frame_comes_as_one(inside: Inside, packet: Packet, tag: bytes) -> None:
    start = packet.transport + len(tag)
    gso = 1 if packet.version == 4 else 4
    header = struct.pack("<BBHHHH", 1, gso, packet.payload_at + len(tag), 1000, start, 16)
    data = packet.data[:12] + tag + packet.data[12:]
    frame = inside.sent(header, data)
    assert (frame.tci, frame.checksum, frame.segment_size) == (
        0x6005 if tag else None,
        Checksum.MISSING,
        1000,
    )
    assert frame.data == packet.data


@pytest.mark.parametrize("tag", [b"", TAG])
def test_a_plain_frame_comes_with_nothing_said(inside: Inside, tag: bytes) -> None:
    packet = Packet(4, UDP, b"x")
    frame = inside.sent(bytes(10), packet.data[:12] + tag + packet.data[12:])
    assert (frame.data, frame.checksum, frame.segment_size) == (packet.data, Checksum.UNKNOWN, 0)
    assert frame.tci == (0x6005 if tag else None)


def test_a_checksum_within_a_tunnel_is_completed_here(inside: Inside) -> None:
    """A frame can say only of its own that it is missing."""
    inner = Packet(4, UDP, b"inner", field=b"\0\0")
    headers = inner.data[14 : inner.transport]
    pseudo = ones_complement_sum(inner.ip_header[12:20] + bytes([0, UDP]) + number(13))
    outer = Packet(4, 4, headers + inner.transport_header[:6] + number(pseudo) + b"inner")
    start = outer.payload_at + 20
    frame = inside.sent(struct.pack("<BBHHHH", 1, 0, 0, 0, start, 6), outer.data)
    assert frame.checksum is Checksum.UNKNOWN
    assert frame.data[start + 6 : start + 8] == inner.checksum
    assert (
        frame.data[: start + 6] + frame.data[start + 8 :] == outer.data[: start + 6] + outer.data[start + 8 :]
    )


# ------------------------------------------------------------ the device


def test_the_link_is_the_interfaces_carrier(lab: Lab) -> None:
    assert "LOWER_UP" in lab.a.link()["flags"]
    lab.a.tap.set_link(False, 10_000)
    assert "NO-CARRIER" in lab.a.link()["flags"]
    lab.a.tap.set_link(True, 10_000)
    assert "LOWER_UP" in lab.a.link()["flags"]


def test_frames_for_an_interface_that_is_down_are_counted(inside: Inside) -> None:
    subprocess.run(["ip", "link", "set", inside.tap.name, "down"], check=True)
    inside.tap.deliver(Frame(Packet().data))
    assert inside.tap.dropped == {"down": 1}


def test_a_device_that_is_removed_leaves_a_port_to_nothing(
    inside: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(["ip", "link", "delete", inside.tap.name], check=True)
    inside.reactor.dispatch(1)
    for _ in range(2):
        inside.tap.deliver(Frame(Packet().data))
    inside.tap.set_link(False, 0)
    inside.tap.resumed()
    inside.tap.flush()
    assert inside.tap.dropped == {"gone": 2}
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        f"{inside.tap.name} was removed"
    ]
    assert inside.reactor.dispatch(0) == 0


def test_what_the_kernel_has_no_room_for_waits_and_is_bounded(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order; what is too much is counted."""
    monkeypatch.setattr(tap_module, "QUEUE_FRAMES", 3)
    full, written = True, []

    def writev(fd: int, parts: tuple[bytes, ...]) -> int:
        if full:
            raise BlockingIOError(errno.EAGAIN, "full")
        written.append(b"".join(parts)[10:])
        return 1

    monkeypatch.setattr(os, "writev", writev)
    frames = [Frame(Packet(payload=bytes([number])).data) for number in range(5)]
    for frame in frames:
        inside.tap.deliver(frame)
    assert inside.tap.dropped == {"full": 2}
    inside.reactor.dispatch(1)
    assert written == []
    full = False
    inside.reactor.dispatch(1)
    assert written == [frame.data for frame in frames[:3]]
    inside.tap.deliver(frames[4])
    assert written[3:] == [frames[4].data]


def test_a_port_that_wants_no_more_is_left_alone_until_it_does(inside: Inside) -> None:
    taken: list[Frame] = []

    def send(frame: Frame) -> bool:
        taken.append(frame)
        return False

    inside.out.send = send  # type: ignore[method-assign]
    for _ in range(3):
        inside.socket.send(bytes(10) + SMALL.data)
    for resumed in range(3):
        for _ in range(3):
            inside.reactor.dispatch(0.02)
        assert len(taken) == resumed + 1
        inside.tap.resumed()


def test_a_new_device_is_up_and_goes_with_us() -> None:
    reactor = Reactor()
    device = TapDevice(None, reactor)
    try:
        assert device.name.startswith("tap")
        shown = subprocess.run(["ip", "link", "show", device.name], capture_output=True, text=True).stdout
        assert ",UP" in shown
    finally:
        device.close()
    assert subprocess.run(["ip", "link", "show", device.name], capture_output=True).returncode != 0


@pytest.mark.parametrize("queues", [[], ["multi_queue"]])
def test_a_persistent_device_is_used_as_it_is(queues: list[str]) -> None:
    name = f"rmp{os.getpid()}"
    subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap", *queues], check=True)
    try:
        device = TapDevice(name, Reactor())
        shown = subprocess.run(["ip", "link", "show", name], capture_output=True, text=True).stdout
        device.close()
        assert ",UP" not in shown
        assert subprocess.run(["ip", "link", "show", name], capture_output=True).returncode == 0
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


# ------------------------------------------------------------ errors


@pytest.mark.parametrize("name", ["a name", "a/b", "sixteen-letters!", "\n"])
def test_a_name_that_no_interface_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a network interface"):
        TapDevice(name, Reactor())


def test_a_device_in_use() -> None:
    first = TapDevice(None, Reactor())
    try:
        with pytest.raises(HostError, match="in use by another program"):
            TapDevice(first.name, Reactor())
    finally:
        first.close()


def test_an_interface_of_another_kind() -> None:
    with pytest.raises(HostError, match="no TAP device"):
        TapDevice("lo", Reactor())


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "sudo modprobe tun"),
        (errno.EACCES, "sudo chmod 666 /dev/net/tun"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_the_driver_cannot_be_opened(number: int, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HostError, match=advice):
        TapDevice("tap7", Reactor())


def test_a_device_may_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with pytest.raises(HostError, match="sudo ip tuntap add dev lab mode tap user"):
        TapDevice("lab", Reactor())


def test_odd_frames_do_no_harm(lab: Lab) -> None:
    """What a guest calls large or without checksum, and is not."""
    for packet in (Packet(4, TCP, b"x"), Packet(6, UDP, b"x" * 70), Packet(4, 99, b"?"), Packet(6, TCP)):
        for cut in range(0, len(packet.data), 3):
            for state in Checksum:
                for size in (0, 1, 1448, 65535):
                    for tci in (None, 0, 0xFFFF):
                        lab.a.tap.deliver(Frame(packet.data[:cut], tci, state, size))
                        lab.a.tap.deliver(Frame(replace(packet, flags=128).data, tci, state, size))
    lab.transfer(lab.b.ipv4, lab.a, lab.b)

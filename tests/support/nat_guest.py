"""A guest behind NAT, in a few lines: it answers ARP and neighbour solicitations, and speaks enough of UDP
and TCP for a test to be a script. Checksums of what it sends are `MISSING`, as a guest's with offloads."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from ringminus.clock import MockClock, TimerQueue
from ringminus.switch import checksum
from ringminus.switch.checksum import verify
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import UNKNOWN, parse
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.nat import Nat
from ringminus.switch.reactor import Reactor
from ringminus.switch.wire import (
    EthernetHeader,
    EtherType,
    IpProtocol,
    Ipv4Header,
    Ipv6Header,
    TcpFlag,
    TcpHeader,
    UdpHeader,
)
from support.packets import ones_complement_sum

MAC = bytes.fromhex("00155d000001")
ROUTER = bytes.fromhex("52550a000202")
ADDRESS, HOST, DNS = (bytes((10, 0, 2, last)) for last in (15, 2, 3))
ADDRESS6, HOST6 = (ip_address(text).packed for text in ("fec0::15", "fec0::2"))
SYN, ACK, FIN, RST, PSH, URG = (
    int(flag) for flag in (TcpFlag.SYN, TcpFlag.ACK, TcpFlag.FIN, TcpFlag.RST, TcpFlag.PSH, TcpFlag.URG)
)
MILLISECOND = 10_000  # units of the clock


def mss_option(mss: int) -> bytes:
    return b"\1\1\2\4" + mss.to_bytes(2, "big") + b"\1\0"


@dataclass
class Segment:
    """A TCP segment that arrived."""

    flags: int
    sequence: int
    acknowledgment: int
    window: int
    options: bytes
    data: bytes
    segment_size: int


@dataclass
class Connection:
    """A guest's end of a TCP connection; `received` is what came in order. It acknowledges all at once."""

    guest: Guest
    source: bytes
    source_port: int
    remote: bytes
    remote_port: int
    options: bytes
    sequence: int = 1000
    expected: int = 0
    received: bytes = b""
    established: bool = False
    finished: bool = False
    reset: bool = False
    segments: list[Segment] = field(default_factory=list)
    window: int = 65535
    silent: bool = False

    def send(self, flags: int, data: bytes = b"", options: bytes = b"", segment_size: int = 0) -> None:
        header = TcpHeader(
            source_port=self.source_port,
            destination_port=self.remote_port,
            sequence=self.sequence,
            acknowledgment=self.expected if flags & ACK else 0,
            offset_and_flags=(5 + len(options) // 4) << 12 | flags,
            window=self.window,
            urgent=1 if flags & URG else 0,
        )
        self.sequence += len(data) + bool(flags & SYN) + bool(flags & FIN)
        packet = header.pack() + options + data
        self.guest.send_ip(self.source, self.remote, IpProtocol.TCP, packet, segment_size)

    def arrived(self, segment: Segment) -> None:
        self.segments.append(segment)
        if segment.flags & RST:
            self.reset = True
        elif segment.flags & SYN:
            self.expected = segment.sequence + 1
            if segment.flags & ACK:
                self.established = True
                self.send(ACK)
            else:
                self.send(SYN | ACK, options=self.options)
        elif segment.sequence == self.expected:
            self.established = True
            self.received += segment.data
            self.expected += len(segment.data)
            if segment.flags & FIN:
                self.finished = True
                self.expected += 1
            if (segment.data or segment.flags & FIN) and not self.silent:
                self.send(ACK)


class Guest:
    """The guest, as the port of its NAT. `frames` are all that came; `takes` is what it says to the NAT, and
    `heard` the datagrams: sender's address and port, port, data."""

    def __init__(self, config: NatConfig | None = None) -> None:
        self.clock = MockClock()
        self.timers = TimerQueue()
        self.reactor = Reactor()
        self.nat = Nat(config or NatConfig(), self.reactor, self.clock, self.timers)
        self.nat.plugged(self)
        self.nat.set_link(True, 10_000)
        self.frames: list[Frame] = []
        self.heard: list[tuple[bytes, int, int, bytes]] = []
        self.connections: dict[tuple[bytes, int, int], Connection] = {}
        self.listening: dict[int, bytes] = {}
        self.takes = True
        self.flushes = 0

    def close(self) -> None:
        self.nat.close()
        self.reactor.close()

    # ------------------------------------------------------------------ sending

    def deliver(self, data: bytes, state: Checksum = Checksum.UNKNOWN, segment_size: int = 0) -> None:
        self.nat.deliver(Frame(data, None, state, segment_size))
        self.nat.flush()

    def send_ip(
        self, source: bytes, destination: bytes, protocol: int, packet: bytes, segment_size: int = 0
    ) -> None:
        state = Checksum.MISSING if protocol in (IpProtocol.TCP, IpProtocol.UDP) else Checksum.UNKNOWN
        self.deliver(ip_frame(source, destination, protocol, packet), state, segment_size)

    def send_udp(self, destination: bytes, port: int, data: bytes, source_port: int = 40000) -> None:
        header = UdpHeader(source_port=source_port, destination_port=port, length=UdpHeader.SIZE + len(data))
        source = ADDRESS if len(destination) == 4 else ADDRESS6
        self.send_ip(source, destination, IpProtocol.UDP, header.pack() + data)

    def connect(self, remote: bytes, port: int, mss: int = 1460, source_port: int = 50000) -> Connection:
        """Begin a connection."""
        source = ADDRESS if len(remote) == 4 else ADDRESS6
        made = Connection(self, source, source_port, remote, port, mss_option(mss))
        self.connections[remote, port, source_port] = made
        made.send(SYN, options=made.options)
        return made

    def listen(self, port: int, mss: int = 1460) -> None:
        """Take connections to a port."""
        self.listening[port] = mss_option(mss)

    def arp(self, address: bytes, mac: bytes = MAC, source: bytes = ADDRESS) -> None:
        """Ask who has an address."""
        body = bytes.fromhex("0001080006040001") + mac + source + bytes(6) + address
        self.deliver(EthernetHeader(destination=b"\xff" * 6, source=mac, type=EtherType.ARP).pack() + body)

    # ------------------------------------------------------------------ time

    def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Let the host's sockets do their work until something is so; the NAT's time moves on a little."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            self.reactor.dispatch(0.02)
            self.advance(1)

    def establish(self, connection: Connection) -> None:
        """Wait until a connection is there."""
        self.until(lambda: connection.established)

    def receive(self, connection: Connection, size: int) -> None:
        """Wait for so many bytes on a connection."""
        self.until(lambda: len(connection.received) >= size)

    def finish(self, connection: Connection) -> None:
        """Wait for the other side's end of a connection."""
        self.until(lambda: connection.finished)

    def advance(self, milliseconds: int) -> None:
        """Let the NAT's time pass, and its alarms ring in their time."""
        self.reactor.settle()  # who lets time pass waits
        end = self.clock.reference_time() + milliseconds * MILLISECOND
        while (due := self.timers.next_deadline()) <= end:
            self.clock.advance(max(due - self.clock.reference_time(), 0))
            self.timers.fire(self.clock.reference_time())
        self.clock.advance(end - self.clock.reference_time())

    # ------------------------------------------------------------------ Port

    def send(self, frame: Frame) -> bool:
        self.frames.append(frame)
        data = frame.data
        kind = int.from_bytes(data[12:14], "big")
        headers = parse(data)
        if kind == EtherType.ARP and data[20:22] == b"\0\1" and data[38:42] == ADDRESS:
            body = bytes.fromhex("0001080006040002") + MAC + ADDRESS + data[22:32]
            self.nat.deliver(Frame(data[6:12] + MAC + data[12:14] + body))
        elif headers is None or headers.fragment:
            pass
        elif headers.protocol == IpProtocol.ICMPV6 and data[54] == 135:
            self.advertise(data[62:78], data[22:38])
        elif headers.payload != UNKNOWN:
            assert verify(data) is True
            assert frame.checksum is Checksum.VALID
            source, destination = addresses(data)
            ports = struct.unpack_from(">HH", data, headers.transport)
            if headers.protocol == IpProtocol.UDP:
                self.heard.append((source, *ports, data[headers.payload : headers.end]))
            else:
                self._tcp(frame, source, destination, ports, headers.transport, headers.payload)
        return self.takes

    def _tcp(
        self,
        frame: Frame,
        source: bytes,
        destination: bytes,
        ports: tuple[int, int],
        transport: int,
        payload: int,
    ) -> None:
        header = TcpHeader.unpack(frame.data, transport)
        segment = Segment(
            header.offset_and_flags & 0xFF,
            header.sequence,
            header.acknowledgment,
            header.window,
            frame.data[transport + TcpHeader.SIZE : payload],
            frame.data[payload:],
            frame.segment_size,
        )
        key = (source, *ports)
        if segment.flags & (SYN | ACK) == SYN and ports[1] in self.listening:
            options = self.listening[ports[1]]
            self.connections[key] = Connection(self, destination, ports[1], source, ports[0], options)
        if key in self.connections:
            self.connections[key].arrived(segment)

    def advertise(self, address: bytes, to: bytes) -> None:
        """Say in IPv6 that an address is ours."""
        body = b"\x60\0\0\0" + address + b"\2\1" + MAC
        self.send_ip(address, to, IpProtocol.ICMPV6, icmpv6(136, body, address, to))

    def flush(self) -> None:
        self.flushes += 1
        self.nat.flush()  # what was answered from within `send`

    def set_address(self, address: bytes) -> None:
        raise AssertionError("NAT has many addresses")


def addresses(data: bytes) -> tuple[bytes, bytes]:
    """Source and destination of an IP frame."""
    return (data[26:30], data[30:34]) if data[12:14] == b"\x08\0" else (data[22:38], data[38:54])


def ip_frame(
    source: bytes, destination: bytes, protocol: int, packet: bytes, *, fragment: int = 0, id: int = 7
) -> bytes:
    """A frame with an IP packet."""
    ethernet = EthernetHeader(destination=ROUTER, source=MAC, type=EtherType.IPV4)
    header: Ipv4Header | Ipv6Header
    if len(source) == 4:
        header = Ipv4Header(
            version_and_length=0x45,
            total_length=Ipv4Header.SIZE + len(packet),
            protocol=protocol,
            source=source,
            destination=destination,
            fragment=fragment,
            id=id,
        )
        header.checksum = checksum.ipv4_header(header.pack())
    else:
        ethernet.type = EtherType.IPV6
        header = Ipv6Header(
            version_class_flow=6 << 28,
            payload_length=len(packet),
            next_header=protocol,
            hop_limit=255,
            source=source,
            destination=destination,
        )
    return ethernet.pack() + header.pack() + packet


def icmp(kind: int, body: bytes) -> bytes:
    """An ICMP message."""
    whole = bytes((kind, 0, 0, 0)) + body
    return whole[:2] + (0xFFFF - ones_complement_sum(whole)).to_bytes(2, "big") + whole[4:]


def icmpv6(kind: int, body: bytes, source: bytes, destination: bytes) -> bytes:
    """An ICMPv6 message."""
    whole = bytes((kind, 0, 0, 0)) + body
    pseudo = source + destination + len(whole).to_bytes(4, "big") + bytes((0, 0, 0, IpProtocol.ICMPV6))
    return whole[:2] + (0xFFFF - ones_complement_sum(pseudo + whole)).to_bytes(2, "big") + whole[4:]

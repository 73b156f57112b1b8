"""NAT as an endpoint of a switch: guests reach the host's network through libslirp.

Guests that are plugged into the same switch share it: each has its address by DHCP."""

from __future__ import annotations

import re
import resource

from ringminus.clock import ReferenceClock, TimerQueue
from ringminus.switch import checksum, wire
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.fragments import Fragmenter
from ringminus.switch.nat.library import LARGEST_PACKET, TELLS_OF_EVERY_SOCKET
from ringminus.switch.nat.screen import Drop, Screen
from ringminus.switch.nat.segments import RAISED_MSS, RAISED_MTU, Segments, is_superseded
from ringminus.switch.nat.sockets import Sockets
from ringminus.switch.nat.stack import MILLISECOND, Stack
from ringminus.switch.port import Port
from ringminus.switch.reactor import READABLE, Reactor
from ringminus.switch.segmentation import segments
from ringminus.switch.wire import EthernetHeader, EtherType, IpProtocol

QUEUE = 1024
"""Frames that wait for a port that takes none; later ones are dropped and counted."""
STALE = 500 * MILLISECOND
"""How far libslirp's own time may be behind (100 ns units): it moves on only when it polls."""
MOST_SOCKETS = 4096
"""That guests may open if nothing else is said, and if that is no more than half of what this process may."""
MANY = 32
"""With so many sockets and more it is asked at most each millisecond what it waits for: it tells of all."""
IDLE = 1000
"""The longest time-out that libslirp gives, in milliseconds: it has no reason of its own to be called."""

_IPV4, _IPV6 = int(EtherType.IPV4), int(EtherType.IPV6)
_IPV6_TYPE = _IPV6.to_bytes(2, "big")
_TCP, _UDP = int(IpProtocol.TCP), int(IpProtocol.UDP)
_VLAN_ID = 0xFFF
_NETWORK = EthernetHeader.SIZE
_LARGEST = _NETWORK + LARGEST_PACKET
_LARGEST_IPV6 = _NETWORK + RAISED_MTU
_PART = RAISED_MSS - 40  # payload bytes: there may be so many of TCP's options
_TYPE = slice(_NETWORK - 2, _NETWORK)
_IPV6_NEXT = _NETWORK + wire.Ipv6Header.offset_of("next_header")
_MISSING, _VALID, _UNKNOWN = Checksum.MISSING, Checksum.VALID, Checksum.UNKNOWN
_CONNECTION = re.compile(
    r"\s*(\w+)\[([^\]]*)\]\s+(-?\d+)\s+(\S+)\s+(\d+|-)\s+(\S+)\s+(\d+|-)\s+(\d+)\s+(\d+)\s*"
)


class Nat:
    """An `Endpoint`. Raises `HostError` where libslirp is missing or a forward's port is not to be had."""

    def __init__(
        self, config: NatConfig, reactor: Reactor, clock: ReferenceClock, timers: TimerQueue
    ) -> None:
        self.config = config
        self._reactor = reactor
        self._clock = clock
        self._port: Port | None = None
        self._now = self._polled = self._refreshed = clock.reference_time()
        self._stack = Stack(config, self._now)
        self._sent = self._stack.sent
        self._limit = config.sockets or _sockets()
        self._segments = Segments()
        self._screen = Screen(
            self._stack.sockets,
            self._limit,
            config.host.packed,
            self._segments,
            clock.reference_time,
        )
        self._fragmenter = Fragmenter(config.mtu)
        self._largest = _NETWORK + config.mtu
        self._sockets = Sockets(self._stack.library.version < TELLS_OF_EVERY_SOCKET)
        self._timer = timers.timer(self._expire)
        self._emitting = self._blocked = self._unflushed = self._touched = self._closed = False
        self._put_off = self._always = False
        reactor.watch(self._sockets.fd, READABLE, self._dispatch)
        try:
            for forward in config.forwards:
                self._stack.forward(forward)
            self._poll(None)
            self._refresh()
        except BaseException:
            self.close()
            raise

    @property
    def dropped(self) -> dict[str, int]:
        """How many frames went no further, by reason (`Drop`)."""
        return self._screen.dropped

    # ------------------------------------------------------------------ the switch calls

    def plugged(self, port: Port) -> None:
        """Frames for the guests go to `port`."""
        self._port = port

    def set_link(self, up: bool, megabits: int) -> None:
        """Nothing depends on it: the switch keeps frames from a port whose link is down."""

    def deliver(self, frame: Frame) -> None:
        """A frame from a guest; what it has for the host's network is sent on at once."""
        if self._closed:
            return
        if frame.tci is not None and frame.tci & _VLAN_ID:
            self._screen.drop(Drop.TAGGED)
            return
        if len(frame.data) > _LARGEST_IPV6 and (
            len(frame.data) > _LARGEST or frame.data[_TYPE] == _IPV6_TYPE
        ):
            self._deliver_in_parts(frame)
            return
        if frame.checksum is _MISSING:
            frame = checksum.complete(frame)
        data = self._screen.admit(frame.data)
        if data is None:
            return
        if not self._touched:
            self._touch()
        self._stack.input(data)
        if self._sent:
            self._emit()

    def flush(self) -> None:
        """The guests' frames are all here: look what libslirp waits for now."""
        if self._touched and not self._closed:
            self._touched = False
            while self._screen.resolves:  # what waited for an address: each call sends one of a connection
                self._screen.resolves = self._poll(None)
            self._refresh_later()
            self._flush_port()

    def resumed(self) -> None:
        """The guests take frames again."""
        if self._blocked and not self._closed:
            self._blocked = False
            self._reactor.watch(self._sockets.fd, READABLE, self._dispatch)
            self._emit()
            self._flush_port()

    def close(self) -> None:
        """End all connections and give up the forwarded ports."""
        if not self._closed:
            self._closed = True
            self._timer.disarm()
            self._reactor.forget(self._sockets.fd)
            self._stack.close()
            self._sockets.close()
            self._port = None

    def describe(self) -> dict[str, object]:
        """Plain data for people: networks, forwards, connections, what was dropped."""
        config = self.config
        ipv6 = {"network": str(config.ipv6), "host": str(config.host6), "dns": str(config.dns6)}
        return {
            "kind": "nat",
            "network": str(config.network),
            "host": str(config.host),
            "dns": str(config.dns),
            "dhcp": str(config.dhcp_start),
            "ipv6": ipv6 if config.ipv6 is not None else None,
            "mtu": config.mtu,
            "restrict": config.restrict,
            "host_loopback": config.host_loopback,
            "forwards": [str(forward) for forward in config.forwards],
            "library": f"libslirp {self._stack.library.version_text}",
            "sockets": {"open": len(self._stack.sockets), "limit": self._limit},
            "connections": _connections(self._stack.connections()),
            "guest_faults": self._stack.guest_faults,
            "dropped": {str(reason): count for reason, count in self.dropped.items()},
        }

    # ------------------------------------------------------------------ frames

    def _deliver_in_parts(self, frame: Frame) -> None:
        """One that is too large for libslirp; only TCP can be cut."""
        for part in segments(frame, _PART):
            if len(part.data) > _LARGEST_IPV6:
                self._screen.drop(Drop.SIZE)
            else:
                self.deliver(part)

    def _touch(self) -> None:
        """The first frame since the last flush: libslirp is to know what time it is."""
        self._touched = True
        self._now = self._clock.reference_time()
        self._stack.tell_time(self._now)
        if self._now - self._polled >= STALE:
            self._poll(None)

    def _emit(self) -> None:
        """Send on what libslirp said. What it says meanwhile, as an answer to an answer, goes last."""
        if self._emitting:
            return
        sent, port = self._sent, self._port
        self._emitting = True
        try:
            while sent and port is not None and not self._blocked:
                data = sent.popleft()
                self._unflushed = True
                kind, _, _, _, protocol = wire.HOT_IPV4.unpack_from(data)
                version = 4
                if kind == _IPV6:
                    protocol, version = data[_IPV6_NEXT], 6
                elif kind != _IPV4:
                    protocol = 0
                if protocol == _TCP:
                    if sent and is_superseded(data, sent[0], version):
                        continue
                    taken = port.send(Frame(data, None, _VALID, self._segments.to_guest(data, version)))
                elif len(data) > self._largest:
                    taken = self._send_fragments(port, data, version)
                else:
                    taken = port.send(Frame(data, None, _VALID if protocol == _UDP else _UNKNOWN))
                if not taken:
                    self._block()
        finally:
            self._emitting = False
        bound = 0 if port is None else QUEUE
        while len(sent) > bound:
            sent.pop()
            self._screen.drop(Drop.UNPLUGGED if port is None else Drop.QUEUE)

    def _send_fragments(self, port: Port, data: bytes, version: int) -> bool:
        taken = True
        for part in self._fragmenter.cut(data, version):
            taken = port.send(Frame(part)) and taken
        return taken

    def _block(self) -> None:
        """The guests take no more: what the host sends stays in its sockets."""
        self._blocked = True
        self._reactor.forget(self._sockets.fd)

    def _flush_port(self) -> None:
        if self._unflushed and self._port is not None:
            self._unflushed = False
            self._port.flush()

    # ------------------------------------------------------------------ sockets and time

    def _dispatch(self, events: int) -> None:
        """Some of libslirp's sockets are ready."""
        self._now = self._clock.reference_time()
        self._stack.tell_time(self._now)
        self._poll(self._sockets.ready())
        self._refresh_later(always=True)
        self._flush_port()

    def _poll(self, ready: dict[int, int] | None) -> bool:
        """Have libslirp do what is due; gives whether it had something to say."""
        self._polled = self._now
        before = len(self._sent)
        self._stack.poll(ready)
        said = len(self._sent) != before
        if self._sent:
            self._emit()
        return said

    def _expire(self, now: int) -> None:
        self._now = now
        self._stack.tell_time(now)
        self._stack.expire(now)
        self._poll(None)
        self._always = True
        self._refresh()
        self._flush_port()

    def _refresh_later(self, always: bool = False) -> None:
        """Libslirp may wait for something else now, which matters when somebody waits."""
        self._always |= always
        if not self._put_off:
            self._put_off = True
            self._reactor.before_waiting(self._refresh)

    def _refresh(self) -> None:
        """Wait for what libslirp waits for."""
        always, self._put_off, self._always = self._always, False, False
        if self._closed:  # by who got the frames just sent
            return
        due = self._refreshed + MILLISECOND
        if len(self._sockets) >= MANY and self._now < due and not always:
            self._arm(due)
            return
        self._refreshed = self._now
        stack = self._stack
        if stack.closed:
            self._sockets.closed(stack.closed)
            stack.closed.clear()
        wanted, timeout = stack.fill()
        self._sockets.watch(wanted)
        if timeout < IDLE:
            self._arm(self._now + timeout * MILLISECOND)
        deadline = stack.deadline()
        if deadline is not None:
            self._arm(deadline)

    def _arm(self, deadline: int) -> None:
        armed = self._timer.deadline
        if armed is None or deadline < armed:
            self._timer.arm(deadline)


def _sockets() -> int:
    """How many sockets guests may open where nothing is said."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_SOCKETS if files == resource.RLIM_INFINITY else min(files // 2, MOST_SOCKETS)


def _connections(table: str) -> list[dict[str, object]]:
    """The rows of libslirp's table. Of IPv6 connections it has the ports right, the addresses not."""
    rows: list[dict[str, object]] = []
    for line in table.splitlines():
        match = _CONNECTION.fullmatch(line)
        if match is not None:
            protocol, state, _, source, source_port, destination, port, received, sending = match.groups()
            rows.append(
                {
                    "protocol": protocol.lower(),
                    "state": state.lower().replace("_", " "),
                    "source": f"{source}:{source_port}",
                    "destination": f"{destination}:{port}",
                    "to_host": int(received),
                    "to_guest": int(sending),
                }
            )
    return rows

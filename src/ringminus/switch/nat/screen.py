"""What of the guests' frames libslirp gets.

It is C code in this process, and guests are not trusted: what no guest that means well sends is kept from
it, and so is what would open more sockets than guests may have."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial

from ringminus.switch import wire
from ringminus.switch.nat.reassembly import Reassembler
from ringminus.switch.nat.segments import RAISED_MTU, Segments
from ringminus.switch.wire import EthernetHeader, EtherType, IpProtocol, Ipv4Fragment, TcpFlag

_IPV4, _IPV6, _ARP = int(EtherType.IPV4), int(EtherType.IPV6), int(EtherType.ARP)
_TCP, _UDP = int(IpProtocol.TCP), int(IpProtocol.UDP)
_ICMP, _ICMPV6 = int(IpProtocol.ICMP), int(IpProtocol.ICMPV6)
_FRAGMENT = int(IpProtocol.FRAGMENT)
_MORE_OR_OFFSET = Ipv4Fragment.MORE | Ipv4Fragment.OFFSET
_NETWORK = EthernetHeader.SIZE
_LARGEST_IPV6 = _NETWORK + RAISED_MTU
_SHORTEST = wire.HOT_IPV4.size
_TCP_FLAGS = wire.TcpHeader.offset_of("offset_and_flags") + 1
_SYN, _SYN_OR_URG = int(TcpFlag.SYN), int(TcpFlag.SYN | TcpFlag.URG)
_IPV4_FLAGS = _NETWORK + _TCP_FLAGS
_IPV4_PORTS = _NETWORK + wire.Ipv4Header.SIZE
_IPV4_SOURCE = _NETWORK + wire.Ipv4Header.offset_of("source")
_IPV4_DESTINATION = _NETWORK + wire.Ipv4Header.offset_of("destination")
_IPV6_PORTS = _NETWORK + wire.Ipv6Header.SIZE
_IPV6_FLAGS = _IPV6_PORTS + _TCP_FLAGS
_IPV6_NEXT = _NETWORK + wire.Ipv6Header.offset_of("next_header")
_IPV6_SOURCE = _NETWORK + wire.Ipv6Header.offset_of("source")
_IPV6_DESTINATION = _NETWORK + wire.Ipv6Header.offset_of("destination")
_IPV6_HIGH = slice(_IPV6_DESTINATION, _IPV6_DESTINATION + 10)
_HOST_ITSELF = frozenset((0, 127))  # first bytes of IPv4 addresses
_ZEROS = bytes(10)
_ECHO_REQUEST = b"\x80"  # ICMPv6's (RFC 4443)


class Drop(StrEnum):
    """Why a frame goes no further; the keys of `Nat.dropped`."""

    TAGGED = "vlan"
    """It has a VLAN's tag: plug the NAT into an access port of that VLAN."""
    SHORT = "short frame"
    PROTOCOL = "not IP or ARP"
    LOOPBACK = "loopback address"
    """It is for 127.0.0.0/8, 0.0.0.0/8 or ::/80, which libslirp would take for the host's own: around
    `NatConfig.host_loopback` and `restrict`."""
    TCP_FRAGMENT = "fragment of tcp"
    FRAGMENT = "fragment"
    """Of a datagram whose other fragments did not come, or do not fit."""
    SIZE = "too large"
    SOCKETS = "too many sockets"
    """It would open a socket, and guests have as many as they may."""
    QUEUE = "queue full"
    """It came for the guests while their port took none, and too many wait already."""
    UNPLUGGED = "unplugged"


class Screen:
    """Lets frames through or drops them. `sockets` are those that are open, with the begin of the frame that
    opened each (see `stack.Stack`); `limit` is how many there may be. `host` is the gateway's IPv4 address,
    `now` gives the time (100 ns units).

    `resolves` is set by frames that may tell where a guest is: frames may be waiting for that."""

    def __init__(
        self,
        sockets: dict[int, bytes],
        limit: int,
        host: bytes,
        segments: Segments,
        now: Callable[[], int],
    ) -> None:
        self.dropped: dict[str, int] = {}
        self.resolves = False
        self._sockets = sockets
        self._limit = limit
        self._host = host
        self._segments = segments
        self._reassembler = Reassembler(now, partial(self.drop, Drop.FRAGMENT))

    def drop(self, reason: Drop, frames: int = 1) -> None:
        """Count frames that go no further."""
        self.dropped[reason] = self.dropped.get(reason, 0) + frames

    def _refuse(self, reason: Drop) -> bytes | None:
        self.drop(reason)
        return None

    def admit(self, data: bytes) -> bytes | None:
        """What libslirp gets of a frame, None for nothing."""
        size = len(data)
        if size < _SHORTEST:
            return self._refuse(Drop.SHORT)
        kind, first, _, fragment, protocol = wire.HOT_IPV4.unpack_from(data)
        if kind == _IPV4:
            if data[_IPV4_DESTINATION] in _HOST_ITSELF:
                return self._refuse(Drop.LOOPBACK)
            if protocol == _TCP:
                if fragment & _MORE_OR_OFFSET:
                    return self._refuse(Drop.TCP_FRAGMENT)
                flags = _IPV4_FLAGS + (first & 15) * 4
                if size <= flags:
                    return self._refuse(Drop.SHORT)
                if data[flags] & _SYN_OR_URG:
                    return self._admit_tcp(data, data[flags])
            elif fragment & _MORE_OR_OFFSET:
                whole = self._reassembler.take_ipv4(data)
                return None if whole is None else self.admit(whole)
            elif len(self._sockets) >= self._limit and not self._is_known(data, protocol):
                return self._refuse(Drop.SOCKETS)
            return data
        if kind == _IPV6:
            return self._admit_ipv6(data, size)
        if kind == _ARP:
            self.resolves = True
            return data
        return self._refuse(Drop.PROTOCOL)

    def _admit_ipv6(self, data: bytes, size: int) -> bytes | None:
        if size < _IPV6_PORTS:
            return self._refuse(Drop.SHORT)
        if data[_IPV6_HIGH] == _ZEROS:
            return self._refuse(Drop.LOOPBACK)
        protocol = data[_IPV6_NEXT]
        if protocol == _TCP:
            if size <= _IPV6_FLAGS:
                return self._refuse(Drop.SHORT)
            if data[_IPV6_FLAGS] & _SYN_OR_URG:
                return self._admit_tcp(data, data[_IPV6_FLAGS])
            return data
        if protocol == _FRAGMENT:
            return self._admit_ipv6_fragment(data)
        if protocol == _ICMPV6:
            self.resolves = True
        if len(self._sockets) >= self._limit and not self._is_known(data, protocol):
            return self._refuse(Drop.SOCKETS)
        return data

    def _admit_ipv6_fragment(self, data: bytes) -> bytes | None:
        if len(data) < _IPV6_PORTS + wire.Ipv6FragmentHeader.SIZE:
            return self._refuse(Drop.SHORT)
        if data[_IPV6_PORTS] == _TCP:
            return self._refuse(Drop.TCP_FRAGMENT)
        whole = self._reassembler.take_ipv6(data)
        if whole is None:
            return None
        if whole[_IPV6_NEXT] in (_FRAGMENT, _TCP):
            return self._refuse(Drop.FRAGMENT)
        if len(whole) > _LARGEST_IPV6:
            return self._refuse(Drop.SIZE)
        return self._admit_ipv6(whole, len(whole))

    def _admit_tcp(self, data: bytes, flags: int) -> bytes | None:
        if flags & _SYN and len(self._sockets) >= self._limit:
            return self._refuse(Drop.SOCKETS)
        admitted = self._segments.from_guest(data)
        return self._refuse(Drop.SHORT) if admitted is None else admitted

    def _is_known(self, data: bytes, protocol: int) -> bool:
        """Whether libslirp has a socket for a datagram already, or needs none."""
        if protocol == _ICMP:
            return data[_IPV4_DESTINATION : _IPV4_DESTINATION + 4] == self._host
        if protocol == _ICMPV6:
            return data[_IPV6_PORTS : _IPV6_PORTS + 1] != _ECHO_REQUEST
        if protocol != _UDP:
            return True
        flow = _flow(data)
        return any(_flow(opened) == flow for opened in self._sockets.values() if opened)


def _flow(data: bytes) -> bytes:
    """Whose datagrams these are: libslirp has a socket for each address and port of a guest."""
    if data[_NETWORK] >> 4 == 6:
        return data[_IPV6_SOURCE:_IPV6_DESTINATION] + data[_IPV6_PORTS : _IPV6_PORTS + 2]
    return data[_IPV4_SOURCE:_IPV4_DESTINATION] + data[_IPV4_PORTS : _IPV4_PORTS + 2]

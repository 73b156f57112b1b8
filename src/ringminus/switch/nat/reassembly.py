"""Putting a guest's fragments together, so that libslirp gets whole datagrams only.

It does so itself in IPv4, but one fragment that comes out of order can end the process that Debian 12's
libslirp 4.7.0 is in; and in IPv6 it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ringminus.clock import REFERENCE_HZ
from ringminus.switch import checksum, wire
from ringminus.switch.wire import EthernetHeader, Ipv4Fragment

MOST = 64
"""Datagrams of which parts are here; each has at most `LARGEST` bytes of them."""
LARGEST = 65535
PATIENCE = 30 * REFERENCE_HZ
"""How long the rest may take (100 ns units; RFC 791 says 15 s at first, RFC 8200 60)."""

_NETWORK = EthernetHeader.SIZE
_IPV6_EXTENSION = _NETWORK + wire.Ipv6Header.SIZE
_UNIT = 8


@dataclass(slots=True)
class _Datagram:
    begun: int
    pieces: dict[int, bytes] = field(default_factory=dict)  # by where they begin
    size: int = 0  # bytes that are here
    end: int = -1  # bytes of the whole, once the last piece is here
    frame: bytes = b""  # the one with the first piece


Key = tuple[bytes, bytes, int]
Drop = Callable[[int], None]


class Reassembler:
    """`now` gives the time (100 ns units), `drop` is told how many fragments were lost."""

    def __init__(self, now: Callable[[], int], drop: Drop) -> None:
        self._now = now
        self._drop = drop
        self._datagrams: dict[Key, _Datagram] = {}

    def take_ipv4(self, data: bytes) -> bytes | None:
        """A frame with a fragment; gives a frame with the whole datagram when this was the last that was
        missing."""
        header = wire.Ipv4Header.unpack(data, _NETWORK)
        begin = _NETWORK + (header.version_and_length & 15) * 4
        end = _NETWORK + header.total_length
        if begin < _NETWORK + header.SIZE or not begin < end <= len(data):
            self._drop(1)
            return None
        key = (
            data[_NETWORK + header.SIZE - 8 : _NETWORK + header.SIZE],
            bytes((header.protocol,)),
            header.id,
        )
        at = (header.fragment & Ipv4Fragment.OFFSET) * _UNIT
        whole = self._add(key, data, at, data[begin:end], not header.fragment & Ipv4Fragment.MORE)
        if whole is None:
            return None
        first, body = whole
        header = wire.Ipv4Header.unpack(first, _NETWORK)
        begin = _NETWORK + (header.version_and_length & 15) * 4
        if begin - _NETWORK + len(body) > LARGEST:
            self._drop(1)
            return None
        header.total_length = begin - _NETWORK + len(body)
        header.fragment = header.checksum = 0
        options = first[_NETWORK + header.SIZE : begin]
        header.checksum = checksum.ipv4_header(header.pack() + options)
        return b"".join((first[:_NETWORK], header.pack(), options, body))

    def take_ipv6(self, data: bytes) -> bytes | None:
        """The same for IPv6, where the fragment header is the first extension header."""
        header = wire.Ipv6Header.unpack(data, _NETWORK)
        begin = _IPV6_EXTENSION + wire.Ipv6FragmentHeader.SIZE
        end = _IPV6_EXTENSION + header.payload_length
        if not begin < end <= len(data):
            self._drop(1)
            return None
        extension = wire.Ipv6FragmentHeader.unpack(data, _IPV6_EXTENSION)
        key = (data[_IPV6_EXTENSION - 32 : _IPV6_EXTENSION], b"", extension.id)
        at, last = extension.offset & ~(_UNIT - 1), not extension.offset & 1
        whole = self._add(key, data, at, data[begin:end], last)
        if whole is None:
            return None
        first, body = whole
        header = wire.Ipv6Header.unpack(first, _NETWORK)
        header.next_header = wire.Ipv6FragmentHeader.unpack(first, _IPV6_EXTENSION).next_header
        header.payload_length = len(body)
        return b"".join((first[:_NETWORK], header.pack(), body))

    def _add(self, key: Key, data: bytes, at: int, piece: bytes, last: bool) -> tuple[bytes, bytes] | None:
        """Keep a piece; gives the frame with the first piece and all of them when none is missing. Pieces
        that lie over each other lose their datagram (RFC 5722), the same one again does not."""
        now = self._now()
        datagram = self._datagrams.get(key)
        if datagram is None or now - datagram.begun > PATIENCE:
            self._lose(key)
            if len(self._datagrams) >= MOST:
                self._lose(next(iter(self._datagrams)))
            datagram = self._datagrams[key] = _Datagram(now)
        known = datagram.pieces.get(at)
        if known is not None and len(known) == len(piece):
            self._drop(1)
            return None
        datagram.size += len(piece)
        datagram.pieces[at] = piece
        if at == 0:
            datagram.frame = data
        if last:
            wrong = datagram.end >= 0
            datagram.end = at + len(piece)
        else:
            wrong = len(piece) % _UNIT != 0
        wrong = wrong or known is not None or max(datagram.size, at + len(piece)) > LARGEST
        if wrong or 0 <= datagram.end < datagram.size:
            self._lose(key)
        elif datagram.size == datagram.end:
            return self._whole(key)
        return None

    def _whole(self, key: Key) -> tuple[bytes, bytes] | None:
        datagram = self._datagrams[key]
        expected = 0
        for at, piece in sorted(datagram.pieces.items()):
            if at != expected:
                self._lose(key)
                return None
            expected += len(piece)
        del self._datagrams[key]
        return datagram.frame, b"".join(piece for _, piece in sorted(datagram.pieces.items()))

    def _lose(self, key: Key) -> None:
        datagram = self._datagrams.pop(key, None)
        if datagram is not None:
            self._drop(len(datagram.pieces))

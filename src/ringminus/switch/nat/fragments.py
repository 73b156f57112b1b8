"""Cutting IP packets that are larger than the guest's MTU: libslirp is told of a larger one, so that its TCP
segments may be large, and cuts datagrams to that if at all."""

from __future__ import annotations

from collections.abc import Iterator

from ringminus.switch import checksum, wire
from ringminus.switch.wire import EthernetHeader, IpProtocol, Ipv4Fragment

_UNIT = 8  # bytes: what an offset counts
_NETWORK = EthernetHeader.SIZE
_ID_MASK = 0xFFFFFFFF


class Fragmenter:
    """Cuts packets to `mtu` bytes: those of libslirp, which have no IP options and no extension headers. In
    IPv4 they may be fragments."""

    def __init__(self, mtu: int) -> None:
        self._mtu = mtu
        self._id = 0

    def cut(self, data: bytes, version: int) -> Iterator[bytes]:
        """The frames with the packet's fragments (RFC 791, RFC 8200 section 4.5)."""
        return self._cut_ipv4(data) if version == 4 else self._cut_ipv6(data)

    def _cut_ipv4(self, data: bytes) -> Iterator[bytes]:
        header = wire.Ipv4Header.unpack(data, _NETWORK)
        begin = _NETWORK + header.SIZE
        size = (self._mtu - header.SIZE) // _UNIT * _UNIT
        before, more_after = header.fragment & Ipv4Fragment.OFFSET, header.fragment & Ipv4Fragment.MORE
        for at in range(begin, len(data), size):
            piece = data[at : at + size]
            more = Ipv4Fragment.MORE if at + size < len(data) else more_after
            header.fragment = more | before + (at - begin) // _UNIT
            header.total_length = header.SIZE + len(piece)
            header.checksum = 0
            header.checksum = checksum.ipv4_header(header.pack())
            yield b"".join((data[:_NETWORK], header.pack(), piece))

    def _cut_ipv6(self, data: bytes) -> Iterator[bytes]:
        header = wire.Ipv6Header.unpack(data, _NETWORK)
        begin = _NETWORK + header.SIZE
        size = (self._mtu - header.SIZE - wire.Ipv6FragmentHeader.SIZE) // _UNIT * _UNIT
        extension = wire.Ipv6FragmentHeader(next_header=header.next_header, offset=0, id=self._id)
        self._id = self._id + 1 & _ID_MASK
        header.next_header = IpProtocol.FRAGMENT
        for at in range(begin, len(data), size):
            piece = data[at : at + size]
            extension.offset = (at - begin) | (at + size < len(data))
            header.payload_length = extension.SIZE + len(piece)
            yield b"".join((data[:_NETWORK], header.pack(), extension.pack(), piece))

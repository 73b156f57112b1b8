"""Cutting a large TCP frame into those that it stands for, as Linux's tcp_gso_segment does."""

from __future__ import annotations

from collections.abc import Iterator

from ringminus.switch import checksum, wire
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import NETWORK, UNKNOWN, Headers, parse
from ringminus.switch.wire import IpProtocol, TcpFlag

SMALLEST_SEGMENT = 8
"""Payload bytes: the least that a Linux guest asks for (TCP_MIN_GSO_SIZE). It bounds how much work a frame
can make."""

_TCP = int(IpProtocol.TCP)
_LENGTH = {
    4: NETWORK + wire.Ipv4Header.offset_of("total_length"),
    6: NETWORK + wire.Ipv6Header.offset_of("payload_length"),
}
_ID = NETWORK + wire.Ipv4Header.offset_of("id")
_IPV4_CHECKSUM = NETWORK + wire.Ipv4Header.offset_of("checksum")
_SEQUENCE = wire.TcpHeader.offset_of("sequence")
_FLAGS = wire.TcpHeader.offset_of("offset_and_flags") + 1
_ONLY_LAST = ~(TcpFlag.FIN | TcpFlag.PSH) & 0xFF
_NOT_FIRST = ~TcpFlag.CWR & 0xFF


def segments(frame: Frame, size: int = 0) -> Iterator[Frame]:
    """The frames of at most `size` payload bytes (0: its `segment_size`) that a large one stands for.

    Each has the headers of the large one, with its own IP length, IPv4 id and header checksum, and sequence
    number; FIN and PSH are on the last only, CWR on the first only. Their checksum is `MISSING`: who lets
    them out of our care completes it. Where that of the large frame is wrong, which only an `UNKNOWN` one
    can be, they stay `UNKNOWN` with that wrong field, for the receiver to drop.

    What cannot be cut comes out as it is, `segment_size` included: a frame that is not whole TCP over IP, a
    fragment, a size below `SMALLEST_SEGMENT`."""
    size = size or frame.segment_size
    headers = parse(frame.data)
    if (
        headers is None
        or headers.protocol != _TCP
        or headers.payload == UNKNOWN
        or headers.fragment
        or size < SMALLEST_SEGMENT
    ):
        yield frame
    elif headers.end - headers.payload <= size:
        yield Frame(frame.data, frame.tci, frame.checksum)
    else:
        state = Checksum.MISSING
        if frame.checksum is Checksum.UNKNOWN and not checksum.verify(frame.data):
            state = Checksum.UNKNOWN
        for data in _cut(frame.data, headers, size):
            yield Frame(data, frame.tci, state)


def _cut(data: bytes, headers: Headers, size: int) -> Iterator[bytes]:
    version, network, _, transport, payload, end, _ = headers
    header = bytearray(data[:payload])
    rest = memoryview(data)
    sequence_at, flags_at, length_at = transport + _SEQUENCE, transport + _FLAGS, _LENGTH[version]
    (sequence,) = wire.HOT_U32.unpack_from(data, sequence_at)
    flags = data[flags_at]
    put_u16, put_u32 = wire.HOT_U16.pack_into, wire.HOT_U32.pack_into
    # IPv4 counts its own header in its length, IPv6 only what follows the fixed one
    counted = payload - network - (0 if version == 4 else wire.Ipv6Header.SIZE)
    put_u16(header, length_at, counted + size)
    header[flags_at] = flags & _ONLY_LAST
    identification = without_id = 0
    if version == 4:
        (identification,) = wire.HOT_U16.unpack_from(data, _ID)
        put_u16(header, _ID, 0)
        without_id = checksum.ipv4_header(header[network:transport])
    for begin in range(payload, end, size):
        stop = begin + size
        if stop >= end:
            put_u16(header, length_at, counted + end - begin)
            header[flags_at] = flags if begin == payload else flags & _NOT_FIRST
            stop = end
            if version == 4:
                put_u16(header, _ID, 0)
                without_id = checksum.ipv4_header(header[network:transport])
        if version == 4:
            put_u16(header, _ID, identification)
            put_u16(header, _IPV4_CHECKSUM, (without_id - identification) % 0xFFFF)
            identification = identification + 1 & 0xFFFF
        put_u32(header, sequence_at, sequence)
        yield b"".join((header, rest[begin:stop]))
        header[flags_at] = flags & _ONLY_LAST & _NOT_FIRST
        sequence = sequence + size & 0xFFFFFFFF

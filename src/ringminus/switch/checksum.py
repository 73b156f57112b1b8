"""The Internet checksum (RFC 1071) of IPv4 headers, TCP and UDP.

Sums are taken of little-endian words and modulo 65535, in which swapping the bytes of a word is multiplying
it by 256. So the frame is one number, and a number's remainder is its ones' complement sum."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

from ringminus.switch import wire
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import NETWORK, UNKNOWN, Headers, parse
from ringminus.switch.wire import EtherType, IpProtocol, Ipv4Fragment

_MODULUS = 0xFFFF
_PIECE = 1024  # bytes; for what is not larger, a division in Python is the fastest
_SWAP = 256
_UDP = int(IpProtocol.UDP)
_CHECKSUM_OFFSETS = {
    int(IpProtocol.TCP): wire.TcpHeader.offset_of("checksum"),
    _UDP: wire.UdpHeader.offset_of("checksum"),
}
_UDP_LENGTH = wire.UdpHeader.offset_of("length")
_ADDRESSES = {4: wire.Ipv4Header.offset_of("source"), 6: wire.Ipv6Header.offset_of("source")}
_ADDRESSES_END = {4: wire.Ipv4Header.SIZE, 6: wire.Ipv6Header.SIZE}
_IPV4, _IPV6, _TCP = int(EtherType.IPV4), int(EtherType.IPV6), int(IpProtocol.TCP)
_MORE_OR_OFFSET = Ipv4Fragment.MORE | Ipv4Fragment.OFFSET
_PLAIN_IPV4, _PLAIN_IPV6 = NETWORK + wire.Ipv4Header.SIZE, NETWORK + wire.Ipv6Header.SIZE
_PLAIN_IPV4_ADDRESSES, _PLAIN_IPV6_ADDRESSES = NETWORK + _ADDRESSES[4], NETWORK + _ADDRESSES[6]
_TCP_OFFSET = wire.TcpHeader.offset_of("offset_and_flags")
_TCP_CHECKSUM = wire.TcpHeader.offset_of("checksum")
_IPV4_CHECKSUM = wire.Ipv4Header.offset_of("checksum")


def ones_sum(data: bytes) -> int:
    """The sum of the data's 16-bit words modulo 65535, read little-endian; an odd byte at the end counts as
    if a zero followed."""
    if len(data) <= _PIECE:
        return int.from_bytes(data, "little") % _MODULUS
    return _large_sum()(data)


@cache
def _large_sum() -> Callable[[bytes], int]:
    """Ten times as fast for a large frame where libgmp is, which Debian's and Fedora's coreutils need."""
    import ctypes  # only who meets a larger frame pays for it

    try:
        gmp = ctypes.CDLL("libgmp.so.10")
        limb = ctypes.c_int.in_dll(gmp, "__gmp_bits_per_limb").value // 8
        mod_1 = gmp.__gmpn_mod_1
    except (OSError, ValueError, AttributeError):
        return sum_in_pieces
    if sys.byteorder != "little" or limb != ctypes.sizeof(ctypes.c_ulong):
        return sum_in_pieces
    mod_1.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_ulong)
    mod_1.restype = ctypes.c_ulong

    def by_gmp(data: bytes) -> int:
        limbs, rest = divmod(len(data), limb)
        if not rest:
            return int(mod_1(data, limbs, _MODULUS))
        return int(mod_1(data, limbs, _MODULUS) + int.from_bytes(data[-rest:], "little")) % _MODULUS

    return by_gmp


def sum_in_pieces(data: bytes) -> int:
    """`ones_sum` in Python alone: a division takes longer the larger a number is, an addition hardly does."""
    whole = 0
    for begin in range(0, len(data), _PIECE):
        whole += int.from_bytes(data[begin : begin + _PIECE], "little")
    return whole % _MODULUS


def complete(frame: Frame) -> Frame:
    """A frame whose checksum is right, for one whose checksum is `MISSING`; a large frame stays one. What has
    none that could be computed (not TCP or UDP, a fragment, cut off) is as it is, and `UNKNOWN`."""
    if frame.checksum is not Checksum.MISSING:
        return frame
    data = frame.data
    plain = _complete_plain(data)
    if plain is not None:
        return Frame(plain, frame.tci, Checksum.VALID, frame.segment_size)
    headers = parse(data)
    at = field(headers)
    if headers is None or at == UNKNOWN:
        return Frame(data, frame.tci, Checksum.UNKNOWN, frame.segment_size)
    total = _sum(data, headers)
    if total == UNKNOWN:
        return Frame(data, frame.tci, Checksum.UNKNOWN, frame.segment_size)
    right = (total - int.from_bytes(data[at : at + 2], "little")) % _MODULUS
    # the complement of 0, which is 0xFFFF, is what UDP writes; TCP has 0 for it
    value = _MODULUS - right if headers.protocol == _UDP else -right % _MODULUS
    rest = memoryview(data)
    data = b"".join((rest[:at], value.to_bytes(2, "little"), rest[at + 2 :]))
    return Frame(data, frame.tci, Checksum.VALID, frame.segment_size)


def _complete_plain(data: bytes) -> bytes | None:
    """`complete` for nearly all frames there are, in a third of the time: TCP over IP with no options of
    IP's and nothing behind it. None for others."""
    size = len(data)
    if size < _PLAIN_IPV4:
        return None
    kind, first, length, fragment, protocol = wire.HOT_IPV4.unpack_from(data)
    if kind == _IPV4:
        if first != 0x45 or protocol != _TCP or fragment & _MORE_OR_OFFSET or length != size - NETWORK:
            return None
        addresses, transport = _PLAIN_IPV4_ADDRESSES, _PLAIN_IPV4
    elif kind == _IPV6 and size >= _PLAIN_IPV6:
        first, length, protocol = wire.HOT_IPV6.unpack_from(data)
        if first >> 4 != 6 or protocol != _TCP or length != size - _PLAIN_IPV6:
            return None
        addresses, transport = _PLAIN_IPV6_ADDRESSES, _PLAIN_IPV6
    else:
        return None
    length = size - transport
    if (
        length < wire.TcpHeader.SIZE
        or not wire.TcpHeader.SIZE <= data[transport + _TCP_OFFSET] >> 4 << 2 <= length
    ):
        return None
    at = transport + _TCP_CHECKSUM
    total = ones_sum(data[addresses:]) + (_TCP + length) * _SWAP
    value = (int.from_bytes(data[at : at + 2], "little") - total) % _MODULUS
    return data[:at] + value.to_bytes(2, "little") + data[at + 2 :]


def verify(data: bytes) -> bool | None:
    """Whether the frame's TCP or UDP checksum is right; None if it has none, or it cannot be told from this
    frame alone. The IPv4 header's checksum is not looked at."""
    headers = parse(data)
    at = field(headers)
    if headers is None or at == UNKNOWN:
        return None
    if headers.protocol == _UDP and data[at : at + 2] == b"\0\0":
        return None if headers.version == 4 else False
    total = _sum(data, headers)
    return None if total == UNKNOWN else total == 0


def ipv4_header(header: bytes | bytearray) -> int:
    """The checksum for an IPv4 header with its options, whatever its checksum field holds now."""
    field = header[_IPV4_CHECKSUM : _IPV4_CHECKSUM + 2]
    return (int.from_bytes(field, "big") - int.from_bytes(header, "big")) % _MODULUS


def field(headers: Headers | None) -> int:
    """The offset of the TCP or UDP checksum; `UNKNOWN` if there is none or it covers more than the frame."""
    if headers is None or headers.payload == UNKNOWN or headers.fragment:
        return UNKNOWN
    return headers.transport + _CHECKSUM_OFFSETS[headers.protocol]


def covers_all(data: bytes, headers: Headers) -> bool:
    """Whether the checksum is of all that the IP packet carries; UDP's own length may be less."""
    if headers.protocol != _UDP:
        return True
    (said,) = wire.HOT_U16.unpack_from(data, headers.transport + _UDP_LENGTH)
    return bool(said == headers.end - headers.transport)


def pseudo_header_sum(data: bytes, headers: Headers) -> int:
    """The sum of the pseudo-header of a TCP or UDP packet whose checksum `covers_all`."""
    version, network, protocol, transport, _, end, _ = headers
    addresses = data[network + _ADDRESSES[version] : network + _ADDRESSES_END[version]]
    return (ones_sum(addresses) + (protocol + end - transport) * _SWAP) % _MODULUS


def _sum(data: bytes, headers: Headers) -> int:
    """The sum of a TCP or UDP packet with its pseudo-header, 0 if its checksum is right; `UNKNOWN` for a UDP
    length that cannot be."""
    version, network, protocol, transport, _, end, _ = headers
    length = end - transport
    if protocol == _UDP:
        (said,) = wire.HOT_U16.unpack_from(data, transport + _UDP_LENGTH)
        if not wire.UdpHeader.SIZE <= said <= length:
            return UNKNOWN
        length = said
        end = transport + said
    addresses = network + _ADDRESSES[version]
    addresses_end = network + _ADDRESSES_END[version]
    if addresses_end == transport:
        total = ones_sum(data[addresses:end])
    else:
        total = ones_sum(data[addresses:addresses_end]) + ones_sum(data[transport:end])
    return (total + (protocol + length) * _SWAP) % _MODULUS

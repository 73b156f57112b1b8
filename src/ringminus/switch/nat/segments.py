"""TCP's segments through NAT: large ones towards the guest.

libslirp sends segments as large as its own MTU allows, and the MSS option in the guest's SYN where the host
opens the connection (of others it does not look). So its MTU is large, the option is raised before it sees
it, and what the guest really said is remembered for its connection: the large segments that come are frames
with that as their `segment_size`."""

from __future__ import annotations

from ringminus.switch import wire
from ringminus.switch.checksum import ones_sum
from ringminus.switch.headers import UNKNOWN, parse
from ringminus.switch.wire import EthernetHeader, IpProtocol, TcpFlag, TcpOption

RAISED_MSS = 65535 // 3
"""Payload bytes of the segments that libslirp sends. It has no window scaling; measured with windows of
65,535 bytes, segments that fill one by threes are the best of both: they cost a tenth more than those that
fill it by halves, a fifth of those of 1,460 bytes. With segments of more than half a window it tells the
guest too late that there is room again, which halves what goes to a host's program that reads slowly."""
RAISED_MTU = RAISED_MSS + wire.Ipv6Header.SIZE + wire.TcpHeader.SIZE
"""Bytes of an IP packet: of that MTU libslirp makes such segments. It is for packets to the guests, and for
IPv6 from them."""
CONNECTIONS = 8192
"""Of so many connections the MSS is remembered; the oldest are forgotten."""
DEFAULT_MSS = {4: 536, 6: 1220}
"""What every host takes (RFC 9293, 3.7.1): for a connection whose MSS is not known."""

_MODULUS = 0xFFFF
_ADDRESSES = {
    4: EthernetHeader.SIZE + wire.Ipv4Header.offset_of("source"),
    6: EthernetHeader.SIZE + wire.Ipv6Header.offset_of("source"),
}
_ADDRESS_SIZE = {4: 4, 6: 16}
_PORTS = {4: EthernetHeader.SIZE + wire.Ipv4Header.SIZE, 6: EthernetHeader.SIZE + wire.Ipv6Header.SIZE}
_KEY = {version: slice(_ADDRESSES[version], _PORTS[version] + 4) for version in (4, 6)}
_HEADERS = {version: _PORTS[version] + wire.TcpHeader.SIZE for version in (4, 6)}
_PROTOCOL = {
    4: EthernetHeader.SIZE + wire.Ipv4Header.offset_of("protocol"),
    6: EthernetHeader.SIZE + wire.Ipv6Header.offset_of("next_header"),
}
_TYPE = slice(EthernetHeader.SIZE - 2, EthernetHeader.SIZE)
_FLAGS = wire.TcpHeader.offset_of("offset_and_flags") + 1
_CHECKSUM = wire.TcpHeader.offset_of("checksum")
_URGENT = wire.TcpHeader.offset_of("urgent")
_ACK = int(TcpFlag.ACK)
_MSS_SIZE = 4
_SMALLEST_MSS = 32  # libslirp sends no smaller ones


class Segments:
    """The MSS of the guests' connections, and the frames in which it is said or matters."""

    def __init__(self) -> None:
        self._mss: dict[bytes, int] = {}  # by addresses and ports as they stand in frames to the guest

    def from_guest(self, data: bytes) -> bytes | None:
        """What libslirp gets for a TCP frame with SYN or URG from a guest; None for one that is cut off.

        A SYN has its MSS raised. URG is taken away, and its data stay in line as RFC 6093 asks of receivers:
        libslirp, until 4.9.1, believes a guest's urgent pointer (CVE-2026-9539)."""
        headers = parse(data)
        if headers is None or headers.payload == UNKNOWN:
            return None
        transport, payload = headers.transport, headers.payload
        new = bytearray(data)
        if data[transport + _FLAGS] & TcpFlag.URG:
            new[transport + _FLAGS] &= ~TcpFlag.URG & 0xFF
            new[transport + _URGENT : transport + _URGENT + 2] = b"\0\0"
        if data[transport + _FLAGS] & TcpFlag.SYN:
            self._raise(data, new, headers.version, transport, payload)
        change = ones_sum(bytes(new[transport:payload])) - ones_sum(data[transport:payload])
        field = slice(transport + _CHECKSUM, transport + _CHECKSUM + 2)
        right = (int.from_bytes(data[field], "little") - change) % _MODULUS
        new[field] = right.to_bytes(2, "little")
        return bytes(new)

    def _raise(self, data: bytes, new: bytearray, version: int, transport: int, payload: int) -> None:
        option = _find_mss(data, transport + wire.TcpHeader.SIZE, payload)
        if option == UNKNOWN:
            return
        value = slice(option + 2, option + 4)
        said = max(int.from_bytes(data[value], "big"), _SMALLEST_MSS)
        size, ports = _ADDRESS_SIZE[version], transport
        source = _ADDRESSES[version]
        key = b"".join(
            (
                data[source + size : source + 2 * size],
                data[source : source + size],
                data[ports + 2 : ports + 4],
                data[ports : ports + 2],
            )
        )
        self._mss.pop(key, None)
        self._mss[key] = said
        if len(self._mss) > CONNECTIONS:
            del self._mss[next(iter(self._mss))]
        if said < RAISED_MSS:
            new[value] = RAISED_MSS.to_bytes(2, "big")

    def to_guest(self, data: bytes, version: int) -> int:
        """The `segment_size` of a TCP frame from libslirp, whose frames with data have neither IP nor TCP
        options; 0 where it need not be cut."""
        payload = len(data) - _HEADERS[version]
        if payload <= DEFAULT_MSS[version]:
            return 0
        mss = self._mss.get(data[_KEY[version]]) or DEFAULT_MSS[version]
        return mss if payload > mss else 0


def is_superseded(data: bytes, following: bytes, version: int) -> bool:
    """Whether a TCP frame from libslirp only acknowledges what the next one, with data of the same
    connection, acknowledges too: it looks at its timer for late acknowledgments before its sockets."""
    headers = _HEADERS[version]
    if len(data) != headers or len(following) <= headers or data[_PORTS[version] + _FLAGS] != _ACK:
        return False
    key = _KEY[version]
    return (
        data[key] == following[key]
        and following[_PROTOCOL[version]] == IpProtocol.TCP
        and data[_TYPE] == following[_TYPE]
    )


def _find_mss(data: bytes, begin: int, end: int) -> int:
    """Where among TCP's options the MSS option begins, `UNKNOWN` if there is none."""
    at = begin
    while at + 1 < end:
        kind = data[at]
        if kind == TcpOption.END:
            return UNKNOWN
        if kind == TcpOption.NOP:
            at += 1
            continue
        size = data[at + 1]
        if size < 2 or at + size > end:
            return UNKNOWN
        if kind == TcpOption.MSS:
            return at if size == _MSS_SIZE else UNKNOWN
        at += size
    return UNKNOWN

"""Frames of a recording and of a live guest: whether they say the same, and what of a live guest's words
goes into the recorded answers.

A guest chooses some fields anew each time. What the recorded host gave back as it had come (an id, a port, an
address) it would have given back to the live guest as well: such a field of an answer becomes what the live
guest has said.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from ringminus.machine.replay.compare import Change, layer_changes, layer_name, values_of
from ringminus.protocol import PROTOCOLS, Layer, dissect
from ringminus.protocol.editing import Patch, patch
from ringminus.switch.checksum import ones_sum
from ringminus.switch.headers import NETWORK, UNKNOWN, parse
from ringminus.switch.wire import IpProtocol, Ipv4Header, Ipv6Header, TcpFlag, TcpHeader, UdpHeader

CHOSEN = {
    "ethernet.source": "the host tells the guest its address",
    "arp.sender_address": "the same",
    "dhcp.client_address": "the same",
    "dhcp.transaction_id": "chosen at random",
    "dhcp.seconds": "a time",
    "ipv4.id": "chosen at random, or counted",
    "ipv6.version_class_flow": "the flow is chosen at random",
    "ipv6.flow": "chosen at random",
    "icmp.id": "the number of a process",
    "icmp.sequence": "counted",
    "icmp.payload": "a time is in it",
    "icmpv6.id": "the number of a process",
    "icmpv6.sequence": "counted",
    "icmpv6.payload": "a time is in it",
    "nd_option.payload": "a nonce",
    "udp.source_port": "chosen at random",
    "tcp.source_port": "chosen at random",
    "tcp.sequence": "it begins at a random number",
    "tcp.acknowledgment": "what is acknowledged is looked at by itself",
    "tcp.window": "what is free just now",
    "tcp.options": "a time is in them",
    **dict.fromkeys(
        ("ipv4.checksum", "udp.checksum", "tcp.checksum", "icmp.checksum", "icmpv6.checksum"),
        "it follows from the rest",
    ),
    **dict.fromkeys(("ethernet.rest", "ipv4.padding", "arp.padding", "arp.rest"), "they say nothing"),
}
"""Fields of the guest's frames that are not compared, and why."""

GIVEN_BACK: dict[str, tuple[tuple[str, str], ...]] = {
    "ethernet": (("destination", "source"),),
    "arp": (("target_address", "sender_address"), ("target_ip", "sender_ip")),
    "ipv4": (("destination", "source"),),
    "ipv6": (("destination", "source"),),
    "udp": (("destination_port", "source_port"),),
    "tcp": (("destination_port", "source_port"),),
    "dhcp": (("transaction_id", "transaction_id"), ("client_address", "client_address")),
    "icmp": (("id", "id"), ("sequence", "sequence"), ("payload", "payload")),
    "icmpv6": (("id", "id"), ("sequence", "sequence"), ("payload", "payload")),
}
"""Fields of an answer, and the fields of what it answers that they come from."""
DNS, DNS_ID = 53, 2
MESSAGE_TYPE, PAD, END = 53, 0, 255
"""Of DHCP's options (RFC 2132)."""
DEEPEST = 16
SEQUENCE = 1 << 32
SYN, FIN, RST, ACK = (int(one) for one in (TcpFlag.SYN, TcpFlag.FIN, TcpFlag.RST, TcpFlag.ACK))
TIMESTAMP, TIMESTAMP_SIZE = 8, 10
"""TCP's option (RFC 7323): the sender's time, and the latest of the other side."""
WINDOW_SCALE, WINDOW_SCALE_SIZE, LARGEST_SCALE = 3, 3, 14
"""And that by which windows are larger than said."""

_CHECKSUMS = {
    IpProtocol.TCP: TcpHeader.offset_of("checksum"),
    IpProtocol.UDP: UdpHeader.offset_of("checksum"),
    IpProtocol.ICMP: 2,
    IpProtocol.ICMPV6: 2,
}
_V4_CHECKSUM = NETWORK + Ipv4Header.offset_of("checksum")
_ADDRESSES = {
    4: (NETWORK + Ipv4Header.offset_of("source"), NETWORK + Ipv4Header.SIZE),
    6: (NETWORK + Ipv6Header.offset_of("source"), NETWORK + Ipv6Header.SIZE),
}

_OFFSETS = ("fragment.offset", "offset.offset")


class Segment(NamedTuple):
    """What TCP says in a frame; `size` is what it takes of the sequence numbers. `scale` is the shift of
    later windows, None where it is not said."""

    sequence: int
    acknowledgment: int
    flags: int
    payload: bytes
    window: int = 0xFFFF
    scale: int | None = None

    @property
    def size(self) -> int:
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)

    @property
    def begins(self) -> bool:
        """Whether it asks for a connection."""
        return self.flags & (SYN | ACK) == SYN

    @property
    def acknowledges(self) -> bool:
        """Whether `acknowledgment` says something."""
        return bool(self.flags & ACK)


@dataclass(slots=True)
class Told:
    """A frame that was taken apart: `by` has the first message of each protocol in it, `line` is the same for
    all frames of one exchange, and `kind` for frames that may be compared with each other."""

    data: bytes
    layer: Layer
    by: dict[str, Layer]
    line: Hashable
    kind: Hashable
    segment: Segment | None = None
    plain: Layer | None = None
    """With what is compared, where that is not all of it."""
    _values: tuple[tuple[str, str], ...] | None = None

    @property
    def values(self) -> tuple[tuple[str, str], ...]:
        """What it says, without what a guest chooses anew."""
        if self._values is None:
            self._values = values_of(self.plain or self.layer, CHOSEN)
        return self._values

    @property
    def part(self) -> Hashable:
        """The same for all fragments of a packet; None for a frame that has a whole one."""
        ip = self.by.get("ipv4")
        if ip is not None and (ip.get("fragment.offset") or ip.get("fragment.more")):
            return ip.get("source"), ip.get("destination"), ip.get("id")
        ip = self.by.get("ipv6_fragment")
        return ("ipv6", ip.get("id")) if ip is not None else None

    @property
    def continues(self) -> bool:
        """Whether it is a fragment that is not the first."""
        fragment = self.by.get("ipv4"), self.by.get("ipv6_fragment")
        v4, v6 = (
            one.get(name) if one is not None else 0 for one, name in zip(fragment, _OFFSETS, strict=True)
        )
        return bool(v4 or v6)

    @property
    def name(self) -> str:
        """What it is called."""
        return layer_name(self.layer)

    def differs(self, live: Told) -> tuple[Change, ...]:
        """What the live one says otherwise."""
        return layer_changes(self.plain or self.layer, live.plain or live.layer, CHOSEN)


def told(data: bytes) -> Told:
    """Take a frame apart; raises nothing."""
    layer = inner = dissect(PROTOCOLS["ethernet"], data)
    by = {layer.protocol: layer}
    for _ in range(DEEPEST):
        within = inner.inner
        if not within:
            break
        inner = within[0]
        by.setdefault(inner.protocol, inner)
    ends = _ends(by)
    if "arp" in by:
        arp = by["arp"]
        line: Hashable = ("arp", frozenset((arp.get("sender_ip"), arp.get("target_ip"))))
        return Told(data, layer, by, line, ("arp", arp.message))
    if "dhcp" in by:
        dhcp = by["dhcp"]
        kind = ("dhcp", dhcp.message, _dhcp_type(dhcp.get("options")))
        return Told(data, layer, by, ("dhcp", dhcp.get("transaction_id")), kind)
    for protocol in ("icmp", "icmpv6"):
        if protocol in by:
            return _control_message(data, layer, by, protocol, ends)
    stream = stream_of(data) if "tcp" in by else None
    if stream is not None:
        return Told(data, layer, by, *stream)
    if "udp" in by:
        found = Told(data, layer, by, ("udp", ends), ("udp", by["udp"].get("destination_port")))
        found.plain = _without_dns_id(found)
        return found
    network = by.get("ipv4") or by.get("ipv6")
    number = network.number if network is not None else layer.number
    return Told(data, layer, by, ("other", number, ends), ("other", tuple(by), number))


def _ends(by: dict[str, Layer]) -> frozenset[tuple[object, object]]:
    network, transport = by.get("ipv4") or by.get("ipv6"), by.get("tcp") or by.get("udp")
    return frozenset(
        (
            network.get(side) if network is not None else None,
            transport.get(f"{side}_port") if transport is not None else None,
        )
        for side in ("source", "destination")
    )


def _control_message(data: bytes, layer: Layer, by: dict[str, Layer], protocol: str, ends: Hashable) -> Told:
    message = by[protocol]
    kind = (protocol, message.message)
    if message.message.startswith("ECHO"):
        return Told(data, layer, by, (protocol, ends, message.get("id")), kind)
    if message.message.startswith("NEIGHBOR"):
        return Told(data, layer, by, (protocol, message.get("target")), kind)
    if message.message.startswith("ROUTER"):
        return Told(data, layer, by, (protocol, "router"), kind)
    return Told(data, layer, by, (protocol, message.message, ends), kind)


def stream_of(data: bytes) -> tuple[Hashable, Hashable, Segment] | None:
    """Of a TCP segment the `line` and the `kind`, and what it says: as `told`, in a tenth of the time."""
    headers = parse(data)
    if headers is None or headers.protocol != IpProtocol.TCP or headers.payload == UNKNOWN:
        return None
    header = TcpHeader.unpack(data, headers.transport)
    begin, end = _ADDRESSES[headers.version]
    half = (begin + end) // 2
    ports = header.source_port, header.destination_port
    ends = frozenset(((data[begin:half], ports[0]), (data[half:end], ports[1])))
    payload = data[headers.payload : headers.end]
    flags = header.offset_and_flags & 0xFF
    options = data[headers.transport + TcpHeader.SIZE : headers.payload]
    at = _option(options, WINDOW_SCALE, WINDOW_SCALE_SIZE) if flags & SYN else None
    scale = None if at is None else min(options[at + 2], LARGEST_SCALE)
    segment = Segment(header.sequence, header.acknowledgment, flags, payload, header.window, scale)
    return ("tcp", ends), ("tcp", ports[1]), segment


def _dhcp_type(options: object) -> int:
    data = options if isinstance(options, bytes) else b""
    position = 0
    while position + 2 < len(data) and data[position] != END:
        if data[position] == PAD:
            position += 1
        elif data[position] == MESSAGE_TYPE:
            return data[position + 2]
        else:
            position += 2 + data[position + 1]
    return 0


# ------------------------------------------------------------ answers


def likeness(answer: Told, asked: Told) -> int:
    """How much of what an answer gives back is from there."""
    pairs = _pairs(answer, asked)
    return sum(before is not None and before == given for _, _, given, before in pairs) + (
        _dns_id(answer) is not None and _dns_id(answer) == _dns_id(asked)
    )


def _pairs(answer: Told, asked: Told) -> list[tuple[str, tuple[str, str], object, object]]:
    return [
        (protocol, pair, answer.by[protocol].get(pair[0]), asked.by[protocol].get(pair[1]))
        for protocol, pairs in GIVEN_BACK.items()
        if protocol in answer.by and protocol in asked.by
        for pair in pairs
    ]


def carried(answer: Told, asked: Told, live: Told, moved: int = 0) -> tuple[bytes, list[str]]:
    """The frame with which the recorded host would have answered the live guest, and the names of the fields
    that are the live guest's. `moved` is by how much its TCP sequence numbers are higher."""
    patches: list[tuple[str, Patch]] = []
    for protocol, (field, source), given, before in _pairs(answer, asked):
        now = live.by[protocol].get(source) if protocol in live.by else None
        if given is not None and given == before and now is not None and now != before:
            _add(patches, answer.by[protocol], protocol, field, now)
    number, now_number = _dns_id(asked), _dns_id(live)
    if number is not None and now_number is not None and number == _dns_id(answer) != now_number:
        payload = answer.by["udp"].get("payload")
        assert isinstance(payload, bytes)
        _add(patches, answer.by["udp"], "udp", "payload", now_number + payload[DNS_ID:], "dns.id")
    if answer.segment is not None and moved:
        acknowledgment = (answer.segment.acknowledgment + moved) % SEQUENCE
        _add(patches, answer.by["tcp"], "tcp", "acknowledgment", acknowledgment)
    if answer.segment is not None:
        _carry_time(patches, answer, asked, live)
    data = bytearray(answer.data)
    for _, (offset, size, new) in patches:
        data[offset : offset + size] = new
    return summed_up(answer.data, bytes(data)), [name for name, _ in patches]


def _add(
    patches: list[tuple[str, Patch]], layer: Layer, protocol: str, field: str, value: object, name: str = ""
) -> None:
    try:
        made = patch(layer, field, value)
    except ValueError:
        return  # it has another size there
    if len(made.data) == made.size:
        patches.append((name or f"{protocol}.{field}", made))


def _dns_id(frame: Told) -> bytes | None:
    udp = frame.by.get("udp")
    if udp is None or DNS not in (udp.get("source_port"), udp.get("destination_port")):
        return None
    payload = udp.get("payload")
    return payload[:DNS_ID] if isinstance(payload, bytes) and len(payload) >= DNS_ID else None


def _without_dns_id(frame: Told) -> Layer | None:
    """The number of a question is chosen at random."""
    number = _dns_id(frame)
    if number is None:
        return None
    offset = next(one.offset for one in frame.by["udp"].values if one.name == "payload")
    data = frame.data[:offset] + bytes(DNS_ID) + frame.data[offset + DNS_ID :]
    return dissect(PROTOCOLS["ethernet"], data)


def _carry_time(patches: list[tuple[str, Patch]], answer: Told, asked: Told, live: Told) -> None:
    """TCP gives back the other side's latest time, which a live guest's clock tells."""
    here, before, now = (_time_at(one) for one in (answer, asked, live))
    if here is None or before is None or now is None:
        return
    options = answer.by["tcp"].get("options")
    assert isinstance(options, bytes)
    echoed = int.from_bytes(options[here + 6 : here + 10], "big")
    moved = _time(live, now) - _time(asked, before)
    if moved and echoed:
        new = ((echoed + moved) % SEQUENCE).to_bytes(4, "big")
        changed = options[: here + 6] + new + options[here + 10 :]
        _add(patches, answer.by["tcp"], "tcp", "options", changed)


def _time(frame: Told, at: int) -> int:
    options = frame.by["tcp"].get("options")
    return int.from_bytes(options[at + 2 : at + 6], "big") if isinstance(options, bytes) else 0


def _time_at(frame: Told) -> int | None:
    """Where the option is among the others."""
    options = frame.by["tcp"].get("options") if "tcp" in frame.by else None
    return _option(options, TIMESTAMP, TIMESTAMP_SIZE) if isinstance(options, bytes) else None


def _option(options: bytes, kind: int, size: int) -> int | None:
    """Where an option of TCP's is, if it is there whole."""
    position = 0
    while position + 1 < len(options) and options[position]:
        if options[position] == 1:
            position += 1
        elif options[position] == kind:
            return position if position + size <= len(options) else None
        else:
            position += max(options[position + 1], 2)
    return None


def summed_up(before: bytes, after: bytes) -> bytes:
    """`after`, which was `before`, with checksums that are as right as they were, also in fragments."""
    headers = parse(after)
    if before == after or headers is None:
        return after
    data = bytearray(after)
    network, end = headers.network, headers.end
    if headers.version == 4:
        header = slice(network, min(network + (data[network] & 15) * 4, end))
        _follow(data, _V4_CHECKSUM, [(before[header], after[header])])
    at = _CHECKSUMS.get(headers.protocol)  # type: ignore[call-overload]
    if headers.transport == UNKNOWN or at is None or headers.transport + at + 2 > end:
        return bytes(data)
    at += headers.transport
    is_udp = headers.protocol == IpProtocol.UDP
    if is_udp and before[at : at + 2] == b"\0\0":
        return bytes(data)  # it has none
    spans = [slice(headers.transport, end)]
    if headers.protocol != IpProtocol.ICMP:
        spans.append(slice(*_ADDRESSES[headers.version]))
    _follow(data, at, [(before[span], after[span]) for span in spans])
    if is_udp and data[at : at + 2] == b"\0\0":
        data[at : at + 2] = b"\xff\xff"
    return bytes(data)


def _follow(data: bytearray, at: int, changes: list[tuple[bytes, bytes]]) -> None:
    """A checksum at `at` of what has changed so (RFC 1624); the sums of little-endian words are modulo 65535,
    see `switch.checksum`."""
    change = sum(ones_sum(before) - ones_sum(after) for before, after in changes)
    if change % 0xFFFF:
        value = (int.from_bytes(data[at : at + 2], "little") + change) % 0xFFFF
        data[at : at + 2] = value.to_bytes(2, "little")

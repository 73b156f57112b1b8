"""Receive side scaling: which of its channels a guest gets a frame on.

A frame's addresses and ports are hashed with a key of the guest's (Toeplitz); the low bits of that choose an
entry of the indirection table, which is a channel's number. Source: Microsoft's "RSS Hashing Functions" and
"RSS Hashing Types"."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ringminus.devices.network.ndis_wire import (
    HASH_FUNCTION_MASK,
    HASH_FUNCTION_TOEPLITZ,
    HASH_KEY_SIZE,
    HOT_FLOW4,
    HOT_FLOW6,
    LARGEST_INDIRECTION_TABLE,
    RSS_CAPABILITIES_SIZES,
    RSS_PARAMETERS_SIZES,
    SMALLEST_INDIRECTION_TABLE,
    TABLE_ENTRY,
    HashType,
    ObjectHeader,
    ObjectType,
    RssCapabilities,
    RssCapability,
    RssFlag,
    RssParameters,
)
from ringminus.devices.network.objects import Refused, asked_revision, read_structure
from ringminus.devices.network.rndis_wire import Status
from ringminus.switch import headers
from ringminus.switch.wire import EtherType, IpProtocol, Ipv4Fragment, Ipv4Header, Ipv6Header

LONGEST_INPUT = 36
"""Bytes that are hashed at most: two IPv6 addresses and two ports."""
_REMEMBERED = 4096  # flows whose hash is kept
_PORTS_SIZE = 4
_TCP, _UDP = int(IpProtocol.TCP), int(IpProtocol.UDP)
_IPV4, _IPV6 = int(EtherType.IPV4), int(EtherType.IPV6)
_PLAIN_IPV4 = 4 << 4 | Ipv4Header.SIZE // 4
_PART = int(Ipv4Fragment.MORE | Ipv4Fragment.OFFSET)
_ADDRESSES4 = slice(headers.NETWORK + Ipv4Header.offset_of("source"), headers.NETWORK + Ipv4Header.SIZE)
_ADDRESSES6 = slice(headers.NETWORK + Ipv6Header.offset_of("source"), headers.NETWORK + Ipv6Header.SIZE)
_EVERY_TYPE = sum(HashType)


@lru_cache(maxsize=8)
def _tables(key: bytes) -> tuple[tuple[int, ...], ...]:
    """What each byte of the input adds to the hash, by its place and its value."""
    bits, width = int.from_bytes(key, "big"), 8 * len(key)
    tables = []
    for place in range(min(LONGEST_INPUT, len(key) - 4)):
        table = [0]
        for bit in range(7, -1, -1):
            window = bits >> width - 32 - 8 * place - bit & 0xFFFF_FFFF
            table += [value ^ window for value in table]
        tables.append(tuple(table))
    return tuple(tables)


class ReceiveSideScaling:
    """RSS in force. `key` has 40 bytes, `types` are `HashType`, `table` has a power of two of entries."""

    def __init__(self, key: bytes, types: int, table: tuple[int, ...]) -> None:
        self.key = key
        self.types = types
        self.table = table
        self._mask = len(table) - 1
        self._tables = _tables(key)
        self._remembered: dict[bytes, int] = {}
        self._with_ports4 = _by_protocol(types, HashType.TCP_IPV4, HashType.UDP_IPV4)
        self._with_ports6 = _by_protocol(
            types,
            HashType.TCP_IPV6 | HashType.TCP_IPV6_EX,
            HashType.UDP_IPV6 | HashType.UDP_IPV6_EX,
        )
        self._addresses4 = int(types & HashType.IPV4)
        self._addresses6 = _lowest(types & (HashType.IPV6 | HashType.IPV6_EX))

    def queue(self, data: bytes) -> int:
        """The number of the channel for a frame; 0, the primary one, for what is not hashed."""
        value, kind = self.hash(data)
        return self.table[value & self._mask] if kind else 0

    def hash(self, data: bytes) -> tuple[int, int]:
        """A frame's hash and the one `HashType` that it is of; the type is 0 for a frame that none of the
        guest's types covers."""
        if len(data) >= HOT_FLOW4.size:
            kind, first, fragment, protocol, flow = HOT_FLOW4.unpack_from(data)
            if kind == _IPV4:
                if first == _PLAIN_IPV4 and not fragment & _PART and protocol in self._with_ports4:
                    return self._value(flow), self._with_ports4[protocol]
            elif kind == _IPV6 and len(data) >= HOT_FLOW6.size:
                _, first, protocol, flow = HOT_FLOW6.unpack_from(data)
                if first >> 4 == 6 and protocol in self._with_ports6:
                    return self._value(flow), self._with_ports6[protocol]
        return self._hash_other(data)

    def _hash_other(self, data: bytes) -> tuple[int, int]:
        """Frames with IP options or extension headers, fragments, and what is neither TCP nor UDP."""
        found = headers.parse(data)
        if found is None:
            return 0, 0
        if found.version == 4:
            flow, without, with_ports = data[_ADDRESSES4], self._addresses4, self._with_ports4
        else:
            flow, without, with_ports = data[_ADDRESSES6], self._addresses6, self._with_ports6
        if not found.fragment and found.payload != headers.UNKNOWN and found.protocol in with_ports:
            ports = data[found.transport : found.transport + _PORTS_SIZE]
            return self._value(flow + ports), with_ports[found.protocol]
        return (self._value(flow), without) if without else (0, 0)

    def _value(self, flow: bytes) -> int:
        value = self._remembered.get(flow)
        if value is None:
            value = 0
            for table, byte in zip(self._tables, flow, strict=False):
                value ^= table[byte]
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[flow] = value
        return value


def _lowest(types: int) -> int:
    return int(types & -types)


def _by_protocol(types: int, tcp: int, udp: int) -> dict[int, int]:
    """The hash type of packets of a protocol, for those whose ports are hashed."""
    found = {_TCP: _lowest(types & tcp), _UDP: _lowest(types & udp)}
    return {protocol: kind for protocol, kind in found.items() if kind}


class RssSettings:
    """What the guest has set of RSS, for `queues` channels; `active` is what is in force of it."""

    def __init__(self, queues: int) -> None:
        self.queues = queues
        self.reset()

    def reset(self) -> None:
        """As before the guest set anything."""
        self.active: ReceiveSideScaling | None = None
        self._key = b""
        self._hash_info = 0
        self._table: tuple[int, ...] = ()
        self._base_cpu = 0

    def capabilities(self, info: bytes) -> bytes:
        """NDIS_RECEIVE_SCALE_CAPABILITIES, in the revision that `info` asks for."""
        kind = ObjectType.RSS_CAPABILITIES
        revision = asked_revision(info, kind, RSS_CAPABILITIES_SIZES, 2)
        size = RSS_CAPABILITIES_SIZES[revision]
        found = RssCapabilities(
            header=ObjectHeader(type=kind, revision=revision, size=size),
            cap_flag=HASH_FUNCTION_TOEPLITZ | sum(RssCapability),
            num_int_msg=self.queues,
            num_recv_que=self.queues,
            num_indirect_tabent=LARGEST_INDIRECTION_TABLE,
        )
        return found.pack()[:size]

    def set(self, info: bytes) -> None:
        """Take over NDIS_RECEIVE_SCALE_PARAMETERS, all of it or nothing; raises `Refused`."""
        asked = read_structure(RssParameters, info, RSS_PARAMETERS_SIZES[1])
        function = asked.hashinfo & HASH_FUNCTION_MASK
        hash_info, key, table = self._hash_info, self._key, self._table
        base_cpu = self._base_cpu
        if not asked.flag & RssFlag.BASE_CPU_UNCHANGED:
            base_cpu = asked.base_cpu_number
        if asked.flag & RssFlag.DISABLE_RSS or not (function or asked.flag & RssFlag.HASH_INFO_UNCHANGED):
            self.active = None
            return
        if not asked.flag & RssFlag.HASH_INFO_UNCHANGED:
            hash_info = _check_hash_info(asked.hashinfo)
        if not asked.flag & RssFlag.HASH_KEY_UNCHANGED:
            key = _read_key(asked, info)
        if not asked.flag & RssFlag.ITABLE_UNCHANGED:
            table = self._read_table(asked, info)
        if not (hash_info and key and table):
            raise Refused(Status.INVALID_DATA, "what is to stay unchanged was never set")
        self._hash_info, self._key, self._table, self._base_cpu = hash_info, key, table, base_cpu
        self._activate()

    def _activate(self) -> None:
        types = self._hash_info & ~HASH_FUNCTION_MASK
        self.active = ReceiveSideScaling(self._key, types, self._table)

    def _read_table(self, asked: RssParameters, info: bytes) -> tuple[int, ...]:
        size = asked.indirect_tabsize
        count = size // TABLE_ENTRY.size
        if (
            size % TABLE_ENTRY.size
            or count & count - 1
            or not SMALLEST_INDIRECTION_TABLE <= count <= LARGEST_INDIRECTION_TABLE
        ):
            raise Refused(Status.INVALID_DATA, f"an indirection table of {size} bytes")
        raw = _part(info, asked.indirect_taboffset, size, "indirection table")
        table = tuple(entry for (entry,) in TABLE_ENTRY.iter_unpack(raw))
        if max(table) >= self.queues:
            raise Refused(
                Status.INVALID_DATA, f"channel {max(table)} of {self.queues} in an indirection table"
            )
        return table

    def parameters(self) -> bytes:
        """The answer to a query of GEN_RECEIVE_SCALE_PARAMETERS."""
        table = b"".join(TABLE_ENTRY.pack(entry) for entry in self._table)
        fixed = RssParameters.SIZE
        found = RssParameters(
            header=ObjectHeader(type=ObjectType.RSS_PARAMETERS, revision=2, size=fixed),
            flag=0 if self.active else RssFlag.DISABLE_RSS,
            base_cpu_number=self._base_cpu,
            hashinfo=self._hash_info,
            indirect_tabsize=len(table),
            indirect_taboffset=fixed,
            hashkey_size=len(self._key),
            hashkey_offset=fixed + len(table),
        )
        return found.pack() + table + self._key

    def save(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "active": self.active is not None,
            "key": self._key,
            "hash_info": self._hash_info,
            "table": list(self._table),
            "base_cpu": self._base_cpu,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """What `save` gave."""
        self.reset()
        self._key, self._hash_info = state["key"], state["hash_info"]
        self._table, self._base_cpu = tuple(state["table"]), state["base_cpu"]
        if state["active"]:
            self._activate()


def _check_hash_info(info: int) -> int:
    if info & HASH_FUNCTION_MASK != HASH_FUNCTION_TOEPLITZ:
        raise Refused(Status.NOT_SUPPORTED, f"hash function {info & HASH_FUNCTION_MASK:#x}")
    if info & ~(HASH_FUNCTION_MASK | _EVERY_TYPE):
        raise Refused(Status.NOT_SUPPORTED, f"hash types {info & ~HASH_FUNCTION_MASK:#x}")
    return info


def _read_key(asked: RssParameters, info: bytes) -> bytes:
    if asked.hashkey_size != HASH_KEY_SIZE:
        raise Refused(Status.INVALID_DATA, f"a hash key of {asked.hashkey_size} bytes, not {HASH_KEY_SIZE}")
    return _part(info, asked.hashkey_offset, HASH_KEY_SIZE, "hash key")


def _part(info: bytes, offset: int, size: int, what: str) -> bytes:
    if offset + size > len(info):
        raise Refused(Status.INVALID_LENGTH, f"the {what} ends at {offset + size} of {len(info)} bytes")
    return info[offset : offset + size]

"""Events as the blocks of one section of a capture file."""

from __future__ import annotations

import platform
import time
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import msgspec

from ringminus import __version__
from ringminus.lens import record
from ringminus.lens.capture.levels import ABOUT, SEVERAL, Level, direction_of, level_of
from ringminus.lens.capture.pcapng_wire import (
    AFTER_PACKET,
    ALIGNMENT,
    AROUND_PACKET,
    BEFORE_PACKET,
    MOST_CAPTURED,
    MOST_IN_BLOCK,
    NANOSECONDS,
    BlockHeader,
    BlockType,
    Custom,
    Direction,
    Interface,
    Kind,
    Option,
    OptionHeader,
    Packet,
    PacketHeader,
    SectionHeader,
    Statistics,
)
from ringminus.tap import EVENTS, ChannelState, Event, NetworkFrame

APPLICATION = f"ringminus {__version__}"
SCHEMA_CRC = zlib.crc32(record.schema())
CUSTOM_SIZE = BlockHeader.SIZE + Custom.SIZE + 8
"""Bytes of a custom block beside what is in it, at most."""
STATISTICS_SIZE = 80
"""Bytes of the block that `end` writes for an interface, at most."""
ADDRESSES = 12
"""Bytes of a frame before its 802.1Q tag."""
VLAN = b"\x81\x00"
_LONGEST = 0xFFFC  # bytes of an option
_CUSTOM = Custom().pack()
_PACKET, _FLAGS, _PACKET_ID = int(BlockType.PACKET), int(Option.FLAGS), int(Option.PACKET_ID)
_PREFIXES = tuple(PacketHeader(direction=one, schema=SCHEMA_CRC).pack() for one in Direction)


def block(kind: BlockType, body: bytes) -> bytes:
    """A block around its body, which is padded."""
    body += bytes(-len(body) % ALIGNMENT)
    length = BlockHeader.SIZE + len(body) + 4
    header = BlockHeader(type=kind, length=length).pack()
    return header + body + header[4:]


def option(code: Option, value: bytes | str | int) -> bytes:
    """An option; a number has 64 bits, text that is too long is cut."""
    if isinstance(value, int):
        value = value.to_bytes(8, "little")
    data = (value.encode(errors="replace") if isinstance(value, str) else value)[:_LONGEST]
    return OptionHeader(code=code, length=len(data)).pack() + data + bytes(-len(data) % ALIGNMENT)


END = option(Option.END, b"")


def packet(interface: int, now: int, data: bytes, direction: int, sequence: int) -> bytes:
    """A packet's block; `now` is in ns since 1970."""
    size = len(data)
    total = size + (-size & 3) + AROUND_PACKET
    before = BEFORE_PACKET.pack(_PACKET, total, interface, now >> 32, now & 0xFFFFFFFF, size, size)
    after = AFTER_PACKET[size & 3].pack(_FLAGS, 4, direction, _PACKET_ID, 8, sequence, 0, total)
    return before + data + after


class Recipe(NamedTuple):
    """How events of a type are written: `key` tells their interfaces apart if they have several. `encode` has
    a function for each direction; those that are `directed` tell theirs, else all have `direction`. `special`
    ones need more than that."""

    key: Callable[[Any], Hashable] | None
    directed: bool
    direction: int
    encode: tuple[Callable[[Event], bytes], ...]
    special: bool


def _recipe(kind: type[Event]) -> Recipe:
    directed = any(one.name == "to_guest" for one in fields(kind))
    key = SEVERAL[kind][0] if kind in SEVERAL else None
    encode = tuple(record.encoder(kind, prefix) for prefix in _PREFIXES)
    return Recipe(key, directed, direction_of(kind), encode, kind in (NetworkFrame, ChannelState))


_RECIPES = {kind: _recipe(kind) for kind in EVENTS}


class Section:
    """Blocks of events, kept until `take`. A section begins with what is to be known of the file, and with
    the states of `channels`, by relid, in which new ones are kept. `size` is that of the blocks that are
    kept, `events` counts those of the section, `lost` those that are too large for any file."""

    def __init__(self, partition: str, channels: dict[int, ChannelState]) -> None:
        self.size = self.lost = self.events = 0
        self._out: list[bytes] = []
        self._untaken = 0
        self._channels = channels
        self._interfaces: dict[Hashable, int] = {}
        self._received: list[int] = []
        self._started = time.time_ns()
        self._begin(partition)
        for channel in channels.values():
            self._describe(SEVERAL[ChannelState][0](channel), channel)

    def take(self) -> tuple[bytes, int]:
        """The blocks since the last time, and how many events they hold."""
        data, events = b"".join(self._out), self._untaken
        self._out.clear()
        self.size = self._untaken = 0
        return data, events

    def add(self, events: Sequence[Event], room: int) -> int:
        """Write events, as long as they and `end` fit into `room` bytes; gives how many were dealt with."""
        out, interfaces, received, recipes = self._out, self._interfaces, self._received, _RECIPES
        dealt, lost, most = 0, self.lost, room - STATISTICS_SIZE * len(self._received)
        for event in events:
            kind = type(event)
            key_of, directed, direction, encode, special = recipes[kind]
            key: Any = kind if key_of is None else key_of(event)
            number = interfaces.get(key)
            known = len(received)
            if number is None:
                number = self._describe(key, event)
                most = room - STATISTICS_SIZE * len(received)
            if directed:
                direction = 2 if event.to_guest else 1
            data = encode[direction](event)
            size = len(data)
            if special or size > MOST_CAPTURED:
                made = self._special(number, event, data, direction)
            else:
                total = size + (-size & 3) + AROUND_PACKET
                now = event.host_ns
                made = (
                    BEFORE_PACKET.pack(_PACKET, total, number, now >> 32, now & 0xFFFFFFFF, size, size)
                    + data
                    + AFTER_PACKET[size & 3].pack(
                        _FLAGS, 4, direction, _PACKET_ID, 8, event.sequence, 0, total
                    )
                )
            if self.size + len(made) > most:
                if len(received) > known:
                    self._forget(number)
                break
            dealt += 1
            if made:
                out.append(made)
                self.size += len(made)
                received[number] += 1
        written = dealt - (self.lost - lost)
        self._untaken += written
        self.events += written
        return dealt

    def end(self, lost: int) -> None:
        """The last blocks; `lost` counts events that were not written."""
        now = time.time_ns()
        for number, received in enumerate(self._received):
            body = Statistics(interface=number, time_high=now >> 32, time_low=now & 0xFFFFFFFF).pack()
            for code, at in ((Option.START_TIME, self._started), (Option.END_TIME, now)):
                halves = (at >> 32).to_bytes(4, "little") + (at & 0xFFFFFFFF).to_bytes(4, "little")
                body += option(code, halves)
            body += option(Option.RECEIVED, received)
            if not number:
                body += option(Option.DROPPED, lost)
            self._append(block(BlockType.STATISTICS, body + END))

    # ------------------------------------------------------------ blocks

    def _append(self, made: bytes) -> None:
        self._out.append(made)
        self.size += len(made)

    def _begin(self, partition: str) -> None:
        system = platform.uname()
        body = SectionHeader().pack()
        body += option(Option.HARDWARE, f"Hyper-V guest on {system.machine}")
        body += option(Option.OS, f"{system.system} {system.release}")
        body += option(Option.APPLICATION, APPLICATION)
        self._append(block(BlockType.SECTION_HEADER, body + END))
        schema = msgspec.msgpack.decode(record.schema())
        about = {"application": APPLICATION, "partition": partition, "schema": schema}
        number = self._interface(ABOUT, ABOUT)
        header = PacketHeader(kind=Kind.ABOUT, schema=SCHEMA_CRC).pack()
        data = header + msgspec.msgpack.encode(about)
        self._append(packet(number, self._started, data, Direction.NONE, 0))

    def _interface(self, key: Hashable, level: Level, more: bytes = b"") -> int:
        body = Interface(link_type=level.link_type).pack()
        body += option(Option.INTERFACE_NAME, level.name)
        body += option(Option.INTERFACE_DESCRIPTION, level.description)
        body += option(Option.TIME_RESOLUTION, bytes((NANOSECONDS,))) + more
        self._append(block(BlockType.INTERFACE, body + END))
        number = self._interfaces[key] = len(self._received)
        self._received.append(0)
        return number

    def _describe(self, key: Hashable, event: Event) -> int:
        """The interface of an event whose key is new; that of a channel has its state."""
        level = level_of(event)
        if isinstance(event, ChannelState):
            more = option(Option.CUSTOM_BYTES, _CUSTOM + _PREFIXES[0] + record.encode(event))
            return self._interface(key, level, more)
        same = self._interfaces.get(level)
        if same is None:
            same = self._interface(level, level)
        self._interfaces[key] = same
        return same

    def _forget(self, number: int) -> None:
        """The latest interface has no room."""
        self.size -= len(self._out.pop())
        self._received.pop()
        for key in [key for key, one in self._interfaces.items() if one == number]:
            del self._interfaces[key]

    def _special(self, number: int, event: Event, data: bytes, direction: int) -> bytes:
        """What is more than a packet with a record. What has room nowhere is counted as lost."""
        made = b""
        if isinstance(event, ChannelState):
            self._channels[event.relid] = event
            made = packet(number, event.host_ns, data, direction, event.sequence)
        elif isinstance(event, NetworkFrame):
            made = self._frame(number, event, direction)
        elif len(data) - MOST_CAPTURED <= MOST_IN_BLOCK - CUSTOM_SIZE:
            made = self._large(number, event, data, direction)
        self.lost += not made
        return made

    def _large(self, number: int, event: Event, data: bytes, direction: int) -> bytes:
        """More than Wireshark takes as a packet: the rest is in a block of ours."""
        made = packet(number, event.host_ns, data[:MOST_CAPTURED], direction, event.sequence)
        header = Packet.unpack(made, BlockHeader.SIZE)
        header.original_length = len(data)
        made = made[: BlockHeader.SIZE] + header.pack() + made[BEFORE_PACKET.size :]
        return made + block(BlockType.CUSTOM, _CUSTOM + data[MOST_CAPTURED:])

    def _frame(self, number: int, frame: NetworkFrame, direction: int) -> bytes:
        """The frame as it is on a wire, with its tag; what else the event has is an option of ours."""
        data = frame.data
        if frame.tci is not None:
            data = data[:ADDRESSES] + VLAN + frame.tci.to_bytes(2, "big") + data[ADDRESSES:]
        if len(data) > MOST_CAPTURED:
            return b""
        event = _PREFIXES[direction] + record.encode(replace(frame, data=b""))
        made = packet(number, frame.host_ns, data, direction, frame.sequence)
        more = option(Option.CUSTOM_BYTES, _CUSTOM + event)
        total = (len(made) + len(more)).to_bytes(4, "little")
        return made[:4] + total + made[8 : -len(END) - 4] + more + END + total

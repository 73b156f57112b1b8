"""One section of a capture file, read: its interfaces, its schema, its events."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ringminus.errors import HostError
from ringminus.lens import record
from ringminus.lens.capture import pcapng_wire
from ringminus.lens.capture.pcapng_wire import (
    ALIGNMENT,
    CUSTOM_MAGIC,
    FORMAT_VERSION,
    PRIVATE_ENTERPRISE,
    BlockType,
    Custom,
    Direction,
    Interface,
    Kind,
    LinkType,
    Option,
    OptionHeader,
    Packet,
    PacketHeader,
)
from ringminus.lens.capture.section import ADDRESSES, SCHEMA_CRC
from ringminus.tap import ChannelState, Event, NetworkFrame
from ringminus.wire import ShortBuffer

PACKET, INTERFACE, STATISTICS, CUSTOM = (
    *(int(BlockType.PACKET), int(BlockType.INTERFACE)),
    *(int(BlockType.STATISTICS), int(BlockType.CUSTOM)),
)
_EVENTS, _EVENT = int(LinkType.EVENTS), int(Kind.EVENT)
_TAG_SIZE = 4
_UNITS = 10**9


class Described(NamedTuple):
    """An interface; a packet's time is in units of `resolution` a second."""

    link_type: int
    name: str
    resolution: int


class About(msgspec.Struct):
    """What `Kind.ABOUT` tells."""

    partition: str
    schema: msgspec.Raw


class SectionReader:
    """Takes the blocks of a section. `partition` is the guest's name, `ended` that its writer has ended it;
    `lost` counts events that are missing or could not be read. `states` has the numbers of the states of
    channels that have been given, in this section or an earlier one."""

    def __init__(self, states: set[int]) -> None:
        self.partition = ""
        self.lost = 0
        self.ended = False
        self._states = states
        self._interfaces: list[Described] = []
        self._known = False
        self._readers: dict[int, record.Reader] = {SCHEMA_CRC: record.Reader()}
        self._cut: tuple[bytes, int] | None = None

    @property
    def ours(self) -> bool:
        """Whether there is an interface for events."""
        return any(one.link_type == LinkType.EVENTS for one in self._interfaces)

    def take(self, kind: int, body: memoryview) -> Event | None:
        """A block; gives the event that it brings. Raises `ShortBuffer` for one that is damaged, and
        `HostError` for a file that cannot be read at all."""
        if kind == PACKET:
            return self._packet(body)
        if kind == INTERFACE:
            return self._interface(body)
        if kind == CUSTOM:
            return self._rest(body)
        if kind == STATISTICS:
            self._statistics(body)
        return None

    # ------------------------------------------------------------ blocks

    def _interface(self, body: memoryview) -> Event | None:
        header = Interface.unpack(body)
        name, resolution, state = "", 10**6, None
        for code, value in options(body[Interface.SIZE :]):
            if code == Option.INTERFACE_NAME:
                name = str(value, "utf-8", "replace")
            elif code == Option.TIME_RESOLUTION and len(value) == 1:
                resolution = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == Option.CUSTOM_BYTES:
                state = self._custom(value)
        self._interfaces.append(Described(header.link_type, name, resolution))
        return state if isinstance(state, ChannelState) and self._is_new(state) else None

    def _is_new(self, state: ChannelState) -> bool:
        """A state is told twice: as an event, and where a file's interfaces are described."""
        new = state.sequence not in self._states
        self._states.add(state.sequence)
        return new

    def _packet(self, body: memoryview) -> Event | None:
        if len(body) < Packet.SIZE:
            raise ShortBuffer("a packet without its header")
        number, high, low, captured, original = pcapng_wire.PACKET.unpack_from(body)
        end = Packet.SIZE + captured
        if end > len(body) or number >= len(self._interfaces):
            raise ShortBuffer("a packet that is larger than its block, or on no interface")
        interface, data = self._interfaces[number], body[Packet.SIZE : end]
        if self._cut is not None:
            self._cut = None
            self.lost += 1
        if interface.link_type == _EVENTS:
            if original > captured:
                self._cut = bytes(data), original
                return None
            event = self._event(data)
            return event if type(event) is not ChannelState or self._is_new(event) else None
        if interface.link_type == LinkType.ETHERNET:
            now = (high << 32 | low) * _UNITS // interface.resolution
            return self._frame(interface, now, data, body[end + (-captured % ALIGNMENT) :])
        return None

    def _rest(self, body: memoryview) -> Event | None:
        """What was too large for a packet goes on in a block of ours."""
        if self._cut is None or not _is_ours(body):
            return None
        begin, size = self._cut
        data = begin + body[Custom.SIZE :]
        if len(data) < size:
            return None
        self._cut = None
        return self._event(memoryview(data)[:size])

    def _statistics(self, body: memoryview) -> None:
        self.ended = True
        for code, value in options(body[Packet.offset_of("captured_length") :]):
            if code == Option.DROPPED and len(value) == 8:
                self.lost += int.from_bytes(value, "little")

    # ------------------------------------------------------------ what is ours in it

    def _custom(self, value: memoryview) -> Event | None:
        return self._event(value[Custom.SIZE :]) if _is_ours(value) else None

    def _event(self, data: memoryview) -> Event | None:
        if len(data) < PacketHeader.SIZE:
            raise ShortBuffer("a packet of ours without its header")
        version, kind, _direction, _reserved, crc = pcapng_wire.PACKET_HEADER.unpack_from(data)
        if version != FORMAT_VERSION:
            raise HostError(
                f"this capture has format {version}, and this ringminus reads {FORMAT_VERSION}: "
                "read it with the ringminus that wrote it"
            )
        rest = data[PacketHeader.SIZE :]
        if kind != _EVENT:
            if kind == Kind.ABOUT:
                self._about(rest, crc)
            return None
        reader = self._readers.get(crc)
        if reader is None:
            raise HostError(
                "the capture's first packet is missing, which says what its events are made of, and another "
                "version of ringminus wrote it: read it with that, or keep the packet when you cut the file"
            )
        try:
            return reader.decode(rest)
        except record.BadRecord:
            self.lost += 1
            return None

    def _about(self, data: memoryview, crc: int) -> None:
        try:
            about = msgspec.msgpack.decode(data, type=About)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HostError(f"the capture's first packet cannot be read: {error}") from None
        schema = bytes(about.schema)
        self.partition = about.partition
        if zlib.crc32(schema) == crc and crc not in self._readers:
            self._readers[crc] = record.Reader(schema)

    def _frame(
        self, interface: Described, now: int, data: memoryview, more: memoryview
    ) -> NetworkFrame | None:
        """With the option of ours it is its event; without (a tool has dropped it) what else is known."""
        flags, sequence = 0, 0
        for code, value in options(more):
            if code == Option.CUSTOM_BYTES:
                event = self._custom(value)
                if isinstance(event, NetworkFrame):
                    at = len(data) if event.tci is None else min(ADDRESSES, max(len(data) - _TAG_SIZE, 0))
                    event.data = bytes(data[:at]) + bytes(data[at + _TAG_SIZE :])
                    return event
            elif code == Option.FLAGS and len(value) == 4:
                flags = int.from_bytes(value, "little")
            elif code == Option.PACKET_ID and len(value) == 8:
                sequence = int.from_bytes(value, "little")
        if not self.ours:
            return None
        to_guest = flags & 3 == Direction.TO_GUEST
        frame = NetworkFrame(0, 0, interface.name, to_guest, bytes(data), None, "UNKNOWN", 0)
        frame.sequence, frame.host_ns = sequence, now
        return frame


def options(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Codes and values, up to the end of options, or of what is whole."""
    position = 0
    while position + OptionHeader.SIZE <= len(data):
        header = OptionHeader.unpack(data, position)
        if header.code == Option.END:
            return
        begin = position + OptionHeader.SIZE
        if begin + header.length > len(data):
            return
        yield header.code, data[begin : begin + header.length]
        position = begin + header.length + -header.length % ALIGNMENT


def _is_ours(data: memoryview) -> bool:
    if len(data) < Custom.SIZE:
        return False
    header = Custom.unpack(data)
    return header.enterprise == PRIVATE_ENTERPRISE and header.magic == CUSTOM_MAGIC

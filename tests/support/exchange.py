"""A device for tests: it exchanges packets of every kind with the guest program `uio_ring` (in
tests/guest/programs), and both verify all contents. It is offered with `--device PATH:Exchange`, so it knows
of ringminus only what a device has to know."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from uuid import UUID

from ringminus.errors import GuestError
from ringminus.vmbus.device import Channel, Device, Packet
from ringminus.vmbus.gpa import GpaRange
from ringminus.vmbus.wire import PacketType
from ringminus.wire import U32, U64, Struct

PATTERN = 65521
WINDOW = 64  # packets that may be unanswered
SECTION = 1 << 15  # of the receive buffer, one for each of them
PAGESET = 0xCAFE


class Operation(IntEnum):
    """What the guest asks for; see exchange.h."""

    HELLO = 1
    ECHO = 2
    SUM = 3
    FILL = 4
    SEND = 5
    ASK = 6
    TRANSFER = 7
    TRANSFER_OUT = 8
    NOTHING = 9


class Request(Struct):
    """The head of every payload."""

    operation: U32
    length: U32
    seed: U64
    count: U32
    smallest: U32
    largest: U32
    spare: U32


def _pattern() -> bytes:
    state, made = 88172645463325252, bytearray()
    for _ in range(PATTERN):
        state ^= state << 13 & (1 << 64) - 1
        state ^= state >> 7
        state ^= state << 17 & (1 << 64) - 1
        made.append(state >> 32 & 0xFF)
    made[0] |= 1
    return bytes(made)


TWICE = _pattern() * 2
MIXED, WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


def content(seed: int, length: int) -> bytes:
    """`length` bytes that belong to `seed`, as the guest makes them."""
    start = ((seed * MIXED & WORD) >> 32) % PATTERN
    one = TWICE[start : start + PATTERN]
    return one[:length] if length <= PATTERN else (one * (length // PATTERN + 1))[:length]


def size_between(seed: int, smallest: int, largest: int) -> int:
    """The length that belongs to `seed`."""
    return smallest + ((seed * MIXED & WORD) >> 40) % (largest - smallest + 1)


class Broken(GuestError):
    """The guest sent what it should not."""


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(8, "little")


class Exchange(Device):
    """See above. `verified` counts the bytes whose contents were looked at."""

    interface = UUID("6d9a6f1e-2f0e-4c55-9d43-0f6a3f9b1c01")
    monitored = True

    def __init__(self, instance: UUID | None = None) -> None:
        super().__init__(instance)
        self.verified = 0
        self._receive: Sequence[GpaRange] = ()
        self._send: Sequence[GpaRange] = ()
        self._stream: Stream | None = None

    def opened(self, channel: Channel) -> None:
        if not channel.index:
            self._receive = self._send = ()
            self._stream = None

    def packet(self, channel: Channel, packet: Packet) -> None:
        request = Request.unpack(packet.payload)
        match packet.kind, request.operation:
            case PacketType.DATA_INBAND, Operation.HELLO:
                if not channel.index:
                    self._receive = channel.gpadl(request.count)
                    self._send = channel.gpadl(request.smallest)
                answer = channel.version.to_bytes(8, "little")
            case PacketType.DATA_INBAND, Operation.ECHO:
                answer = bytes(packet.payload)
                self._verify(answer[Request.SIZE :][: request.length], request)
            case PacketType.DATA_USING_GPA_DIRECT, Operation.SUM:
                answer = _sum(self._verify(_gather(channel, packet.ranges), request))
            case PacketType.DATA_USING_GPA_DIRECT, Operation.FILL:
                _scatter(channel, packet.ranges, content(request.seed, request.length))
                answer = b""
            case PacketType.DATA_USING_XFER_PAGES, Operation.TRANSFER_OUT:
                pieces = [_piece(channel, self._send, *one) for one in packet.transfer]
                answer = _sum(self._verify(b"".join(pieces), request))
            case PacketType.DATA_INBAND, Operation.SEND | Operation.ASK | Operation.TRANSFER:
                self._stream = Stream(channel, request, packet.transaction_id, self._receive)
                self._stream.go_on()
                return
            case PacketType.DATA_INBAND, Operation.NOTHING:
                return
            case kind, operation:
                raise Broken(f"operation {operation} in a packet of type {kind}")
        channel.complete(packet.transaction_id, answer)

    def completion(self, channel: Channel, transaction_id: int, payload: memoryview) -> None:
        if self._stream is None:
            raise Broken(f"a completion of {transaction_id:#x}, which was not asked for")
        self._stream.answered(transaction_id, bytes(payload))

    def closed(self, channel: Channel) -> None:
        self._stream = None

    def _verify(self, data: bytes, request: Request) -> bytes:
        if data != content(request.seed, request.length):
            raise Broken(f"{len(data)} bytes are not the contents of {request.seed}")
        self.verified += len(data)
        return data


class Other(Exchange):
    """Another one on the same bus."""


class Stream:
    """Packets of ours that the guest asked for; at most WINDOW of them wait for their answers."""

    def __init__(
        self, channel: Channel, request: Request, transaction_id: int, buffer: Sequence[GpaRange]
    ) -> None:
        self._channel, self._request, self._id, self._buffer = channel, request, transaction_id, buffer
        self._numbers = iter(range(request.count))
        self._free = list(range(WINDOW))
        self._sums: dict[int, tuple[int, bytes]] = {}
        self._done = False

    def go_on(self) -> None:
        """Send what may be sent; complete the request when all is answered."""
        send: Callable[[int, bytes], None] = {
            Operation.SEND: self._plain,
            Operation.ASK: self._asking,
            Operation.TRANSFER: self._transfer,
        }[Operation(self._request.operation)]
        while self._free and (number := next(self._numbers, None)) is not None:
            seed = self._request.seed + number
            length = size_between(seed, self._request.smallest, self._request.largest)
            send(number, content(seed, length))
        if not self._sums and not self._done and next(self._numbers, None) is None:
            self._done = True
            self._channel.complete(self._id)

    def answered(self, number: int, payload: bytes) -> None:
        """The guest has checked a packet."""
        section, expected = self._sums.pop(number, (-1, b""))
        if section < 0 or payload != expected:
            raise Broken(f"the answer to packet {number} is {payload.hex()}, not {expected.hex()}")
        self._free.append(section)
        self.go_on()

    def _plain(self, number: int, data: bytes) -> None:
        self._channel.send(data, number)

    def _asking(self, number: int, data: bytes) -> None:
        self._sums[number] = self._free.pop(), _sum(data)
        self._channel.send(data, number, wants_completion=True)

    def _transfer(self, number: int, data: bytes) -> None:
        section = self._free.pop(0)
        self._sums[number] = section, _sum(data)
        # the parts lie in the section from its end on, with gaps between them
        ranges, position, end = [], 0, (section + 1) * SECTION
        for length in _parts(len(data), number % 3 + 1):
            end -= length
            _put(self._channel, self._buffer, end, data[position : position + length])
            ranges.append((length, end))
            position, end = position + length, end - (SECTION - len(data)) // 3
        self._channel.send_transfer(PAGESET, ranges, b"", number)


def _parts(length: int, pieces: int) -> Iterable[int]:
    for index in range(pieces):
        yield length * (index + 1) // pieces - length * index // pieces


def _gather(channel: Channel, ranges: Sequence[GpaRange]) -> bytes:
    return b"".join(view for one in ranges for view in one.views(channel.memory))


def _scatter(channel: Channel, ranges: Sequence[GpaRange], data: bytes) -> None:
    position = 0
    for one in ranges:
        for view in one.views(channel.memory):
            view[:] = data[position : position + len(view)]
            position += len(view)
        one.written(channel.memory)


def _piece(channel: Channel, buffer: Sequence[GpaRange], length: int, offset: int) -> bytes:
    if not buffer:
        raise Broken("a transfer before the buffers are known")
    return b"".join(buffer[0].views(channel.memory, offset, length))


def _put(channel: Channel, buffer: Sequence[GpaRange], offset: int, data: bytes) -> None:
    if not buffer:
        raise Broken("a transfer before the buffers are known")
    position = 0
    for view in buffer[0].views(channel.memory, offset, len(data)):
        view[:] = data[position : position + len(view)]
        position += len(view)

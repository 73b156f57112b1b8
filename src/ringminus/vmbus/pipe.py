"""Pipes: channels whose packets are framed messages (vmbuspiper; Linux's `vmbuspipe_hdr`).

Each packet begins with its type and the number of bytes that follow. In message mode a message may come in
several packets, of which all but the last are partial; in byte mode packets are pieces of a stream, and a
piece without bytes is its end.
"""

from __future__ import annotations

from enum import IntEnum

from ringminus.errors import GuestError
from ringminus.vmbus.device import Channel, Device, Packet
from ringminus.vmbus.ring_wire import PipeHeader
from ringminus.vmbus.wire import PipeMode

LARGEST = 16384  # bytes of a message, and of a piece of a stream


class PipePacket(IntEnum):
    """Types of a framed packet."""

    DATA = 1
    PARTIAL = 2


class PipeError(GuestError):
    """The guest's framing cannot be."""


class PipeReader:
    """Takes packets, gives messages (or pieces); sans-I/O."""

    def __init__(self, mode: PipeMode) -> None:
        self._mode = mode
        self._partial = b""

    def receive(self, payload: memoryview) -> bytes | None:
        """The message that this packet completes, None for a partial one; raises `PipeError`."""
        if len(payload) < PipeHeader.SIZE:
            raise PipeError(f"a pipe packet of {len(payload)} bytes")
        header = PipeHeader.unpack(payload)
        end = PipeHeader.SIZE + header.msgsize
        if header.msgsize > LARGEST or end > len(payload):
            raise PipeError(f"{header.msgsize} bytes in a pipe packet of {len(payload)}")
        data = bytes(payload[PipeHeader.SIZE : end])
        partial = header.flags == PipePacket.PARTIAL and self._mode is PipeMode.MESSAGE
        if header.flags != PipePacket.DATA and not partial:
            raise PipeError(f"a pipe packet of type {header.flags}")
        message = self._partial + data
        if len(message) > LARGEST:
            raise PipeError(f"a message of more than {LARGEST} bytes")
        self._partial = message if partial else b""
        return None if partial else message


def frame(data: bytes, mode: PipeMode) -> list[bytes]:
    """Payloads of packets that carry `data`: one for a message, as many as it takes for a stream."""
    if mode is PipeMode.MESSAGE and len(data) > LARGEST:
        raise ValueError(f"a message has {LARGEST} bytes at most, not {len(data)}")
    pieces = [data[start : start + LARGEST] for start in range(0, len(data), LARGEST)] or [b""]
    return [PipeHeader(flags=PipePacket.DATA, msgsize=len(piece)).pack() + piece for piece in pieces]


class PipeDevice(Device):
    """A device whose channel is a pipe: `message` in, `send_message` out."""

    pipe_mode = PipeMode.MESSAGE

    def opened(self, channel: Channel) -> None:
        self._reader = PipeReader(self._mode)

    @property
    def _mode(self) -> PipeMode:
        return PipeMode.MESSAGE if self.pipe_mode is None else self.pipe_mode

    def packet(self, channel: Channel, packet: Packet) -> None:
        message = self._reader.receive(packet.payload)
        if packet.wants_completion:
            channel.complete(packet.transaction_id)
        if message is not None:
            self.message(channel, message)

    def message(self, channel: Channel, data: bytes) -> None:
        """A message, or in byte mode a piece of the stream, which ends with an empty one."""

    def send_message(self, channel: Channel, data: bytes) -> None:
        """Send a message, or a piece of the stream of any length."""
        for payload in frame(data, self._mode):
            channel.send(payload)

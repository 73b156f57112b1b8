"""Packets of gdb's remote protocol, sans-I/O: bytes in, packets and interrupts out.

Source: "Overview" of the remote protocol in gdb's manual. A packet is `$payload#cs`, where cs is the sum of
the payload's bytes; in the payload `}` escapes a byte and `*` repeats one. Each packet is acknowledged with
`+` or asked for again with `-`, until both sides agree to leave that out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

# what one side may send in a packet; longer ones are answered with an error
LONGEST = 0x8000
INTERRUPT_BYTE = 0x03
START, END, ESCAPE, REPEAT, ACK, NACK = b"$#}*+-"
ESCAPED = bytes((START, END, ESCAPE, REPEAT))
ESCAPE_XOR = 0x20
REPEAT_BIAS = 29


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that arrived whole; `payload` is without escapes and repetitions."""

    payload: bytes


class Signal(enum.Enum):
    """What arrives beside packets."""

    INTERRUPT = enum.auto()
    """Ctrl-C in gdb."""
    TOO_LONG = enum.auto()
    """A packet longer than `LONGEST`, which was dropped."""


Event = Packet | Signal


def checksum(body: bytes) -> int:
    """The sum of a packet's bytes as they are sent."""
    return sum(body) & 0xFF


def escape(payload: bytes) -> bytes:
    """A payload as it may stand in a packet."""
    if not any(byte in payload for byte in ESCAPED):
        return payload
    body = bytearray()
    for byte in payload:
        if byte in ESCAPED:
            body += bytes((ESCAPE, byte ^ ESCAPE_XOR))
        else:
            body.append(byte)
    return bytes(body)


def expand(body: bytes) -> bytes | None:
    """The payload of a packet's body, without its escapes and repetitions; None where they make no sense."""
    payload = bytearray()
    position = 0
    while position < len(body):
        byte = body[position]
        position += 1
        if byte in (ESCAPE, REPEAT):
            if position == len(body):
                return None
            following = body[position]
            position += 1
            if byte == ESCAPE:
                payload.append(following ^ ESCAPE_XOR)
            elif not payload or following <= REPEAT_BIAS or len(payload) > LONGEST:
                return None
            else:
                payload += bytes((payload[-1],)) * (following - REPEAT_BIAS)
        else:
            payload.append(byte)
    return bytes(payload)


class PacketStream:
    """Our side of a connection. `receive` gives what has arrived; `take` gives what is to be sent."""

    def __init__(self) -> None:
        self.acknowledged = True
        self._input = bytearray()
        self._output = bytearray()
        self._last = b""  # the packet that may be asked for again
        self._dropping = False

    def send(self, payload: bytes) -> None:
        """Queue a packet."""
        body = escape(payload)
        self._last = b"$%b#%02x" % (body, checksum(body))
        self._output += self._last

    def take(self) -> bytes:
        """What is to be sent now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def leave_out_acknowledgements(self) -> None:
        """The line is reliable: from the next packet on neither side acknowledges."""
        self.acknowledged = False

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the line; gives the events that are complete now."""
        self._input += data
        events: list[Event] = []
        while self._input:
            if self._input[0] == START or self._dropping:
                if not self._packet(events):
                    break
            else:
                self._between(self._input.pop(0), events)
        return events

    def _between(self, byte: int, events: list[Event]) -> None:
        """A byte outside of packets; what is unknown there is noise."""
        if byte == INTERRUPT_BYTE:
            events.append(Signal.INTERRUPT)
        elif byte == NACK and self.acknowledged:
            self._output += self._last

    def _packet(self, events: list[Event]) -> bool:
        """Take a packet from the input; False while its end is missing."""
        end = self._input.find(END)
        # a second beginning means that the rest of the first was lost
        again = -1 if self._dropping else self._input.rfind(START, 1, end if end >= 0 else None)
        if again > 0:
            del self._input[:again]
            return True
        if end < 0 or len(self._input) < end + 3:
            if len(self._input) > LONGEST:
                self._dropping = True
                del self._input[: -2 if end < 0 else end]
            return False
        body, told = bytes(self._input[1:end]), bytes(self._input[end + 1 : end + 3])
        del self._input[: end + 3]
        if self._dropping or len(body) > LONGEST:
            self._dropping = False
            events.append(Signal.TOO_LONG)
            self._acknowledge(ACK)
            return True
        payload = expand(body) if told.lower() == b"%02x" % checksum(body) else None
        self._acknowledge(NACK if payload is None else ACK)
        if payload is not None:
            events.append(Packet(payload))
        return True

    def _acknowledge(self, byte: int) -> None:
        if self.acknowledged:
            self._output.append(byte)

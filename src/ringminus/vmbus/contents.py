"""What guest memory holds that packets name, while somebody keeps it: see `events.RingPacket.data`."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from ringminus.errors import GuestError
from ringminus.memory import GuestMemory
from ringminus.tap import RingPacket
from ringminus.vmbus.device import Packet
from ringminus.vmbus.gpa import GpaRange

MOST = 4 << 20
"""Bytes that are kept of a packet; storage moves up to 1 MiB."""


class Contents:
    """One channel's. `asked` are requests that are not answered yet: the memory that they name, and a digest
    of what it held when they came, by their ids."""

    def __init__(self, memory: GuestMemory) -> None:
        self.asked: dict[int, tuple[Sequence[GpaRange], bytes | None]] = {}
        self._memory = memory

    def ask(self, event: RingPacket, packet: Packet, brings: bool) -> None:
        """A packet with ranges came from the guest."""
        if brings:
            event.data = self._read(packet.ranges)
        if event.wants_completion:
            digest = blake2b(event.data).digest() if brings else None
            self.asked[event.transaction_id] = packet.ranges, digest

    def answer(self, event: RingPacket) -> None:
        """A completion goes to the guest."""
        ranges, before = self.asked.pop(event.transaction_id, ((), None))
        data = self._read(ranges) if ranges else b""
        if before is None or blake2b(data).digest() != before:
            event.data = data

    def _read(self, ranges: Sequence[GpaRange]) -> bytes:
        """As much as there is: a guest may name what is no RAM."""
        parts, room = [], MOST
        try:
            for one in ranges:
                for gpa, size in one.extents(0, min(one.byte_count, room)):
                    parts.append(self._memory.read(gpa, size))
                    room -= size
        except GuestError:
            pass
        return b"".join(parts)

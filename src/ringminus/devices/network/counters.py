"""What passed an adapter."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class AdapterCounters:
    """Seen from the guest: `sent` is what it sent. A large frame counts once. Each frame that does not arrive
    is in one of the `dropped` reasons, by name: `sending` are frames of the guest, `receiving` frames for
    it."""

    sent_frames: int = 0
    sent_bytes: int = 0
    received_frames: int = 0
    received_bytes: int = 0
    refused_by_guest: int = 0
    """Packets that the guest completed with another status than success."""
    receive_slots: int = 0
    """Sub-allocations of the guest's receive buffer; `receive_slots_used` of them are on their way."""
    receive_slots_used: int = 0
    queued_frames: int = 0
    """Frames for the guest that wait for a sub-allocation, and their bytes."""
    queued_bytes: int = 0
    waiting_packets: int = 0
    """Packets of the guest that wait for the port."""
    sending_dropped: dict[str, int] = field(default_factory=dict)
    receiving_dropped: dict[str, int] = field(default_factory=dict)

    def drop_sent(self, reason: str, frames: int = 1) -> None:
        """Count frames of the guest that go no further."""
        self.sending_dropped[reason] = self.sending_dropped.get(reason, 0) + frames

    def drop_received(self, reason: str, frames: int = 1) -> None:
        """Count frames that do not reach the guest."""
        self.receiving_dropped[reason] = self.receiving_dropped.get(reason, 0) + frames

"""A processor that takes interrupts when a test says so."""

from __future__ import annotations


class Target:
    """What an APIC needs of a processor; `offer` is the vector on offer."""

    def __init__(self) -> None:
        self.offer: int | None = None

    def request_interrupt(self, vector: int) -> None:
        self.offer = vector

    def cancel_interrupt(self) -> None:
        self.offer = None

    def interrupt_requested(self) -> bool:
        return self.offer is not None

    def take(self) -> int | None:
        taken, self.offer = self.offer, None
        return taken

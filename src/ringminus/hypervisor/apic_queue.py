"""The interrupts of one processor: requested, in service, and which one is offered next.

IRR, ISR and TMR are integers of 256 bits. Acceptance is lazy: the most urgent vector is offered to the
processor, which takes it by itself when RFLAGS.IF allows; that it did is learnt when `interrupt_requested`
turns False, at the next call that needs to know (`sync`). Only then its bit moves from IRR to ISR, or, for
an auto-EOI vector, just goes away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

_BITS = tuple(1 << vector for vector in range(256))


class InterruptTarget(Protocol):
    """What an APIC needs of `cpu.engine.Processor`."""

    def request_interrupt(self, vector: int) -> None: ...

    def cancel_interrupt(self) -> None: ...

    def interrupt_requested(self) -> bool: ...


class InterruptQueue:
    """IRR, ISR, TMR and TPR, and the rule of priorities.

    `on_eoi` functions are called with the vector of every EOI that ended an interrupt. This is the hot part
    of a local APIC.
    """

    __slots__ = (
        "_auto",
        "_is_requested",
        "_offered",
        "_request",
        "_target",
        "irr",
        "isr",
        "on_eoi",
        "tmr",
        "tpr",
    )

    def __init__(self, target: InterruptTarget) -> None:
        self.on_eoi: list[Callable[[int], None]] = []
        self._target = target
        self._request = target.request_interrupt
        self._is_requested = target.interrupt_requested
        self._offered = -1
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        if self._offered >= 0:
            self._target.cancel_interrupt()
        self._offered = -1
        self.irr = self.isr = self.tmr = self._auto = self.tpr = 0

    def add(self, vector: int, auto_eoi: bool, level: bool) -> None:
        """Request a vector; one that is requested already is not requested twice."""
        if self._offered >= 0:
            self.sync()
        bit = _BITS[vector]
        self.irr |= bit
        if auto_eoi:
            self._auto |= bit
        elif self._auto:
            self._auto &= ~bit
        if level:
            self.tmr |= bit
        elif self.tmr:
            self.tmr &= ~bit
        self._offer()

    def sync(self) -> None:
        """Learn whether the offered vector was taken, and offer the next one."""
        vector = self._offered
        if vector < 0 or self._is_requested():
            return
        self._offered = -1
        bit = _BITS[vector]
        self.irr ^= bit
        if self._auto & bit:
            self._auto ^= bit
        else:
            self.isr |= bit
        if self.irr:
            self._offer()

    def eoi(self) -> None:
        """End of the interrupt in service with the highest priority; nothing when there is none."""
        if self._offered >= 0:
            self.sync()
        isr = self.isr
        if not isr:
            return
        vector = isr.bit_length() - 1
        self.isr = isr ^ _BITS[vector]
        for tell in self.on_eoi:
            tell(vector)
        if self.irr:
            self._offer()

    def _offer(self) -> None:
        """Offer the most urgent vector if its class is above the processor's priority."""
        vector = self.irr.bit_length() - 1
        served = self.isr.bit_length() - 1
        if vector >> 4 > (served if served > self.tpr else self.tpr) >> 4:
            if vector != self._offered:
                self._offered = vector
                self._request(vector)
        elif self._offered >= 0:
            self._offered = -1
            self._target.cancel_interrupt()

    def has_pending(self) -> bool:
        """Whether a vector waits that the processor's priority allows; it wakes a halted processor."""
        self.sync()
        return self._offered >= 0

    @property
    def ppr(self) -> int:
        """Processor priority."""
        self.sync()
        served = max(self.isr.bit_length() - 1, 0)
        return self.tpr if self.tpr >> 4 >= served >> 4 else served & 0xF0

    def set_tpr(self, value: int) -> None:
        """Set the task priority, 8 bits."""
        self.sync()
        self.tpr = value & 0xFF
        self._offer()

    def save_queue(self) -> dict[str, Any]:
        """Plain data."""
        self.sync()
        return {"irr": self.irr, "isr": self.isr, "tmr": self.tmr, "auto": self._auto, "tpr": self.tpr}

    def restore_queue(self, state: dict[str, Any]) -> None:
        """The state that `save_queue` gave."""
        self.clear()
        self._target.cancel_interrupt()
        self.irr = state["irr"]
        self.isr = state["isr"]
        self.tmr = state["tmr"]
        self._auto = state["auto"]
        self.tpr = state["tpr"]
        self._offer()

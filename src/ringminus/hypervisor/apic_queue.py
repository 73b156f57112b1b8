"""The interrupts of one processor: requested, in service, and which one is offered next.

IRR, ISR and TMR are integers of 256 bits. Acceptance is lazy: the most urgent vector is offered to the
processor, which takes it by itself when RFLAGS.IF allows; that it did is learnt when `interrupt_requested`
turns False, at the next call that needs to know (`sync`). Only then its bit moves from IRR to ISR, or, for
an auto-EOI vector, just goes away.

A guest with a VP assist page need not exit to end an interrupt behind which nothing waits: the page's first
bit says so, and the guest clears it in place of its EOI (TLFS, virtual-interrupt-controller: "EOI assist").
That it did is learnt in the same lazy way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ringminus.hypervisor.overlay import Overlay

_BITS = tuple(1 << vector for vector in range(256))
NO_EOI_REQUIRED = 1  # in a VP assist page's first word


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
        "_assist",
        "_auto",
        "_is_requested",
        "_lazy",
        "_offered",
        "_request",
        "_target",
        "_word",
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
        self._offered = self._lazy = -1
        self._assist: Overlay | None = None
        self._word: memoryview | None = None  # while the assist page is shown
        self.clear()

    def set_assist(self, page: Overlay) -> None:
        """The guest's VP assist page; to be told before and after each time that it is moved."""
        self._settle()
        self._assist, self._word = page, page.view

    def clear(self) -> None:
        """Forget everything."""
        self._settle()
        if self._offered >= 0:
            self._target.cancel_interrupt()
        self._offered = -1
        self.irr = self.isr = self.tmr = self._auto = self.tpr = 0

    def add(self, vector: int, auto_eoi: bool, level: bool) -> None:
        """Request a vector; one that is requested already is not requested twice."""
        if self._offered >= 0:
            if vector == self._offered == self._lazy and not (level or auto_eoi) and self._is_requested():
                return
            self.sync()
        if self._lazy >= 0:
            self._settle()
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
        if vector >= 0 and not self._is_requested():
            self._offered = -1
            bit = _BITS[vector]
            self.irr ^= bit
            if self._auto & bit:
                self._auto ^= bit
            else:
                self.isr |= bit
            if self.irr:
                self._offer()
        if self._lazy >= 0 > self._offered and self._word is not None and not self._word[0] & NO_EOI_REQUIRED:
            self._settle()  # it was ended

    def eoi(self) -> None:
        """End of the interrupt in service with the highest priority; nothing when there is none."""
        if self._offered >= 0:
            self.sync()
        if self._lazy >= 0 > self._offered:
            self._settle()
        isr = self.isr
        if isr:
            self._end(isr)

    def _end(self, isr: int) -> None:
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
                if self._word is not None:
                    self._allow(vector, self._word)
        elif self._offered >= 0:
            self._settle()
            self._offered = -1
            self._target.cancel_interrupt()

    def _allow(self, vector: int, word: memoryview) -> None:
        """Let the guest end what it is offered without an exit, if nothing else is to be ended or waits."""
        bit = _BITS[vector]
        if not (self.isr or self.irr ^ bit or (self.tmr | self._auto) & bit):
            self._lazy = vector
            self._say(word, word[0] | NO_EOI_REQUIRED)

    def _say(self, word: memoryview, value: int) -> None:
        word[0] = value
        if self._assist is not None:
            self._assist.touched(0, 1)

    def _settle(self) -> None:
        """End what the guest ended without an exit; from now on it has to exit."""
        lazy, self._lazy = self._lazy, -1
        if lazy < 0 or self._word is None:
            return
        if self._word[0] & NO_EOI_REQUIRED:
            self._say(self._word, self._word[0] ^ NO_EOI_REQUIRED)
        elif self._offered < 0:
            self._end(_BITS[lazy])

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
        self._settle()
        return {"irr": self.irr, "isr": self.isr, "tmr": self.tmr, "auto": self._auto, "tpr": self.tpr}

    def restore_queue(self, state: dict[str, Any]) -> None:
        """The state that `save_queue` gave; then `set_assist` has to be called."""
        self._lazy, self._assist, self._word = -1, None, None
        self.clear()
        self._target.cancel_interrupt()
        self.irr = state["irr"]
        self.isr = state["isr"]
        self.tmr = state["tmr"]
        self._auto = state["auto"]
        self.tpr = state["tpr"]
        self._offer()

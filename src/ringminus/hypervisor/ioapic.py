"""The I/O APIC: 24 pins, each turned into an interrupt message by its redirection entry.

Source: Intel 82093AA datasheet; version 0x20 adds the EOI register (Intel ICH datasheets).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringminus.hypervisor.apic_registers import (
    DESTINATION_ALL,
    REDIRECTION_WRITABLE,
    XAPIC_DESTINATION_ALL,
    DeliveryMode,
    IoApicRegister,
    IoApicWindow,
    Redirection,
)

IOAPIC_BASE = 0xFEC00000
IOAPIC_MMIO_SIZE = 0x1000
PINS = 24
VERSION = (PINS - 1) << 16 | 0x20

Deliver = Callable[[int, int, int, bool, bool], None]
"""`deliver(destination, vector, delivery_mode, level, logical)`; a broadcast is 0xffffffff."""

_U32 = 0xFFFFFFFF


class IoApic:
    """`deliver` gets each interrupt message. Lines are given as asserted or not, whatever their polarity.

    A level-triggered pin sends one message and waits (remote IRR) for the EOI of its vector, then sends
    again if the line is still asserted. A masked pin remembers its line; an edge while masked is lost, as
    in the real one.
    """

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self.reset()

    def reset(self) -> None:
        """As after power-on: all pins masked; the lines are the devices' and stay low until they say."""
        self._select = 0
        self._id = 0
        self._entries = [int(Redirection.MASKED)] * PINS
        self._lines = 0
        self._waiting = 0  # pins with remote IRR, so that most EOIs cost one test

    def set_irq(self, pin: int, level: bool) -> None:
        """Assert or deassert a pin's line."""
        bit = 1 << pin
        if not level:
            self._lines &= ~bit
        elif not self._lines & bit:
            self._lines |= bit
            self._send(pin)

    def pulse(self, pin: int) -> None:
        """An edge."""
        self.set_irq(pin, True)
        self.set_irq(pin, False)

    def _send(self, pin: int) -> None:
        """Send the message of an asserted pin, unless it is masked or waits for its EOI."""
        entry = self._entries[pin]
        if entry & (Redirection.MASKED | Redirection.REMOTE_IRR):
            return
        mode = entry >> 8 & 7
        level = bool(entry & Redirection.LEVEL) and mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)
        if level:
            self._entries[pin] = entry | Redirection.REMOTE_IRR
            self._waiting |= 1 << pin
        destination = entry >> 56
        if destination == XAPIC_DESTINATION_ALL:
            destination = DESTINATION_ALL
        self._deliver(destination, entry & 0xFF, mode, level, bool(entry & Redirection.LOGICAL))

    def eoi(self, vector: int) -> None:
        """The interrupt of that vector was ended at a local APIC, or by the EOI register."""
        if not self._waiting:
            return
        for pin in range(PINS):
            if self._waiting >> pin & 1 and self._entries[pin] & 0xFF == vector:
                self._stop_waiting(pin)
                if self._lines >> pin & 1:
                    self._send(pin)

    def _stop_waiting(self, pin: int) -> None:
        self._waiting &= ~(1 << pin)
        self._entries[pin] &= ~Redirection.REMOTE_IRR

    def mmio_read(self, offset: int, size: int) -> int:
        """A read in the I/O APIC's page."""
        if offset == IoApicWindow.SELECT:
            value = self._select
        elif offset == IoApicWindow.DATA:
            value = self._read(self._select)
        else:
            value = 0
        return value & (1 << 8 * size) - 1

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """A write in the I/O APIC's page; the data window takes 4 bytes only."""
        if offset == IoApicWindow.SELECT:
            self._select = value & 0xFF
        elif offset == IoApicWindow.DATA and size == 4:
            self._write(self._select, value & _U32)
        elif offset == IoApicWindow.EOI:
            self.eoi(value & 0xFF)

    def _read(self, register: int) -> int:
        if register in (IoApicRegister.ID, IoApicRegister.ARBITRATION):
            return self._id
        if register == IoApicRegister.VERSION:
            return VERSION
        pin, high = divmod(register - IoApicRegister.REDIRECTION, 2)
        if 0 <= pin < PINS:
            return self._entries[pin] >> 32 * high & _U32
        return 0

    def _write(self, register: int, value: int) -> None:
        if register == IoApicRegister.ID:
            self._id = value & 0x0F000000
            return
        pin, high = divmod(register - IoApicRegister.REDIRECTION, 2)
        if not 0 <= pin < PINS:
            return
        half = 32 * high
        writable = REDIRECTION_WRITABLE & _U32 << half
        self._entries[pin] = self._entries[pin] & ~writable | value << half & writable
        if self._entries[pin] & Redirection.LEVEL:
            if self._lines >> pin & 1:
                self._send(pin)
        elif self._waiting >> pin & 1:
            self._stop_waiting(pin)

    def save(self) -> dict[str, Any]:
        """The whole state, as plain data."""
        return {
            "select": self._select,
            "id": self._id,
            "entries": list(self._entries),
            "lines": self._lines,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self._select = state["select"]
        self._id = state["id"]
        self._entries = list(state["entries"])
        self._lines = state["lines"]
        self._waiting = sum(1 << p for p, e in enumerate(self._entries) if e & Redirection.REMOTE_IRR)

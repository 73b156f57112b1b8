"""Switching off and restarting: ACPI's sleep and reset registers, and the PC's older ways.

Source: ACPI 6.5, sections 4.8.3.7 (sleep control and status) and 4.8.3.6 (reset).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringminus.machine.chipset.byte_ports import NO_DEVICE, BytePorts

SLEEP_CONTROL_PORT = 0x600
SLEEP_STATUS_PORT = 0x601
RESET_PORT = 0x602
RESET_VALUE = 1
SLEEP_TYPE_S5 = 5

SLEEP_TYPE_SHIFT = 2
SLEEP_TYPE_MASK = 7
SLEEP_ENABLE = 1 << 5

NMI_STATUS_PORT = 0x61
NMI_STATUS_WRITABLE = 0x0F
NMI_STATUS_REFRESH = 0x10
NMI_STATUS_TIMER_OUT = 0x20
KEYBOARD_CONTROLLER_PORT = 0x64
KEYBOARD_CONTROLLER_RESET = 0xFE
DIAGNOSTIC_PORT = 0x80
RESET_CONTROL_PORT = 0xCF9
RESET_CONTROL_WRITABLE = 0x0E
RESET_CONTROL_CPU = 0x04


# Linux may restart through the processor's reset vector, in real mode; there our firmware would be, whose
# only instructions are: mov al, RESET_VALUE; mov dx, RESET_PORT; out dx, al; hlt
RESET_VECTOR = 0xFFFF0
RESET_CODE = bytes((0xB0, RESET_VALUE, 0xBA, RESET_PORT & 0xFF, RESET_PORT >> 8, 0xEE, 0xF4))


class AcpiPower(BytePorts):
    """ACPI's registers. `power_off(sleep_type)` is called when the guest enters a sleep state, `reset(how)`
    when it asks for a restart."""

    ranges = ((SLEEP_CONTROL_PORT, 3),)

    def __init__(self, power_off: Callable[[int], None], reset: Callable[[str], None]) -> None:
        self._power_off = power_off
        self._reset = reset
        self._sleep_type = 0

    def read(self, port: int) -> int:
        if port == SLEEP_CONTROL_PORT:
            return self._sleep_type << SLEEP_TYPE_SHIFT
        # the sleep status would tell of a wake-up, and no state that one can wake from is offered
        return 0 if port in (SLEEP_STATUS_PORT, RESET_PORT) else NO_DEVICE

    def write(self, port: int, value: int) -> None:
        if port == SLEEP_CONTROL_PORT:
            self._sleep_type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK
            if value & SLEEP_ENABLE:
                self._power_off(self._sleep_type)
        elif port == RESET_PORT and value == RESET_VALUE:
            self._reset("ACPI reset register")

    def save(self) -> dict[str, Any]:
        """Plain data."""
        return {"sleep_type": self._sleep_type}

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self._sleep_type = state["sleep_type"]


class LegacyPorts(BytePorts):
    """What is left of a PC's system board. Of the keyboard controller only its reset line is there: its
    status reads as absent."""

    ranges = (
        (NMI_STATUS_PORT, 1),
        (KEYBOARD_CONTROLLER_PORT, 1),
        (DIAGNOSTIC_PORT, 1),
        (RESET_CONTROL_PORT, 1),
    )

    def __init__(self, reset: Callable[[str], None]) -> None:
        self._reset = reset
        self._nmi_status = NMI_STATUS_TIMER_OUT
        self._reset_control = 0

    def read(self, port: int) -> int:
        if port == NMI_STATUS_PORT:
            # delay loops wait for the refresh bit to change
            self._nmi_status ^= NMI_STATUS_REFRESH
            return self._nmi_status
        return self._reset_control if port == RESET_CONTROL_PORT else NO_DEVICE

    def write(self, port: int, value: int) -> None:
        if port == NMI_STATUS_PORT:
            kept = self._nmi_status & ~NMI_STATUS_WRITABLE
            self._nmi_status = kept | value & NMI_STATUS_WRITABLE
        elif port == KEYBOARD_CONTROLLER_PORT and value == KEYBOARD_CONTROLLER_RESET:
            self._reset("keyboard controller")
        elif port == RESET_CONTROL_PORT:
            self._reset_control = value & RESET_CONTROL_WRITABLE
            if value & RESET_CONTROL_CPU:
                self._reset("reset control register")

    def save(self) -> dict[str, Any]:
        """Plain data."""
        return {"nmi_status": self._nmi_status, "reset_control": self._reset_control}

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""
        self._nmi_status = state["nmi_status"]
        self._reset_control = state["reset_control"]

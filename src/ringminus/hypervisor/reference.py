"""What a partition has once, whoever asks: its identity, hypercall page, reference time and frequencies.

Sources: TLFS, hypercall-interface.md ("Reporting the Guest OS Identity", "Establishing the Hypercall
Interface") and timers.md ("Reference Counter").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringminus.clock import ReferenceClock
from ringminus.cpu.engine import general_protection
from ringminus.hypervisor.apic_registers import APIC_HZ
from ringminus.hypervisor.overlay import Overlay
from ringminus.hypervisor.wire import (
    HYPERCALL_CODE,
    HYPERCALL_LOCKED,
    PAGE_ADDRESS,
    PAGE_ENABLE,
    ReferenceTscPage,
)
from ringminus.memory import PAGE_SIZE, GuestMemory


class HypercallInterface:
    """GUEST_OS_ID and HYPERCALL: the guest names itself, and then is shown the hypercall page.

    `named` is called when a guest names itself, which an operating system does once, when it starts.
    """

    def __init__(self, memory: GuestMemory, named: Callable[[], None]) -> None:
        self._memory = memory
        self._named = named
        self._page = Overlay(memory)
        self._page.fill(HYPERCALL_CODE)
        self._hypercall = 0
        self.guest_os_id = 0

    def read_guest_os_id(self) -> int:
        return self.guest_os_id

    def write_guest_os_id(self, value: int) -> None:
        """Zero disables the hypercall page."""
        self.guest_os_id = value
        if not value:
            self._hypercall &= ~PAGE_ENABLE
            self._page.hide()
        else:
            self._named()

    def read_hypercall(self) -> int:
        return self._hypercall

    def write_hypercall(self, value: int) -> None:
        """#GP for a page outside guest memory; ignored when locked; not enabled for a guest without name."""
        if self._hypercall & HYPERCALL_LOCKED:
            return
        if not self.guest_os_id:
            value &= ~PAGE_ENABLE
        if value & PAGE_ENABLE:
            gpa = value & PAGE_ADDRESS
            if not self._memory.is_ram(gpa, PAGE_SIZE):
                raise general_protection()
            self._page.show(gpa)
        else:
            self._page.hide()
        self._hypercall = value

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        return {"os": self.guest_os_id, "hypercall": self._hypercall, "page": self._page.save()}

    def restore(self, state: dict[str, Any]) -> None:
        self.guest_os_id, self._hypercall = state["os"], state["hypercall"]
        self._page.restore(state["page"])


class ReferenceTime:
    """TIME_REF_COUNT, the reference TSC page, and the frequencies."""

    def __init__(self, memory: GuestMemory, clock: ReferenceClock) -> None:
        self._clock = clock
        self._page = Overlay(memory)
        self._page.fill(ReferenceTscPage(sequence=1, scale=clock.scale).pack())
        self._register = 0

    def read_count(self) -> int:
        return self._clock.reference_time()

    def read_tsc(self) -> int:
        return self._clock.tsc()

    def read_tsc_frequency(self) -> int:
        return self._clock.tsc_hz

    def read_apic_frequency(self) -> int:
        return APIC_HZ

    def read_reference_tsc(self) -> int:
        return self._register

    def write_reference_tsc(self, value: int) -> None:
        """Show the page, or take it away; at a place that is no RAM nobody sees it."""
        self._register = value
        if value & PAGE_ENABLE:
            self._page.show(value & PAGE_ADDRESS)
        else:
            self._page.hide()

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        return {"register": self._register, "page": self._page.save()}

    def restore(self, state: dict[str, Any]) -> None:
        self._register = state["register"]
        self._page.restore(state["page"])

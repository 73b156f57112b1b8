"""A partition: one guest's memory, time, virtual processors, ports and devices' address spaces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ringminus.clock import TimerQueue
from ringminus.cpu.engine import Engine
from ringminus.hypervisor.apic import LocalApic
from ringminus.hypervisor.apic_registers import DeliveryMode, InterruptCommand, Shorthand
from ringminus.hypervisor.cpuid import SOFTWARE, Profile
from ringminus.hypervisor.crash import CrashReport
from ringminus.hypervisor.intercepts import MmioSpace, PortSpace
from ringminus.hypervisor.ioapic import IOAPIC_BASE, IOAPIC_MMIO_SIZE, IoApic
from ringminus.hypervisor.ports import Connections
from ringminus.hypervisor.reference import HypercallInterface, ReferenceTime
from ringminus.hypervisor.vp import VirtualProcessor
from ringminus.tap import Tap

CRASH_REPORTS_KEPT = 8
PARTITION_ID = 2  # the root's is 1


class Partition:
    """A guest and what surrounds it.

    The engine brings memory and clock. `flush_tlb(vp_index)` forgets a processor's translations; without it
    the flush hypercalls are not offered. `on_crash` and `on_reset` tell the worker what the guest asked for,
    and `on_restart` that an operating system named itself (the first, or one started after a crash), all
    from inside an exit. `connections` is where a bus registers its ports, `ports`, `mmio` and `ioapic` where
    devices do.
    """

    interface: HypercallInterface
    time: ReferenceTime
    vps: list[VirtualProcessor]

    def __init__(
        self,
        engine: Engine,
        profile: Profile = SOFTWARE,
        tap: Tap | None = None,
        vp_count: int = 1,
        flush_tlb: Callable[[int], None] | None = None,
    ) -> None:
        if not 1 <= vp_count <= profile.max_vps:
            raise ValueError(f"a partition has 1 to {profile.max_vps} virtual processors, not {vp_count}")
        self.engine = engine
        self.profile = profile
        self.tap = Tap() if tap is None else tap
        self.vp_count = vp_count
        self.flush_tlb = flush_tlb
        self.partition_id = PARTITION_ID
        self.memory = engine.memory
        self.clock = engine.clock
        self.timers = TimerQueue()
        self.tap.later = self._later
        self.ports = PortSpace()
        self.mmio = MmioSpace()
        self.connections = Connections()
        self.interface = HypercallInterface(self.memory, self._named)
        self.time = ReferenceTime(self.memory, self.clock)
        self.ioapic = IoApic(self._deliver)
        self.mmio.register(IOAPIC_BASE, IOAPIC_MMIO_SIZE, self.ioapic)
        self.crash_reports: deque[CrashReport] = deque(maxlen=CRASH_REPORTS_KEPT)
        self.on_crash: Callable[[CrashReport], None] | None = None
        self.on_reset: Callable[[], None] | None = None
        self.on_restart: Callable[[], None] | None = None
        self.vps = [VirtualProcessor(self, index) for index in range(vp_count)]
        for vp in self.vps:
            vp.apic.on_eoi.append(self.ioapic.eoi)

    def _later(self, delay: int, act: Callable[[int], None]) -> None:
        """For who holds events back: `act(now)` after so many 100 ns, in a turn of the worker's."""
        self.timers.timer(act).arm(self.clock.reference_time() + delay)

    # ------------------------------------------------------------ interrupts

    def _deliver(self, destination: int, vector: int, mode: int, level: bool, logical: bool) -> None:
        """An interrupt message of the I/O APIC."""
        if mode == DeliveryMode.LOWEST_PRIORITY:
            self._send(self._targets(destination, logical)[:1], vector, "ioapic", level)
        elif mode == DeliveryMode.FIXED:
            self._send(self._targets(destination, logical), vector, "ioapic", level)

    def send_ipi(self, sender: LocalApic, icr: int) -> None:
        """An interrupt command that is not for its sender alone. INIT and start-up commands find no
        processor that waits for them: all run from the start."""
        command = InterruptCommand.decode(icr)
        apics = [vp.apic for vp in self.vps]
        if command.shorthand == Shorthand.OTHERS:
            targets = [apic for apic in apics if apic is not sender]
        elif command.shorthand == Shorthand.ALL:
            targets = apics
        else:
            targets = self._targets(command.destination, command.logical)
        if command.mode == DeliveryMode.LOWEST_PRIORITY:
            targets = targets[:1]
        if command.mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY):
            self._send(targets, command.vector, "ipi", False)

    def _targets(self, destination: int, logical: bool) -> list[LocalApic]:
        return [vp.apic for vp in self.vps if vp.apic.matches(destination, logical)]

    @staticmethod
    def _send(targets: list[LocalApic], vector: int, source: str, level: bool) -> None:
        for apic in targets:
            apic.raise_vector(vector, source, level=level)

    # ------------------------------------------------------------ lifecycle

    def report_crash(self, report: CrashReport) -> None:
        """The guest told that it crashed; the latest reports are kept in `crash_reports`."""
        self.crash_reports.append(report)
        if self.on_crash is not None:
            self.on_crash(report)

    def _named(self) -> None:
        if self.on_restart is not None:
            self.on_restart()

    def request_reset(self) -> None:
        """The guest wrote the reset register."""
        if self.on_reset is not None:
            self.on_reset()

    def show_invariant_tsc(self, shown: bool) -> None:
        """TSC_INVARIANT_CONTROL is one register for all processors."""
        for vp in self.vps:
            vp.show_invariant_tsc(shown)

    def save(self) -> dict[str, Any]:
        """The hypervisor's state, as plain data; the engine's processors and the RAM are saved by others."""
        return {
            "interface": self.interface.save(),
            "time": self.time.save(),
            "ioapic": self.ioapic.save(),
            "vps": [vp.save() for vp in self.vps],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave; the clock, the processors and the RAM must already be back."""
        self.interface.restore(state["interface"])
        self.time.restore(state["time"])
        self.ioapic.restore(state["ioapic"])
        for vp, saved in zip(self.vps, state["vps"], strict=True):
            vp.restore(saved)

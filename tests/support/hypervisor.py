"""A processor that executes nothing, so that a test can play the guest against the real hypervisor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ringminus.clock import MockClock
from ringminus.hypervisor.cpuid import SOFTWARE, Profile
from ringminus.hypervisor.partition import Partition
from ringminus.hypervisor.vp import VirtualProcessor
from ringminus.hypervisor.wire import Privilege
from ringminus.machine.replay.processor import StillEngine
from ringminus.memory import MIB, GuestMemory
from ringminus.tap import Tap

MEMORY_SIZE = 64 * MIB
LINUX_ID = 0x8100 << 48 | 0x06_01_00 << 16
GUEST_OS_ID, HYPERCALL = 0x40000000, 0x40000001
SCONTROL, SIEFP, SIMP, EOM, SINT0 = 0x40000080, 0x40000082, 0x40000083, 0x40000084, 0x40000090
EOI = 0x40000070
SIM_PAGE, SIEF_PAGE, HYPERCALL_PAGE, INPUT_PAGE, OUTPUT_PAGE = 0x10000, 0x11000, 0x12000, 0x13000, 0x14000
SVR_MSR, APIC_ENABLED = 0x80F, 0x1FF


class FakeEngine(StillEngine):
    """Real memory and a mock clock around processors that execute nothing."""

    def __init__(self, memory: GuestMemory | None = None, clock: MockClock | None = None) -> None:
        super().__init__(GuestMemory(MEMORY_SIZE) if memory is None else memory, clock)


class Guest:
    """A partition with fake processors, and what a guest does to its first one."""

    def __init__(
        self,
        profile: Profile = SOFTWARE,
        vp_count: int = 1,
        flush_tlb: Callable[[int], None] | None = None,
        engine: FakeEngine | None = None,
    ) -> None:
        self.engine = FakeEngine() if engine is None else engine
        self.memory = self.engine.memory
        self.clock = self.engine.mock_clock
        self.tap = Tap()
        self.partition = Partition(self.engine, profile, self.tap, vp_count, flush_tlb)
        self.processor = self.engine.processors[0]

    @property
    def vp(self) -> VirtualProcessor:
        return self.partition.vps[0]

    def read(self, msr: int) -> int:
        return self.vp.read_msr(msr)

    def write(self, msr: int, value: int) -> None:
        self.vp.write_msr(msr, value)

    def name_itself(self) -> None:
        """As an operating system does before it makes hypercalls."""
        self.write(GUEST_OS_ID, LINUX_ID)

    def enable_apic(self) -> None:
        self.write(SVR_MSR, APIC_ENABLED)

    def enable_synic(self, sint: int = 2, vector: int = 0xF3, flags: int = 0) -> None:
        """As Linux does: both pages, one SINT, then SCONTROL."""
        self.enable_apic()
        self.write(SIMP, SIM_PAGE | 1)
        self.write(SIEFP, SIEF_PAGE | 1)
        self.write(SINT0 + sint, vector | flags)
        self.write(SCONTROL, 1)

    def pass_time(self, units: int) -> None:
        """Advance the clock by so many 100 ns, and let the worker fire what is due."""
        self.clock.advance(units)
        self.partition.timers.fire(self.clock.reference_time())

    def hypercall(self, control: int, rdx: int = 0, r8: int = 0) -> int:
        return self.vp.hypercall(control, rdx, r8)

    def call_with(self, control: int, data: bytes) -> int:
        """A hypercall with its parameters in memory."""
        self.memory.write(INPUT_PAGE, data)
        return self.hypercall(control, INPUT_PAGE, OUTPUT_PAGE)


def with_privileges(privileges: Privilege) -> Profile:
    """The default profile with more privileges."""
    return replace(SOFTWARE, privileges=SOFTWARE.privileges | privileges)

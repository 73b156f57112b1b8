"""A virtual processor: it answers the engine's exits, and has the registers that the engine has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringminus.changes import BEFORE
from ringminus.cpu.engine import GuestException, Processor, general_protection
from ringminus.hypervisor import msrs
from ringminus.hypervisor.apic import LocalApic
from ringminus.hypervisor.apic_registers import Register
from ringminus.hypervisor.architectural import ArchitecturalMsrs
from ringminus.hypervisor.cpuid import Cpuid, Leaf
from ringminus.hypervisor.crash import CrashRegisters
from ringminus.hypervisor.hypercalls import Hypercalls
from ringminus.hypervisor.overlay import Overlay
from ringminus.hypervisor.stimer import SyntheticTimer
from ringminus.hypervisor.synic import SynIC
from ringminus.hypervisor.wire import (
    PAGE_ADDRESS,
    PAGE_ENABLE,
    RESET_NOW,
    SYNTHETIC_TIMERS,
    TSC_INVARIANT,
    VpAssistPage,
)
from ringminus.memory import PAGE_MASK, PAGE_SIZE
from ringminus.tap import CpuidRead, MmioAccess, MsrAccess, PortIo, Scope

if TYPE_CHECKING:
    from ringminus.hypervisor.partition import Partition

APIC_PAGE = 0xFEE00000
ICR_MSR = 0x830


class VirtualProcessor:
    """Virtual processor `index` of a partition; its APIC id is the same number.

    `idle` is set when the guest gave the processor up until its next interrupt by reading GUEST_IDLE, which
    stops the processor: the worker then waits until `has_interrupt()`, whatever RFLAGS.IF says, and
    clears it. `idle_time` is the time (100 ns) that the worker spent waiting for this processor.
    """

    partition: Partition
    processor: Processor
    apic: LocalApic
    synic: SynIC
    timers: list[SyntheticTimer]
    crash: CrashRegisters
    msrs: ArchitecturalMsrs

    def __init__(self, partition: Partition, index: int) -> None:
        self.partition = partition
        self.index = index
        self.idle = False
        self.idle_time = 0
        self._tap = tap = partition.tap
        clock, timers, memory = partition.clock, partition.timers, partition.memory
        self._clock = clock
        self.processor = partition.engine.create_processor(index, self)
        self.apic = LocalApic(index, self.processor, clock, timers, tap, partition.send_ipi)
        self.synic = SynIC(index, memory, clock, tap, self.apic.raise_vector)
        self.apic.on_eoi.append(self.synic.on_eoi)
        self.timers = [
            SyntheticTimer(number, self.synic, self.apic.raise_vector, clock, timers, tap)
            for number in range(SYNTHETIC_TIMERS)
        ]
        self.crash = CrashRegisters(
            index, memory, clock, partition.interface.read_guest_os_id, partition.report_crash
        )
        self.msrs = ArchitecturalMsrs(self.processor)
        self._assist = Overlay(memory)
        self._assist.fill(VpAssistPage().pack())
        self._assist_register = 0
        self._tsc_invariant = 0
        self._cpuid = Cpuid(partition.profile, index, partition.vp_count)
        self._hypercalls = Hypercalls(self)
        self._ports, self._mmio = partition.ports, partition.mmio
        self._readers, self._writers = msrs.bind(self, partition.profile)

    # ------------------------------------------------------------ exits

    def cpuid(self, leaf: int, subleaf: int) -> Leaf:
        """EAX, EBX, ECX, EDX."""
        if self._tap.cpuid is not None:
            return self._observed_cpuid(leaf, subleaf)
        return self._cpuid.answer(leaf, subleaf)

    def _observed_cpuid(self, leaf: int, subleaf: int) -> Leaf:
        told = self._cpuid.answer(leaf, subleaf)
        event = CpuidRead(self._clock.reference_time(), self.index, leaf, subleaf, *told)
        if event.POINT in self._tap.changers:
            self._tap.decide(event, event.POINT)
        self._tap.tell(event)
        return event.eax, event.ebx, event.ecx, event.edx

    def read_msr(self, msr: int) -> int:
        """RDMSR; #GP for what is not there."""
        if self._tap.msrs is not None:
            return self._observed_read(msr)
        reader = self._readers.get(msr)
        if reader is None:
            raise general_protection()
        return reader()

    def write_msr(self, msr: int, value: int) -> None:
        """WRMSR; #GP for what is not there, and for reserved bits."""
        if self._tap.msrs is not None:
            self._observed_write(msr, value)
            return
        writer = self._writers.get(msr)
        if writer is None or value & writer[0]:
            raise general_protection()
        writer[1](value)

    def _observed_read(self, msr: int) -> int:
        value, failure, scope = 0, None, self._tap.enter()
        try:
            reader = self._readers.get(msr)
            if reader is None:
                raise general_protection()
            value = reader()
        except GuestException as error:
            failure = error
        self._tap.leave(scope)
        event = self._access(scope, msr, False, value, failure is not None)
        if event.POINT in self._tap.changers:
            self._tap.decide(event, event.POINT)
            if event.fault and failure is None:
                failure = general_protection()
        self._tap.tell(event)
        if event.fault and failure is not None:
            raise failure
        return event.value

    def _observed_write(self, msr: int, value: int) -> None:
        scope, failure = self._tap.enter(), None
        event = self._access(scope, msr, True, value, False)
        try:
            if self._is_to_be_written(event):
                writer = self._writers.get(msr)
                if writer is None or event.value & writer[0]:
                    raise general_protection()
                writer[1](event.value)
        except GuestException as error:
            event.fault, failure = True, error
        finally:
            self._tap.leave(scope)
        event.time = self._clock.reference_time()
        self._tap.tell(event)
        if failure is not None:
            raise failure

    def _is_to_be_written(self, event: MsrAccess) -> bool:
        """Whether who changes events lets a write be carried out; raises #GP if he wants that."""
        if BEFORE + event.POINT not in self._tap.changers:
            return True
        verdict = self._tap.decide(event, BEFORE + event.POINT)
        if event.fault:
            raise general_protection()
        return not verdict.dropped and verdict.answer is None

    def _access(self, scope: Scope, msr: int, write: bool, value: int, fault: bool) -> MsrAccess:
        now, name = self._clock.reference_time(), msrs.name_of(msr)
        event = MsrAccess(now, self.index, msr, name, write, value, fault)
        event.sequence, event.cause = scope
        return event

    def hypercall(self, control: int, input: int, output: int) -> int:
        """VMCALL or VMMCALL; #UD outside 64-bit kernel code."""
        return self._hypercalls.call(control, input, output)

    def port_in(self, port: int, size: int) -> int:
        """IN."""
        value = self._ports.port_in(port, size)
        if self._tap.ports is not None:
            event = PortIo(self._clock.reference_time(), self.index, port, size, False, value)
            self._passes(event)
            return event.value
        return value

    def port_out(self, port: int, size: int, value: int) -> None:
        """OUT."""
        if self._tap.ports is not None:
            event = PortIo(self._clock.reference_time(), self.index, port, size, True, value)
            if not self._passes(event):
                return
            value = event.value
        self._ports.port_out(port, size, value)

    def _passes(self, event: PortIo | MmioAccess) -> bool:
        """An access is watched: whether a write is to reach its device."""
        dropped = False
        if event.POINT in self._tap.changers:
            dropped = self._tap.decide(event, event.POINT).dropped and event.write
            event.value &= (1 << 8 * event.size) - 1
        self._tap.tell(event)
        return not dropped

    def mmio_read(self, gpa: int, size: int) -> int:
        """A read of what is no RAM; the local APIC's page is this processor's own."""
        if gpa & ~PAGE_MASK == APIC_PAGE and (gpa & PAGE_MASK) + size <= PAGE_SIZE:
            value = self.apic.mmio_read(gpa & PAGE_MASK, size)
        else:
            value = self._mmio.mmio_read(gpa, size)
        if self._tap.mmio is not None:
            event = MmioAccess(self._clock.reference_time(), self.index, gpa, size, False, value)
            self._passes(event)
            return event.value
        return value

    def mmio_write(self, gpa: int, size: int, value: int) -> None:
        """A write to what is no RAM."""
        if self._tap.mmio is not None:
            event = MmioAccess(self._clock.reference_time(), self.index, gpa, size, True, value)
            if not self._passes(event):
                return
            value = event.value
        if gpa & ~PAGE_MASK == APIC_PAGE and (gpa & PAGE_MASK) + size <= PAGE_SIZE:
            self.apic.mmio_write(gpa & PAGE_MASK, size, value)
        else:
            self._mmio.mmio_write(gpa, size, value)

    def read_cr8(self) -> int:
        """The task priority class, 0–15."""
        return self.apic.tpr >> 4

    def write_cr8(self, value: int) -> None:
        """#GP above 15."""
        if value > 15:
            raise general_protection()
        self.apic.set_tpr(value << 4)

    def has_interrupt(self) -> bool:
        """Whether an interrupt waits that would wake the processor."""
        return self.apic.has_pending()

    # ------------------------------------------------------------ registers, bound by the table of `msrs`

    def read_index(self) -> int:
        return self.index

    def read_runtime(self) -> int:
        """Time not spent waiting, in units of 100 ns."""
        return max(0, self._clock.reference_time() - self.idle_time)

    def write_eoi(self, value: int) -> None:
        self.apic.eoi()

    def read_icr(self) -> int:
        apic = self.apic
        if apic.x2apic:
            return apic.read_msr(ICR_MSR)
        return apic.read_register(Register.ICR_HIGH) << 32 | apic.read_register(Register.ICR)

    def write_icr(self, value: int) -> None:
        apic = self.apic
        if apic.x2apic:
            apic.write_msr(ICR_MSR, value)
        else:
            apic.write_register(Register.ICR_HIGH, value >> 32)
            apic.write_register(Register.ICR, value & 0xFFFFFFFF)

    def read_tpr(self) -> int:
        return self.apic.read_register(Register.TPR)

    def write_tpr(self, value: int) -> None:
        self.apic.write_register(Register.TPR, value)

    def read_assist_page(self) -> int:
        return self._assist_register

    def write_assist_page(self, value: int) -> None:
        """Show the page. No RAM, no page."""
        self._assist_register = value
        self.apic.set_assist(self._assist)
        if value & PAGE_ENABLE:
            self._assist.show(value & PAGE_ADDRESS)
        else:
            self._assist.hide()
        self.apic.set_assist(self._assist)

    def read_guest_idle(self) -> int:
        """Idle until an interrupt comes, unless one is there."""
        if not self.apic.has_pending():
            self.idle = True
            self.processor.stop()
        return 0

    def read_reset(self) -> int:
        return 0

    def write_reset(self, value: int) -> None:
        if value & RESET_NOW:
            self.partition.request_reset()

    def read_tsc_invariant(self) -> int:
        return self._tsc_invariant

    def write_tsc_invariant(self, value: int) -> None:
        """Show the guest in CPUID that its TSC is invariant, or hide it."""
        self.partition.show_invariant_tsc(bool(value & TSC_INVARIANT))

    def show_invariant_tsc(self, shown: bool) -> None:
        """The partition's setting, as this processor's CPUID has it."""
        self._tsc_invariant = TSC_INVARIANT if shown else 0
        self._cpuid.show_invariant_tsc(shown)

    # ------------------------------------------------------------ state

    def save(self) -> dict[str, Any]:
        """The state beyond the engine's, as plain data."""
        return {
            "idle": self.idle,
            "idle_time": self.idle_time,
            "apic": self.apic.save(),
            "synic": self.synic.save(),
            "timers": [timer.save() for timer in self.timers],
            "crash": list(self.crash.parameters),
            "msrs": self.msrs.save(),
            "assist": self._assist.save(),
            "assist_register": self._assist_register,
            "tsc_invariant": self._tsc_invariant,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave, after the engine's processor and the guest's RAM have theirs."""
        self.idle, self.idle_time = state["idle"], state["idle_time"]
        self.apic.restore(state["apic"])
        for timer, saved in zip(self.timers, state["timers"], strict=True):
            timer.restore(saved)
        self.synic.restore(state["synic"], self.timers)
        self.crash.parameters[:] = state["crash"]
        self.msrs.restore(state["msrs"])
        self._assist.restore(state["assist"])
        self.apic.set_assist(self._assist)
        self._assist_register = state["assist_register"]
        self.show_invariant_tsc(bool(state["tsc_invariant"]))

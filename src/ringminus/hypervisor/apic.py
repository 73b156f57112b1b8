"""The local APIC of a virtual processor, in x2APIC (MSRs) and xAPIC (MMIO) mode.

Source: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringminus.clock import ReferenceClock, TimerQueue
from ringminus.cpu.engine import general_protection
from ringminus.hypervisor.apic_destination import matches_x2apic, matches_xapic, x2apic_ldr
from ringminus.hypervisor.apic_queue import InterruptQueue, InterruptTarget
from ringminus.hypervisor.apic_registers import (
    APIC_DEFAULT_BASE,
    APIC_HZ,
    DESTINATION_ALL,
    DFR_FLAT,
    DIVIDE_WRITABLE,
    FIRST_LEGAL_VECTOR,
    ICR_LOW_RESERVED,
    ICR_LOW_WRITABLE,
    LVT_READ_ONLY,
    LVT_WRITABLE,
    SVR_ENABLED,
    SVR_RESET,
    SVR_WRITABLE,
    VERSION,
    X2APIC_FIRST_MSR,
    X2APIC_LAST_MSR,
    XAPIC_DESTINATION_ALL,
    ApicBase,
    ApicError,
    DeliveryMode,
    InterruptCommand,
    Lvt,
    Register,
    Shorthand,
)
from ringminus.hypervisor.apic_timer import ApicTimer
from ringminus.tap import Interrupt, Tap, TimerExpired

__all__ = ["APIC_HZ", "InterruptTarget", "LocalApic"]

_ICR_MSR = X2APIC_FIRST_MSR + (Register.ICR >> 4)
_EOI_MSR = X2APIC_FIRST_MSR + (Register.EOI >> 4)
_U32 = 0xFFFFFFFF


class LocalApic(InterruptQueue):
    """A local APIC. `apic_id` is also the virtual processor's index in the events it tells.

    `send_ipi(apic, icr)` gets every interrupt command that is not for this APIC alone; `icr` is 64 bits in
    x2APIC form. `on_eoi` functions are called with the vector of every EOI that ended an interrupt.
    It begins in x2APIC mode, disabled by software (SVR bit 8) as after a reset.
    """

    __slots__ = (
        "_esr",
        "_esr_pending",
        "_icr",
        "_lvt",
        "_readers",
        "_send_ipi",
        "_tap",
        "_timer",
        "_writers",
        "apic_base",
        "apic_id",
        "clock",
        "dfr",
        "enabled",
        "ldr",
        "svr",
        "x2apic",
    )

    def __init__(
        self,
        apic_id: int,
        target: InterruptTarget,
        clock: ReferenceClock,
        timers: TimerQueue,
        tap: Tap,
        send_ipi: Callable[[LocalApic, int], None],
    ) -> None:
        super().__init__(target)
        self.apic_id = apic_id
        self.clock = clock
        self._tap = tap
        self._send_ipi = send_ipi
        self._timer = ApicTimer(clock, timers, self._timer_expired)
        self._readers = self._reader_table()
        self._writers = self._writer_table()
        boot = ApicBase.BSP if apic_id == 0 else 0
        self.apic_base = APIC_DEFAULT_BASE | ApicBase.ENABLED | ApicBase.X2APIC | boot
        self.x2apic = True
        self.reset()

    def reset(self) -> None:
        """The state after power-on or INIT; the id and the mode stay."""
        self.clear()
        self.svr = SVR_RESET
        self.ldr = 0
        self.dfr = DFR_FLAT
        self._esr = self._esr_pending = 0
        self._icr = 0
        self._lvt: dict[int, int] = dict.fromkeys(map(int, LVT_WRITABLE), int(Lvt.MASKED))
        self._timer.reset()
        self.enabled = False

    def raise_vector(
        self, vector: int, source: str, auto_eoi: bool = False, level: bool = False, *, passed: bool = False
    ) -> None:
        """Request an interrupt. A disabled APIC drops it; a vector below 16 is an error for the ESR. One that
        has `passed` has been told of."""
        if self._tap.interrupts is not None and not passed:
            event = Interrupt(self.clock.reference_time(), self.apic_id, vector, source)
            if event.POINT in self._tap.changers:
                act = lambda one: self.raise_vector(one.vector, source, auto_eoi, level, passed=True)  # noqa: E731
                self._tap.submit(event, act)
                return
            self._tap.interrupts(event)
        if not self.enabled:
            return
        if vector < FIRST_LEGAL_VECTOR:
            self._error(ApicError.RECEIVE_ILLEGAL_VECTOR)
            return
        self.add(vector, auto_eoi, level)

    def matches(self, destination: int, logical: bool) -> bool:
        """Whether an interrupt message for `destination` (32 bits) is for this APIC too."""
        if self.x2apic:
            return matches_x2apic(destination, logical, self.apic_id)
        return matches_xapic(destination, logical, self.apic_id, self.ldr, self.dfr)

    # IA32_APIC_BASE.

    def read_apic_base(self) -> int:
        """IA32_APIC_BASE."""
        return self.apic_base

    def write_apic_base(self, value: int) -> None:
        """Change the mode; raises #GP for a transition that does not exist and for another address."""
        fixed = self.apic_base & ~(ApicBase.ENABLED | ApicBase.X2APIC)
        if value & ~(ApicBase.ENABLED | ApicBase.X2APIC) != fixed:
            raise general_protection()
        enabled, x2apic = bool(value & ApicBase.ENABLED), bool(value & ApicBase.X2APIC)
        was_enabled = bool(self.apic_base & ApicBase.ENABLED)
        if x2apic and not enabled:
            raise general_protection()
        if self.x2apic and enabled and not x2apic:
            raise general_protection()
        if x2apic and not was_enabled:
            raise general_protection()
        if was_enabled and not enabled:
            self.reset()
        elif x2apic and not self.x2apic:
            self._icr &= _U32
        self.apic_base = value
        self.x2apic = x2apic
        self._update_enabled()

    def _update_enabled(self) -> None:
        self.enabled = bool(self.svr & SVR_ENABLED and self.apic_base & ApicBase.ENABLED)

    # Access by MSR and by MMIO.

    def read_msr(self, msr: int) -> int:
        """An MSR of 0x800–0x8ff; raises #GP outside x2APIC mode and for what is not readable."""
        if not self.x2apic or not X2APIC_FIRST_MSR <= msr <= X2APIC_LAST_MSR:
            raise general_protection()
        if msr == _ICR_MSR:
            return self._icr
        return self.read_register((msr - X2APIC_FIRST_MSR) << 4)

    def write_msr(self, msr: int, value: int) -> None:
        """An MSR of 0x800–0x8ff; raises #GP for reserved bits and for what is not writable."""
        if msr == _EOI_MSR and self.x2apic and not value:
            self.eoi()
            return
        if not self.x2apic or not X2APIC_FIRST_MSR <= msr <= X2APIC_LAST_MSR:
            raise general_protection()
        if msr == _ICR_MSR:
            if value & ICR_LOW_RESERVED:
                raise general_protection()
            self._icr = value & (_U32 << 32 | ICR_LOW_WRITABLE)
            self._command(self._icr)
            return
        if value > _U32:
            raise general_protection()
        self.write_register((msr - X2APIC_FIRST_MSR) << 4, value)

    def mmio_read(self, offset: int, size: int) -> int:
        """A read in the APIC's page; all ones when the APIC is not in xAPIC mode."""
        ones = (1 << 8 * size) - 1
        if self.x2apic or not self.apic_base & ApicBase.ENABLED:
            return ones
        if offset & 15 > 3:
            return 0
        return self.read_register(offset & ~15) >> 8 * (offset & 3) & ones

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """A write in the APIC's page; only aligned accesses of 4 bytes are understood."""
        if self.x2apic or not self.apic_base & ApicBase.ENABLED or size != 4 or offset & 15:
            return
        self.write_register(offset, value & _U32)

    def read_register(self, offset: int) -> int:
        """A register by its offset in the page. What cannot be read is #GP in x2APIC mode, else an APIC
        error and 0."""
        reader = self._readers.get(offset)
        if reader is not None:
            return reader()
        if offset in self._lvt:
            return self._lvt[offset]
        if Register.ISR <= offset < Register.ESR and not offset & 15:
            self.sync()
            bitmap = (self.isr, self.tmr, self.irr)[(offset - Register.ISR) >> 7]
            return bitmap >> ((offset & 0x70) << 1) & _U32
        if not self.x2apic:
            if offset == Register.DFR:
                return self.dfr
            if offset == Register.ICR_HIGH:
                return self._icr >> 32 << 24 & _U32
            if offset == Register.EOI:
                return 0
        return self._illegal()

    def write_register(self, offset: int, value: int) -> None:
        """Write 32 bits to a register by its offset. What cannot be written, and reserved bits, are #GP in
        x2APIC mode; else reserved bits are ignored and an unknown register is an APIC error."""
        writer = self._writers.get(offset)
        if writer is not None:
            allowed, write = writer
            if self.x2apic and value & ~allowed:
                raise general_protection()
            write(value & allowed)
        elif self.x2apic:
            raise general_protection()
        elif offset == Register.LDR:
            self.ldr = value & 0xFF000000
        elif offset == Register.DFR:
            self.dfr = value | 0x0FFFFFFF
        elif offset == Register.ICR_HIGH:
            self._icr = self._icr & _U32 | value >> 24 << 32
        elif offset not in self._readers and not Register.ISR <= offset < Register.ESR:
            self._illegal()

    def _illegal(self) -> int:
        if self.x2apic:
            raise general_protection()
        self._error(ApicError.ILLEGAL_REGISTER)
        return 0

    def _reader_table(self) -> dict[int, Callable[[], int]]:
        timer = self._timer
        return {
            Register.ID: lambda: self.apic_id if self.x2apic else (self.apic_id & 0xFF) << 24,
            Register.VERSION: lambda: VERSION,
            Register.TPR: lambda: self.tpr,
            Register.PPR: lambda: self.ppr,
            Register.LDR: lambda: x2apic_ldr(self.apic_id) if self.x2apic else self.ldr,
            Register.SVR: lambda: self.svr,
            Register.ESR: lambda: self._esr,
            Register.ICR: lambda: self._icr & _U32,
            Register.INITIAL_COUNT: lambda: timer.initial,
            Register.CURRENT_COUNT: timer.current,
            Register.DIVIDE: lambda: timer.divide,
        }

    def _writer_table(self) -> dict[int, tuple[int, Callable[[int], None]]]:
        """For each register that both modes can write: the bits allowed, and what a write does."""
        table: dict[int, tuple[int, Callable[[int], None]]] = {
            Register.TPR: (0xFF, self.set_tpr),
            Register.EOI: (0, lambda value: self.eoi()),
            Register.SVR: (SVR_WRITABLE, self._write_svr),
            Register.ESR: (0, self._write_esr),
            Register.ICR: (_U32 & ~ICR_LOW_RESERVED, self._write_icr_low),
            Register.INITIAL_COUNT: (_U32, self._timer.start),
            Register.DIVIDE: (DIVIDE_WRITABLE, self._timer.set_divide),
            Register.SELF_IPI: (0xFF, self._write_self_ipi),
        }
        for register, writable in LVT_WRITABLE.items():
            table[register] = (writable | LVT_READ_ONLY, self._lvt_writer(register, writable))
        return table

    def _write_svr(self, value: int) -> None:
        self.svr = value
        self._update_enabled()
        if not self.enabled:
            for register in self._lvt:
                self._lvt[register] |= Lvt.MASKED
            self._timer.configure(self._timer.periodic, masked=True)

    def _write_esr(self, value: int) -> None:
        self._esr, self._esr_pending = self._esr_pending, 0

    def _lvt_writer(self, register: Register, writable: int) -> Callable[[int], None]:
        def write(value: int) -> None:
            value &= writable
            if not self.enabled:
                value |= Lvt.MASKED
            self._lvt[register] = value
            if register is Register.LVT_TIMER:
                self._timer.configure(bool(value & Lvt.PERIODIC), bool(value & Lvt.MASKED))

        return write

    # Sending.

    def _write_icr_low(self, value: int) -> None:
        self._icr = self._icr >> 32 << 32 | value & ICR_LOW_WRITABLE
        icr = self._icr
        if not self.x2apic and icr >> 32 == XAPIC_DESTINATION_ALL:
            icr |= DESTINATION_ALL << 32
        self._command(icr)

    def _write_self_ipi(self, value: int) -> None:
        if not self.x2apic:
            self._illegal()
            return
        self._send_to_self(value)

    def _send_to_self(self, vector: int) -> None:
        if vector < FIRST_LEGAL_VECTOR:
            self._error(ApicError.SEND_ILLEGAL_VECTOR)
        else:
            self.raise_vector(vector, "self ipi")

    def _command(self, icr: int) -> None:
        command = InterruptCommand.decode(icr)
        if command.mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY):
            if command.vector < FIRST_LEGAL_VECTOR:
                self._error(ApicError.SEND_ILLEGAL_VECTOR)
                return
            alone = command.shorthand == Shorthand.NONE and not command.logical
            if command.shorthand == Shorthand.SELF or (alone and command.destination == self.apic_id):
                self._send_to_self(command.vector)
                return
        self._send_ipi(self, icr)

    # Local sources.

    def _timer_expired(self, deadline: int) -> None:
        vector = self._lvt[Register.LVT_TIMER] & 0xFF
        if self._tap.timers is None:
            return self.raise_vector(vector, "apic timer")
        event = TimerExpired(self.clock.reference_time(), self.apic_id, "apic", deadline)
        self._tap.submit(event, lambda _: self.raise_vector(vector, "apic timer"))
        return None

    def _error(self, error: ApicError) -> None:
        if self._esr_pending & error:
            return
        self._esr_pending |= error
        entry = self._lvt[Register.LVT_ERROR]
        if not entry & Lvt.MASKED:
            self.raise_vector(entry & 0xFF, "apic error")

    # State.

    def save(self) -> dict[str, Any]:
        """The whole state, as plain data; times are the partition's reference time."""
        return {
            "queue": self.save_queue(),
            "apic_base": self.apic_base,
            "svr": self.svr,
            "ldr": self.ldr,
            "dfr": self.dfr,
            "esr": self._esr,
            "esr_pending": self._esr_pending,
            "icr": self._icr,
            "lvt": list(self._lvt.values()),
            "timer": self._timer.save(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave; the processor's own state must have been restored before."""
        self.apic_base = state["apic_base"]
        self.x2apic = bool(self.apic_base & ApicBase.X2APIC)
        self.svr = state["svr"]
        self.ldr = state["ldr"]
        self.dfr = state["dfr"]
        self._esr = state["esr"]
        self._esr_pending = state["esr_pending"]
        self._icr = state["icr"]
        self._lvt = dict(zip(map(int, LVT_WRITABLE), state["lvt"], strict=True))
        self._timer.restore(state["timer"])
        self._update_enabled()
        self.restore_queue(state["queue"])

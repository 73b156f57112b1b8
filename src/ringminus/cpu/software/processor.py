"""One virtual processor on the software engine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringminus.cpu.engine import (
    EngineFailure,
    Exit,
    ExitHandler,
    Halted,
    Processor,
    Registers,
    Segment,
    Stopped,
    TripleFault,
)
from ringminus.cpu.software import layout
from ringminus.cpu.software.layout import LAYOUT
from ringminus.cpu.software.library import x86_const
from ringminus.cpu.software.timed import timed
from ringminus.tap import PageFault

if TYPE_CHECKING:
    from ringminus.cpu.software.debug import SoftwareDebug
    from ringminus.cpu.software.engine import SoftwareEngine

STOPPED, HALTED, SHUTDOWN, DEBUG, FAILED = range(5)
RFLAGS_IF = 1 << 9
CR0_PG = 1 << 31
FAULT_BITS = (1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4)
"""Of a page fault's error code: present, write, user, reserved, fetch."""
PTE_PRESENT, PTE_LARGE = 1, 1 << 7
PTE_ADDRESS = 0x000F_FFFF_FFFF_F000
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
TABLES = (("ldtr", "ldt"), ("tr", "tr"), ("gdtr", "gdt"), ("idtr", "idt"))

# the order in which the native code knows an exit handler's methods
HANDLER_METHODS = (
    "cpuid",
    "read_msr",
    "write_msr",
    "hypercall",
    "port_in",
    "port_out",
    "mmio_read",
    "mmio_write",
    "read_cr8",
    "write_cr8",
)


class SoftwareProcessor(Processor):
    """See `Processor`; the state lies in the engine, where the native code uses it."""

    def __init__(self, engine: SoftwareEngine, index: int, handler: ExitHandler) -> None:
        self.index = index
        self._engine = engine
        self._core = engine.core
        self._handler = handler
        self._address = engine.env_address
        self._env = layout.Env.from_address(self._address)
        self._efer = ctypes.c_uint64.from_address(self._address + LAYOUT["ENV_EFER"])
        # the native methods themselves: a call less on the way of every interrupt
        self.stop = self._core.stop  # type: ignore[method-assign]
        self.request_interrupt = self._core.request_interrupt  # type: ignore[method-assign,assignment]
        self.cancel_interrupt = self._core.cancel_interrupt  # type: ignore[method-assign]
        self.interrupt_requested = self._core.interrupt_requested  # type: ignore[method-assign]
        self.general_register = self._core.register  # type: ignore[method-assign,assignment]
        self._traced = self._faults_told = False
        self._debug: SoftwareDebug | None = None
        self._set_handler()

    def _set_handler(self) -> None:
        """Give the native code the handler's methods, timed when somebody listens to exits."""
        methods: list[Callable[..., Any]] = [getattr(self._handler, name) for name in HANDLER_METHODS]
        self._traced = self._engine.tap.exits is not None
        if self._traced:
            methods = timed(methods, self, self._engine.tap, self._engine.clock)
        self._core.set_handler(tuple(methods))

    def _watch(self) -> None:
        """Tell of exits and page faults while somebody listens to them."""
        tap = self._engine.tap
        if self._traced != (tap.exits is not None):
            self._set_handler()
        if self._faults_told != (tap.faults is not None):
            self._faults_told = tap.faults is not None
            self._core.set_fault(self._tell_fault if self._faults_told else None)

    def _tell_fault(self, address: int, code: int, rip: int) -> None:
        tap = self._engine.tap
        if tap.faults is not None:
            present, write, user, reserved, fetch = (bool(code & bit) for bit in FAULT_BITS)
            now = self._engine.clock.reference_time()
            tap.faults(PageFault(now, self.index, address, rip, present, write, fetch, user, reserved))

    def detach(self) -> None:
        """Let go of the handler, which refers to this processor."""
        self._core.set_fault(None)
        self._core.set_handler(tuple(_detached for _ in HANDLER_METHODS))

    def run(self) -> Exit:
        tap = self._engine.tap
        if self._traced != (tap.exits is not None) or self._faults_told != (tap.faults is not None):
            self._watch()
        return self.ended(self._core.run())

    def ended(self, outcome: int) -> Exit:
        """The native code's outcome as an exit."""
        if outcome == STOPPED:
            return Stopped()
        if outcome == HALTED:
            return Halted(bool(self._env.eflags & RFLAGS_IF))
        if outcome == SHUTDOWN:
            return TripleFault(self._env.eip)
        if outcome == DEBUG:
            return self.debug().event()
        return EngineFailure(f"Unicorn error {outcome - FAILED}", self._env.eip)

    def stop(self) -> None:
        self._core.stop()

    def native_stop(self) -> tuple[int, int]:
        return self._core.native_stop()

    def request_interrupt(self, vector: int) -> None:
        self._core.request_interrupt(vector)

    def set_wake(self, wake: Callable[[], None] | None) -> None:
        self._core.set_wake(wake)

    def cancel_interrupt(self) -> None:
        self._core.cancel_interrupt()

    def interrupt_requested(self) -> bool:
        return self._core.interrupt_requested()

    def general_register(self, index: int) -> int:
        return self._core.register(index)

    def set_general_register(self, index: int, value: int) -> None:
        self._env.regs[index] = value

    @property
    def rip(self) -> int:
        return int(self._env.eip)

    @property
    def cpl(self) -> int:
        return int(self._env.hflags) & layout.HF_CPL

    @property
    def long_mode(self) -> bool:
        return bool(self._env.hflags & layout.HF_CS64)

    @property
    def efer(self) -> int:
        return int(self._efer.value) & ~layout.EFER_SVME

    def set_efer(self, value: int) -> None:
        # SVME stays on beneath the guest: without it the translator knows no VMMCALL
        self._efer.value = value | layout.EFER_SVME

    def xmm(self, index: int) -> int:
        return int.from_bytes(ctypes.string_at(self._xmm(index), 16), "little")

    def set_xmm(self, index: int, value: int) -> None:
        ctypes.memmove(self._xmm(index), value.to_bytes(16, "little"), 16)

    def _xmm(self, index: int) -> int:
        return self._address + LAYOUT["ENV_XMM"] + LAYOUT["XMM_STRIDE"] * index

    def registers(self) -> Registers:
        env = self._env
        registers = Registers(general=list(env.regs), rip=env.eip, rflags=self._core.rflags(), efer=self.efer)
        for number, name in enumerate(SEGMENTS):
            setattr(registers, name, _segment(env.segs[number]))
        for name, field in TABLES:
            setattr(registers, name, _segment(getattr(env, field)))
        registers.cr0, _, registers.cr2, registers.cr3, registers.cr4 = env.cr
        return registers

    def set_registers(self, registers: Registers) -> None:
        env, uc = self._env, self._engine.uc
        # Unicorn's own order of enabling long mode; it keeps its derived flags right
        uc.reg_write(x86_const.UC_X86_REG_CR4, registers.cr4)
        uc.reg_write(x86_const.UC_X86_REG_CR3, registers.cr3)
        self._efer.value = registers.efer & ~layout.EFER_LMA | layout.EFER_SVME
        uc.reg_write(x86_const.UC_X86_REG_CR0, registers.cr0)
        env.cr[2] = registers.cr2
        env.regs[:] = registers.general
        env.eip, env.eflags = registers.rip, registers.rflags | 2
        for number, name in enumerate(SEGMENTS):
            _put_segment(env.segs[number], getattr(registers, name))
        for name, field in TABLES:
            _put_segment(getattr(env, field), getattr(registers, name))
        env.tr.flags &= ~layout.TASK_BUSY  # QEMU keeps a loaded task register as if it were not busy
        self._efer.value = registers.efer | layout.EFER_SVME
        self._derive_hflags(registers)
        self._core.flush(False)

    def _derive_hflags(self, registers: Registers) -> None:
        """The cached flags that follow from segments and EFER."""
        hflags = self._env.hflags & ~(layout.HF_CPL | layout.HF_ADDSEG | layout.HF_CS64 | layout.HF_LMA)
        hflags &= ~(layout.HF_CS32 | layout.HF_SS32)
        code, stack = registers.cs.flags, registers.ss.flags
        hflags |= layout.HF_SVME | (stack >> 13 & 3)
        if registers.efer & layout.EFER_LMA:
            hflags |= layout.HF_LMA
        long_code = bool(code & layout.SEGMENT_LONG) and bool(registers.efer & layout.EFER_LMA)
        if long_code:
            hflags |= layout.HF_CS64 | layout.HF_CS32 | layout.HF_SS32
        else:
            hflags |= layout.HF_CS32 if code & layout.SEGMENT_DEFAULT_32 else 0
            hflags |= layout.HF_SS32 if stack & layout.SEGMENT_DEFAULT_32 else 0
            hflags |= layout.HF_ADDSEG
        self._env.hflags = hflags

    def translate(self, linear: int) -> int | None:
        if not self._env.cr[0] & CR0_PG:
            return linear
        table = self._env.cr[3] & PTE_ADDRESS
        for shift in (39, 30, 21, 12):
            where = table + (linear >> shift & 511) * 8
            if not self._engine.memory.is_ram(where, 8):
                return None
            entry = self._engine.memory.read_u64(where)
            if not entry & PTE_PRESENT:
                return None
            if shift == 12 or (entry & PTE_LARGE and shift != 39):
                offset = (1 << shift) - 1
                return int(entry & PTE_ADDRESS & ~offset | linear & offset)
            table = entry & PTE_ADDRESS
        return None

    def debug(self) -> SoftwareDebug:
        if self._debug is None:
            from ringminus.cpu.software.debug import SoftwareDebug

            self._debug = SoftwareDebug(self._engine, self)
        return self._debug

    def save(self) -> dict[str, Any]:
        pending = self._core.interrupt_requested()
        return {
            "env": ctypes.string_at(self._address, LAYOUT["ENV_STATE_SIZE"]),
            "pending": self._core.vector() if pending else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        offset = LAYOUT["ENV_TSC_OFFSET"]
        kept = ctypes.string_at(self._address + offset, 8)
        ctypes.memmove(self._address, state["env"], LAYOUT["ENV_STATE_SIZE"])
        ctypes.memmove(self._address + offset, kept, 8)
        if state["pending"] is None:
            self._core.cancel_interrupt()
        else:
            self._core.request_interrupt(state["pending"])
        self._core.flush(True)


def _detached(*_: int) -> int:
    raise RuntimeError("the engine is closed")


def _segment(state: layout.SegmentState) -> Segment:
    return Segment(state.selector, state.base, state.limit, state.flags)


def _put_segment(state: layout.SegmentState, segment: Segment) -> None:
    state.selector, state.base = segment.selector, segment.base
    state.limit, state.flags = segment.limit, segment.flags

"""Breakpoints, watchpoints and single step of the software processor; see debug.c and `ProcessorDebug`.

QEMU plants a breakpoint while it translates, so what is translated already is dropped when one is added:
that is exact for addresses that are not mapped yet, for other address spaces, and for chained blocks.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Collection
from typing import TYPE_CHECKING

from ringminus.cpu.engine import (
    Debug,
    DebugReason,
    Exit,
    FloatingPoint,
    ProcessorDebug,
    Stopped,
    Watchpoint,
)
from ringminus.cpu.software import layout
from ringminus.cpu.software.library import uclib, x86_const

if TYPE_CHECKING:
    from ringminus.cpu.software.engine import SoftwareEngine
    from ringminus.cpu.software.processor import SoftwareProcessor

BP_GDB = 0x10
KERNEL_GS_BASE = 0xC0000102
MANTISSA = LAST_ADDRESS = (1 << 64) - 1
FLOATING_POINT = tuple(
    getattr(x86_const, f"UC_X86_REG_{name}") for name in ("FPCW", "FPSW", "FPTAG", "MXCSR")
)


class SoftwareDebug(ProcessorDebug):
    """One processor's."""

    def __init__(self, engine: SoftwareEngine, processor: SoftwareProcessor) -> None:
        self._uc = engine.uc
        self._core = engine.core
        self._cpu = engine.env_address - layout.LAYOUT["CPU_ENV"]
        self._processor = processor
        self._breakpoints: frozenset[int] = frozenset()
        self._watchpoints: tuple[Watchpoint, ...] = ()
        self._stepping = False

    def set_breakpoints(self, addresses: Collection[int]) -> None:
        wanted = frozenset(addresses)
        if wanted == self._breakpoints:
            return
        for address in self._breakpoints - wanted:
            _call("cpu_breakpoint_remove", self._cpu, address, BP_GDB)
        for address in wanted - self._breakpoints:
            _call("cpu_breakpoint_insert", self._cpu, address, BP_GDB, 0)
        self._breakpoints = wanted
        self._core.flush(True)

    def set_watchpoints(self, watchpoints: Collection[Watchpoint]) -> None:
        wanted = tuple(watchpoints)
        if wanted == self._watchpoints:
            return
        self._watchpoints = wanted
        self._core.set_watches(b"".join(map(_watch, wanted)))
        self._core.flush(False)  # the TLB remembers which pages are watched

    def step(self) -> Exit:
        ended: Exit = Stopped()
        while isinstance(ended, Stopped):  # a stop for something else came before the instruction
            ended = self._step()
        return ended

    def _step(self) -> Exit:
        self._stepping = True
        try:
            return self._processor.ended(self._core.step())
        finally:
            self._stepping = False

    def event(self) -> Exit:
        """What has just made the native code come back."""
        hit = self._core.watch_hit()
        if hit is not None:
            number, before = hit
            watchpoint = self._watchpoints[number]
            ended = self.step() if before else None  # the instruction is still to be run
            if ended is None or isinstance(ended, Debug):
                return Debug(DebugReason.WATCHPOINT, watchpoint)
            return ended
        return Debug(DebugReason.STEP if self._stepping else DebugReason.BREAKPOINT)

    def floating_point(self) -> FloatingPoint:
        read = self._uc.reg_read
        control, status, tag, mxcsr = (int(read(register)) for register in FLOATING_POINT)
        stack = []
        for number in range(8):
            mantissa, exponent = read(x86_const.UC_X86_REG_FP0 + _physical(number, status))
            stack.append(mantissa | exponent << 64)
        return FloatingPoint(stack, control, status, tag, mxcsr)

    def set_floating_point(self, state: FloatingPoint) -> None:
        write = self._uc.reg_write
        words = (state.control, state.status, state.tag, state.mxcsr)
        for register, value in zip(FLOATING_POINT, words, strict=True):
            write(register, value)
        for number, value in enumerate(state.stack):
            register = x86_const.UC_X86_REG_FP0 + _physical(number, state.status)
            write(register, (value & MANTISSA, value >> 64))

    @property
    def kernel_gs_base(self) -> int:
        return int(self._uc.msr_read(KERNEL_GS_BASE))

    def set_kernel_gs_base(self, value: int) -> None:
        self._uc.msr_write(KERNEL_GS_BASE, value)


def _physical(number: int, status: int) -> int:
    """The x87 register that is ST(number): the status word's TOP tells where the stack begins."""
    return (number + (status >> 11)) & 7


def _watch(watchpoint: Watchpoint) -> bytes:
    """The native code's struct Watch."""
    first, length = watchpoint.address, max(watchpoint.length, 1)
    return array("Q", (first, min(first + length - 1, LAST_ADDRESS), watchpoint.access)).tobytes()


def _call(name: str, *arguments: int) -> None:
    function = getattr(uclib, f"{name}_x86_64")
    function(*map(ctypes.c_uint64, arguments))

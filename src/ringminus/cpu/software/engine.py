"""The engine interface on Unicorn: one guest memory, one clock, and its processors."""

from __future__ import annotations

import ctypes
import time
from typing import Any

from ringminus.clock import TscClock
from ringminus.cpu.engine import Engine, ExitHandler
from ringminus.cpu.software import _native, layout
from ringminus.cpu.software.library import uclib, unicorn, x86_const
from ringminus.cpu.software.processor import SoftwareProcessor
from ringminus.errors import HostError
from ringminus.memory import HIGH_RAM_BASE, MIB, GuestMemory
from ringminus.tap import Tap

PHYSICAL_BITS = 40
TRANSLATION_BUFFER = 128 * MIB
CALIBRATION_NS = 10_000_000


class SoftwareEngine(Engine):
    """AMD64 in software, one host thread. What is no RAM is MMIO, up to 2^40."""

    clock: TscClock

    def __init__(self, memory: GuestMemory, tap: Tap, translation_buffer: int = TRANSLATION_BUFFER) -> None:
        self.memory = memory
        self.tap = tap
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_EPYC)
        self.uc.ctl_set_tcg_buffer_size(translation_buffer)
        self._handle: int = _integer(self.uc._uch)
        self._code_pages = bytearray(memory.size >> 12)
        low = memory.regions[0].size
        self._map_ram()
        self.core = _native.Core(
            uc=self._handle,
            code_pages=self._code_pages,
            ram=memory.host_address,
            ram_size=memory.size,
            low_size=low,
            high_base=HIGH_RAM_BASE,
        )
        layout.check_live(self._handle, self._write_marker, self.core.interposed())
        self.uc.ctl_exits_enabled(True)
        self._map_windows()
        self._add_hooks()
        memory.code_pages = self._code_pages
        memory.invalidate = self._invalidate
        self._processor: SoftwareProcessor | None = None
        self.clock = self._start_clock()

    def _map_ram(self) -> None:
        # in the order of the mapping, so that Unicorn's RAM offsets equal ours
        for region in self.memory.regions:
            host = self.memory.host_address + region.offset
            self.uc.mem_map_ptr(region.gpa, region.size, unicorn.UC_PROT_ALL, host)

    def _windows(self) -> tuple[tuple[int, int], ...]:
        """The ranges of physical addresses that are no RAM."""
        low_end = self.memory.regions[0].size
        high_end = HIGH_RAM_BASE + self.memory.size - low_end
        return (low_end, HIGH_RAM_BASE), (high_end, 1 << PHYSICAL_BITS)

    def _map_windows(self) -> None:
        *_, read, write = self.core.hooks()
        for index, (start, end) in enumerate(self._windows()):
            data = ctypes.c_void_p(self.core.window(index, start))
            status = uclib.uc_mmio_map(
                ctypes.c_void_p(self._handle),
                ctypes.c_uint64(start),
                ctypes.c_size_t(end - start),
                ctypes.cast(read, ctypes.c_void_p),
                data,
                ctypes.cast(write, ctypes.c_void_p),
                data,
            )
            if status:
                raise HostError(f"cannot map the MMIO window at {start:#x}: Unicorn says {status}")

    def _add_hooks(self) -> None:
        exception, invalid, fetch, _, _ = self.core.hooks()
        self._hook(unicorn.UC_HOOK_INTR, exception, 1, 0)
        self._hook(unicorn.UC_HOOK_INSN_INVALID, invalid, 1, 0)
        for start, end in self._windows():  # a memory hook over RAM would make every store slow
            self._hook(unicorn.UC_HOOK_MEM_FETCH_INVALID, fetch, start, end - 1)

    def _hook(self, kind: int, function: int, start: int, end: int) -> None:
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            *(ctypes.c_void_p(self._handle), ctypes.byref(handle), ctypes.c_int(kind)),
            *(ctypes.c_void_p(function), ctypes.c_void_p(self.core.address())),
            *(ctypes.c_uint64(start), ctypes.c_uint64(end)),
        )
        if status:
            raise HostError(f"cannot hook {kind} in Unicorn: it says {status}")

    def _write_marker(self, name: str, value: int) -> None:
        if name == "lstar":
            self.uc.reg_write(x86_const.UC_X86_REG_MSR, (0xC0000082, value))
        else:
            self.uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name.upper()}"), value)

    def _invalidate(self, gpa: int, length: int) -> None:
        offset = self.memory.offset(gpa, length)
        self.core.invalidate(offset, offset + length)

    def _start_clock(self) -> TscClock:
        self._tsc_offset = ctypes.c_uint64.from_address(self.env_address + layout.LAYOUT["ENV_TSC_OFFSET"])
        self._tsc_offset.value = 0
        hz = _measure_tsc(self.core)
        self._tsc_offset.value = -self.core.tsc() & (1 << 64) - 1
        return TscClock(self.core.tsc, hz)

    @property
    def env_address(self) -> int:
        """Host address of the processor's state."""
        return layout.env_address(self._handle)

    def create_processor(self, index: int, handler: ExitHandler) -> SoftwareProcessor:
        if self._processor is not None:
            raise HostError("the software processor runs one virtual processor")
        self._processor = SoftwareProcessor(self, index, handler)
        return self._processor

    def flush_tlb(self, index: int) -> None:
        """Forget the linear addresses that virtual processor `index` has translated."""
        self.core.flush(False)

    def counters(self) -> dict[str, Any]:
        """What the native code delivered: exceptions by vector, system calls, interrupts, code pages."""
        return self.core.counters()

    def pause_clock(self) -> None:
        self.clock.hold()

    def resume_clock(self) -> None:
        self._tsc_offset.value = self._tsc_offset.value - self.clock.release() & (1 << 64) - 1

    def close(self) -> None:
        self.memory.code_pages = None
        self.memory.invalidate = None
        if self._processor is not None:
            self._processor.detach()
            self._processor = None
        self.core.close()
        del self.uc


def _integer(handle: Any) -> int:
    return int(handle.value if hasattr(handle, "value") else handle)


def _measure_tsc(core: _native.Core) -> int:
    """The host's TSC frequency in Hz, rounded to 100 kHz."""
    start_ns, start = time.perf_counter_ns(), core.tsc()
    while (now_ns := time.perf_counter_ns()) - start_ns < CALIBRATION_NS:
        pass
    ticks = core.tsc() - start
    return round(ticks * 1e9 / (now_ns - start_ns) / 1e5) * 100_000

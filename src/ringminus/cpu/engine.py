"""What a processor is, whether software or hardware: memory, processors, exits, interrupts, state.

An exit that can be answered at once (CPUID, an MSR, a hypercall, a port, MMIO) is a call of the
`ExitHandler` with plain integers, made while the engine stays in guest mode; it allocates nothing and
costs about a microsecond. An exit on which the machine has to decide (halt, shutdown, stop) ends `run`
and is returned as a typed object.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from ringminus.clock import ReferenceClock
from ringminus.memory import GuestMemory

VECTOR_UD = 6
VECTOR_GP = 13


class GuestException(Exception):
    """Raised by an exit handler to give the guest an exception instead of an answer."""

    def __init__(self, vector: int, error_code: int | None = None) -> None:
        super().__init__(f"guest exception {vector}")
        self.vector = vector
        self.error_code = error_code


def general_protection() -> GuestException:
    """#GP(0)."""
    return GuestException(VECTOR_GP, 0)


def invalid_opcode() -> GuestException:
    """#UD."""
    return GuestException(VECTOR_UD)


@dataclass(frozen=True, slots=True)
class Halted:
    """HLT: nothing to do until an interrupt. `interruptible` is RFLAGS.IF."""

    interruptible: bool


@dataclass(frozen=True, slots=True)
class TripleFault:
    """The processor shut down at `rip`."""

    rip: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """`stop` was called, from an exit handler or another thread."""


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """The engine cannot go on at `rip`; `reason` says why."""

    reason: str
    rip: int


class Access(enum.IntFlag):
    """What a watchpoint watches for."""

    READ = 1
    WRITE = 2
    ANY = READ | WRITE


@dataclass(frozen=True, slots=True)
class Watchpoint:
    """Stops after the instruction that accesses any of `length` bytes at a linear address."""

    address: int
    length: int
    access: Access


class DebugReason(enum.Enum):
    """Why a processor stopped for a debugger."""

    STEP = enum.auto()
    BREAKPOINT = enum.auto()
    WATCHPOINT = enum.auto()


@dataclass(frozen=True, slots=True)
class Debug:
    """A debugger's event. After a step and at a watchpoint RIP is the next instruction; at a breakpoint it is
    the breakpoint's, which has not been executed."""

    reason: DebugReason
    watchpoint: Watchpoint | None = None


Exit = Halted | TripleFault | Stopped | EngineFailure | Debug


class ExitHandler(Protocol):
    """Who answers a processor's exits. Any method may raise `GuestException`; another exception ends
    `run`, which raises it again."""

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX."""

    def read_msr(self, msr: int) -> int:
        """64 bits."""

    def write_msr(self, msr: int, value: int) -> None: ...

    def hypercall(self, control: int, input: int, output: int) -> int:
        """VMCALL or VMMCALL with RCX, RDX and R8; gives RAX."""

    def port_in(self, port: int, size: int) -> int:
        """`size` is 1, 2 or 4 bytes."""

    def port_out(self, port: int, size: int, value: int) -> None: ...

    def mmio_read(self, gpa: int, size: int) -> int: ...

    def mmio_write(self, gpa: int, size: int, value: int) -> None: ...

    def read_cr8(self) -> int:
        """The task priority, 0–15."""

    def write_cr8(self, value: int) -> None: ...


@dataclass(slots=True)
class Segment:
    """A segment register with its hidden part; `flags` is the second descriptor word's attribute bits
    8–23 in place (so 0xaf9b00 is 64-bit code)."""

    selector: int = 0
    base: int = 0
    limit: int = 0
    flags: int = 0


GENERAL = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)


@dataclass(slots=True)
class Registers:
    """The registers that a loader or a debugger sets; general registers in hardware order (see GENERAL)."""

    general: list[int] = field(default_factory=lambda: [0] * 16)
    rip: int = 0
    rflags: int = 2
    es: Segment = field(default_factory=Segment)
    cs: Segment = field(default_factory=Segment)
    ss: Segment = field(default_factory=Segment)
    ds: Segment = field(default_factory=Segment)
    fs: Segment = field(default_factory=Segment)
    gs: Segment = field(default_factory=Segment)
    ldtr: Segment = field(default_factory=Segment)
    tr: Segment = field(default_factory=Segment)
    gdtr: Segment = field(default_factory=Segment)
    idtr: Segment = field(default_factory=Segment)
    cr0: int = 0
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    efer: int = 0


@dataclass(slots=True)
class FloatingPoint:
    """The x87 registers, ST0 first, each of 80 bits as an integer; `tag` has two bits for each physical
    register; and MXCSR."""

    stack: list[int] = field(default_factory=lambda: [0] * 8)
    control: int = 0x37F
    status: int = 0
    tag: int = 0xFFFF
    mxcsr: int = 0x1F80


class ProcessorDebug(ABC):
    """What a debugger needs of a processor beyond its registers, while `Processor.run` is not executing."""

    @abstractmethod
    def set_breakpoints(self, addresses: Collection[int]) -> None:
        """Make `run` give `Debug` before an instruction at one of these linear addresses, whether they are
        mapped or not, instead of the ones before. Where it already stands at one it goes no further."""

    @abstractmethod
    def set_watchpoints(self, watchpoints: Collection[Watchpoint]) -> None:
        """Make `run` and `step` give `Debug` after an access, instead of the ones before. What devices and
        page-table walks do is not seen."""

    @abstractmethod
    def step(self) -> Exit:
        """Execute one instruction (of a repeated string instruction one round), breakpoints or not, external
        interrupts masked. An exception in it ends the step at its handler. Never gives `Stopped`."""

    @abstractmethod
    def floating_point(self) -> FloatingPoint:
        """A copy."""

    @abstractmethod
    def set_floating_point(self, state: FloatingPoint) -> None:
        """Replace it."""

    @property
    @abstractmethod
    def kernel_gs_base(self) -> int:
        """What SWAPGS would bring."""

    @abstractmethod
    def set_kernel_gs_base(self, value: int) -> None: ...


class Processor(ABC):
    """One virtual processor as the engine sees it. All methods belong to the machine's thread, but `stop`."""

    index: int

    @abstractmethod
    def run(self) -> Exit:
        """Execute the guest until an exit that the handler cannot answer."""

    @abstractmethod
    def stop(self) -> None:
        """Make `run` return `Stopped` soon; may be called from any thread and from the handler."""

    @abstractmethod
    def native_stop(self) -> tuple[int, int]:
        """The addresses of a C function, `void (*)(void *)`, that does the same without Python, and of its
        argument; both are good for as long as the engine is open."""

    @abstractmethod
    def request_interrupt(self, vector: int) -> None:
        """Offer an external interrupt; it is taken when RFLAGS.IF and the interrupt shadow allow.
        Replaces an offer that has not been taken."""

    @abstractmethod
    def set_wake(self, wake: Callable[[], None] | None) -> None:
        """What to call when an interrupt is offered while `run` is not executing."""

    @abstractmethod
    def cancel_interrupt(self) -> None:
        """Withdraw the offer."""

    @abstractmethod
    def interrupt_requested(self) -> bool:
        """Whether an offer is still open (False: it was taken)."""

    @abstractmethod
    def registers(self) -> Registers:
        """A copy of the registers."""

    @abstractmethod
    def set_registers(self, registers: Registers) -> None:
        """Replace them all."""

    @property
    @abstractmethod
    def rip(self) -> int:
        """Address of the instruction that is executing or exiting."""

    @property
    @abstractmethod
    def cpl(self) -> int:
        """Current privilege level, 0–3."""

    @property
    @abstractmethod
    def long_mode(self) -> bool:
        """Whether the processor executes 64-bit code."""

    @abstractmethod
    def general_register(self, index: int) -> int:
        """One general register by its number in `GENERAL`."""

    @abstractmethod
    def set_general_register(self, index: int, value: int) -> None: ...

    @abstractmethod
    def xmm(self, index: int) -> int:
        """A 128-bit register as an integer."""

    @abstractmethod
    def set_xmm(self, index: int, value: int) -> None: ...

    @property
    @abstractmethod
    def efer(self) -> int:
        """IA32_EFER as the guest sees it."""

    @abstractmethod
    def set_efer(self, value: int) -> None:
        """The caller has validated `value`."""

    @abstractmethod
    def translate(self, linear: int) -> int | None:
        """Guest-physical address of a linear one by the guest's page tables, or None."""

    @abstractmethod
    def debug(self) -> ProcessorDebug:
        """For a debugger; what nobody asks for costs nothing."""

    @abstractmethod
    def save(self) -> dict[str, Any]:
        """The whole state, as plain data."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave."""


class Engine(ABC):
    """A kind of processor bound to one guest memory and one clock."""

    memory: GuestMemory
    clock: ReferenceClock

    @abstractmethod
    def create_processor(self, index: int, handler: ExitHandler) -> Processor:
        """Add a virtual processor whose exits `handler` answers."""

    @abstractmethod
    def pause_clock(self) -> None:
        """Stop the guest's TSC and reference time, until `resume_clock` was called as often. No processor
        runs meanwhile."""

    @abstractmethod
    def resume_clock(self) -> None:
        """Let them go on from where they stopped."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back; no processor may be used after."""

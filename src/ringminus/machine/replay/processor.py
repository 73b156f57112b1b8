"""A processor that executes nothing: who has it plays the guest from outside, by calling the exit handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringminus.clock import MockClock
from ringminus.cpu.engine import Engine, ExitHandler, Processor, ProcessorDebug, Registers, Stopped
from ringminus.memory import GuestMemory

PROTECTED_MODE, LONG_MODE = 0x80000011, 0xD01  # CR0 with paging, EFER with long mode


class StillProcessor(Processor):
    """Holds the state that an exit handler looks at; `accept` is an interrupt's delivery, `stopped` counts
    how often it was to stop."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.offered: int | None = None
        self.stopped = 0
        self.state = Registers(cr0=PROTECTED_MODE, efer=LONG_MODE)
        self.xmms = [0] * 16
        self.current_cpl = 0
        self.is_long = True

    def run(self) -> Stopped:
        return Stopped()

    def stop(self) -> None:
        self.stopped += 1

    def native_stop(self) -> tuple[int, int]:
        raise NotImplementedError

    def set_wake(self, wake: Callable[[], None] | None) -> None:
        """It does not sleep."""

    def request_interrupt(self, vector: int) -> None:
        self.offered = vector

    def cancel_interrupt(self) -> None:
        self.offered = None

    def interrupt_requested(self) -> bool:
        return self.offered is not None

    def accept(self) -> int | None:
        """Take the interrupt that is offered."""
        vector, self.offered = self.offered, None
        return vector

    def registers(self) -> Registers:
        return self.state

    def set_registers(self, registers: Registers) -> None:
        self.state = registers

    @property
    def rip(self) -> int:
        return self.state.rip

    @property
    def cpl(self) -> int:
        return self.current_cpl

    @property
    def long_mode(self) -> bool:
        return self.is_long

    def general_register(self, index: int) -> int:
        return self.state.general[index]

    def set_general_register(self, index: int, value: int) -> None:
        self.state.general[index] = value

    def xmm(self, index: int) -> int:
        return self.xmms[index]

    def set_xmm(self, index: int, value: int) -> None:
        self.xmms[index] = value

    @property
    def efer(self) -> int:
        return self.state.efer

    def set_efer(self, value: int) -> None:
        self.state.efer = value

    def translate(self, linear: int) -> int | None:
        return linear

    def debug(self) -> ProcessorDebug:
        raise NotImplementedError

    def save(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """It has nothing to bring back."""


class StillEngine(Engine):
    """Real memory, a clock that stands until it is moved, and processors that execute nothing."""

    def __init__(self, memory: GuestMemory, clock: MockClock | None = None) -> None:
        self.memory = memory
        self.mock_clock = MockClock() if clock is None else clock
        self.clock = self.mock_clock
        self.processors: list[StillProcessor] = []

    def create_processor(self, index: int, handler: ExitHandler) -> StillProcessor:
        self.processors.append(StillProcessor(index))
        return self.processors[-1]

    def pause_clock(self) -> None:
        """It stands anyway."""

    def resume_clock(self) -> None:
        """It stands anyway."""

    def close(self) -> None:
        """It holds nothing."""

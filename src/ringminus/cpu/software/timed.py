"""Wraps an exit handler's methods so that each exit becomes a `VmExit` event with its cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringminus.clock import ReferenceClock
from ringminus.tap import Tap, VmExit

if TYPE_CHECKING:
    from ringminus.cpu.engine import Processor

# per handler method: the exit's name, and which argument tells what it was about
REASONS = (
    ("cpuid", 0),
    ("rdmsr", 0),
    ("wrmsr", 0),
    ("hypercall", 0),
    ("port-in", 0),
    ("port-out", 0),
    ("mmio-read", 0),
    ("mmio-write", 0),
    ("cr8-read", None),
    ("cr8-write", 0),
)


def timed(
    methods: list[Callable[..., Any]], processor: Processor, tap: Tap, clock: ReferenceClock
) -> list[Callable[..., Any]]:
    """The same methods, each telling `tap.exits` of the exit it answered."""
    return [
        _timed(method, reason, argument, processor, tap, clock)
        for method, (reason, argument) in zip(methods, REASONS, strict=True)
    ]


def _timed(
    method: Callable[..., Any],
    reason: str,
    argument: int | None,
    processor: Processor,
    tap: Tap,
    clock: ReferenceClock,
) -> Callable[..., Any]:
    now = time.perf_counter_ns

    def answer(*arguments: int) -> Any:
        rip, entered, scope = processor.rip, clock.reference_time(), tap.enter()
        started = now()
        try:
            return method(*arguments)
        finally:
            spent = now() - started
            tap.leave(scope)
            if tap.exits is not None:
                detail = arguments[argument] if argument is not None else 0
                exited = VmExit(entered, processor.index, reason, rip, detail, spent)
                exited.sequence, exited.cause = scope
                tap.exits(exited)

    return answer

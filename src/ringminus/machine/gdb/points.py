"""The breakpoints and watchpoints that gdb has asked for."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from ringminus.cpu.engine import Access, Processor, Watchpoint


class PointType(enum.IntEnum):
    """The first number of `Z` and `z`."""

    SOFTWARE_BREAKPOINT = 0
    HARDWARE_BREAKPOINT = 1
    WRITE_WATCHPOINT = 2
    READ_WATCHPOINT = 3
    ACCESS_WATCHPOINT = 4


ACCESSES = {
    PointType.WRITE_WATCHPOINT: Access.WRITE,
    PointType.READ_WATCHPOINT: Access.READ,
    PointType.ACCESS_WATCHPOINT: Access.ANY,
}
# what a stop by a watchpoint is called
WATCH_NAMES = {Access.WRITE: b"watch", Access.READ: b"rwatch", Access.ANY: b"awatch"}
Point = tuple[PointType, int, int]


class Points:
    """Kept here while gdb takes them out and puts them in again around every stop; the processors get what
    is left when the guest goes on."""

    def __init__(self) -> None:
        self._points: dict[Point, None] = {}

    def insert(self, point: Point) -> None:
        """Asking twice is asking once."""
        self._points[point] = None

    def remove(self, point: Point) -> None:
        """What is not there needs no removal."""
        self._points.pop(point, None)

    def clear(self) -> None:
        self._points.clear()

    def is_hardware(self, address: int) -> bool:
        """Whether a breakpoint there was asked for as a hardware one."""
        return any(kind is PointType.HARDWARE_BREAKPOINT and at == address for kind, at, _ in self._points)

    def apply(self, processors: Iterable[Processor], *, stepping: bool = False) -> None:
        """Give them to the processors. A step does not look at breakpoints, so they may stay as they are."""
        watchpoints = [
            Watchpoint(address, length, ACCESSES[kind])
            for kind, address, length in self._points
            if kind in ACCESSES
        ]
        breakpoints = {address for kind, address, _ in self._points if kind not in ACCESSES}
        for processor in processors:
            processor.debug().set_watchpoints(watchpoints)
            if not stepping:
                processor.debug().set_breakpoints(breakpoints)

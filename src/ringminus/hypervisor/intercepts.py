"""The address spaces that are not RAM: I/O ports and memory-mapped devices.

What nobody claims reads as all ones and ignores writes, like a bus without a device.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

PORTS = 1 << 16


class PortDevice(Protocol):
    """A device on I/O ports; `port` is absolute, `size` is 1, 2 or 4 bytes."""

    def port_in(self, port: int, size: int) -> int: ...

    def port_out(self, port: int, size: int, value: int) -> None: ...


class MmioDevice(Protocol):
    """A device in memory; `offset` is relative to its base, `size` is 1, 2, 4 or 8 bytes."""

    def mmio_read(self, offset: int, size: int) -> int: ...

    def mmio_write(self, offset: int, size: int, value: int) -> None: ...


class PortSpace:
    """The 65,536 I/O ports. An access belongs to the device of its first port."""

    def __init__(self) -> None:
        self._devices: dict[int, PortDevice] = {}

    def register(self, first: int, count: int, device: PortDevice) -> None:
        """Give `count` ports from `first` to `device`; raises ValueError when one is taken."""
        ports = range(first, first + count)
        if not 0 <= first < first + count <= PORTS:
            raise ValueError(f"ports {first:#x}+{count:#x} do not exist")
        taken = [port for port in ports if port in self._devices]
        if taken:
            raise ValueError(f"port {taken[0]:#x} is taken")
        self._devices.update(dict.fromkeys(ports, device))

    def port_in(self, port: int, size: int) -> int:
        device = self._devices.get(port)
        ones: int = (1 << 8 * size) - 1
        return ones if device is None else device.port_in(port, size) & ones

    def port_out(self, port: int, size: int, value: int) -> None:
        device = self._devices.get(port)
        if device is not None:
            device.port_out(port, size, value & (1 << 8 * size) - 1)


class MmioSpace:
    """Guest-physical memory that is no RAM. An access that leaves its device's range belongs to nobody."""

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._ranges: list[tuple[int, int, MmioDevice]] = []

    def register(self, gpa: int, size: int, device: MmioDevice) -> None:
        """Give `size` bytes at `gpa` to `device`; raises ValueError when they overlap another's."""
        place = bisect_right(self._bases, gpa)
        before, after = self._ranges[:place], self._ranges[place:]
        if size <= 0 or (before and before[-1][1] > gpa) or (after and after[0][0] < gpa + size):
            raise ValueError(f"{gpa:#x}+{size:#x} is taken or empty")
        self._bases.insert(place, gpa)
        self._ranges.insert(place, (gpa, gpa + size, device))

    def _find(self, gpa: int, size: int) -> tuple[int, MmioDevice] | None:
        place = bisect_right(self._bases, gpa) - 1
        if place < 0:
            return None
        base, end, device = self._ranges[place]
        return (gpa - base, device) if gpa + size <= end else None

    def mmio_read(self, gpa: int, size: int) -> int:
        found = self._find(gpa, size)
        ones: int = (1 << 8 * size) - 1
        return ones if found is None else found[1].mmio_read(found[0], size) & ones

    def mmio_write(self, gpa: int, size: int, value: int) -> None:
        found = self._find(gpa, size)
        if found is not None:
            found[1].mmio_write(found[0], size, value & (1 << 8 * size) - 1)

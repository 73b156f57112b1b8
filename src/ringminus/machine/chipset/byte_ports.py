"""Devices whose registers are single bytes, as on the ISA bus."""

from __future__ import annotations

from abc import ABC, abstractmethod

NO_DEVICE = 0xFF


class BytePorts(ABC):
    """A `PortDevice` made of bytes: the bus splits a wider access into one for each port.

    `ranges` are the (first port, count) pairs to register.
    """

    ranges: tuple[tuple[int, int], ...]

    @abstractmethod
    def read(self, port: int) -> int:
        """One byte; a port that is not the device's reads as 0xff."""

    @abstractmethod
    def write(self, port: int, value: int) -> None:
        """One byte; a port that is not the device's ignores it."""

    def port_in(self, port: int, size: int) -> int:
        if size == 1:
            return self.read(port)
        return int.from_bytes((self.read(port + i) for i in range(size)), "little")

    def port_out(self, port: int, size: int, value: int) -> None:
        if size == 1:
            self.write(port, value & 0xFF)
        else:
            for index in range(size):
                self.write(port + index, value >> 8 * index & 0xFF)

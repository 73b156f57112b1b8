"""Guest memory as gdb names it: linear addresses by the guest's page tables, or guest-physical ones."""

from __future__ import annotations

from collections.abc import Iterator

from ringminus.cpu.engine import Processor
from ringminus.memory import PAGE_MASK, PAGE_SIZE, GuestMemory

SIGN = 1 << 47  # linear addresses have 48 bits, and the upper ones repeat the last
LINEAR_LIMIT = 1 << 64


class NotMapped(Exception):
    """No RAM is there."""


def canonical(linear: int) -> bool:
    """Whether it is an address at all."""
    return linear < SIGN or linear >= LINEAR_LIMIT - SIGN


def physical(processor: Processor, linear: int) -> int | None:
    """The guest-physical address of a linear one."""
    return processor.translate(linear) if canonical(linear) else None


def read(memory: GuestMemory, processor: Processor | None, address: int, length: int) -> bytes:
    """Up to `length` bytes, fewer where a page is missing. Without a processor `address` is guest-physical.
    Raises `NotMapped` if there is none at all."""
    data = bytearray()
    for gpa, size in _pieces(memory, processor, address, length):
        if gpa is None:
            break
        data += memory.read(gpa, size)
    if length and not data:
        raise NotMapped
    return bytes(data)


def write(memory: GuestMemory, processor: Processor | None, address: int, data: bytes) -> None:
    """All of it or, with `NotMapped`, nothing; read-only pages too."""
    pieces = []
    for gpa, size in _pieces(memory, processor, address, len(data)):
        if gpa is None:
            raise NotMapped
        pieces.append((gpa, size))
    position = 0
    for gpa, size in pieces:
        memory.write(gpa, data[position : position + size])
        position += size


def _pieces(
    memory: GuestMemory, processor: Processor | None, address: int, length: int
) -> Iterator[tuple[int | None, int]]:
    """The range page by page: guest-physical address, or None where no RAM is, and size."""
    while length > 0:
        size = min(length, PAGE_SIZE - (address & PAGE_MASK))
        gpa = address if processor is None else physical(processor, address)
        yield gpa if gpa is not None and memory.is_ram(gpa, size) else None, size
        address = (address + size) % LINEAR_LIMIT
        length -= size

"""CRC-32C over structures that hold it in themselves, counted as zero."""

from __future__ import annotations

import struct

from crc32c import crc32c

_FIELD = slice(4, 8)  # every checksum in a VHDX is the second field


def checksum(structure: bytes | bytearray | memoryview) -> int:
    """The checksum that `structure` should hold."""
    crc = crc32c(structure[:4])
    crc = crc32c(b"\0\0\0\0", crc)
    return crc32c(structure[8:], crc)


def is_sound(structure: bytes | bytearray | memoryview) -> bool:
    """Whether `structure` holds its own checksum."""
    return checksum(structure) == int.from_bytes(structure[_FIELD], "little")


def seal(structure: bytearray) -> None:
    """Put its checksum into `structure`."""
    struct.pack_into("<I", structure, 4, checksum(structure))

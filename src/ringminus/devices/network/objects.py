"""What is common to the objects and values that a guest sets: how they are read, and how one is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ringminus.devices.network.ndis_wire import ObjectHeader
from ringminus.devices.network.oid_wire import NUMBER
from ringminus.devices.network.rndis_wire import Status
from ringminus.wire import Struct

S = TypeVar("S", bound=Struct)


class Refused(Exception):
    """A query or set is answered with this status. It is no error of the protocol: the guest goes on."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(f"{status.name}: {reason}")
        self.status = status


def read_number(info: bytes) -> int:
    """A value of 32 bits; raises `Refused`."""
    if len(info) < NUMBER.size:
        raise Refused(Status.INVALID_LENGTH, f"a number has 4 bytes, {len(info)} are there")
    number: int = NUMBER.unpack_from(info)[0]
    return number


def read_object(structure: type[S], info: bytes, smallest: int) -> S:
    """An object of any revision that has at least `smallest` bytes; fields that it has not are 0. How long
    the object says that it is counts where that is shorter than the structure. Raises `Refused`."""
    size = ObjectHeader.unpack(info).size if len(info) >= ObjectHeader.SIZE else 0
    if not smallest <= size <= len(info):
        reason = f"{structure.__name__} says that it has {size} bytes, {len(info)} are there"
        raise Refused(Status.INVALID_LENGTH, reason)
    return structure.unpack(info[: min(size, structure.SIZE)].ljust(structure.SIZE, b"\0"))


def read_structure(structure: type[S], info: bytes, smallest: int) -> S:
    """A structure whose first `smallest` bytes must be there; others that are missing are 0. Raises
    `Refused`."""
    if len(info) < smallest:
        reason = f"{structure.__name__} needs {smallest} bytes, {len(info)} are there"
        raise Refused(Status.INVALID_LENGTH, reason)
    return structure.unpack(info[: structure.SIZE].ljust(structure.SIZE, b"\0"))


def asked_revision(info: bytes, kind: int, sizes: Mapping[int, int], default: int) -> int:
    """Which revision of an object is to be answered. A guest that wants a certain one asks with its header;
    one that asks with nothing, or with what is no such header, gets `default`."""
    if len(info) < ObjectHeader.SIZE:
        return default
    header = ObjectHeader.unpack(info)
    if header.type != kind or not header.revision or header.size < min(sizes.values()):
        return default
    fitting = (number for number, size in sizes.items() if number <= header.revision and size <= header.size)
    return max(fitting)

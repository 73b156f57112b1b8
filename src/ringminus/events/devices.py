"""What devices bring forth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ringminus.changes import DELAY, DROP, DUPLICATE, Kind
from ringminus.events.base import Event


@dataclass(slots=True, eq=False, repr=False)
class DeviceMessage(Event):
    """A message of a device's that is not in a ring's packet, but in memory that a packet names: RNDIS.

    `protocol` is the name of its declaration; `payload` may leave out bulk data at its end, of `size` bytes
    in all.

    It can be changed before the device takes it, or before it is put where the guest finds it; bulk data that
    was left out comes after it then. Dropped, it never arrives, and what carried it is completed. The packet
    that carries it can be delayed and duplicated."""

    POINT = "device"
    NAME = "device"
    MAY = frozenset((DROP,))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"payload": bytes}
    device: str
    protocol: str
    to_guest: bool
    payload: bytes
    size: int


@dataclass(slots=True, eq=False, repr=False)
class NetworkFrame(Event):
    """An Ethernet frame between a network adapter and its port of a switch.

    `data` begins with the destination address and has no 802.1Q tag; `tci` is the tag's control
    information. `segment_size` above 0 says that it is a large TCP frame that stands for several,
    `checksum` what is known of its TCP or UDP checksum (`UNKNOWN`, `VALID`, `MISSING`).

    It can be changed before the switch or the guest gets it. One that is dropped is counted by its adapter.
    Where `data` is changed and `checksum` is not, a VALID one becomes UNKNOWN; `MISSING` has it computed."""

    POINT = "frames"
    NAME = "frame"
    MAY = frozenset((DROP, DELAY, DUPLICATE))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {
        "data": bytes,
        "checksum": ("UNKNOWN", "VALID", "MISSING"),
        "segment_size": 16,
    }
    adapter: str
    to_guest: bool
    data: bytes
    tci: int | None
    checksum: str
    segment_size: int


@dataclass(slots=True, eq=False, repr=False)
class SerialData(Event):
    """Bytes went through a serial port: a line of the guest's, or what it sent before it stopped for a while,
    or what was typed at once. `base` is the port's first I/O port."""

    POINT = "serial"
    NAME = "serial"
    base: int
    to_guest: bool
    data: bytes

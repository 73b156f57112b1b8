"""Values as people read them."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from ringminus.protocol.declaration import Show


@cache
def _names_of(labels: type[IntEnum] | type[IntFlag]) -> tuple[bool, dict[int, str]]:
    """Whether they are flags, and the names of the values."""
    return issubclass(labels, IntFlag), {one.value: one.name or "" for one in labels}


def label_of(labels: type[IntEnum] | type[IntFlag] | None, value: object) -> str:
    """The name of a value, "" if it has none."""
    if labels is None or not isinstance(value, int):
        return ""
    flags, names = _names_of(labels)
    if not flags:
        return names.get(value, "")
    return "|".join(name for flag, name in names.items() if flag and value & flag == flag)


_SIZES = {Show.MAC: 6, Show.IPV4: 4, Show.IPV6: 16, Show.GUID: 16}
_CONSTRUCTED: dict[Show, Callable[[bytes], str]] = {
    Show.MAC: lambda data: data.hex(":"),
    Show.IPV4: lambda data: str(IPv4Address(data)),
    Show.IPV6: lambda data: str(IPv6Address(data)),
    Show.GUID: lambda data: str(UUID(bytes_le=data)),
}


def shown(value: object, show: Show | None) -> str:
    """A value as it is read: `ff02::1` for an IPv6 address. Bytes that cannot be read so are hexadecimal;
    several addresses have commas between them."""
    if isinstance(value, bytes):
        return _bytes(value, show)
    if isinstance(value, tuple):
        return ",".join(shown(one, show) for one in value)
    return f"{value:#x}" if show is Show.HEX and isinstance(value, int) else str(value)


def _bytes(value: bytes, show: Show | None) -> str:
    if show is Show.UTF16 or show is Show.TEXT:
        text = value.decode("utf-16-le" if show is Show.UTF16 else "latin-1", "replace")
        return text.partition("\0")[0]
    size = _SIZES.get(show) if show is not None else None
    if show is None or size is None or not value or len(value) % size:
        return value.hex()
    make = _CONSTRUCTED[show]
    return ",".join(make(value[at : at + size]) for at in range(0, len(value), size))

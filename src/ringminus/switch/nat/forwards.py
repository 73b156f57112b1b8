"""Ports of the host that lead to a guest: `tcp:2222:22`, and how that is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from ringminus.errors import ConfigError

Address = IPv4Address | IPv6Address

FORM = "PROTOCOL:[HOST_ADDRESS:]HOST_PORT:[GUEST_ADDRESS:]GUEST_PORT"
LOOPBACK = IPv4Address("127.0.0.1")
LOOPBACK6 = IPv6Address("::1")

_PART = re.compile(r"\[([^\[\]]*)\]|([^:\[\]]*)")


@dataclass(frozen=True, slots=True)
class Forward:
    """What reaches `host`:`host_port` of the host goes to `guest`:`guest_port`; `protocol` is "tcp" or "udp".
    `guest` is None for the first address that DHCP gives, in IPv6 for the first guest that is heard of."""

    protocol: str
    host_port: int
    guest_port: int
    host: Address = LOOPBACK
    guest: Address | None = None

    def __post_init__(self) -> None:
        if self.protocol not in ("tcp", "udp"):
            raise ConfigError(f"a forward is for tcp or udp, not {self.protocol!r}")
        for whose, port in (("host", self.host_port), ("guest", self.guest_port)):
            if not 0 < port < 65536:
                raise ConfigError(f"forward {self}: the {whose}'s port is from 1 to 65535")
        if self.guest is not None and self.guest.version != self.host.version:
            raise ConfigError(f"forward {self}: IPv4 is forwarded to IPv4 only, and IPv6 to IPv6")

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return self.host.version

    def __str__(self) -> str:
        guest = "" if self.guest is None else f"{_written(self.guest)}:"
        return f"{self.protocol}:{_written(self.host)}:{self.host_port}:{guest}{self.guest_port}"


def _written(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def parse(text: str) -> Forward:
    """A forward from `tcp:2222:22`, `udp:127.0.0.1:5353:10.0.2.15:53` or `tcp:[::1]:8080:[fec0::15]:80`.
    Without a host address only this host's own programs reach it; `*` is every address of the host. Raises
    `ConfigError`."""
    parts = _parts(text)
    protocol = parts.pop(0).lower() if parts else ""
    if protocol not in ("tcp", "udp"):
        raise _unreadable(text, "it begins with tcp: or udp:")
    host = guest = None
    if parts and not parts[0].isdecimal():
        host = parts.pop(0)
    host_port = _port(text, parts)
    if parts and not parts[0].isdecimal():
        guest = parts.pop(0)
    guest_port = _port(text, parts)
    if parts:
        raise _unreadable(text, f"what is {parts[0]!r}?")
    guest_address = None if guest is None else _address(text, guest)
    version = 4 if guest_address is None else guest_address.version
    if host is None:
        host_address: Address = LOOPBACK if version == 4 else LOOPBACK6
    elif host == "*":
        host_address = IPv4Address(0) if version == 4 else IPv6Address(0)
    else:
        host_address = _address(text, host)
    return Forward(protocol, host_port, guest_port, host_address, guest_address)


def _unreadable(text: str, why: str) -> ConfigError:
    return ConfigError(f"cannot read forward {text!r}: {why} (the form is {FORM}, as in tcp:2222:22)")


def _parts(text: str) -> list[str]:
    """The parts between colons; an IPv6 address in brackets is one part."""
    parts, at = [], 0
    while True:
        match = _PART.match(text, at)
        assert match is not None  # it matches the empty string
        parts.append(match[1] if match[1] is not None else match[2])
        at = match.end()
        if at == len(text):
            return parts
        if text[at] != ":":
            raise _unreadable(text, "an IPv6 address is written in brackets")
        at += 1


def _port(text: str, parts: list[str]) -> int:
    if not parts:
        raise _unreadable(text, "a port is missing")
    part = parts.pop(0)
    if not (part.isascii() and part.isdecimal() and len(part) <= 5 and 0 < int(part) < 65536):
        raise _unreadable(text, f"{part!r} is no port from 1 to 65535")
    return int(part)


def _address(text: str, part: str) -> Address:
    try:
        address = ip_address(part)
    except ValueError:
        raise _unreadable(text, f"{part!r} is no IP address") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise _unreadable(text, "an address with a scope cannot be forwarded")
    return address

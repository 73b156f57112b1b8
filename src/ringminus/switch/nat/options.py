"""NAT's options as a person writes them: `forward=tcp:2222:22`, `net=10.1.0.0/24`, `ipv6=off`, `restrict`."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Any

from ringminus.errors import ConfigError
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.forwards import parse

OPTIONS = ("forward", "net", "ipv6", "restrict")


def parse_nat_options(options: Iterable[str]) -> NatConfig:
    """A NAT from words whose first part is one of `OPTIONS`; raises `ConfigError`."""
    said: dict[str, Any] = {}
    forwards = []
    for option in options:
        key, equals, value = option.partition("=")
        if key == "forward":
            forwards.append(parse(value))
            continue
        if key in said:
            raise ConfigError(f"{key} is there twice; write it once")
        if key == "net":
            said[key] = _network(value)
        elif key == "ipv6":
            if value not in ("on", "off"):
                raise ConfigError(f"{option}: write ipv6=off, or leave it out")
            said[key] = value == "on"
        elif key == "restrict":
            if equals:
                raise ConfigError(f"{option}: write restrict alone")
            said[key] = True
        else:
            raise ConfigError(f"a NAT has no option {key}; it has {', '.join(OPTIONS)}")
    made: dict[str, Any] = {"restrict": said.get("restrict", False), "forwards": tuple(forwards)}
    if "net" in said:
        made["network"] = said["net"]
    if said.get("ipv6") is False:
        made["ipv6"] = None
    return NatConfig(**made)


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise ConfigError(f"net={text}: {error}; write a network such as net=10.0.2.0/24") from None

"""Changing some of a port's settings, by the words in which they are said at first."""

from __future__ import annotations

from collections.abc import Iterable

from ringminus.errors import ConfigError
from ringminus.switch.port import PortSettings
from ringminus.switch.settings import format_port_options, parse_port_options

NOTHING = ("off", "none")
"""`limit=none`, `dhcp-guard=off` and the like take away what was said before."""
_OPTIONAL = {"vlan", "trunk", "native", "limit", "mirror", "spoofing", "dhcp-guard", "router-guard"}
_EXCLUDES = {"vlan": ("trunk", "native"), "trunk": ("vlan",), "native": ("vlan",)}


def changed(settings: PortSettings, options: Iterable[str]) -> PortSettings:
    """`settings` with what `options` say instead; raises `ConfigError`."""
    words = {word.partition("=")[0]: word for word in format_port_options(settings)}
    seen: set[str] = set()
    for option in options:
        key, _, value = option.partition("=")
        if key == "mac":
            raise ConfigError("mac= is said where the port is made: the guest has its address already")
        if key in seen:
            raise ConfigError(f"{key} is there twice; write it once")
        seen.add(key)
        for other in _EXCLUDES.get(key, ()):
            if other not in seen:
                words.pop(other, None)
        if key in _OPTIONAL and value in NOTHING:
            words.pop(key, None)
            if key == "trunk":
                words.pop("native", None)
        else:
            words[key] = option
    return parse_port_options(words.values())

"""A port's settings as a person writes them, and as plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

from ringminus.errors import ConfigError
from ringminus.switch.mirroring import DESTINATION, SOURCE
from ringminus.switch.port import ADDRESS_SIZE, PortSettings, VlanMode
from ringminus.switch.vlans import LARGEST_ID

MIRRORS = (SOURCE, DESTINATION)
LARGEST_MEGABITS = 1_000_000
SMALLEST_LIMIT, LARGEST_LIMIT = 8_000, 10**12
LARGEST_NAME = 64

_ADDRESS = re.compile(r"[0-9a-f]{2}(?:([:-]?)[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}", re.IGNORECASE)
_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([kMG]?)(?:bit)?", re.IGNORECASE | re.ASCII)
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)
_FLAGS = {"spoofing": "spoofing", "dhcp-guard": "dhcp_guard", "router-guard": "router_guard"}


# ------------------------------------------------------------------ words


def parse_address(text: str) -> bytes:
    """A network adapter's address: six bytes in hexadecimal, with colons, hyphens or nothing between. Raises
    `ConfigError`."""
    if not _ADDRESS.fullmatch(text):
        raise ConfigError(f"mac={text}: write six bytes in hexadecimal, such as mac=00:15:5d:01:02:03")
    address = bytes.fromhex(re.sub("[:-]", "", text))
    if why := _wrong_address(address):
        raise ConfigError(f"mac={text}: {why}")
    return address


def parse_rate(option: str, text: str) -> int:
    """Bits per second from `100M`; the factors are decimal. Raises `ConfigError`."""
    match = _RATE.fullmatch(text)
    bits = Decimal(match[1]) * _SCALE[match[2].lower()] if match else Decimal(0)
    if match is None or bits != int(bits):
        raise ConfigError(f"{option}={text}: write bits per second, such as {option}=100M (k, M or G)")
    return int(bits)


def _vlan_id(option: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or not 1 <= int(text) <= LARGEST_ID:
        raise ConfigError(f"{option}={text}: write a VLAN id from 1 to {LARGEST_ID}, such as {option}=5")
    return int(text)


def parse_vlans(option: str, text: str) -> frozenset[int]:
    """VLAN ids from `1+10-20`. Raises `ConfigError`."""
    vlans: set[int] = set()
    for part in text.split("+"):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= LARGEST_ID:
            raise ConfigError(
                f"{option}={text}: write VLAN ids from 1 to {LARGEST_ID}, such as {option}=1+10-20"
            )
        vlans.update(range(first, last + 1))
    return frozenset(vlans)


def _speed(option: str, text: str) -> int:
    bits = parse_rate(option, text)
    if bits % 10**6 or not 1 <= bits // 10**6 <= LARGEST_MEGABITS:
        raise ConfigError(f"{option}={text}: write whole megabits from 1M to 1000G, such as {option}=10G")
    return bits // 10**6


def _limit(option: str, text: str) -> int:
    bits = parse_rate(option, text)
    if not SMALLEST_LIMIT <= bits <= LARGEST_LIMIT:
        raise ConfigError(f"{option}={text}: write a limit from 8k to 1000G, such as {option}=100M")
    return bits


def _link(option: str, text: str) -> bool:
    if text not in ("up", "down"):
        raise ConfigError(f"{option}={text}: write {option}=up or {option}=down")
    return text == "up"


def _mirror(option: str, text: str) -> str:
    if text not in MIRRORS:
        raise ConfigError(f"{option}={text}: write " + " or ".join(f"{option}={one}" for one in MIRRORS))
    return text


def _name(option: str, text: str) -> str:
    if not text or (why := _wrong_name(text)):
        raise ConfigError(f"{option}={text}: {why if text else 'write a name behind the ='}")
    return text


_VALUES: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "name": ("name", _name),
    "mac": ("address", lambda _, text: parse_address(text)),
    "vlan": ("access", _vlan_id),
    "trunk": ("trunk", parse_vlans),
    "native": ("native", _vlan_id),
    "limit": ("limit", _limit),
    "speed": ("megabits", _speed),
    "mirror": ("mirror", _mirror),
    "link": ("link", _link),
}


def parse_port_options(options: Iterable[str]) -> PortSettings:
    """Settings from words such as `vlan=5`, `limit=100M`, `dhcp-guard`; what is not said is as Hyper-V has
    it. Raises `ConfigError` with what to write instead."""
    said: dict[str, Any] = {}
    for option in options:
        word, equals, text = option.partition("=")
        if word in _FLAGS:
            if equals:
                raise ConfigError(f"{option}: write {word} alone")
            field, value = _FLAGS[word], True
        elif word in _VALUES:
            field, parse = _VALUES[word]
            value = parse(word, text)
        else:
            known = ", ".join([*_FLAGS, *(f"{one}=" for one in _VALUES)])
            raise ConfigError(f"there is no port option {word or repr(option)}; there are {known}")
        if field in said:
            raise ConfigError(f"{word} is there twice; write it once")
        said[field] = value
    if "access" in said and said.keys() & {"trunk", "native"}:
        raise ConfigError("a port has either vlan= or trunk=; write native= for a trunk's untagged frames")
    if "native" in said and "trunk" not in said:
        raise ConfigError("native= is for a trunk; write trunk= with its VLANs too, or vlan= instead")
    mode = VlanMode(said.pop("access", said.pop("native", 0)), said.pop("trunk", frozenset()))
    return PortSettings(vlan=mode, **said)


def format_vlans(vlans: Iterable[int]) -> str:
    """The reverse of `parse_vlans`."""
    runs: list[list[int]] = []
    for vlan in sorted(vlans):
        if runs and runs[-1][1] == vlan - 1:
            runs[-1][1] = vlan
        else:
            runs.append([vlan, vlan])
    return "+".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def format_rate(bits: int) -> str:
    """The reverse of `parse_rate`, as short as it is exact."""
    for suffix in ("G", "M", "k"):
        scale = _SCALE[suffix.lower()]
        if bits >= scale and bits % scale == 0:
            return f"{bits // scale}{suffix}"
    return str(bits)


def format_port_options(settings: PortSettings) -> list[str]:
    """The reverse of `parse_port_options`: the words that differ from what is not said."""
    default, vlan = PortSettings(), settings.vlan
    words = []
    if settings.name:
        words.append(f"name={settings.name}")
    if settings.address is not None:
        words.append(f"mac={settings.address.hex(':')}")
    if vlan.trunk:
        words.append(f"trunk={format_vlans(vlan.trunk)}")
    if vlan.access:
        words.append(f"{'native' if vlan.trunk else 'vlan'}={vlan.access}")
    if settings.limit:
        words.append(f"limit={format_rate(settings.limit)}")
    if settings.megabits != default.megabits:
        words.append(f"speed={format_rate(settings.megabits * 10**6)}")
    words += [word for word, field in _FLAGS.items() if getattr(settings, field)]
    if settings.mirror:
        words.append(f"mirror={settings.mirror}")
    if not settings.link:
        words.append("link=down")
    return words


# ------------------------------------------------------------------ plain data


def to_dict(settings: PortSettings) -> dict[str, Any]:
    """As plain data for JSON; `address` is text, `vlan` an object with `access` and a list `trunk`."""
    data: dict[str, Any] = {field.name: getattr(settings, field.name) for field in fields(settings)}
    data["address"] = settings.address and settings.address.hex(":")
    data["vlan"] = {"access": settings.vlan.access, "trunk": sorted(settings.vlan.trunk)}
    return data


def from_dict(data: object) -> PortSettings:
    """The reverse of `to_dict`, from who may be wrong; what is not there is as Hyper-V has it. Raises
    `ConfigError`."""
    values = dict(_mapping("port settings", data, {field.name for field in fields(PortSettings)}))
    if "vlan" in values:
        vlan = _mapping("vlan", values["vlan"], {"access", "trunk"})
        access, trunk = vlan.get("access", 0), vlan.get("trunk", [])
        if not isinstance(trunk, list) or not all(type(one) is int for one in trunk):
            raise ConfigError(f"vlan.trunk is a list of VLAN ids, not {trunk!r:.60}")
        values["vlan"] = VlanMode(access, frozenset(trunk))
    if values.get("address") is not None:
        address = values["address"]
        if not isinstance(address, str):
            raise ConfigError(f"address is text such as 00:15:5d:01:02:03, not {address!r:.60}")
        values["address"] = parse_address(address)
    settings = PortSettings(**values)
    check_settings(settings)
    return settings


def _mapping(what: str, data: object, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"{what} is an object with {', '.join(sorted(keys))}, not {data!r:.60}")
    if unknown := data.keys() - keys:
        raise ConfigError(f"{what} has no {min(map(str, unknown)):.60}; it has {', '.join(sorted(keys))}")
    return data


# ------------------------------------------------------------------ what is possible


def _wrong_address(address: bytes) -> str:
    if not any(address):
        return "zero is no address; write another"
    return "that is a group's address; write one whose first byte is even" if address[0] & 1 else ""


def _wrong_name(name: str) -> str:
    if len(name) > LARGEST_NAME or not name.isprintable() or "," in name:
        return f"write at most {LARGEST_NAME} printable characters without a comma"
    return ""


def check_settings(settings: PortSettings) -> None:
    """Raise `ConfigError` for what no port can be."""

    def require(possible: bool, what: str) -> None:
        if not possible:
            raise ConfigError(what)

    def whole(value: object, least: int, most: int) -> bool:
        return type(value) is int and least <= value <= most

    for field in ("link", *_FLAGS.values()):
        require(type(getattr(settings, field)) is bool, f"{field} is true or false")
    name, address, vlan = settings.name, settings.address, settings.vlan
    require(isinstance(name, str) and not _wrong_name(name), f"name: {_wrong_name(str(name))}")
    if address is not None:
        good = isinstance(address, bytes) and len(address) == ADDRESS_SIZE
        require(good, f"address is {ADDRESS_SIZE} bytes")
        require(not _wrong_address(address), f"address {address.hex(':')}: {_wrong_address(address)}")
    require(whole(vlan.access, 0, LARGEST_ID), f"vlan.access is from 1 to {LARGEST_ID}, or 0 for none")
    require(all(whole(one, 1, LARGEST_ID) for one in vlan.trunk), f"vlan.trunk is from 1 to {LARGEST_ID}")
    require(whole(settings.megabits, 1, LARGEST_MEGABITS), f"megabits is from 1 to {LARGEST_MEGABITS}")
    limit = settings.limit
    require(
        whole(limit, 0, 0) or whole(limit, SMALLEST_LIMIT, LARGEST_LIMIT),
        f"limit is from {SMALLEST_LIMIT} to {LARGEST_LIMIT} bits per second, or 0 for none",
    )
    require(settings.mirror in ("", *MIRRORS), f"mirror is empty, {', '.join(MIRRORS)}")

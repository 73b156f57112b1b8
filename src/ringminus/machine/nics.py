"""What a person asks of a machine's network adapters: `--nic BACKEND[,OPTION…]`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ringminus.errors import ConfigError
from ringminus.switch.port import ADDRESS_SIZE, PortSettings
from ringminus.switch.settings import parse_port_options

if TYPE_CHECKING:
    from ringminus.switch.nat.config import NatConfig

NAT, TAP, SWITCH, NONE = "nat", "tap", "switch", "none"
MOST_NICS = 8
"""As many synthetic adapters as a guest of Hyper-V has."""
MICROSOFT = bytes.fromhex("00155d")
"""The OUI of Hyper-V's adapters."""
_NAT_OPTIONS = ("forward", "net", "ipv6", "restrict")
_BACKENDS = "say nat, tap, tap:NAME, switch:NAME or none"


@dataclass(frozen=True, slots=True)
class NicConfig:
    """A network adapter and what it is connected to. `name` is the tap device's ("": a new one) or the
    switch's. Without `settings.address` the adapter gets one that is the same in every run with NAT, and one
    at random where others may be on the same network. What passes the adapter is written to the file
    `capture`; of a guest that has `restarted`, behind what is there already."""

    backend: str
    name: str = ""
    settings: PortSettings = field(default_factory=PortSettings)
    nat: NatConfig | None = None
    capture: Path | None = None
    restarted: bool = False


def random_address() -> bytes:
    """A MAC address of Hyper-V's that nobody else has, but by a rare accident."""
    return MICROSOFT + secrets.token_bytes(ADDRESS_SIZE - len(MICROSOFT))


def parse_nics(texts: Sequence[str]) -> tuple[NicConfig, ...]:
    """All `--nic` of a command line; raises `ConfigError`."""
    if len(texts) > MOST_NICS:
        raise ConfigError(f"{len(texts)} times --nic: a guest has up to {MOST_NICS} network adapters")
    return tuple(map(parse_nic, texts))


def parse_nic(text: str) -> NicConfig:
    """`BACKEND[,OPTION…]` as on the command line; raises `ConfigError`.

    The backend is `nat`, `tap`, `tap:NAME`, `switch:NAME` or `none`. Options of the port are those of
    `switch.settings`; `capture=FILE` is one of the adapter, in whose name a comma is doubled; NAT's are
    `forward=`, `net=`, `ipv6=` and `restrict`. An address that is to be random is chosen here, so that it
    stays when the guest restarts.
    """
    first, *options = text.replace(",,", "\0").split(",")
    backend, colon, name = first.partition(":")
    try:
        _check_backend(backend, colon, name)
        config = _with_options(NicConfig(backend, name), [one.replace("\0", ",") for one in options])
    except ConfigError as error:
        raise ConfigError(f"--nic {text}: {error}") from None
    if backend in (TAP, SWITCH) and config.settings.address is None:
        return replace(config, settings=replace(config.settings, address=random_address()))
    return config


def _check_backend(backend: str, colon: str, name: str) -> None:
    if backend not in (NAT, TAP, SWITCH, NONE):
        raise ConfigError(f"there is no backend {backend!r}; {_BACKENDS}")
    if backend == SWITCH:
        from ringminus.switch.places import check_name

        if not name:
            raise ConfigError("name the switch, such as --nic switch:lab")
        check_name(name)
    elif colon and (backend != TAP or not name):
        raise ConfigError(_BACKENDS)


def _with_options(config: NicConfig, options: Sequence[str]) -> NicConfig:
    port: list[str] = []
    nat: list[str] = []
    for option in options:
        key, _, value = option.partition("=")
        if key == "capture":
            if not value or config.capture is not None:
                raise ConfigError("write capture=FILE, and once")
            config = replace(config, capture=Path(value))
        elif key in _NAT_OPTIONS:
            if config.backend != NAT:
                raise ConfigError(f"{key} is an option of nat")
            nat.append(option)
        else:
            port.append(option)
    settings = parse_port_options(port)
    if config.backend == NONE and any(not option.startswith("mac=") for option in options):
        raise ConfigError("an adapter that is connected to nothing has no options but mac=")
    return replace(config, settings=settings, nat=_parse_nat(nat) if nat else None)


def _parse_nat(options: Sequence[str]) -> NatConfig:
    from ringminus.switch.nat.options import parse_nat_options

    return parse_nat_options(options)

"""Where the sockets of named switches are, and what else their processes keep there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ringminus import places as shared
from ringminus.places import NAME, PeerCredentials, directory

__all__ = ["PeerCredentials", "Place", "check_name", "directory", "place_of", "places"]


def check_name(name: str) -> str:
    """The name of a switch as it is; raises `ConfigError` if it cannot be one."""
    return shared.check_name(name, "a switch")


@dataclass(frozen=True, slots=True)
class Place(shared.Place):
    """Files of one named switch.

    `socket` is where links come in; `log` has what the process said; `state` has what to make again after a
    crash."""

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def state(self) -> Path:
        return self.directory / f"{self.name}.state"

    def files(self) -> tuple[Path, ...]:
        return (self.socket, self.log, self.state)


def place_of(name: str) -> Place:
    """Where the switch `name` is, or would be. Raises `ConfigError` or `HostError`."""
    place = Place(check_name(name), directory())
    place.check_length()
    return place


def places() -> list[Place]:
    """All switches that are held by a process, or were created and have lost it, by name."""
    here = directory()
    names = {path.stem for path in here.iterdir() if path.suffix in (".lock", ".state")}
    found = (Place(name, here) for name in sorted(names) if NAME.fullmatch(name))
    return [place for place in found if place.state.exists() or place.is_alive()]

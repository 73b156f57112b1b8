"""Guests that run now, by name: where their sockets are, and which names are free."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ringminus import places
from ringminus.errors import ConfigError, HostError
from ringminus.places import NAME, Place

LONGEST_NAME = 32
GUESTS = "guests"
"""The directory within that of this user's switches and guests."""


class NoSuchGuest(ConfigError):
    """There is no guest of that name."""


def directory() -> Path:
    """Where the sockets of guests are; raises `HostError`."""
    path = places.directory() / GUESTS
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot make {path} for the sockets of guests: {error.strerror}") from None
    return path


def place_of(name: str) -> Place:
    """Where the guest `name` is, or would be. Raises `ConfigError` or `HostError`."""
    place = Place(places.check_name(name, "a guest"), directory())
    place.check_length()
    return place


def guests() -> list[Place]:
    """Those that run, by name; what killed ones left is deleted. Raises `HostError`."""
    here = directory()
    names = sorted({path.stem for path in here.iterdir() if path.suffix == ".lock"})
    found = [Place(name, here) for name in names if NAME.fullmatch(name)]
    return [place for place in found if place.is_alive() or not place.forget()]


def no_such(name: str) -> NoSuchGuest:
    """What to say when there is no such guest."""
    there = [place.name for place in guests()]
    if not there:
        return NoSuchGuest(
            f"there is no guest {name}: none runs; ringminus run --name {name} gives one that name"
        )
    return NoSuchGuest(f"there is no guest {name}; those that run: {', '.join(there)}")


def take_name(name: str) -> tuple[Place, int]:
    """Become the guest of that name: its place, and a lock to be kept. Raises `ConfigError`."""
    place = place_of(name)
    lock = place.take_lock()
    if lock is None:
        raise ConfigError(f"there is a guest {name} already: give this one another --name")
    return place, lock


def take_free_name(files: Sequence[Path]) -> tuple[Place, int]:
    """The same with a name made of the first file's, and of the process if that is taken."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", files[0].stem if files else "").strip("._-") or "guest"
    pid = f"-{os.getpid()}"
    for name in (stem[:LONGEST_NAME], stem[: LONGEST_NAME - len(pid)] + pid):
        place = place_of(name)
        lock = place.take_lock()
        if lock is not None:
            return place, lock
    raise HostError(f"there is a guest {name} already, of this very process")

"""Names of values as people write them: `signal_event` for HvCallSignalEvent, `write_10` for WRITE_10."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum, IntFlag
from functools import lru_cache

PREFIXES = (
    *("hv_call_", "hv_ext_call_", "hv_x64_msr_", "hv_message_", "hv_status_", "hv_", "msr_"),
    *("rndis_", "nvsp_", "ndis_", "oid_", "vmbus_", "channelmsg_", "vm_pkt_"),
)
"""What vendors put before names, and people leave out; the first that fits is left out."""
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER = re.compile(r"[^a-z0-9]+")


def identifier(label: str) -> str:
    """A name as it is written in filters: lower case, words joined by underscores, no vendor's prefix."""
    whole = _snake(label)
    return next((whole[len(one) :] for one in PREFIXES if whole.startswith(one) and whole != one), whole)


def _snake(label: str) -> str:
    return _OTHER.sub("_", _WORDS.sub("_", label).lower()).strip("_")


@lru_cache(1 << 14)
def keys(label: str) -> frozenset[str]:
    """What two names of the same thing have in common: with and without prefix, letters and digits alone."""
    return frozenset((_squash(_snake(label)), _squash(identifier(label))))


def _squash(snake: str) -> str:
    return snake.replace("_", "")


class Labels:
    """The names of a field's values; `flags` tells that each is a bit."""

    def __init__(self, names: Mapping[int, str], *, flags: bool = False) -> None:
        self.names = {value: name for value, name in names.items() if name}
        self.flags = flags
        self._by_key: dict[str, set[int]] = {}
        for value, name in self.names.items():
            for key in keys(name):
                self._by_key.setdefault(key, set()).add(value)

    @classmethod
    def of(cls, labels: type[IntEnum] | type[IntFlag]) -> Labels:
        """Those of an enumeration."""
        names = {one.value: one.name or "" for one in labels}
        return cls(names, flags=issubclass(labels, IntFlag))

    def values(self, word: str) -> frozenset[int]:
        """The values that are called so; none if there is no such name."""
        found: set[int] = set()
        for key in keys(word):
            found |= self._by_key.get(key, set())
        return frozenset(found)

    def name(self, value: int) -> str:
        """The name of a value, "" if it has none."""
        if not self.flags:
            return self.names.get(value, "")
        return "|".join(name for bit, name in self.names.items() if bit and value & bit == bit)

    def identifiers(self) -> list[str]:
        """All names as they are written in filters."""
        return sorted({identifier(name) for name in self.names.values()})

    def merged(self, others: Iterable[Labels]) -> Labels:
        """With the names of others."""
        names = dict(self.names)
        for one in others:
            names |= one.names
        return Labels(names, flags=self.flags)

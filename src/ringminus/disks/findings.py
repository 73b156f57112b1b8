"""What `ringminus disk check` finds, in every format."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    DAMAGE = "damage"  # the disk does not open, or not all of it can be trusted
    LEAK = "leak"  # space of the file that holds nothing
    NOTE = "note"  # worth knowing, nothing to mend


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `repairable` says that `--repair` would mend it, `repaired` that
    it did."""

    severity: Severity
    message: str
    repairable: bool = False
    repaired: bool = False

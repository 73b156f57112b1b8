"""What a replay gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringminus.machine.replay.compare import Difference


@dataclass(slots=True)
class Result:
    """How a replay went. `sent` counts the packets that were played, `compared` those of the other side that
    were compared; `notes` are what a person has to know beside that."""

    sent: int = 0
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether all was as it was recorded."""
        return not self.differences

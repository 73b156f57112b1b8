"""What a replay gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringminus.machine.replay.compare import Difference

MOST_DIFFERENCES = 1000


@dataclass(slots=True)
class Result:
    """How a replay went. `sent` counts the packets that were played, `compared` those of the other side that
    were compared; `notes` are what a person has to know beside that. `more` differences are not kept."""

    sent: int = 0
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: int = 0

    @property
    def same(self) -> bool:
        """Whether all was as it was recorded."""
        return not self.differences

    def differ(self, difference: Difference) -> None:
        """Something is not as it was recorded; a live guest may go on with that for ever."""
        if len(self.differences) < MOST_DIFFERENCES:
            self.differences.append(difference)
        else:
            self.more += 1

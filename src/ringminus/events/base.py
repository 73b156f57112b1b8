"""What all events have."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

from ringminus.changes import Changeable


@dataclass(slots=True, eq=False, repr=False)
class Event(Changeable):
    """A crossing. `POINT` is where it passes, `NAME` what one such event is called. `time` is the
    partition's reference time (100 ns), `vp` the virtual processor's index.

    The tap adds the rest when the event passes: `sequence` counts from 1, `cause` is the number of the event
    while which it happened (0: none that is watched), `host_ns` the host's clock (ns since 1970).

    `changed` says what an addon or a breakpoint did with it, with commas between: changed, dropped, answered,
    delayed, duplicated, injected; it is empty for what passed as it came."""

    POINT: ClassVar[str] = ""
    NAME: ClassVar[str] = ""
    ON_DEMAND: ClassVar[bool] = False
    """Whether they are so many that only who asks for them by name gets them."""
    time: int
    vp: int
    sequence: int = field(default=0, kw_only=True, compare=False)
    cause: int = field(default=0, kw_only=True, compare=False)
    host_ns: int = field(default=0, kw_only=True, compare=False)
    changed: str = field(default="", kw_only=True, compare=False)

    # Once for all types, and not made for each: every start of ringminus would pay for that.

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, one.name) == getattr(other, one.name) for one in fields(self) if one.compare)

    def __repr__(self) -> str:
        values = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
        return f"{type(self).__qualname__}({values})"

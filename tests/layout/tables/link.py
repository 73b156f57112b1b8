"""What passes links between workers and the process of a named switch."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.switch.link import wire
from ringminus.wire import Struct

SAME: tuple[Same, ...] = ()
NUMBERS: tuple[SameNumbers, ...] = ()
BITS: tuple[SameBits, ...] = ()

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    wire: "the protocol is ringminus's own",
}

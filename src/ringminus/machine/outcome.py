"""How a machine's run can end."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ringminus.cpu.engine import Registers
from ringminus.hypervisor.crash import CrashReport


class End(enum.Enum):
    """Why the machine does not run any more."""

    POWER_OFF = "power-off"
    REBOOT = "reboot"
    CRASH = "crash"
    TRIPLE_FAULT = "triple fault"
    TIMEOUT = "time-out"
    INTERRUPTED = "interrupted"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run; `detail` is one line, `crash` what the guest said of its crash, `registers` the
    processor's state where it ended against the guest's will."""

    end: End
    detail: str = ""
    crash: CrashReport | None = None
    registers: Registers | None = None

"""How a machine's run can end."""

from __future__ import annotations

import enum
from dataclasses import dataclass

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
    """The end of a run; `detail` is one line, `crash` what the guest said of its crash."""

    end: End
    detail: str = ""
    crash: CrashReport | None = None

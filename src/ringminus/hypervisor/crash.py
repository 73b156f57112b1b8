"""The crash registers: a guest's last words (TLFS, partition-properties.md, crash enlightenment)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ringminus.clock import ReferenceClock
from ringminus.hypervisor.wire import CRASH_MESSAGE_LIMIT, CRASH_PARAMETERS, Crash
from ringminus.memory import BadGuestAddress, GuestMemory

SUPPORTED = int(Crash.NOTIFY | Crash.MESSAGE)


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What a guest said of its crash.

    `parameters` are P0–P4: by the convention of Linux the error, the guest's identity, RIP, RAX and RSP,
    unless there is a `message`, the end of the guest's log, for which P3 and P4 are address and length.
    `message_error` tells why an announced message could not be read. `time` is in units of 100 ns.
    """

    time: int
    vp: int
    guest_os_id: int
    parameters: tuple[int, ...]
    message: bytes | None = None
    message_error: str | None = None


class CrashRegisters:
    """CRASH_P0–P4 and CRASH_CTL of one virtual processor; `report` is called at each notification."""

    def __init__(
        self,
        vp_index: int,
        memory: GuestMemory,
        clock: ReferenceClock,
        guest_os_id: Callable[[], int],
        report: Callable[[CrashReport], None],
    ) -> None:
        self._vp_index = vp_index
        self._memory = memory
        self._clock = clock
        self._guest_os_id = guest_os_id
        self._report = report
        self.parameters = [0] * CRASH_PARAMETERS

    def read_parameter(self, index: int) -> int:
        return self.parameters[index]

    def write_parameter(self, index: int, value: int) -> None:
        self.parameters[index] = value

    def read_control(self) -> int:
        """What is supported."""
        return SUPPORTED

    def write_control(self, value: int) -> None:
        """Report the crash, if the guest asks for it."""
        if not value & Crash.NOTIFY:
            return
        message, error = self._message() if value & Crash.MESSAGE else (None, None)
        now, os_id = self._clock.reference_time(), self._guest_os_id()
        self._report(CrashReport(now, self._vp_index, os_id, tuple(self.parameters), message, error))

    def _message(self) -> tuple[bytes | None, str | None]:
        gpa, length = self.parameters[3:]
        if length > CRASH_MESSAGE_LIMIT:
            return None, f"a message of {length} bytes is too long"
        try:
            return self._memory.read(gpa, length), None
        except BadGuestAddress as error:
            return None, str(error)

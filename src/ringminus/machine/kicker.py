"""Gets the machine's thread out of the guest when there is something to do.

While the guest runs, the thread that owns the machine is inside native code and sees nothing. A helper
thread waits for two things on its behalf: a deadline, and anything that makes the asyncio loop ready
(an epoll descriptor can itself be polled). Either makes it call the processor's `stop`, only between
`Kicker.enter` and `leave`. The thread is C (`_kicker.c`), as it must not need the GIL: the machine's thread
holds it in each exit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

from ringminus.machine._kicker import Kicker

__all__ = ["AlarmDescriptor", "Kicker"]

_LIBC = ctypes.PyDLL(None, use_errno=True)
CLOCK_MONOTONIC = 1
TFD_NONBLOCK_CLOEXEC = 0o2004000


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class AlarmDescriptor:
    """A timerfd: a file descriptor that becomes readable after a time. (In `os` from Python 3.13 on.)"""

    def __init__(self) -> None:
        self.fd: int = _LIBC.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Itimerspec()
        self._reference = ctypes.byref(self._spec)
        self._set = _LIBC.timerfd_settime

    def set(self, nanoseconds: int) -> None:
        """Become readable in that time from now; 0 is never."""
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._set(self.fd, 0, self._reference, None)

    def clear(self) -> None:
        """Stop being readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)

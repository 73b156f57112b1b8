"""Gets the machine's thread out of the guest when there is something to do.

While the guest runs, the thread that owns the machine is inside native code and sees nothing. A helper
thread waits for two things on its behalf: a deadline, and anything that makes the asyncio loop ready
(an epoll descriptor can itself be polled). Either makes it call the processor's `stop`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading
import time
from collections.abc import Callable

_LIBC = ctypes.PyDLL(None, use_errno=True)
CLOCK_MONOTONIC = 1
TFD_NONBLOCK_CLOEXEC = 0o2004000
# a stop can be lost in the instant in which the guest is entered, so it is said again
REPEAT_SECONDS = 0.0005
# and a guest that runs on without a deadline is stopped this often, for the loop's own timers
SLICE_SECONDS = 0.05


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


class Kicker:
    """See the module. `stop` is called from the helper thread, only between `enter` and `leave`."""

    def __init__(self, loop_fd: int, stop: Callable[[], None]) -> None:
        self._loop_fd = loop_fd
        self._stop = stop
        self._alarm = AlarmDescriptor()
        self._end = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._alarm.fd, select.EPOLLIN)
        self._epoll.register(self._end, select.EPOLLIN)
        self._epoll.register(loop_fd, select.EPOLLIN | select.EPOLLONESHOT)
        self._entries = 0
        self._inside = 0  # the number of the entry that is under way, or 0
        self._closed = False
        self._armed_for = 0
        self._resting = False
        self.loop_is_ready = False
        self.slice_is_over = False
        self._thread = threading.Thread(target=self._watch, name="kicker", daemon=True)
        self._thread.start()

    def enter(self, deadline_ns: int | None) -> None:
        """The guest is about to run; stop it at that time of `time.monotonic_ns`, if any, or earlier."""
        self.slice_is_over = False
        if self.loop_is_ready or self._resting:
            self.loop_is_ready = self._resting = False
            self._epoll.modify(self._loop_fd, select.EPOLLIN | select.EPOLLONESHOT)
        self._entries += 1
        self._inside = self._entries
        # an alarm that is set for an earlier time costs one stop in vain, less than setting it anew
        if deadline_ns is not None and not 0 < self._armed_for <= deadline_ns:
            self.stop_at(deadline_ns)

    def stop_at(self, deadline_ns: int) -> None:
        """Move the deadline while the guest runs."""
        self._armed_for = deadline_ns
        self._alarm.set(max(1, deadline_ns - time.monotonic_ns()))

    def leave(self) -> None:
        """The guest does not run any more."""
        self._inside = 0

    def rest(self) -> None:
        """The guest idles: what makes the loop ready meanwhile is the loop's alone, until the next entry."""
        if not self.loop_is_ready and not self._resting:
            self._resting = True
            self._epoll.modify(self._loop_fd, 0)

    def _watch(self) -> None:
        while not self._closed:
            ready = self._epoll.poll(SLICE_SECONDS)
            self.slice_is_over = not ready
            for fd, _ in ready:
                if fd == self._alarm.fd:
                    self._alarm.clear()
                    self._armed_for = 0
                elif fd == self._loop_fd:
                    self.loop_is_ready = True
            entry = self._inside
            while entry and self._inside == entry:
                self._stop()
                time.sleep(REPEAT_SECONDS)

    def close(self) -> None:
        """End the helper thread."""
        self._inside = 0
        self._closed = True
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._epoll.close()
        self._alarm.close()
        os.close(self._end)

"""One libslirp at work: calls into it, and what it says in its callbacks.

The callbacks only write down: frames to send, sockets opened and closed, timers. Nothing of ours runs below
libslirp, so nothing can call into it while it is at work, and no error is lost in C code."""

from __future__ import annotations

import ctypes
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from ringminus.errors import ConfigError, HostError
from ringminus.switch.nat import library as c
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.forwards import Forward
from ringminus.switch.nat.segments import RAISED_MTU

NANOSECONDS = 100  # of a unit of the reference clock
MILLISECOND = 10_000  # units of the reference clock
_IN, _OUT = int(c.Poll.IN), int(c.Poll.OUT)
FOR_EVER = 0xFFFFFFFF
_FLOW = 64  # the bytes of a frame that say which flow it belongs to
_HOSTFWD_UDP, _HOSTFWD_V6ONLY = 1, 2


class Stack:
    """See the module. Whoever calls says what time it is with `tell_time` first.

    `sent` are frames for the guests; `sockets` maps the sockets that are open to how the frame began that
    made libslirp open them (b"" where none did); `guest_faults` counts what it said of guests."""

    def __init__(self, config: NatConfig, now: int) -> None:
        self.library = c.load()
        self.sent: deque[bytes] = deque()
        self.sockets: dict[int, bytes] = {}
        self.guest_faults = 0
        self.closed: list[int] = []
        self._failures: list[BaseException] = []
        self._timers: dict[int, tuple[int, int | None]] = {}
        self._deadlines: dict[int, int] = {}
        self._delivering = b""
        self._wanted: dict[int, int] = {}
        self._filled = False
        self._events: dict[int, int] = {}
        self._time = ctypes.c_int64()
        self._timeout = ctypes.c_uint32()
        self._timeout_at = ctypes.addressof(self._timeout)
        self._input = self.library.input
        self._callbacks = self._make_callbacks()
        self.tell_time(now)
        self._slirp: int | None = self._make(config)

    # ------------------------------------------------------------------ calls

    def tell_time(self, now: int) -> None:
        """It is `now` (100 ns units)."""
        self._time.value = now * NANOSECONDS

    def input(self, data: bytes) -> None:
        """A frame from a guest."""
        self._delivering = data
        self._input(self._slirp, data, len(data))
        self._delivering = b""
        if self._failures:
            raise self._failures.pop()

    def poll(self, events: dict[int, int] | None) -> None:
        """Have it look at the sockets that have these events, and at its timers; None: at its timers only.

        It reads whatever it is told of, and aborts where it has no room: so it is told only of what it said
        that it waits for, and says so anew each time before."""
        if events is not None:
            if not self._filled:
                self.fill()
            self._filled = False
        self._events = events or {}
        self.library.pollfds_poll(self._slirp, events is None, self._get_events, None)
        if self._failures:
            raise self._failures.pop()

    def fill(self) -> tuple[dict[int, int], int]:
        """Which events of which sockets it waits for, and for how many milliseconds at most."""
        self._wanted = {}
        self._filled = True
        self._timeout.value = FOR_EVER
        self.library.pollfds_fill(self._slirp, self._timeout_at, self._add_poll, None)
        if self._failures:
            raise self._failures.pop()
        return self._wanted, self._timeout.value

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        for handle, deadline in list(self._deadlines.items()):
            if deadline * MILLISECOND <= now and self._deadlines.pop(handle, None) is not None:
                function, opaque = self._timers[handle]
                c.TimerExpired(function)(opaque)
        if self._failures:
            raise self._failures.pop()

    def deadline(self) -> int | None:
        """When the first timer is due (100 ns units)."""
        return min(self._deadlines.values()) * MILLISECOND if self._deadlines else None

    def connections(self) -> str:
        """Its table of connections."""
        return self.library.connections(self._slirp) if self._slirp is not None else ""

    def close(self) -> None:
        """Close all its sockets and free it."""
        slirp, self._slirp = self._slirp, None
        if slirp is not None:
            self.library.cleanup(slirp)
            self.sent.clear()

    # ------------------------------------------------------------------ forwards

    def forward(self, forward: Forward) -> None:
        """Listen on a port of the host; raises `HostError` or `ConfigError`."""
        ctypes.set_errno(0)
        if not (self._forward_ipv4(forward) if forward.version == 4 else self._forward_ipv6(forward)):
            raise _refused(forward, ctypes.get_errno())

    def _forward_ipv4(self, forward: Forward) -> bool:
        guest = bytes(4) if forward.guest is None else forward.guest.packed
        result = self.library.add_hostfwd(
            self._slirp,
            forward.protocol == "udp",
            _in_addr(forward.host.packed),
            forward.host_port,
            _in_addr(guest),
            forward.guest_port,
        )
        return bool(result == 0)

    def _forward_ipv6(self, forward: Forward) -> bool:
        if self.library.add_hostxfwd is None:
            raise HostError(
                f"forward {forward}: libslirp {self.library.version_text} forwards IPv4 only: "
                "install 4.5 or later"
            )
        host = _sockaddr_in6(forward.host.packed, forward.host_port)
        guest = _sockaddr_in6(
            bytes(16) if forward.guest is None else forward.guest.packed, forward.guest_port
        )
        size = ctypes.sizeof(c.SockaddrIn6)
        flags = _HOSTFWD_V6ONLY | (_HOSTFWD_UDP if forward.protocol == "udp" else 0)
        result = self.library.add_hostxfwd(
            self._slirp, ctypes.addressof(host), size, ctypes.addressof(guest), size, flags
        )
        return bool(result == 0)

    # ------------------------------------------------------------------ callbacks

    def _make(self, config: NatConfig) -> int:
        said = c.SlirpConfig(
            version=c.CONFIG_VERSION,
            restricted=config.restrict,
            in_enabled=True,
            vnetwork=_in_addr(config.network.network_address.packed),
            vnetmask=_in_addr(config.network.netmask.packed),
            vhost=_in_addr(config.host.packed),
            vdhcp_start=_in_addr(config.dhcp_start.packed),
            vnameserver=_in_addr(config.dns.packed),
            if_mtu=RAISED_MTU,
            if_mru=c.LARGEST_PACKET,
            disable_host_loopback=not config.host_loopback,
        )
        if config.ipv6 is not None and config.host6 is not None and config.dns6 is not None:
            said.in6_enabled = True
            said.vprefix_addr6 = _in6_addr(config.ipv6.network_address.packed)
            said.vprefix_len = config.ipv6.prefixlen
            said.vhost6 = _in6_addr(config.host6.packed)
            said.vnameserver6 = _in6_addr(config.dns6.packed)
        slirp: int | None = self.library.new(
            ctypes.byref(said), ctypes.byref(self._callbacks), ctypes.addressof(self._time)
        )
        if slirp is None:
            raise HostError(f"libslirp {self.library.version_text} refuses {config}")
        return slirp

    def _make_callbacks(self) -> c.SlirpCb:
        failures, sent, timers, deadlines = self._failures, self.sent, self._timers, self._deadlines
        append, string_at = sent.append, ctypes.string_at

        def send_packet(buffer: int, size: int, opaque: int) -> int:
            try:
                append(string_at(buffer, size))
            except BaseException as error:
                failures.append(error)
            return size

        def guest_fault(text: bytes, opaque: int) -> None:
            self.guest_faults += 1

        def timer_new(function: int, argument: int | None, opaque: int) -> int:
            handle = max(timers, default=0) + 1
            timers[handle] = (function, argument)
            return handle

        def timer_free(handle: int, opaque: int) -> None:
            timers.pop(handle, None)
            deadlines.pop(handle, None)

        def timer_mod(handle: int, milliseconds: int, opaque: int) -> None:
            deadlines[handle] = milliseconds

        def opened(fd: int, opaque: int) -> None:
            self.sockets[fd] = self._delivering[:_FLOW]

        def closed(fd: int, opaque: int) -> None:
            self.sockets.pop(fd, None)
            self.closed.append(fd)

        def add_poll(fd: int, events: int, opaque: int) -> int:
            try:
                self._wanted[fd] = events
            except BaseException as error:
                failures.append(error)
            return fd

        def get_events(fd: int, opaque: int) -> int:
            try:
                told = self._events.get(fd, 0)
                wanted = self._wanted.get(fd, 0)
                if not told or wanted & _IN:
                    return told
                return wanted & _OUT  # errors and hang-ups come unasked; when it writes it hears of them too
            except BaseException as error:
                failures.append(error)
                return 0

        def clock(opaque: int) -> int:
            return self._time.value

        def kept(function: Callable[..., Any], failed: int | None = None) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                try:
                    return function(*arguments)
                except BaseException as error:
                    failures.append(error)
                    return failed

            return call

        self._add_poll = c.AddPoll(add_poll)
        self._get_events = c.GetEvents(get_events)
        read_time: Any = self.library.clock or c.ClockGetNs(kept(clock, 0))
        return c.SlirpCb(
            send_packet=c.SendPacket(send_packet),
            guest_error=c.GuestFault(kept(guest_fault)),
            clock_get_ns=read_time,
            timer_new=c.TimerNew(kept(timer_new, 0)),
            timer_free=c.TimerFree(kept(timer_free)),
            timer_mod=c.TimerMod(kept(timer_mod)),
            register_poll_fd=c.PollFd(kept(opened)),
            unregister_poll_fd=c.PollFd(kept(closed)),
            # we look at what it waits for after each call, so it need not ask for that: this does nothing
            notify=ctypes.cast(read_time, c.Notify),
        )


def _in_addr(packed: bytes) -> c.InAddr:
    return c.InAddr.from_buffer_copy(packed)


def _in6_addr(packed: bytes) -> c.In6Addr:
    return c.In6Addr.from_buffer_copy(packed)


def _sockaddr_in6(packed: bytes, port: int) -> c.SockaddrIn6:
    return c.SockaddrIn6(
        sin6_family=c.AF_INET6,
        sin6_port=(ctypes.c_uint8 * 2)(*port.to_bytes(2, "big")),
        sin6_addr=_in6_addr(packed),
    )


def _refused(forward: Forward, number: int) -> Exception:
    """Why the host gives no port, in one line that says what to do."""
    if number == errno.EADDRINUSE:
        what = f"port {forward.host_port} of {forward.host} is in use: choose another host port"
    elif number in (errno.EACCES, errno.EPERM):
        what = f"port {forward.host_port} needs privileges: choose a host port from 1024 on"
    elif number == errno.EADDRNOTAVAIL:
        return ConfigError(f"forward {forward}: this host has no address {forward.host}")
    else:
        what = os.strerror(number) if number else "libslirp refuses it"
    return HostError(f"forward {forward}: {what}")

"""libslirp, loaded when the first NAT is made: its functions, structures and callback types.

The source is its public header, libslirp.h. The structures are those of configuration version 1, which every
libslirp since 4.1 takes: what later versions added is not used here."""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import socket
from ctypes import (
    c_bool,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from enum import IntFlag
from typing import Any

from ringminus.errors import HostError

log = logging.getLogger(__name__)

CONFIG_VERSION = 1
LARGEST_PACKET = 65521
"""Bytes of the largest IP packet that it takes (IF_MRU_MAX)."""
AF_INET6 = int(socket.AF_INET6)
OLDEST = (4, 1)
TELLS_OF_EVERY_SOCKET = (4, 6)
"""From here on it tells of UDP and ICMP sockets too when it opens and closes them."""

_FILES = ("libslirp.so.0", "libslirp.so")


class Poll(IntFlag):
    """SLIRP_POLL_*: which events of a file."""

    IN = 1 << 0
    OUT = 1 << 1
    PRI = 1 << 2
    ERR = 1 << 3
    HUP = 1 << 4


class InAddr(ctypes.Structure):
    """in_addr: four bytes in the order of the wire, aligned like a number."""

    _fields_ = (("s_addr", c_uint32),)


class In6Addr(ctypes.Structure):
    """in6_addr: sixteen bytes in the order of the wire, aligned like a number."""

    _fields_ = (("s6_addr", c_uint32 * 4),)


class SockaddrIn6(ctypes.Structure):
    """sockaddr_in6; port and address in the order of the wire."""

    _fields_ = (
        ("sin6_family", ctypes.c_uint16),
        ("sin6_port", c_uint8 * 2),
        ("sin6_flowinfo", c_uint32),
        ("sin6_addr", In6Addr),
        ("sin6_scope_id", c_uint32),
    )


SendPacket = ctypes.CFUNCTYPE(c_ssize_t, c_void_p, c_size_t, c_void_p)
GuestFault = ctypes.CFUNCTYPE(None, c_char_p, c_void_p)
ClockGetNs = ctypes.CFUNCTYPE(c_int64, c_void_p)
TimerNew = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p)
TimerFree = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
TimerMod = ctypes.CFUNCTYPE(None, c_void_p, c_int64, c_void_p)
PollFd = ctypes.CFUNCTYPE(None, c_int, c_void_p)
Notify = ctypes.CFUNCTYPE(None, c_void_p)
TimerExpired = ctypes.PYFUNCTYPE(None, c_void_p)
AddPoll = ctypes.CFUNCTYPE(c_int, c_int, c_int, c_void_p)
GetEvents = ctypes.CFUNCTYPE(c_int, c_int, c_void_p)
_LogFunction = ctypes.CFUNCTYPE(None, c_char_p, c_int, c_char_p, c_void_p)


class SlirpCb(ctypes.Structure):
    """SlirpCb; the fields for configuration version 4 are left empty."""

    _fields_ = (
        ("send_packet", SendPacket),
        ("guest_error", GuestFault),
        ("clock_get_ns", ClockGetNs),
        ("timer_new", TimerNew),
        ("timer_free", TimerFree),
        ("timer_mod", TimerMod),
        ("register_poll_fd", PollFd),
        ("unregister_poll_fd", PollFd),
        ("notify", Notify),
        ("init_completed", c_void_p),
        ("timer_new_opaque", c_void_p),
    )


class SlirpConfig(ctypes.Structure):
    """SlirpConfig, version 1."""

    _fields_ = (
        ("version", c_uint32),
        ("restricted", c_int),
        ("in_enabled", c_bool),
        ("vnetwork", InAddr),
        ("vnetmask", InAddr),
        ("vhost", InAddr),
        ("in6_enabled", c_bool),
        ("vprefix_addr6", In6Addr),
        ("vprefix_len", c_uint8),
        ("vhost6", In6Addr),
        ("vhostname", c_char_p),
        ("tftp_server_name", c_char_p),
        ("tftp_path", c_char_p),
        ("bootfile", c_char_p),
        ("vdhcp_start", InAddr),
        ("vnameserver", InAddr),
        ("vnameserver6", In6Addr),
        ("vdnssearch", c_void_p),
        ("vdomainname", c_char_p),
        ("if_mtu", c_size_t),
        ("if_mru", c_size_t),
        ("disable_host_loopback", c_bool),
        ("enable_emu", c_bool),
    )


class Library:
    """The functions of a loaded libslirp, without their prefix `slirp_`, and its `version`.

    They run with the interpreter's lock held: none of them waits, and letting go of it for each frame would
    cost more than most of the calls. `clock` is a function for `SlirpCb.clock_get_ns` that reads the time
    from the 64-bit number which the opaque pointer names, None where there is none; then time has to be told
    by a callback of ours."""

    def __init__(self, path: str) -> None:
        fast = ctypes.PyDLL(path)
        with_errno = ctypes.PyDLL(path, use_errno=True)
        self.version_text = self._function(fast, "version_string", c_char_p)().decode("ascii", "replace")
        self.version = tuple(int(number) for number in re.findall(r"\d+", self.version_text)[:3])
        if self.version < OLDEST:
            raise HostError(f"libslirp {self.version_text} is too old: install 4.1 or later")
        slirp, bytes_ = c_void_p, c_char_p
        self.new = self._function(fast, "new", slirp, c_void_p, c_void_p, c_void_p)
        self.cleanup = self._function(fast, "cleanup", None, slirp)
        self.input = self._function(fast, "input", None, slirp, bytes_, c_int)
        self.pollfds_fill = self._function(fast, "pollfds_fill", None, slirp, c_void_p, AddPoll, c_void_p)
        self.pollfds_poll = self._function(fast, "pollfds_poll", None, slirp, c_int, GetEvents, c_void_p)
        self.connection_info = self._function(fast, "connection_info", c_void_p, slirp)
        self.add_hostfwd = self._function(
            with_errno, "add_hostfwd", c_int, slirp, c_int, InAddr, c_int, InAddr, c_int
        )
        self.add_hostxfwd = None
        if hasattr(with_errno, "slirp_add_hostxfwd"):  # since 4.5
            address = (c_void_p, c_uint32)
            self.add_hostxfwd = self._function(
                with_errno, "add_hostxfwd", c_int, slirp, *address, *address, c_int
            )
        # of the glib that it stands on
        self.free = getattr(fast, "g_free", None)
        if self.free is not None:
            self.free.argtypes, self.free.restype = (c_void_p,), None
        self.clock: Any = None
        if ctypes.sizeof(c_void_p) == 8 and hasattr(fast, "g_atomic_pointer_get"):
            self.clock = ctypes.cast(fast.g_atomic_pointer_get, ClockGetNs)
        self._take_log(fast)

    @staticmethod
    def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(library, f"slirp_{name}")
        function.argtypes, function.restype = arguments, result
        return function

    def _take_log(self, library: Any) -> None:
        """What it says through glib goes to our log: guests can make it say things, and it would be on the
        person's terminal."""
        if not hasattr(library, "g_log_set_handler"):
            return

        def said(domain: bytes | None, level: int, text: bytes | None, opaque: int | None) -> None:
            log.debug("libslirp: %s", (text or b"").decode("utf-8", "replace"))

        self._said = _LogFunction(said)
        every_level = 0xFC  # G_LOG_LEVEL_MASK, without G_LOG_FLAG_RECURSION and G_LOG_FLAG_FATAL
        library.g_log_set_handler.argtypes = (c_char_p, c_int, _LogFunction, c_void_p)
        library.g_log_set_handler(b"Slirp", every_level, self._said, None)

    def connections(self, slirp: int) -> str:
        """Its table of connections, as text; "" if that could not be given back to glib."""
        if self.free is None:
            return ""
        pointer = self.connection_info(slirp)
        try:
            return ctypes.string_at(pointer).decode("ascii", "replace")
        finally:
            self.free(pointer)


@functools.cache
def load() -> Library:
    """The host's libslirp; raises `HostError` that says how to get it."""
    for name in _FILES:
        try:
            return Library(name)
        except OSError:
            continue
        except AttributeError as error:
            raise HostError(f"{name} is not a libslirp that can be used: {error}") from None
    raise HostError(
        "NAT needs libslirp: apt-get install libslirp0 (Debian, Ubuntu), "
        "dnf install libslirp (Fedora, RHEL) or pacman -S libslirp (Arch)"
    )

"""A port that leads to the host's network: Linux's TAP device.

Large frames and missing checksums pass as they are both ways, by the header that a virtio device has before
each frame: the host's kernel cuts and completes where a frame leaves it, and takes ours for verified."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Sequence

from ringminus.errors import ConfigError, HostError
from ringminus.switch import checksum, wire
from ringminus.switch.frame import LARGEST_FRAME, Checksum, Frame
from ringminus.switch.headers import UNKNOWN, Headers, parse
from ringminus.switch.port import ADDRESS_SIZE, Port
from ringminus.switch.reactor import READABLE, WRITABLE, Reactor
from ringminus.switch.segmentation import SMALLEST_SEGMENT
from ringminus.switch.tap_wire import (
    INTERFACE_REQUEST_SIZE,
    INTERFACE_UP,
    NAME_SIZE,
    SET_INTERFACE_FLAGS,
    VNET,
    Gso,
    InterfaceFlag,
    InterfaceRequest,
    Offload,
    TunRequest,
    VnetFlag,
)
from ringminus.switch.wire import EtherType, IpProtocol, TcpFlag

log = logging.getLogger(__name__)

QUEUE_FRAMES = 1024
"""Frames that wait for the device while it takes no more."""

_CONTROL = "/dev/net/tun"
_BATCH = 64  # frames read before others have their turn
_FLAGS = InterfaceFlag.TAP | InterfaceFlag.NO_PACKET_INFO | InterfaceFlag.VNET_HEADER
_OFFLOADS = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.TSO_ECN
_TYPE_AT, _TAG_AT = 2 * ADDRESS_SIZE, 2 * ADDRESS_SIZE  # the tag stands before the type
_TAG_SIZE = wire.VlanTag.SIZE
_VLAN = wire.HOT_U16.pack(EtherType.VLAN)
_PLAIN = bytes(VNET.size)
_TCP = int(IpProtocol.TCP)
_TCP_FLAGS = wire.TcpHeader.offset_of("offset_and_flags") + 1
_NEEDS_CHECKSUM, _DATA_VALID = int(VnetFlag.NEEDS_CHECKSUM), int(VnetFlag.DATA_VALID)
_SEGMENTED = {4: int(Gso.TCP4), 6: int(Gso.TCP6)}
_WITHOUT_ECN = ~Gso.ECN & 0xFF
_FULL = {errno.EAGAIN, errno.ENOBUFS}
_GONE = {errno.EBADFD, errno.EBADF, errno.ENODEV}

Parts = Sequence[bytes | memoryview]


class TapDevice:
    """An `Endpoint`: the TAP device `name`, which may exist; None makes a new one, tap0 or the next free.

    A device that is made here is set up, and disappears with this object. `dropped` counts frames that did
    not reach the host by reason: "full" (the queue was), "down" (the interface is), "refused" (the kernel
    did not want it), "gone" (the device was removed). Raises `ConfigError` and `HostError`."""

    def __init__(self, name: str | None, reactor: Reactor) -> None:
        self.dropped: Counter[str] = Counter()
        self._reactor = reactor
        self._port: Port | None = None
        self._queue: deque[Parts] = deque()
        self._paused = False  # the port takes no more
        self._header = bytearray(VNET.size)
        self._body = bytearray(LARGEST_FRAME + _TAG_SIZE)
        self._view = memoryview(self._body)
        self._fd, self.name = _open(name)

    def plugged(self, port: Port) -> None:
        self._port = port
        self._watch()

    def resumed(self) -> None:
        self._paused = False
        self._watch()

    def flush(self) -> None:
        """Nothing: each frame is given to the kernel at once."""

    def set_link(self, up: bool, megabits: int) -> None:
        """The host's interface has a carrier, or none; a TAP device has no speed."""
        if self._fd < 0:
            return
        try:
            fcntl.ioctl(self._fd, TunRequest.SET_CARRIER, int(up).to_bytes(4, "little"))
        except OSError as error:  # before Linux 4.20 there is always one
            log.debug("%s: cannot set the carrier: %s", self.name, error.strerror)

    def close(self) -> None:
        if self._fd >= 0:
            self._reactor.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._queue.clear()

    # ------------------------------------------------------------ to the host

    def deliver(self, frame: Frame) -> None:
        if self._fd < 0:
            self.dropped["gone"] += 1
            return
        parts = _encode(frame)
        if self._queue:
            self._wait(parts)
        elif not self._write(parts):
            self._wait(parts)
            self._watch()

    def _wait(self, parts: Parts) -> None:
        if len(self._queue) >= QUEUE_FRAMES:
            self.dropped["full"] += 1
        else:
            self._queue.append(parts)

    def _write(self, parts: Parts) -> bool:
        """Give the kernel a frame; False if it has no room for it now."""
        try:
            os.writev(self._fd, parts)
        except OSError as error:
            if error.errno in _FULL:
                return False
            if error.errno in _GONE:
                self._gone(error)
                self.dropped["gone"] += 1
            else:
                self.dropped["down" if error.errno == errno.EIO else "refused"] += 1
        return True

    def _drain(self) -> None:
        queue = self._queue
        while queue:
            if not self._write(queue[0]):
                return
            if queue:  # not if the device is gone
                queue.popleft()
        self._watch()

    # ------------------------------------------------------------ from the host

    def _watch(self) -> None:
        if self._fd < 0 or self._port is None:
            return
        events = (0 if self._paused else READABLE) | (WRITABLE if self._queue else 0)
        self._reactor.watch(self._fd, events, self._ready)

    def _ready(self, events: int) -> None:
        if self._queue and events & WRITABLE:
            self._drain()
        if events & ~WRITABLE and self._fd >= 0:
            self._read()

    def _read(self) -> None:
        port = self._port
        assert port is not None
        buffers = (self._header, self._body)
        for _ in range(_BATCH):
            try:
                length = os.readv(self._fd, buffers) - VNET.size
            except BlockingIOError:
                break
            except OSError as error:
                self._gone(error)
                break
            if not port.send(self._decode(length)):
                self._paused = True
                self._watch()
                break
            if self._fd < 0:  # the port closed it
                return
        port.flush()

    def _decode(self, length: int) -> Frame:
        flags, gso, _, size, start, offset = VNET.unpack(self._header)
        view, tci = self._view, None
        if view[_TYPE_AT : _TYPE_AT + 2] == _VLAN:
            (tci,) = wire.HOT_U16.unpack_from(view, _TAG_AT + 2)
            data = b"".join((view[:_TAG_AT], view[_TAG_AT + _TAG_SIZE : length]))
            start -= _TAG_SIZE
        else:
            data = bytes(view[:length])
        if not flags and not gso:
            return Frame(data, tci)
        large = size if gso & _WITHOUT_ECN in (_SEGMENTED[4], _SEGMENTED[6]) else 0
        if not flags & _NEEDS_CHECKSUM:
            return Frame(data, tci, Checksum.VALID if flags & _DATA_VALID else Checksum.UNKNOWN, large)
        headers = parse(data)
        if headers is not None and headers.transport == start and checksum.field(headers) == start + offset:
            return Frame(data, tci, Checksum.MISSING, large)
        return Frame(_complete_inner(data, start, offset), tci, Checksum.UNKNOWN, large)

    def _gone(self, error: OSError) -> None:
        log.warning("%s was removed (%s): its port leads to nothing now", self.name, error.strerror)
        self.dropped["gone"] += len(self._queue)
        self.close()


def _complete_inner(data: bytes, start: int, offset: int) -> bytes:
    """Complete a checksum of another packet than the frame's own, such as one within a tunnel."""
    at = start + offset
    if not 0 <= start <= at <= len(data) - 2:
        return data
    value = (-checksum.ones_sum(data[start:]) % 0xFFFF) or 0xFFFF
    return data[:at] + value.to_bytes(2, "little") + data[at + 2 :]


def _encode(frame: Frame) -> Parts:
    """The frame with its tag in line, and the header before it."""
    data = frame.data
    tag = b"" if frame.tci is None else _VLAN + wire.HOT_U16.pack(frame.tci)
    missing = frame.checksum is Checksum.MISSING
    if missing or frame.segment_size:
        headers = parse(data)
        at = checksum.field(headers)
        if headers is not None and at != UNKNOWN:
            if headers.protocol == _TCP or (missing and checksum.covers_all(data, headers)):
                return _encode_unfinished(frame, headers, at, tag)
            data = checksum.complete(frame).data
    return (_PLAIN, data[:_TAG_AT], tag, data[_TAG_AT:]) if tag else (_PLAIN, data)


def _encode_unfinished(frame: Frame, headers: Headers, at: int, tag: bytes) -> Parts:
    """A large frame, or one whose checksum, `at` its place, is missing."""
    rest = memoryview(frame.data)
    gso = header_size = size = 0
    if frame.segment_size >= SMALLEST_SEGMENT and headers.protocol == _TCP:
        size, header_size, gso = frame.segment_size, headers.payload + len(tag), _SEGMENTED[headers.version]
        if rest[headers.transport + _TCP_FLAGS] & TcpFlag.CWR:
            gso |= Gso.ECN
    if frame.checksum is Checksum.UNKNOWN:  # the kernel looks
        header = VNET.pack(0, gso, header_size, size, 0, 0)
        return (header, rest[:_TAG_AT], tag, rest[_TAG_AT : headers.end])
    start = headers.transport
    header = VNET.pack(_NEEDS_CHECKSUM, gso, header_size, size, start + len(tag), at - start)
    pseudo = checksum.pseudo_header_sum(frame.data, headers).to_bytes(2, "little")
    return (header, rest[:_TAG_AT], tag, rest[_TAG_AT:at], pseudo, rest[at + 2 : headers.end])


def _open(name: str | None) -> tuple[int, str]:
    """A TAP device's descriptor and name; set up if it is new."""
    wanted = (name or "").encode()
    if len(wanted) > NAME_SIZE or b"/" in wanted or any(letter <= ord(" ") for letter in wanted):
        raise ConfigError(
            f"{name!r} is no name for a network interface: it has up to {NAME_SIZE} bytes, no space, no slash"
        )
    new = name is None or not _exists(name)
    try:
        fd = os.open(_CONTROL, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(_why_not_opened(error)) from None
    try:
        name = _attach(fd, wanted)
        fcntl.ioctl(fd, TunRequest.SET_HEADER_SIZE, VNET.size.to_bytes(4, "little"))
        fcntl.ioctl(fd, TunRequest.SET_LITTLE_ENDIAN, (1).to_bytes(4, "little"))
        fcntl.ioctl(fd, TunRequest.SET_OFFLOAD, int(_OFFLOADS))
    except OSError as error:
        os.close(fd)
        raise HostError(_why_not_attached(error, name or "tap0")) from None
    if new:
        _set_up(name)
    return fd, name


def _attach(fd: int, wanted: bytes) -> str:
    for flags in (_FLAGS, _FLAGS | InterfaceFlag.MULTI_QUEUE):
        request = InterfaceRequest(name=wanted or b"tap%d", flags=flags).pack()
        try:
            answer = fcntl.ioctl(fd, TunRequest.SET_INTERFACE, request.ljust(INTERFACE_REQUEST_SIZE, b"\0"))
        except OSError as error:
            # so it is with a persistent device that was made with several queues
            if error.errno != errno.EINVAL or flags & InterfaceFlag.MULTI_QUEUE:
                raise
        else:
            return InterfaceRequest.unpack(answer).name.rstrip(b"\0").decode()
    raise AssertionError("the last attempt raises or returns")


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _set_up(name: str) -> None:
    request = InterfaceRequest(name=name.encode(), flags=INTERFACE_UP).pack()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, SET_INTERFACE_FLAGS, request.ljust(INTERFACE_REQUEST_SIZE, b"\0"))
        except OSError as error:
            log.warning("%s is not up (%s): sudo ip link set %s up", name, error.strerror, name)


def _why_not_opened(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return (
            f"there is no {_CONTROL}: load the driver (sudo modprobe tun), or give the container the device"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to open {_CONTROL}: sudo chmod 666 {_CONTROL}, or run as root"
    return f"cannot open {_CONTROL}: {error.strerror}"


def _why_not_attached(error: OSError, name: str) -> str:
    make = f"sudo ip tuntap add dev {name} mode tap user $USER && sudo ip link set {name} up"
    if error.errno == errno.EPERM:
        return f"no permission to make or to use the TAP device {name}: {make}"
    if error.errno == errno.EBUSY:
        return f"the TAP device {name} is in use by another program: choose another name"
    if error.errno == errno.EINVAL:
        return f"{name} is an interface, but no TAP device: choose another name"
    return f"cannot use the TAP device {name}: {error.strerror}"

"""A port that is shown frames and writes them into a file that Wireshark opens while it grows.

A large TCP frame is written as it passes, as one record of up to 64 KiB: so its sender sent it, and it may
never be cut. Missing checksums are completed, and an 802.1Q tag is put in line."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ringminus.switch import checksum, wire
from ringminus.switch.capture_output import open_output
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.pcap_wire import RECORD, PcapHeader
from ringminus.switch.port import ADDRESS_SIZE, Port
from ringminus.switch.reactor import Reactor
from ringminus.switch.wire import EtherType

log = logging.getLogger(__name__)

SNAPLEN = 262_144
_SECOND = 1_000_000_000
_ENOUGH = 256 << 10  # bytes that are written without waiting for a flush
_TAG_AT = 2 * ADDRESS_SIZE
_VLAN = wire.HOT_U16.pack(EtherType.VLAN)
_READER_WENT = {errno.EPIPE, errno.ECONNRESET}


class CaptureFile:
    """An `Endpoint` for a mirror's destination: `where` is a path, "-" for standard output, or an open
    binary file, which stays open. A file that exists is written anew, unless it is a capture that is to
    `go_on`.

    Records are written at `flush`, and after a second at the latest while frames come. With a `reactor`, a
    pipe whose reader is slow does not stop the process: some MiB wait, then records are dropped and counted.

    The capture ends by itself after `packets` frames, before the file grows beyond `bytes` (0: no bound), on
    an error of the disk, which is logged once, and when a pipe's reader goes; then `on_end` is called, and
    `error` says why if it was an error. `captured` and `dropped` count frames.

    Raises `ConfigError` and `HostError`."""

    def __init__(
        self,
        where: Path | str | BinaryIO,
        *,
        reactor: Reactor | None = None,
        packets: int = 0,
        bytes: int = 0,
        now: Callable[[], int] = time.time_ns,
        on_end: Callable[[], None] | None = None,
        go_on: bool = False,
    ) -> None:
        self.captured = self.dropped = 0
        self.error = ""
        self.ended = False
        self.on_end = on_end
        self._now = now
        self._most_packets, self._most_bytes = packets, bytes
        self._output, self.name = open_output(where, reactor, self._failed, go_on)
        self._buffer = [] if go_on else [PcapHeader(snaplen=SNAPLEN).pack()]
        self._buffered = 0 if go_on else PcapHeader.SIZE  # bytes in the buffer
        self._size = PcapHeader.SIZE  # in the file, with those
        self._records = 0  # in the buffer
        self.flush()

    def plugged(self, port: Port) -> None:
        """It never sends."""

    def resumed(self) -> None:
        """It never sends."""

    def set_link(self, up: bool, megabits: int) -> None:
        """It is shown what passes whatever its own link is."""

    def deliver(self, frame: Frame) -> None:
        if self.ended:
            self.dropped += bool(self.error)
            return
        if frame.checksum is Checksum.MISSING:
            frame = checksum.complete(frame)
        data = frame.data
        if frame.tci is not None:
            data = b"".join((data[:_TAG_AT], _VLAN, wire.HOT_U16.pack(frame.tci), data[_TAG_AT:]))
        length = len(data)
        size = RECORD.size + length
        if self._most_bytes and self._size + size > self._most_bytes:
            self._end()
            return
        now = self._now()
        seconds, nanoseconds = divmod(now, _SECOND)
        self._buffer.append(RECORD.pack(seconds & 0xFFFFFFFF, nanoseconds, length, length))
        self._buffer.append(data)
        self._buffered += size
        self._size += size
        self._records += 1
        self.captured += 1
        if self.captured == self._most_packets:
            self._end()
        elif self._buffered >= _ENOUGH or now - self._flushed >= _SECOND:
            self.flush()

    def flush(self) -> None:
        self._flushed = self._now()
        if not self._buffer or self.ended:
            return
        data, records = b"".join(self._buffer), self._records
        self._buffer, self._buffered, self._records = [], 0, 0
        failure = None
        try:
            taken = self._output.write(data, records)
        except OSError as error:
            taken, failure = False, error
        if not taken:
            self._size -= len(data)
            self._lose(records)
        if failure is not None:
            self._failed(failure)

    def close(self) -> None:
        self.flush()
        self.ended = True
        self._lose(self._output.close())

    def _lose(self, records: int) -> None:
        self.captured -= records
        self.dropped += records

    def _failed(self, error: OSError, lost: int = 0) -> None:
        self._lose(lost)
        if self.ended:
            return
        if error.errno in _READER_WENT:
            log.info("the capture to %s ends: its reader went", self.name)
        else:
            self.error = error.strerror or str(error)
            log.warning("the capture to %s ends: %s", self.name, self.error)
        self._end()

    def _end(self) -> None:
        self.flush()
        self.ended = True
        self._output.finish(self._tell)

    def _tell(self) -> None:
        if self.on_end is not None:
            self.on_end()

"""Writing what passes a tap to a capture file."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from ringminus.errors import HostError
from ringminus.lens.capture.output import Output
from ringminus.lens.capture.section import Section
from ringminus.tap import EVENTS, ChannelState, Event, Tap

log = logging.getLogger(__name__)

BATCH = 256
"""Events that are made blocks of together."""
ENOUGH = 256 << 10
"""Bytes that are written without waiting for a flush."""
TOO_SLOW = "its reader was too slow"
TOO_LARGE = "they are too large for it"
_READER_WENT = {errno.EPIPE, errno.ECONNRESET}


class CaptureWriter:
    """Writes events that pass `tap`, those of the given types that satisfy `wanted`, until `close`; states of
    channels always, as others are named by them.

    Events are kept until there are enough of them, and until `flush`, which is to be called at least every
    second. The capture ends by itself when its file is full or cannot be written, and when a pipe's reader
    goes, and that is logged. `written` counts events, `lost` those that ought to be in the file and are not;
    `error` says why a capture ended that should not have.
    """

    def __init__(
        self,
        tap: Tap,
        output: Output,
        events: Iterable[type[Event]] = EVENTS,
        wanted: Callable[[Event], bool] | None = None,
        partition: str = "",
    ) -> None:
        self.written = self.lost = 0
        self.error = ""
        self.ended = False
        self._output, self._wanted, self._partition = output, wanted, partition
        self._waiting: list[Event] = []
        self._channels: dict[int, ChannelState] = {}
        self._reason = ""
        self._size = 0  # bytes of the section that were written
        self._section = Section(partition, self._channels)
        self._leave: list[Callable[[], None]] = []
        self._write()
        if not self.ended:
            kinds = dict.fromkeys((*events, ChannelState))
            take = self._taker()
            self._leave = [tap.listen(kind, take) for kind in kinds]

    def _taker(self) -> Callable[[Event], None]:
        waiting, append, encode = self._waiting, self._waiting.append, self._encode

        def take(event: Event) -> None:
            append(event)
            if len(waiting) >= BATCH:
                encode()

        return take

    def flush(self) -> None:
        """Write what there is; a pipe takes what it has room for."""
        self._encode()
        if not self.ended:
            self._write()

    def close(self) -> None:
        """Write what there is, and close the file; once more does nothing."""
        self.flush()
        if not self.ended:
            self._finish_section()
            self._write()
            self._end()
            if self.lost and not self.error:
                log.warning(
                    "%d events are not in the capture %s: %s", self.lost, self._output.name, self._reason
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ on the way

    def _encode(self) -> None:
        """Make blocks of the events that wait."""
        events = self._waiting[:]
        self._waiting.clear()
        wanted = self._wanted
        if wanted is not None:
            events = [one for one in events if wanted(one) or type(one) is ChannelState]
        while events and not self.ended:
            section = self._section
            done = section.add(events, self._output.room - self._size)
            if done < len(events):
                if not done and not section.events:
                    self._lose(1, TOO_LARGE)  # not even a new file has room for it
                    done = 1
                else:
                    self._next_section()
            elif section.size >= ENOUGH:
                self._write()
            events = events[done:]
        if self.error:
            self.lost += len(events)

    def _write(self) -> None:
        data, events = self._section.take()
        self._size += len(data)
        try:
            lost = self._output.write(data, events)
        except OSError as error:
            self._fail(error, events)
        else:
            self.written += events - lost
            if lost:
                self._lose(lost, TOO_SLOW)

    def _next_section(self) -> None:
        """The file is full."""
        self._finish_section()
        data, events = self._section.take()
        try:
            more = self._output.next(data, events)
        except (OSError, HostError) as error:
            self._fail(error, events)
            return
        self.written += events
        if more:
            self._section, self._size = Section(self._partition, self._channels), 0
            self._write()
        else:
            log.warning(
                "the capture %s has its size and ends, with %d events", self._output.name, self.written
            )
            self._end()

    def _finish_section(self) -> None:
        if self._section.lost:
            self._lose(self._section.lost, TOO_LARGE)
        self._section.end(self.lost)

    # ------------------------------------------------------------ the end

    def _lose(self, events: int, reason: str) -> None:
        self.lost += events
        self._reason = reason

    def _fail(self, error: OSError | HostError, events: int) -> None:
        """Nothing more can be written: the guest goes on."""
        self.lost += events
        if isinstance(error, OSError) and error.errno in _READER_WENT:
            self.error = "its reader went"
        else:
            self.error = str(error) if isinstance(error, HostError) else error.strerror or str(error)
        name, reason = self._output.name, self.error
        self._end()
        log.warning(
            "the capture %s ends after %d events, %d are lost: %s", name, self.written, self.lost, reason
        )

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            for leave in self._leave:
                leave()
            lost = self._output.close()
            self.written -= lost
            if lost:
                self._lose(lost, TOO_SLOW)

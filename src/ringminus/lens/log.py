"""Events as lines of text."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from ringminus.clock import REFERENCE_HZ
from ringminus.errors import ConfigError, HostError
from ringminus.lens.decode import Decoder
from ringminus.lens.lines import line
from ringminus.tap import EVENTS, USUAL, ChannelState, Event, Tap

ALIASES = {"exit": "exits", "msr": "msrs", "hypercall": "hypercalls", "port": "ports"}
BUFFER_SIZE = 1 << 16
# how long a line may wait in the buffer while the guest is busy (100 ns)
FLUSH_INTERVAL = REFERENCE_HZ // 5


def parse_points(text: str) -> list[type[Event]]:
    """The event types that a list with commas names; raises `ConfigError`."""
    known = {event.POINT: event for event in EVENTS}
    chosen: dict[str, type[Event]] = {}
    for word in text.split(","):
        name = ALIASES.get(word.strip(), word.strip())
        if name != "all" and name not in known:
            raise ConfigError(f"--log knows no events {word.strip()!r}: say {', '.join(known)} or all")
        chosen |= {one.POINT: one for one in USUAL} if name == "all" else {name: known[name]}
    return list(chosen.values())


class EventLog:
    """Prints events of the given types to `path`, or to standard error, while the `with` block lasts.

    Lines go out in large pieces; raises `HostError` when they cannot.
    """

    def __init__(self, tap: Tap, events: list[type[Event]], path: Path | None) -> None:
        self._where = "standard error" if path is None else str(path)
        self._decoder = Decoder()
        self._flushed = 0
        try:
            target = os.dup(sys.stderr.fileno()) if path is None else path
            self._file: TextIO = open(target, "w", buffering=BUFFER_SIZE, encoding="utf-8")  # noqa: SIM115, PTH123
        except OSError as error:
            raise self._failure(error) from None
        self._leave = [tap.listen(event, self._print) for event in events]
        if ChannelState not in events:
            self._leave.append(tap.listen(ChannelState, self._decoder.note))

    def _failure(self, error: OSError) -> HostError:
        return HostError(f"cannot write the log to {self._where}: {error.strerror}")

    def _print(self, event: Event) -> None:
        try:
            layers = self._decoder.layers(event)
            self._file.write(line(event, layers, self._decoder.channel(event)).plain + "\n")
            if not 0 <= event.time - self._flushed < FLUSH_INTERVAL:
                self._flushed = event.time
                self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exception: object) -> None:
        for leave in self._leave:
            leave()
        try:
            self._file.close()
        except OSError as error:
            if exception[0] is None:
                raise self._failure(error) from None

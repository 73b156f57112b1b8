"""What a person says after --capture: FILE[,size=100M][,files=5][,points=exits+msrs][,data][,filter=…]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ringminus.errors import ConfigError
from ringminus.lens.capture.output import STANDARD, UNBOUNDED, open_output
from ringminus.lens.capture.writer import CaptureWriter
from ringminus.lens.filter import Filter, compile_filter
from ringminus.tap import EVENTS, USUAL, Event, Tap

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LEAST_SIZE = 64 << 10
MOST_FILES = 99_999
_OPTION = re.compile(r",(size|files|points|filter)=")
_DATA = re.compile(r",data(?=,|$)")
KNOWN = "size=, files=, points=, data, filter="


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """`size` is a file's at most, in bytes, `files` how many are kept; `events` are the types of events that
    are captured, those that satisfy `wanted`. With `data` ring packets have what the guest's memory held that
    they name, which is what a replay needs."""

    path: str
    size: int = UNBOUNDED
    files: int = 1
    events: tuple[type[Event], ...] = USUAL
    wanted: Filter | None = None
    data: bool = False

    @property
    def is_standard_output(self) -> bool:
        """Whether it goes where a console would write."""
        return self.path == STANDARD

    def start(self, tap: Tap, partition: str = "") -> CaptureWriter:
        """Begin to capture what passes the tap; raises `ConfigError` and `HostError`."""
        output = open_output(self.path, self.size, self.files)
        tap.keeps_data = tap.keeps_data or self.data
        return CaptureWriter(tap, output, self.events, self.wanted, partition)


def parse_capture(text: str) -> CaptureOptions:
    """Of the text after --capture. A filter may have commas, and so is the last; points are separated by `+`.
    Raises `ConfigError`."""
    before, _, filter_text = text.partition(",filter=")
    before, data = _DATA.subn("", before)
    path, *pieces = _OPTION.split(before)
    if not path:
        raise ConfigError("--capture names no file: say --capture demo.pcapng")
    given = dict(zip(pieces[::2], pieces[1::2], strict=True))
    if len(given) < len(pieces) // 2:
        raise ConfigError(f"--capture {text}: an option is given twice")
    if "," in path and "=" in path.rpartition(",")[2]:
        raise ConfigError(f"--capture has no option {path.rpartition(',')[2]!r}: there are {KNOWN}")
    size = _size(given["size"]) if "size" in given else UNBOUNDED
    files = _files(given["files"]) if "files" in given else 1
    if files > 1 and size == UNBOUNDED:
        raise ConfigError("--capture with files= needs size=, after which the next file begins")
    events = _events(given["points"]) if "points" in given else USUAL
    wanted = compile_filter(filter_text) if filter_text.strip() else None
    if wanted is not None:
        if "points" not in given and len(wanted.events) < len(EVENTS):
            events = EVENTS  # a filter that names those on demand asks for them
        events = tuple(one for one in events if one.POINT in wanted.points)
    return CaptureOptions(path, size, files, events, wanted, bool(data))


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(found[1]) * _UNITS[found[2].upper()] if found is not None else 0
    if size < LEAST_SIZE:
        raise ConfigError(f"--capture size={text}: say at least 64K, such as 100M or 2G")
    return size


def _files(text: str) -> int:
    files = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= files <= MOST_FILES:
        raise ConfigError(f"--capture files={text}: say how many files are kept, 1 to {MOST_FILES}")
    return files


def _events(text: str) -> tuple[type[Event], ...]:
    known = {event.POINT: event for event in EVENTS}
    names = text.replace(",", "+").split("+")
    if wrong := [name for name in names if name not in known]:
        raise ConfigError(f"--capture knows no events {wrong[0]!r}: say {'+'.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))

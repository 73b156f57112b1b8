"""The frames of a recording as exchanges: what the guest said, and what the host answered to which of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from ringminus.changes import ANSWERED, DROPPED
from ringminus.machine.replay.connection import Connection
from ringminus.machine.replay.frames import Told, likeness, stream_of, told
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.script import AHEAD
from ringminus.tap import DeviceMessage, NetworkFrame

LOST = {DROPPED, ANSWERED}
"""What an addon may have done with a frame so that the other side did not get it."""


@dataclass(slots=True, eq=False)
class Spoken:
    """A frame of the recorded guest; `answers` are sent when it comes, or another in its place."""

    event: NetworkFrame
    line: Line
    number: int
    """How many came before."""
    known: Told | None = None
    came: bool = False
    live: Told | None = None
    answers: list[Heard] = field(default_factory=list)

    @property
    def told(self) -> Told:
        """Taken apart; this is kept only where it is often asked for."""
        return self.known or told(self.event.data)


@dataclass(slots=True, eq=False)
class Heard:
    """What the recorded guest heard: a frame, or an RNDIS message that nobody had asked for. `number` is how
    many frames of the guest came before."""

    event: NetworkFrame | DeviceMessage
    number: int
    asked: Spoken | None = None
    sent: bool = False


@dataclass(slots=True, eq=False)
class Line:
    """An exchange of the recording. `connection` is there for one of TCP, `live` is what the live guest's
    exchange is that stands for it. `held` is what the live guest has no room for yet."""

    spoken: list[Spoken] = field(default_factory=list)
    held: deque[tuple[Heard, Spoken]] = field(default_factory=deque)
    connection: Connection | None = None
    live: Hashable = None


class Exchanges:
    """Those of a recording. `spoken` and `heard` are all frames in their order, `lines` the exchanges by what
    their frames have in common, `by_kind` the guest's frames that may be compared with each other, of a TCP
    connection only the first. `unasked` is what the host sent that nobody had asked for; the RNDIS messages
    among that are `unprompted`."""

    def __init__(self, recorded: RecordedDevice, unprompted: list[DeviceMessage]) -> None:
        self.lines: dict[Hashable, Line] = {}
        self.by_kind: dict[Hashable, list[Spoken]] = {}
        self.spoken: list[Spoken] = []
        self.heard: list[Heard] = []
        self.unasked: deque[Heard] = deque()
        self._by_number: dict[int, Spoken] = {}
        self._parts: dict[Hashable, Spoken] = {}  # by fragmented packet of the host, when it is due
        messages = {id(one) for one in unprompted}
        for event in recorded.events:
            if isinstance(event, NetworkFrame):
                if LOST & set(event.changed.split(",")):
                    continue
                self._read_frame(event)
            elif isinstance(event, DeviceMessage) and id(event) in messages:
                self._wait(Heard(event, len(self.spoken)))

    def _read_frame(self, event: NetworkFrame) -> None:
        stream = stream_of(event.data)
        key = told(event.data).line if stream is None else stream[0]
        line = self.lines.setdefault(key, Line())
        if event.to_guest:
            self._read_heard(event, line)
            return
        is_first = stream is None or not line.spoken
        spoken = Spoken(event, line, len(self.spoken), told(event.data) if is_first else None)
        self.spoken.append(spoken)
        line.spoken.append(spoken)
        self._by_number[event.sequence] = spoken
        if spoken.known is not None:
            self.by_kind.setdefault(spoken.known.kind, []).append(spoken)
        if stream is not None:
            line.connection = line.connection or Connection(stream[2].sequence)
            line.connection.add(stream[2])

    def _read_heard(self, event: NetworkFrame, line: Line) -> None:
        heard = Heard(event, len(self.spoken))
        caused = self._by_number.get(event.cause)
        best: Spoken | None
        due: Spoken | None
        near = line.spoken[-1:] if line.connection is not None else line.spoken[-AHEAD:]
        if line.connection is not None:
            best, due = near[0], caused or near[0]
        else:
            frame = told(event.data)
            best = max(reversed(near), key=lambda one: likeness(frame, one.told), default=None)
            due = caused or (self._parts.get(frame.part) if frame.continues else None) or best
            if due is not None and frame.part is not None:
                self._parts[frame.part] = due
        if due is None:
            self._wait(heard)
            return
        heard.asked = best or due
        due.answers.append(heard)
        self.heard.append(heard)

    def _wait(self, heard: Heard) -> None:
        self.heard.append(heard)
        self.unasked.append(heard)

"""The network of a recording: what a live guest sends is looked for there, and the recorded host's frames
come.

A frame of the host is sent when the guest's frame that it answers has come: the one that caused it, if that
was recorded, else the one before it in the same exchange (a connection, an address that is asked for, a
lease, a ping) of which it gives back the most. What the host sent unasked comes when as much of the guest has
come as in the recording. A frame of the guest is the same as a recorded one if all is the same but for what
guests choose anew; if none is, it is compared with the next one of its kind, which it stands for. What is too
long in coming is not waited for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from ringminus.clock import ReferenceClock, Timer, TimerQueue
from ringminus.machine.replay.compare import Change, Difference
from ringminus.machine.replay.exchanges import Exchanges, Heard, Line, Spoken
from ringminus.machine.replay.frames import Segment, Told, carried, stream_of, told
from ringminus.machine.replay.network import frame_of
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.machine.replay.result import MOST_DIFFERENCES, Result
from ringminus.machine.replay.script import AHEAD
from ringminus.switch.frame import Frame
from ringminus.switch.port import ADDRESS_SIZE
from ringminus.tap import DeviceMessage, NetworkFrame

if TYPE_CHECKING:
    from ringminus.machine.replay.adapter import AdapterReplay

PATIENCE = 10 * 10_000_000
"""How long the guest may be silent until a frame comes that waits for one of its (100 ns)."""


class Traffic:
    """The port that the adapter sends into; see the module. `unprompted` are RNDIS messages of the host."""

    def __init__(
        self,
        recorded: RecordedDevice,
        nic: AdapterReplay,
        result: Result,
        unprompted: list[DeviceMessage],
    ) -> None:
        self._nic, self._result = nic, result
        self._recorded = Exchanges(recorded, unprompted)
        self._live: dict[Hashable, Line] = {}
        self._said: dict[tuple[Hashable, Hashable], Spoken] = {}
        self._extras: set[tuple[Hashable, Hashable]] = set()  # what was told that was not recorded
        self._first: Counter[Hashable] = Counter()  # by kind, how many of the first have all come
        self._latest: Spoken | None = None  # of those that came
        self._reached = 0
        self._carried: Counter[str] = Counter()
        self._counts = dict.fromkeys(("again", "late", "refused", "repeated"), 0)
        self._clock: ReferenceClock | None = None
        self._timer: Timer | None = None
        self._looking = False
        self._unsent = len(self._recorded.heard)

    def start(self, clock: ReferenceClock, timers: TimerQueue) -> None:
        """Time begins."""
        self._clock = clock
        self._timer = timers.timer(lambda _now: self._go_on())
        self._be_patient()

    # ------------------------------------------------------------ the port (see `switch.port.Port`)

    def send(self, frame: Frame) -> bool:
        """A frame of the live guest."""
        self._result.compared += 1
        live = told(frame.data)
        line = self._live.get(live.line) or self._recorded.lines.get(live.line)
        if line is not None and line.live not in (None, live.line):
            line = None  # a live exchange stands for it that has another name
        if live.segment is None:
            self._say(live, line)
        else:
            self._say_segment(line, live, live.segment)
        self.look()
        self._be_patient()
        return True

    def flush(self) -> None:
        """There is nothing that waits."""

    def set_address(self, address: bytes) -> None:
        """Nobody looks for it."""

    # ------------------------------------------------------------ looking for it

    def _say(self, live: Told, line: Line | None) -> None:
        same = self._same(live, line)
        if same is not None:
            self._come(same, live)
            return
        before = self._said.get((live.kind, live.values))
        if before is not None:
            self._counts["again"] += 1
            self._answer(before, live)
            return
        similar = next(self._expected(live), None)
        if similar is not None:
            self._changed(live, similar)
            self._come(similar, live)
        else:
            self._extra(live)

    def _same(self, live: Told, line: Line | None) -> Spoken | None:
        """The recorded one that says the same, of the same exchange if there is one."""
        found = [one for one in self._expected(live) if one.told.values == live.values]
        ranks = {True: 0, False: 1}
        key = live.line
        return min(
            found,
            key=lambda one: (ranks[one.line is line], one.line.live not in (None, key)),
            default=None,
        )

    def _expected(self, live: Told) -> Iterator[Spoken]:
        """The next ones of that kind that have not come."""
        there = self._recorded.by_kind.get(live.kind, [])
        first = self._first[live.kind]
        while first < len(there) and there[first].came:
            first += 1
        self._first[live.kind] = first
        return (one for one in there[first : first + AHEAD] if not one.came)

    def _come(self, spoken: Spoken, live: Told) -> None:
        """It is here; what comes next of this exchange is looked for there."""
        spoken.came = True
        if spoken.line.live is None:
            spoken.line.live = live.line
        self._live[live.line] = spoken.line
        self._latest = spoken
        if live.segment is None:
            self._said[live.kind, spoken.told.values] = spoken
        self._reached = max(self._reached, spoken.number + 1)
        self._answer(spoken, live)

    def _changed(self, live: Told, about: Spoken) -> None:
        found = about.told.differs(live)
        self._result.differ(Difference("changed", live.name, about.event.sequence, changes=found))

    def _extra(self, live: Told) -> None:
        """It was not recorded: shown once, beside the last one of that kind, or else as a whole."""
        if (live.kind, live.values) in self._extras:
            self._counts["repeated"] += 1
            return
        if len(self._extras) < MOST_DIFFERENCES:
            self._extras.add((live.kind, live.values))
        there = self._recorded.by_kind.get(live.kind)
        if there:
            found = there[-1].told.differs(live)
            note = f"beside #{there[-1].event.sequence}, the last of that kind"
        else:
            found = tuple(Change(name, None, text) for name, text in live.values)
            note = "the recording has no frame of that kind from the guest"
        self._result.differ(Difference("extra", live.name, changes=found, note=note))

    # ------------------------------------------------------------ TCP

    def _say_segment(self, line: Line | None, live: Told, segment: Segment) -> None:
        """What it brings is compared, however it is cut; acknowledgments open the way for what comes next."""
        if line is None or line.live is None or segment.begins:
            line = self._begin(line, live, segment)
        if line is None or line.connection is None:
            if segment.size:
                self._extra(live)
            return
        verdict = line.connection.hear(segment)
        about = line.spoken[verdict.place] if verdict.place < len(line.spoken) else None
        if verdict.again:
            self._counts["again"] += 1
            if about is not None and about.came and not line.held:
                self._answer(about, live)
        elif verdict.differs:
            if about is None:
                self._extra(live)
            else:
                self._changed(live, about)
        for index in line.connection.passed():
            self._come(line.spoken[index], live)
        self._send_held(line)

    def _begin(self, line: Line | None, live: Told, segment: Segment) -> Line | None:
        """The recorded connection that a live one stands for from now on."""
        if line is not None and line.connection is not None and line.live == live.line:
            if not line.connection.over:
                return line  # it says again that it wants to begin
        elif line is None or line.connection is None:
            line = None
        if segment.begins and (line is None or line.live is not None):
            line = self._free(live)
        if line is None or line.connection is None:
            return None
        self._counts["again"] += line.live is not None
        line.held.clear()
        self._live.pop(line.live, None)
        self._live[live.line], line.live = line, live.line
        line.connection.begin(segment)
        first = line.spoken[0]
        if first.told.values != live.values:
            self._changed(live, first)
        return line

    def _free(self, live: Told) -> Line | None:
        """A recorded connection to the same place that no live one stands for; else one that is over."""
        there = self._recorded.by_kind.get(live.kind, [])
        same = [one for one in there if one.told.values == live.values] or there
        free = [one for one in same if one.line.live is None]
        free = free or [one for one in same if one.line.connection is None or one.line.connection.over]
        return free[0].line if free else None

    # ------------------------------------------------------------ the host's frames

    def _answer(self, spoken: Spoken, live: Told) -> None:
        spoken.live = live
        for heard in spoken.answers:
            asked = heard.asked or spoken
            if asked.line.connection is None:
                self._send(heard, asked, asked.live or live)
            else:
                asked.line.held.append((heard, asked))
                self._send_held(asked.line)

    def _send_held(self, line: Line) -> None:
        """What the live guest has room for."""
        held = line.held
        while held and line.connection is not None:
            heard, asked = held[0]
            stream = stream_of(heard.event.data) if isinstance(heard.event, NetworkFrame) else None
            if stream is not None and not line.connection.takes(stream[2]):
                return
            held.popleft()
            self._send(heard, asked, self._last_of(asked))

    def look(self) -> None:
        """Send what nobody has asked for, if it is time."""
        if self._looking:
            return
        self._looking = True
        try:
            while self._recorded.unasked and self._recorded.unasked[0].number <= self._reached:
                if not self._wanted(self._recorded.unasked[0]):
                    break
                heard = self._recorded.unasked.popleft()
                if not heard.sent:
                    self._send(heard, self._latest, self._latest.live if self._latest is not None else None)
        finally:
            self._looking = False

    def _wanted(self, heard: Heard) -> bool:
        """Whether the guest is so far that it takes it."""
        event, control = heard.event, self._nic.control
        is_ready = control.packet_filter != 0
        return is_ready and (isinstance(event, DeviceMessage) or control.accepts(event.data[:ADDRESS_SIZE]))

    def _send(self, heard: Heard, asked: Spoken | None, live: Told | None) -> None:
        event = heard.event
        self._unsent -= not heard.sent
        heard.sent = True
        self._result.sent += 1
        if isinstance(event, DeviceMessage):
            self._nic.indicate(event.payload)
            return
        frame = frame_of(event)
        if asked is not None and live is not None:
            connection = asked.line.connection
            moved = connection.moved if connection is not None and heard.asked is not None else 0
            frame.data, names = carried(told(event.data), asked.told, live, moved)
            self._carried.update(names)
        if not self._nic.control.accepts(frame.data[:ADDRESS_SIZE]):
            self._counts["refused"] += 1
        self._nic.deliver(frame)

    # ------------------------------------------------------------ what does not come

    def _be_patient(self) -> None:
        if self._timer is not None and self._clock is not None and self._unsent:
            self._timer.arm(self._clock.reference_time() + PATIENCE)

    def _overdue(self) -> Heard | None:
        """What waits in an exchange of datagrams that has begun."""
        for line in self._live.values():
            for spoken in line.spoken if "udp" in line.spoken[0].told.by else ():
                for heard in spoken.answers if not spoken.came else ():
                    if not heard.sent:
                        return heard
        return None

    def _go_on(self) -> None:
        """The guest has said nothing for long."""
        if not self._nic.control.packet_filter:
            self._be_patient()
            return
        found = self._recorded.unasked.popleft() if self._recorded.unasked else self._overdue()
        if found is not None:
            self._counts["late"] += 1
            asked = found.asked or self._latest
            self._send(found, asked, self._last_of(asked))
            self.look()
            self._be_patient()

    def _last_of(self, asked: Spoken | None) -> Told | None:
        """What the live guest has said last in that exchange."""
        if asked is None:
            return None
        return asked.live or next((one.live for one in reversed(asked.line.spoken) if one.live), None)

    # ------------------------------------------------------------ the end

    def tell(self) -> None:
        """Say in the result's notes what there is to say."""
        notes, counts = self._result.notes, self._counts
        left = sum(not one.came for one in self._recorded.spoken)
        unsent = sum(not one.sent for one in self._recorded.heard)
        if not self._recorded.spoken and not self._recorded.heard:
            notes.append("the recording has no frames: record them with the events device and frames")
        for count, words in (
            (left, "recorded frames of the guest did not come"),
            (counts["again"], "frames came once more than they were recorded, and got the same answer"),
            (counts["repeated"], "frames that were not recorded came again, and are not shown again"),
            (unsent, "recorded frames of the host were not sent: what they answer did not come"),
            (counts["late"], "frames of the host were sent without what should have come before"),
            (counts["refused"], "frames of the host were not for the guest, by the filter that it has set"),
        ):
            if count:
                notes.append(f"{count} {words}")
        for name, count in sorted(self._carried.items()):
            notes.append(f"{name} is the live guest's in {count} frames of the host")

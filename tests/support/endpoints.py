"""What tests plug into a switch, and frames for it."""

from __future__ import annotations

from collections.abc import Callable

from ringminus.clock import MockClock, TimerQueue
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.port import BROADCAST, Port, PortSettings, VlanMode
from ringminus.switch.switch import Switch, SwitchPort


class RecordingEndpoint:
    """An endpoint that notes what it is told: `frames` delivered, and `calls` by name, in order. `answer`,
    if set, is called with each frame, from within `deliver`."""

    def __init__(self, answer: Callable[[Frame], None] | None = None) -> None:
        self.frames: list[Frame] = []
        self.calls: list[str] = []
        self.links: list[tuple[bool, int]] = []
        self.answer = answer
        self._port: Port | None = None

    @property
    def port(self) -> Port:
        assert self._port is not None, "not plugged in"
        return self._port

    def plugged(self, port: Port) -> None:
        self._port = port
        self.calls.append("plugged")

    def deliver(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.calls.append("deliver")
        if self.answer is not None:
            self.answer(frame)

    def flush(self) -> None:
        self.calls.append("flush")

    def resumed(self) -> None:
        self.calls.append("resumed")

    def set_link(self, up: bool, megabits: int) -> None:
        self.links.append((up, megabits))
        self.calls.append("set_link")

    def close(self) -> None:
        self.calls.append("close")

    def taken(self) -> list[Frame]:
        """The frames delivered since the last call."""
        frames, self.frames = self.frames, []
        return frames

    def data(self) -> list[bytes]:
        """Their data."""
        return [frame.data for frame in self.taken()]


class Bed:
    """A switch on a clock that stands still."""

    def __init__(self, name: str = "lab") -> None:
        self.clock = MockClock()
        self.timers = TimerQueue()
        self.switch = Switch(name, self.clock, self.timers)

    def plug(
        self, settings: PortSettings | None = None, endpoint: RecordingEndpoint | None = None
    ) -> tuple[RecordingEndpoint, SwitchPort]:
        """A new endpoint and its port."""
        endpoint = endpoint or RecordingEndpoint()
        return endpoint, self.switch.plug(endpoint, settings or PortSettings())

    def advance(self, units: int) -> None:
        """Let time (100 ns units) pass, and the alarms that are due on the way ring, each in its time."""
        end = self.clock.reference_time() + units
        while (due := self.timers.next_deadline()) <= end:
            self.clock.advance(max(0, due - self.clock.reference_time()))
            self.timers.fire(self.clock.reference_time())
        self.clock.advance(end - self.clock.reference_time())


def mac(number: int) -> bytes:
    """A unicast address of Hyper-V's range."""
    return bytes.fromhex("00155d") + number.to_bytes(3, "big")


def frame(
    destination: bytes = BROADCAST,
    source: bytes = mac(1),
    payload: bytes = b"payload",
    *,
    kind: int = 0x88B5,
    tci: int | None = None,
    checksum: Checksum = Checksum.UNKNOWN,
    segment_size: int = 0,
) -> Frame:
    """An Ethernet frame; its type is by default one for experiments."""
    return Frame(destination + source + kind.to_bytes(2, "big") + payload, tci, checksum, segment_size)


def access(vlan: int) -> VlanMode:
    return VlanMode(access=vlan)


def trunk(*vlans: int, native: int = 0) -> VlanMode:
    return VlanMode(access=native, trunk=frozenset(vlans))

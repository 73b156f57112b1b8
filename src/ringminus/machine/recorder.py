"""What passes a network adapter, written to a file on the way."""

from __future__ import annotations

from ringminus.switch.capture import CaptureFile
from ringminus.switch.frame import Frame
from ringminus.switch.port import Endpoint, Port


class Recorder:
    """An `Endpoint` in place of `inner`, which it is otherwise; every frame in both directions is shown to
    `capture` first. It is closed with the endpoint."""

    def __init__(self, inner: Endpoint, capture: CaptureFile) -> None:
        self._inner = inner
        self._capture = capture

    def plugged(self, port: Port) -> None:
        self._inner.plugged(RecordedPort(port, self._capture))

    def deliver(self, frame: Frame) -> None:
        self._capture.deliver(frame)
        self._inner.deliver(frame)

    def flush(self) -> None:
        self._capture.flush()
        self._inner.flush()

    def resumed(self) -> None:
        self._inner.resumed()

    def set_link(self, up: bool, megabits: int) -> None:
        self._inner.set_link(up, megabits)

    def close(self) -> None:
        self._capture.close()
        self._inner.close()


class RecordedPort:
    """The `Port` that the recorded endpoint sees."""

    def __init__(self, port: Port, capture: CaptureFile) -> None:
        self._port = port
        self._capture = capture

    def send(self, frame: Frame) -> bool:
        self._capture.deliver(frame)
        return self._port.send(frame)

    def flush(self) -> None:
        self._capture.flush()
        self._port.flush()

    def set_address(self, address: bytes) -> None:
        self._port.set_address(address)

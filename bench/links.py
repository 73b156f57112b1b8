"""What one frame costs across links: from a process, through the process of a named switch, to a third.

Frames go in batches with a window, as TCP's do, so that none is dropped; each process's own time is counted.
`alone` is one frame and its answer at a time. `python bench/links.py`
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

from ringminus.clock import TimerQueue, TscClock
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.link.client import RemotePort
from ringminus.switch.link.control import Control
from ringminus.switch.places import place_of
from ringminus.switch.port import Port, PortSettings
from ringminus.switch.reactor import Reactor

SECONDS = 1.0
BATCH = 32
WINDOW_BYTES = 1 << 20
WINDOW_FRAMES = 1024
SIZES = (60, 1514, 9014, 65226)
SENDER, RECEIVER = bytes.fromhex("00155d000001"), bytes.fromhex("00155d000002")
TICKS = os.sysconf("SC_CLK_TCK")


class Counting:
    """An endpoint that counts what comes, and answers every `every` frames with a small one."""

    def __init__(self, answer: Frame | None = None) -> None:
        self.got = 0
        self.every = 1
        self.stopped = False
        self.up = False
        self._answer = answer
        self._port: Port | None = None

    def plugged(self, port: Port) -> None:
        self._port = port

    def deliver(self, frame: Frame) -> None:
        self.got += 1
        if self._answer is not None and not self.got % self.every:
            assert self._port is not None
            self._port.send(self._answer)

    def flush(self) -> None:
        assert self._port is not None
        self._port.flush()

    def resumed(self) -> None:
        self.stopped = False

    def set_link(self, up: bool, megabits: int) -> None:
        self.up = up

    def close(self) -> None:
        pass


def port_of(endpoint: Counting, address: bytes, title: str) -> tuple[RemotePort, Reactor]:
    reactor = Reactor()
    clock = TscClock(time.monotonic_ns, 1_000_000_000)
    port = RemotePort("bench", PortSettings(address=address), reactor, clock, TimerQueue(), title=title)
    port.plug(endpoint)
    port.wait()
    while not endpoint.up:
        reactor.dispatch(0.01)
    return port, reactor


def own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def seconds_of(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def receive(told: Connection) -> None:
    """The third process: told how often to answer, and asked for what it used."""
    endpoint = Counting(Frame(SENDER + RECEIVER + b"\x88\xb5" + bytes(46)))
    _, reactor = port_of(endpoint, RECEIVER, "receiver")
    told.send(0.0)
    reactor.watch(told.fileno(), 1, lambda _events: None)
    while True:
        reactor.dispatch(-1)
        if told.poll():
            every = told.recv()
            if not every:
                return
            endpoint.every, endpoint.got = every, 0
            told.send(own_seconds())


@dataclass(frozen=True)
class Cost:
    """Microseconds per frame: of the whole, and of each process."""

    whole: float
    sender: float
    switch: float
    receiver: float


class Bench:
    """The sender, and the other two."""

    def __init__(self) -> None:
        self._told, theirs = Pipe()
        self._process = Process(target=receive, args=(theirs,), daemon=True)
        self._process.start()
        self._told.recv()
        self._endpoint = Counting()
        self._port, self._reactor = port_of(self._endpoint, SENDER, "sender")
        with Control(place_of("bench")) as control:
            self._switch = control.pid

    def _ask(self, every: int) -> float:
        self._told.send(every)
        used: float = self._told.recv()
        return used

    def _timed(self, every: int, work: Callable[[], int]) -> Cost:
        before = self._ask(every), seconds_of(self._switch), own_seconds()
        started = time.perf_counter()
        frames = work()
        whole = time.perf_counter() - started
        used = own_seconds(), seconds_of(self._switch), self._ask(every)
        sender, switch, receiver = used[0] - before[2], used[1] - before[1], used[2] - before[0]
        return Cost(*(1e6 * one / frames for one in (whole, sender, switch, receiver)))

    def _wait_for(self, answers: int) -> None:
        while self._endpoint.got < answers or self._endpoint.stopped:
            self._reactor.dispatch(-1)

    def stream(self, size: int) -> Cost:
        """Frames of `size` bytes, one way."""
        window = min(WINDOW_FRAMES, max(4, WINDOW_BYTES // size))
        every = max(1, window // 4)
        batch = min(BATCH, every)
        frame = Frame(RECEIVER + SENDER + b"\x88\xb5" + bytes(size - 14), None, Checksum.MISSING)
        endpoint, port = self._endpoint, self._port

        def work() -> int:
            endpoint.got = sent = 0
            until = time.perf_counter() + SECONDS
            while time.perf_counter() < until:
                self._wait_for((sent + batch - window) // every)
                for _ in range(batch):
                    endpoint.stopped = not port.send(frame)
                port.flush()
                sent += batch
                self._reactor.dispatch(0)
            self._wait_for(sent // every)
            return sent

        return self._timed(every, work)

    def alone(self, size: int) -> Cost:
        """One frame, and a small one back."""
        frame = Frame(RECEIVER + SENDER + b"\x88\xb5" + bytes(size - 14), None, Checksum.MISSING)
        endpoint, port = self._endpoint, self._port

        def work() -> int:
            endpoint.got = 0
            until = time.perf_counter() + SECONDS
            while time.perf_counter() < until:
                port.send(frame)
                port.flush()
                self._wait_for(endpoint.got + 1)
            return endpoint.got

        return self._timed(1, work)

    def dropped(self) -> int:
        with Control(place_of("bench")) as control:
            ports = control.request("show")["ports"]
        return sum(sum(port["counters"]["dropped"].values()) for port in ports)

    def close(self) -> None:
        self._told.send(0)
        self._process.join()
        self._port.close()
        with Control(place_of("bench")) as control:
            control.request("stop", force=True)


def main() -> None:
    print(f"{'µs per frame':<26}{'whole':>8}{'sender':>8}{'switch':>8}{'receiver':>10}{'MB/s':>8}")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        bench = Bench()
        for size in SIZES:
            rows = ((f"{size:,} bytes", bench.stream(size)), (f"{size:,} bytes, alone", bench.alone(size)))
            for name, cost in rows:
                line = f"{name:<26}{cost.whole:>8.2f}{cost.sender:>8.2f}{cost.switch:>8.2f}"
                print(f"{line}{cost.receiver:>10.2f}{size / cost.whole:>8,.0f}", flush=True)
        print(f"{bench.dropped()} frames dropped")
        bench.close()


if __name__ == "__main__":
    main()

"""The kicker calls `stop` when the time has come or the loop has something to do, and at no other time."""

from __future__ import annotations

import ctypes
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringminus.machine.kicker import AlarmDescriptor, Kicker

MS = 1_000_000
SOON = 20 * MS
FAR = 3600 * 1000 * MS
STOP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Rig:
    """A kicker on a loop that is a pipe in an epoll set; `stopped` is set by each stop."""

    def __init__(self) -> None:
        self.loop = select.epoll()
        self.reader, self.writer = os.pipe()
        self.loop.register(self.reader, select.EPOLLIN)
        self.stopped = threading.Event()
        self.stops = 0
        self.function = STOP(self._stop)
        address = ctypes.cast(self.function, ctypes.c_void_p).value or 0
        self.kicker = Kicker(self.loop.fileno(), (address, 0))

    def _stop(self, _argument: int | None) -> None:
        self.stops += 1
        self.stopped.set()

    def enter(self, nanoseconds: int) -> None:
        self.stopped.clear()
        self.kicker.enter(time.monotonic_ns() + nanoseconds)

    def close(self) -> None:
        self.kicker.close()
        self.loop.close()
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_the_guest_is_stopped_at_its_deadline_and_not_before(rig: Rig) -> None:
    started = time.monotonic_ns()
    rig.enter(SOON)
    assert rig.stopped.wait(5)
    assert time.monotonic_ns() - started >= SOON
    assert not rig.kicker.loop_is_ready


def test_a_deadline_that_has_passed_stops_at_once(rig: Rig) -> None:
    rig.enter(-MS)
    assert rig.stopped.wait(5)


def test_a_ready_loop_stops_the_guest(rig: Rig) -> None:
    rig.enter(FAR)
    assert not rig.stopped.wait(0.03)
    os.write(rig.writer, b"x")
    assert rig.stopped.wait(5)
    assert rig.kicker.loop_is_ready


def test_who_rests_is_not_woken_by_the_loop_and_is_stopped_by_it_again_afterwards(rig: Rig) -> None:
    rig.enter(FAR)
    rig.kicker.leave()
    rig.kicker.rest()
    os.write(rig.writer, b"x")
    time.sleep(0.03)
    assert not rig.kicker.loop_is_ready
    rig.enter(FAR)
    assert rig.stopped.wait(5)
    assert rig.kicker.loop_is_ready


def test_a_loop_that_stays_ready_stops_each_entry(rig: Rig) -> None:
    os.write(rig.writer, b"x")
    for _ in range(5):
        rig.enter(FAR)
        assert rig.stopped.wait(5)
        rig.kicker.leave()


def test_a_stop_is_repeated_until_the_guest_has_left(rig: Rig) -> None:
    # the first one may come in the instant before the guest runs, and be lost
    rig.enter(SOON)
    for _ in range(5):
        assert rig.stopped.wait(5)
        rig.stopped.clear()
    rig.kicker.leave()
    time.sleep(0.02)
    seen = rig.stops
    time.sleep(0.02)
    assert rig.stops == seen


def test_nobody_is_stopped_outside(rig: Rig) -> None:
    rig.enter(SOON)
    rig.kicker.leave()
    os.write(rig.writer, b"x")
    time.sleep(SOON / 1e9 + 0.03)
    assert rig.stops == 0


def test_the_deadline_can_move_while_the_guest_runs(rig: Rig) -> None:
    rig.enter(FAR)
    rig.kicker.stop_at(time.monotonic_ns() + SOON)
    assert rig.stopped.wait(5)


def test_an_entry_with_the_same_deadline_keeps_it(rig: Rig) -> None:
    deadline = time.monotonic_ns() + SOON
    for _ in range(3):
        rig.kicker.enter(deadline)
        rig.kicker.leave()
    rig.kicker.enter(deadline)
    assert rig.stopped.wait(5)


def test_closing_gives_thread_and_descriptors_back() -> None:
    kinds = ("task", "fd")
    before = [len(list(Path("/proc/self", kind).iterdir())) for kind in kinds]
    for _ in range(3):
        Rig().close()
    assert [len(list(Path("/proc/self", kind).iterdir())) for kind in kinds] == before


def test_an_alarm_rings_once_and_never_for_zero() -> None:
    alarm = AlarmDescriptor()
    try:
        alarm.set(MS)
        assert select.select([alarm.fd], [], [], 5)[0]
        alarm.clear()
        alarm.clear()
        assert not select.select([alarm.fd], [], [], 0.01)[0]
        alarm.set(MS)
        alarm.set(0)
        assert not select.select([alarm.fd], [], [], 0.02)[0]
    finally:
        alarm.close()

"""What a machine gives its devices: memory, time, and host threads for what blocks.

Work runs on a pool of threads; its result comes back on the machine's thread, between two slices of the
guest. Results that come together wake the loop once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from ringminus.hypervisor.partition import Partition

T = TypeVar("T")
# enough to keep a disk's queue full
THREADS = 16


class HostThreads:
    """The pool of one machine. Without a loop (before `bind`, after `unbind`) work is done at once."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: deque[tuple[DeviceServices, Future[Any]]] = deque()
        self._told = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Results come back on `loop` from now on."""
        self._loop = loop

    def unbind(self) -> None:
        """The loop ends; who wants the results of work that runs has to `drain`."""
        self._loop = None

    def submit(self, owner: DeviceServices, work: Callable[[], Any]) -> Future[Any]:
        """Start `work`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        future = self._pool.submit(work)
        future.add_done_callback(lambda ended: self._has_ended(owner, ended))
        return future

    def _has_ended(self, owner: DeviceServices, future: Future[Any]) -> None:
        """On the thread that did the work."""
        self._ended.append((owner, future))
        if not self._told and self._loop is not None:
            self._told = True
            self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._told = False
        while self._ended:
            owner, future = self._ended.popleft()
            owner.finish(future)

    @property
    def has_loop(self) -> bool:
        return self._loop is not None

    def close(self) -> None:
        """Wait for the work that runs; its results reach nobody."""
        self.unbind()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


class DeviceServices:
    """See `vmbus.device.Services`: one device's."""

    def __init__(self, partition: Partition, threads: HostThreads) -> None:
        self.memory = partition.memory
        self.clock = partition.clock
        self.timers = partition.timers
        self.tap = partition.tap
        self._threads = threads
        # with each piece of work, the event that asked for it
        self._running: dict[Future[Any], tuple[Callable[[Any], None], int]] = {}

    def run(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Do `work` on a host thread, then `done(result or exception)` on the machine's."""
        if self._threads.has_loop:
            self._running[self._threads.submit(self, work)] = done, self.tap.cause
            return
        try:
            result: T | Exception = work()
        except Exception as error:
            result = error
        done(result)

    def finish(self, future: Future[Any]) -> None:
        """Hand a result over, unless `drain` has done so."""
        done, cause = self._running.pop(future, (None, 0))
        if done is None:
            return
        self.tap.cause, before = cause, self.tap.cause
        try:
            error = future.exception()
            if error is None:
                done(future.result())
            elif isinstance(error, Exception):
                done(error)
            else:
                raise error
        finally:
            self.tap.cause = before

    def drain(self) -> None:
        """Wait until no work of this device runs any more; each `done` has been called then."""
        while self._running:
            ended, _ = wait(self._running)
            for future in ended:
                self.finish(future)

"""Monitor pages: doorbells that are bits in shared memory instead of hypercalls.

A guest rings by setting its offer's bit in the page of notifications to us; we look at it every 100 µs while
a channel with a monitor is open. It saves the guest's exits and costs ours, so only devices that ask for it
have one. (`hv_monitor_page` in Linux's include/linux/hyperv.h.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ringminus.clock import ReferenceClock, TimerQueue
from ringminus.memory import PAGE_SIZE, GuestMemory
from ringminus.vmbus.ring_wire import MonitorPage, MonitorParameter

MONITORS = 128
GROUP_SIZE = 32
LATENCY = 1000  # units of 100 ns
TRIGGERS = MonitorPage.offset_of("trigger_groups")
LATENCIES = MonitorPage.offset_of("latency")
PARAMETERS = MonitorPage.offset_of("parameters")


@dataclass(frozen=True, slots=True)
class Watch:
    """A channel's bit: `ring` is called when the guest has set it."""

    connection_id: int
    ring: Callable[[], object]


class Monitor:
    """The monitor pages of one connection. Nothing is polled while nobody watches or no page is there."""

    def __init__(self, memory: GuestMemory, timers: TimerQueue, clock: ReferenceClock) -> None:
        self._memory = memory
        self._clock = clock
        self._timer = timers.timer(self._poll)
        self._page: memoryview | None = None
        self.page: int | None = None
        self._watches: dict[int, Watch] = {}

    def set_page(self, gpa: int | None) -> None:
        """Where the guest sets its bits; None forgets it. A page that is no RAM is none."""
        self._page, self.page = None, gpa
        if gpa is not None and gpa % PAGE_SIZE == 0 and self._memory.is_ram(gpa, PAGE_SIZE):
            self._page = self._memory.view(gpa, PAGE_SIZE)
            for monitor_id, watch in self._watches.items():
                self._describe(monitor_id, watch)
        self._arm()

    def watch(self, monitor_id: int, watch: Watch) -> None:
        """Look at a bit from now on."""
        self._watches[monitor_id] = watch
        self._describe(monitor_id, watch)
        self._arm()

    def forget(self, monitor_id: int) -> None:
        """Look at it no more."""
        self._watches.pop(monitor_id, None)
        self._arm()

    def _describe(self, monitor_id: int, watch: Watch) -> None:
        """Tell in the page what the bit stands for, as the guest shows it in sysfs."""
        if self._page is not None:
            place = LATENCIES + 2 * monitor_id
            self._page[place : place + 2] = LATENCY.to_bytes(2, "little")
            parameter = MonitorParameter(connection_id=watch.connection_id, flag_number=0)
            parameter.pack_into(self._page, PARAMETERS + MonitorParameter.SIZE * monitor_id)

    def _arm(self) -> None:
        if self._page is not None and self._watches:
            if self._timer.deadline is None:
                self._timer.arm(self._clock.reference_time() + LATENCY)
        else:
            self._timer.disarm()

    def _poll(self, now: int) -> None:
        page = self._page
        if page is None:
            return
        for group in range(MONITORS // GROUP_SIZE):
            place = TRIGGERS + 8 * group
            pending = int.from_bytes(page[place : place + 4], "little")
            if pending:
                page[place : place + 4] = bytes(4)
                for bit in range(GROUP_SIZE):
                    watch = self._watches.get(group * GROUP_SIZE + bit) if pending >> bit & 1 else None
                    if watch is not None:
                        watch.ring()
        self._arm()

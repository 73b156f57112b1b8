"""Monitor pages: a guest sets a bit, and within 100 µs the host has seen it."""

from __future__ import annotations

import pytest

from ringminus.clock import NEVER, MockClock, TimerQueue
from ringminus.memory import MIB, PAGE_SIZE, GuestMemory
from ringminus.vmbus.monitor import LATENCY, Monitor, Watch
from ringminus.vmbus.ring_wire import MonitorPage, MonitorParameter
from support import bus_bed
from support.bus_bed import Recorder, echo

PAGE = 5 * PAGE_SIZE
TRIGGERS = MonitorPage.offset_of("trigger_groups")


class Bed:
    """A monitor with its clock, and a guest that sets bits."""

    def __init__(self) -> None:
        self.memory = GuestMemory(MIB)
        self.clock = MockClock()
        self.timers = TimerQueue()
        self.monitor = Monitor(self.memory, self.timers, self.clock)
        self.rung: list[int] = []

    def watch(self, monitor_id: int, connection_id: int = 0x2001) -> None:
        self.monitor.watch(monitor_id, Watch(connection_id, lambda: self.rung.append(monitor_id)))

    def set_bits(self, *monitor_ids: int) -> None:
        for number in monitor_ids:
            group = PAGE + TRIGGERS + 8 * (number // 32)
            word = int.from_bytes(self.memory.read(group, 4), "little") | 1 << number % 32
            self.memory.write(group, word.to_bytes(4, "little"))

    def pass_time(self) -> list[int]:
        """One latency passes; gives whose bells were heard."""
        self.rung.clear()
        self.clock.advance(LATENCY)
        self.timers.fire(self.clock.reference_time())
        return self.rung

    @property
    def page(self) -> MonitorPage:
        return MonitorPage.unpack(self.memory.read(PAGE, PAGE_SIZE))


@pytest.fixture
def bed() -> Bed:
    made = Bed()
    made.monitor.set_page(PAGE)
    return made


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize("monitor_id", [0, 1, 31, 32, 63, 64, 127])
def test_a_bit_rings_its_own_bell_once(bed: Bed, monitor_id: int) -> None:
    for other in {0, 31, 32, 127, monitor_id}:
        bed.watch(other)
    bed.set_bits(monitor_id)
    assert bed.pass_time() == [monitor_id]
    assert bed.pass_time() == []
    assert bed.page.trigger_groups == (0, 0, 0, 0)


def test_bells_are_heard_within_the_latency_and_not_before(bed: Bed) -> None:
    bed.watch(3)
    assert bed.timers.next_deadline() == LATENCY == 1000  # of 100 ns
    bed.set_bits(3)
    bed.clock.advance(LATENCY - 1)
    assert bed.timers.fire(bed.clock.reference_time()) == 0
    bed.clock.advance(1)
    bed.timers.fire(bed.clock.reference_time())
    assert bed.rung == [3]


def test_several_bits_ring_in_their_order(bed: Bed) -> None:
    for number in (100, 2, 33):
        bed.watch(number)
    bed.set_bits(33, 100, 2)
    assert bed.pass_time() == [2, 33, 100]


def test_bits_of_nobody_are_cleared_and_ignored(bed: Bed) -> None:
    bed.watch(7)
    bed.set_bits(*range(128))
    assert bed.pass_time() == [7]
    assert bed.page.trigger_groups == (0, 0, 0, 0)


def test_the_page_says_what_a_bit_stands_for(bed: Bed) -> None:
    bed.watch(40, connection_id=0x2009)
    assert bed.page.latency[40] == LATENCY
    assert MonitorParameter.unpack(bed.page.parameters, 40 * 8).connection_id == 0x2009
    assert bed.page.latency[39] == bed.page.latency[41] == 0
    # the words that are armed, and all else, are left alone
    assert bed.page.trigger_groups == (0, 0, 0, 0) and bed.page.next_check_time == (0,) * 128


def test_a_page_that_comes_later_is_told_of_those_who_watch() -> None:
    bed = Bed()
    bed.watch(9, connection_id=0x2002)
    bed.monitor.set_page(PAGE)
    assert MonitorParameter.unpack(bed.page.parameters, 9 * 8).connection_id == 0x2002
    bed.set_bits(9)
    assert bed.pass_time() == [9]


def test_nothing_is_polled_while_nobody_watches(bed: Bed) -> None:
    assert bed.timers.next_deadline() == NEVER
    bed.watch(1)
    bed.watch(2)
    bed.monitor.forget(1)
    assert bed.timers.next_deadline() != NEVER
    bed.monitor.forget(2)
    assert bed.timers.next_deadline() == NEVER
    bed.set_bits(1, 2)
    assert bed.pass_time() == []


@pytest.mark.parametrize("gpa", [None, PAGE + 8, MIB, 1 << 63])
def test_nothing_is_polled_without_a_page_of_ram(bed: Bed, gpa: int | None) -> None:
    bed.watch(1)
    bed.monitor.set_page(gpa)
    assert bed.timers.next_deadline() == NEVER
    bed.set_bits(1)
    assert bed.pass_time() == []
    bed.monitor.set_page(PAGE)
    assert bed.pass_time() == [1]


def test_who_is_forgotten_by_another_bell_is_not_rung(bed: Bed) -> None:
    bed.monitor.watch(1, Watch(0x2001, lambda: bed.monitor.forget(2)))
    bed.watch(2)
    bed.set_bits(1, 2)
    assert bed.pass_time() == []


def test_a_bell_may_take_the_page_away(bed: Bed) -> None:
    """A guest that rings, and whose channel's device then ends the connection."""
    bed.monitor.watch(1, Watch(0x2001, lambda: bed.monitor.set_page(None)))
    bed.set_bits(1)
    bed.pass_time()
    assert bed.timers.next_deadline() == NEVER


# ---------------------------------------------------------------- channels


class Monitored(Recorder):
    monitored = True


def test_every_channel_of_a_monitored_device_has_a_bell_of_its_own() -> None:
    bed = bus_bed.Bed()
    devices = [Monitored(number, echo) for number in (2, 3)]
    bed.driver.connect(monitor_page=PAGE)
    for device in devices:
        bus_bed.add(bed.bus, bed.guest, device)
    plain, *offers = bed.driver.request_offers()
    assert (plain.monitor_allocated, [one.monitor_allocated for one in offers]) == (0, [1, 1])
    channels = [bed.driver.open(offer) for offer in offers]
    bed.bus.offer_subchannels(devices[0], 2)
    offers += bed.driver.offers()
    channels += [bed.driver.open(offer) for offer in offers[2:]]
    assert [one.monitorid for one in offers] == [0, 1, 2, 3]
    for number, channel in enumerate(channels):
        channel.out.write(6, b"hello", number)
        bed.guest.memory.write(PAGE + TRIGGERS, (1 << number).to_bytes(4, "little"))
        assert not channel.receive()
        bed.guest.pass_time(LATENCY)
        assert [packet.transaction_id for packet in channel.receive()] == [number]


def test_a_guest_without_monitor_pages_signals_by_hypercall() -> None:
    bed = bus_bed.Bed()
    device = Monitored(2, echo)
    bus_bed.add(bed.bus, bed.guest, device)
    (offer,) = bed.driver.offers()
    assert (offer.monitor_allocated, offer.monitorid) == (0, 255)
    channel = bed.driver.open(offer)
    channel.send(b"hello", 4)
    assert [packet.transaction_id for packet in channel.receive()] == [4]


def test_when_all_bells_are_taken_devices_do_without() -> None:
    bed = bus_bed.Bed()
    bed.driver.connect(monitor_page=PAGE)
    for number in range(130):
        bus_bed.add(bed.bus, bed.guest, Monitored(number + 2))
    offers = bed.driver.request_offers()
    assert sorted(one.monitorid for one in offers if one.monitor_allocated) == list(range(128))
    assert sum(not one.monitor_allocated for one in offers) == 3

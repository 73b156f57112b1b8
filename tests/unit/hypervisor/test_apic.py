"""The local APIC: priorities, lazy acceptance, registers in both modes, the timer, IPIs."""

from __future__ import annotations

import json

import pytest

from ringminus.clock import MockClock, TimerQueue
from ringminus.cpu.engine import VECTOR_GP, GuestException
from ringminus.hypervisor.apic import LocalApic
from ringminus.hypervisor.apic_registers import InterruptCommand
from ringminus.hypervisor.apic_timer import SHORTEST_PERIOD
from ringminus.tap import Event, Interrupt, Tap, TimerExpired
from support.interrupt_target import Target

ID, VERSION, TPR, PPR, EOI, LDR, SVR = 0x802, 0x803, 0x808, 0x80A, 0x80B, 0x80D, 0x80F
ISR0, TMR0, IRR0, ESR, ICR = 0x810, 0x818, 0x820, 0x828, 0x830
LVT_TIMER, LVT_LINT0, LVT_ERROR = 0x832, 0x835, 0x837
INITIAL, CURRENT, DIVIDE, SELF_IPI = 0x838, 0x839, 0x83E, 0x83F
ENABLED = 0x1FF
MASKED = 0x10000
PERIODIC = 0x20000
DIVIDE_BY_1 = 0xB
XAPIC_BASE = 0xFEE00900


class Bench:
    def __init__(self, apic_id: int = 0) -> None:
        self.target = Target()
        self.clock = MockClock()
        self.timers = TimerQueue()
        self.tap = Tap()
        self.sent: list[InterruptCommand] = []
        self.apic = LocalApic(apic_id, self.target, self.clock, self.timers, self.tap, self._sent)

    def _sent(self, sender: LocalApic, icr: int) -> None:
        assert sender is self.apic
        self.sent.append(InterruptCommand.decode(icr))

    def advance(self, units: int) -> None:
        self.clock.advance(units)
        self.timers.fire(self.clock.reference_time())

    def to_xapic(self) -> None:
        self.apic.write_apic_base(0xFEE00100)
        self.apic.write_apic_base(XAPIC_BASE)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.apic.write_msr(SVR, ENABLED)
    return bench


def refused(apic: LocalApic, msr: int, value: int | None = None) -> bool:
    try:
        if value is None:
            apic.read_msr(msr)
        else:
            apic.write_msr(msr, value)
    except GuestException as fault:
        assert (fault.vector, fault.error_code) == (VECTOR_GP, 0)
        return True
    return False


def bitmap(apic: LocalApic, first_msr: int) -> set[int]:
    return {v for v in range(256) if apic.read_msr(first_msr + v // 32) >> v % 32 & 1}


class TestPriorities:
    def test_a_raised_vector_is_offered_and_in_service_once_taken(self, bench: Bench) -> None:
        apic, target = bench.apic, bench.target
        apic.raise_vector(0x41, "test")
        assert bitmap(apic, IRR0) == {0x41} and bitmap(apic, ISR0) == set()
        assert target.take() == 0x41
        assert bitmap(apic, IRR0) == set() and bitmap(apic, ISR0) == {0x41}
        apic.write_msr(EOI, 0)
        assert bitmap(apic, ISR0) == set()

    def test_eoi_alone_notices_that_the_vector_was_taken(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.target.take()
        bench.apic.eoi()
        assert bench.apic.isr == bench.apic.irr == 0

    def test_a_more_urgent_vector_replaces_the_offer(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.apic.raise_vector(0x61, "test")
        assert bench.target.take() == 0x61
        bench.apic.eoi()
        assert bench.target.take() == 0x41

    def test_a_vector_of_the_same_class_waits_for_the_eoi(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.target.take()
        bench.apic.raise_vector(0x4F, "test")
        assert bench.target.offer is None and not bench.apic.has_pending()
        bench.apic.eoi()
        assert bench.target.take() == 0x4F

    def test_nested_interrupts_end_most_urgent_first(self, bench: Bench) -> None:
        ended: list[int] = []
        bench.apic.on_eoi.append(ended.append)
        for vector in (0x41, 0x61):
            bench.apic.raise_vector(vector, "test")
            assert bench.target.take() == vector
        bench.apic.eoi()
        bench.apic.eoi()
        bench.apic.eoi()
        assert ended == [0x61, 0x41]

    def test_a_vector_raised_while_in_service_comes_again(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.target.take()
        bench.apic.raise_vector(0x41, "test")
        assert bitmap(bench.apic, IRR0) == bitmap(bench.apic, ISR0) == {0x41}
        bench.apic.eoi()
        assert bench.target.take() == 0x41

    def test_a_pending_vector_is_not_counted_twice(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.apic.raise_vector(0x41, "test")
        bench.target.take()
        bench.apic.eoi()
        assert not bench.apic.has_pending()

    def test_task_priority_withdraws_and_gives_back_the_offer(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.apic.write_msr(TPR, 0x40)
        assert bench.target.offer is None and not bench.apic.has_pending()
        bench.apic.write_msr(TPR, 0x3F)
        assert bench.target.offer == 0x41 and bench.apic.has_pending()

    @pytest.mark.parametrize(
        ("tpr", "in_service", "ppr"), [(0x23, None, 0x23), (0x23, 0x45, 0x40), (0x47, 0x45, 0x47)]
    )
    def test_processor_priority(self, bench: Bench, tpr: int, in_service: int | None, ppr: int) -> None:
        if in_service is not None:
            bench.apic.raise_vector(in_service, "test")
            bench.target.take()
        bench.apic.write_msr(TPR, tpr)
        assert bench.apic.read_msr(PPR) == ppr

    def test_the_trigger_mode_is_remembered(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test", level=True)
        bench.apic.raise_vector(0x51, "test")
        assert bitmap(bench.apic, TMR0) == {0x41}
        bench.apic.raise_vector(0x41, "test")
        assert bitmap(bench.apic, TMR0) == set()

    def test_a_disabled_apic_takes_nothing(self) -> None:
        bench = Bench()
        bench.apic.raise_vector(0x41, "test")
        assert bench.apic.irr == 0 and bench.target.offer is None

    def test_who_raised_it_is_told(self, bench: Bench) -> None:
        events: list[Interrupt] = []
        bench.tap.listen(Interrupt, events.append)
        bench.clock.advance(7)
        bench.apic.raise_vector(0x41, "ioapic")
        assert events == [Interrupt(7, 0, 0x41, "ioapic")]


class TestAutoEoi:
    def test_it_leaves_nothing_in_service(self, bench: Bench) -> None:
        bench.apic.raise_vector(0xF3, "sint2", auto_eoi=True)
        bench.target.take()
        bench.apic.sync()
        assert bench.apic.irr == bench.apic.isr == 0

    def test_the_next_vector_is_offered_as_soon_as_it_is_seen_to_be_taken(self, bench: Bench) -> None:
        bench.apic.raise_vector(0xF3, "sint2", auto_eoi=True)
        bench.apic.raise_vector(0xF1, "other")
        assert bench.target.take() == 0xF3
        bench.apic.sync()
        assert bench.target.offer == 0xF1

    def test_an_eoi_after_it_ends_the_interrupt_below(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.target.take()
        bench.apic.raise_vector(0xF3, "sint2", auto_eoi=True)
        bench.target.take()
        bench.apic.eoi()
        assert bench.apic.isr == 0

    def test_the_same_vector_raised_plainly_later_needs_an_eoi(self, bench: Bench) -> None:
        bench.apic.raise_vector(0xF3, "sint2", auto_eoi=True)
        bench.apic.raise_vector(0xF3, "ipi")
        bench.target.take()
        assert bitmap(bench.apic, ISR0) == {0xF3}


class TestX2apicRegisters:
    def test_after_reset(self) -> None:
        apic = Bench(apic_id=0x25).apic
        assert apic.read_apic_base() == 0xFEE00C00
        assert Bench().apic.read_apic_base() == 0xFEE00D00
        assert apic.read_msr(ID) == 0x25
        assert apic.read_msr(LDR) == 0x2_0020
        assert apic.read_msr(SVR) == 0xFF
        assert [apic.read_msr(m) for m in range(0x832, 0x838)] == [MASKED] * 6

    @pytest.mark.parametrize("msr", [ID, VERSION, PPR, LDR, ISR0, TMR0 + 7, IRR0, CURRENT])
    def test_read_only_registers_refuse_writes(self, bench: Bench, msr: int) -> None:
        bench.apic.read_msr(msr)
        assert refused(bench.apic, msr, 0)

    @pytest.mark.parametrize("msr", [EOI, SELF_IPI])
    def test_write_only_registers_refuse_reads(self, bench: Bench, msr: int) -> None:
        assert refused(bench.apic, msr)

    @pytest.mark.parametrize("msr", [0x800, 0x804, 0x80E, 0x829, 0x82F, 0x831, 0x83A, 0x840, 0x8FF])
    def test_registers_that_do_not_exist(self, bench: Bench, msr: int) -> None:
        assert refused(bench.apic, msr) and refused(bench.apic, msr, 0)

    @pytest.mark.parametrize(
        ("msr", "value"),
        [
            (TPR, 0x100),
            (EOI, 1),
            (SVR, 1 << 12),
            (ESR, 1),
            (ICR, 1 << 13),
            (ICR, 1 << 20),
            (LVT_TIMER, 1 << 18),
            (LVT_LINT0, 1 << 17),
            (LVT_ERROR, 1 << 8),
            (DIVIDE, 1 << 2),
            (SELF_IPI, 0x100),
            (INITIAL, 1 << 32),
            (TPR, 1 << 63),
        ],
    )
    def test_reserved_bits_are_refused(self, bench: Bench, msr: int, value: int) -> None:
        assert refused(bench.apic, msr, value)

    def test_lvt_entries_stay_masked_while_the_apic_is_disabled(self, bench: Bench) -> None:
        bench.apic.write_msr(LVT_ERROR, 0x33)
        assert bench.apic.read_msr(LVT_ERROR) == 0x33
        bench.apic.write_msr(SVR, 0xFF)
        assert bench.apic.read_msr(LVT_ERROR) == MASKED | 0x33
        bench.apic.write_msr(LVT_ERROR, 0x34)
        assert bench.apic.read_msr(LVT_ERROR) == MASKED | 0x34

    def test_errors_show_after_a_write_and_interrupt_once(self, bench: Bench) -> None:
        bench.apic.write_msr(LVT_ERROR, 0x51)
        bench.apic.raise_vector(3, "test")
        assert bench.target.take() == 0x51
        assert bench.apic.read_msr(ESR) == 0
        bench.apic.write_msr(ESR, 0)
        assert bench.apic.read_msr(ESR) == 0x40
        bench.apic.write_msr(ESR, 0)
        assert bench.apic.read_msr(ESR) == 0

    def test_an_error_interrupt_with_an_illegal_vector_does_not_recurse(self, bench: Bench) -> None:
        bench.apic.write_msr(LVT_ERROR, 5)
        bench.apic.write_msr(SELF_IPI, 1)
        bench.apic.write_msr(ESR, 0)
        assert bench.apic.read_msr(ESR) == 0x60


class TestModes:
    @pytest.mark.parametrize(
        "value", [0xFEE00900, 0xFEE00500, 0xFEC00D00, 0xFEE00C00, 0xFEE00D01, 1 << 60 | 0xFEE00D00]
    )
    def test_transitions_that_do_not_exist_are_refused(self, bench: Bench, value: int) -> None:
        with pytest.raises(GuestException):
            bench.apic.write_apic_base(value)
        assert bench.apic.read_apic_base() == 0xFEE00D00

    def test_disabling_resets_and_xapic_can_follow_and_x2apic_again(self, bench: Bench) -> None:
        bench.apic.raise_vector(0x41, "test")
        bench.apic.write_apic_base(0xFEE00100)
        assert bench.apic.irr == 0 and bench.target.offer is None
        assert refused(bench.apic, ID)
        with pytest.raises(GuestException):
            bench.apic.write_apic_base(0xFEE00D00)
        bench.apic.write_apic_base(XAPIC_BASE)
        assert bench.apic.mmio_read(0x30, 4) == 0x50014
        bench.apic.write_apic_base(0xFEE00D00)
        assert bench.apic.read_msr(VERSION) == 0x50014

    def test_the_page_is_absent_in_x2apic_mode(self, bench: Bench) -> None:
        bench.apic.mmio_write(0x80, 4, 0x20)
        assert bench.apic.mmio_read(0x80, 4) == 0xFFFFFFFF and bench.apic.read_msr(TPR) == 0


class TestXapic:
    @pytest.fixture
    def xapic(self) -> Bench:
        bench = Bench(apic_id=3)
        bench.apic.write_apic_base(0xFEE00000)
        bench.apic.write_apic_base(0xFEE00800)
        bench.apic.mmio_write(0xF0, 4, ENABLED)
        return bench

    def test_the_id_is_in_the_high_byte(self, xapic: Bench) -> None:
        assert xapic.apic.mmio_read(0x20, 4) == 0x0300_0000
        assert xapic.apic.mmio_read(0x23, 1) == 3

    def test_the_msrs_are_refused(self, xapic: Bench) -> None:
        assert refused(xapic.apic, TPR) and refused(xapic.apic, EOI, 0)

    def test_unknown_registers_are_an_apic_error(self, xapic: Bench) -> None:
        assert xapic.apic.mmio_read(0x3F0, 4) == 0
        xapic.apic.mmio_write(0x280, 4, 0)
        assert xapic.apic.mmio_read(0x280, 4) == 0x80

    def test_reserved_bits_and_read_only_registers_are_ignored(self, xapic: Bench) -> None:
        xapic.apic.mmio_write(0x80, 4, 0xFFFFFF35)
        xapic.apic.mmio_write(0x30, 4, 0)
        assert xapic.apic.mmio_read(0x80, 4) == 0x35
        assert xapic.apic.mmio_read(0x30, 4) == 0x50014

    def test_eoi_takes_any_value(self, xapic: Bench) -> None:
        xapic.apic.raise_vector(0x41, "test")
        xapic.target.take()
        xapic.apic.mmio_write(0xB0, 4, 0x1234)
        assert xapic.apic.isr == 0

    def test_commands_are_handed_on_in_x2apic_form(self, xapic: Bench) -> None:
        xapic.apic.mmio_write(0x310, 4, 0x0700_0000)
        xapic.apic.mmio_write(0x300, 4, 0x4500)
        xapic.apic.mmio_write(0x310, 4, 0xFF00_0000)
        xapic.apic.mmio_write(0x300, 4, 0x0841)
        assert [(c.mode, c.vector, c.destination, c.logical) for c in xapic.sent] == [
            (5, 0, 7, False),
            (0, 0x41, 0xFFFFFFFF, True),
        ]
        assert xapic.apic.mmio_read(0x310, 4) == 0xFF00_0000

    def test_flat_and_cluster_destinations(self, xapic: Bench) -> None:
        apic = xapic.apic
        apic.mmio_write(0xD0, 4, 0x2400_0000)
        assert apic.matches(0x04, logical=True) and not apic.matches(0x08, logical=True)
        apic.mmio_write(0xE0, 4, 0x0FFF_FFFF)
        assert apic.matches(0x26, logical=True) and not apic.matches(0x16, logical=True)
        assert apic.matches(3, logical=False) and not apic.matches(4, logical=False)
        assert apic.matches(0xFF, logical=False) and apic.matches(0xFF, logical=True)


class TestIpis:
    def test_to_oneself_by_shorthand_register_or_id(self) -> None:
        bench = Bench(apic_id=2)
        bench.apic.write_msr(SVR, ENABLED)
        bench.apic.write_msr(ICR, 0x4_0041)
        assert bench.target.take() == 0x41
        bench.apic.write_msr(SELF_IPI, 0x51)
        assert bench.target.take() == 0x51
        bench.apic.write_msr(ICR, 2 << 32 | 0x61)
        assert bench.target.take() == 0x61
        assert bench.sent == []

    def test_to_others(self, bench: Bench) -> None:
        bench.apic.write_msr(ICR, 5 << 32 | 0x46_00)
        bench.apic.write_msr(ICR, 0x000C_0041)
        first, second = bench.sent
        assert (first.destination, first.mode, first.assert_level) == (5, 6, True)
        assert (second.shorthand, second.mode, second.vector) == (3, 0, 0x41)
        assert bench.apic.read_msr(ICR) == 0x000C_0041

    def test_an_illegal_vector_is_not_sent(self, bench: Bench) -> None:
        bench.apic.write_msr(ICR, 5 << 32 | 0x0F)
        bench.apic.write_msr(ESR, 0)
        assert bench.sent == [] and bench.apic.read_msr(ESR) == 0x20

    @pytest.mark.parametrize(
        ("destination", "logical", "mine"),
        [
            (0x25, False, True),
            (0x24, False, False),
            (0xFFFFFFFF, False, True),
            (0xFFFFFFFF, True, True),
            (0x2_0020, True, True),
            (0x2_FFFF, True, True),
            (0x2_0010, True, False),
            (0x1_0020, True, False),
        ],
    )
    def test_x2apic_destinations(self, destination: int, logical: bool, mine: bool) -> None:
        assert Bench(apic_id=0x25).apic.matches(destination, logical) is mine


class TestTimer:
    def test_one_shot(self, bench: Bench) -> None:
        apic = bench.apic
        apic.write_msr(DIVIDE, DIVIDE_BY_1)
        apic.write_msr(LVT_TIMER, 0x31)
        apic.write_msr(INITIAL, 2000)  # 10 µs at 200 MHz
        assert apic.read_msr(CURRENT) == 2000
        bench.advance(99)
        assert apic.read_msr(CURRENT) == 20 and bench.target.offer is None
        bench.advance(1)
        assert apic.read_msr(CURRENT) == 0 and bench.target.take() == 0x31
        bench.advance(10_000)
        apic.eoi()
        assert not apic.has_pending() and apic.read_msr(INITIAL) == 2000

    def test_periodic_keeps_its_phase(self, bench: Bench) -> None:
        bench.apic.write_msr(DIVIDE, DIVIDE_BY_1)
        bench.apic.write_msr(LVT_TIMER, PERIODIC | 0x31)
        bench.apic.write_msr(INITIAL, 200_000)  # 1 ms
        fired = []
        for _ in range(35):
            bench.advance(1000)
            if bench.target.offer is not None:
                bench.target.take()
                bench.apic.eoi()
                fired.append(bench.clock.reference_time())
        assert fired == [10_000, 20_000, 30_000]

    def test_periods_that_were_missed_are_skipped(self, bench: Bench) -> None:
        bench.apic.write_msr(DIVIDE, DIVIDE_BY_1)
        bench.apic.write_msr(LVT_TIMER, PERIODIC | 0x31)
        bench.apic.write_msr(INITIAL, 200_000)
        bench.advance(35_000)
        assert bench.timers.next_deadline() == 40_000
        assert bench.apic.read_msr(CURRENT) == 100_000

    def test_a_tiny_period_cannot_keep_the_host_busy(self, bench: Bench) -> None:
        bench.apic.write_msr(LVT_TIMER, PERIODIC | 0x31)
        bench.apic.write_msr(INITIAL, 1)
        bench.advance(10)
        assert bench.timers.next_deadline() == 10 + SHORTEST_PERIOD

    @pytest.mark.parametrize(
        ("register", "divisor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)]
    )
    def test_divide(self, bench: Bench, register: int, divisor: int) -> None:
        bench.apic.write_msr(DIVIDE, register)
        bench.apic.write_msr(LVT_TIMER, 0x31)
        bench.apic.write_msr(INITIAL, 100)
        assert bench.timers.next_deadline() == 100 * divisor // 20

    def test_a_new_divisor_counts_on_from_where_it_is(self, bench: Bench) -> None:
        bench.apic.write_msr(DIVIDE, DIVIDE_BY_1)
        bench.apic.write_msr(LVT_TIMER, 0x31)
        bench.apic.write_msr(INITIAL, 2000)
        bench.advance(50)
        bench.apic.write_msr(DIVIDE, 0)
        assert bench.apic.read_msr(CURRENT) == 1000
        assert bench.timers.next_deadline() == 150

    def test_masked_it_counts_silently(self, bench: Bench) -> None:
        bench.apic.write_msr(DIVIDE, DIVIDE_BY_1)
        bench.apic.write_msr(INITIAL, 2000)
        bench.advance(50)
        assert bench.apic.read_msr(CURRENT) == 1000
        bench.advance(100)
        bench.apic.write_msr(LVT_TIMER, 0x31)
        bench.advance(1000)
        assert bench.target.offer is None and bench.apic.read_msr(CURRENT) == 0

    def test_unmasked_in_time_it_fires(self, bench: Bench) -> None:
        bench.apic.write_msr(DIVIDE, DIVIDE_BY_1)
        bench.apic.write_msr(INITIAL, 2000)
        bench.advance(50)
        bench.apic.write_msr(LVT_TIMER, 0x31)
        bench.advance(50)
        assert bench.target.offer == 0x31

    def test_a_count_of_zero_stops_it(self, bench: Bench) -> None:
        bench.apic.write_msr(LVT_TIMER, 0x31)
        bench.apic.write_msr(INITIAL, 2000)
        bench.apic.write_msr(INITIAL, 0)
        bench.advance(100_000)
        assert bench.target.offer is None

    def test_expiry_is_told(self, bench: Bench) -> None:
        events: list[Event] = []
        bench.tap.listen(TimerExpired, events.append)
        bench.tap.listen(Interrupt, events.append)
        bench.apic.write_msr(DIVIDE, DIVIDE_BY_1)
        bench.apic.write_msr(LVT_TIMER, 0x31)
        bench.apic.write_msr(INITIAL, 2000)
        bench.advance(103)
        assert events == [TimerExpired(103, 0, "apic", 100), Interrupt(103, 0, 0x31, "apic timer")]


class TestState:
    def test_it_is_plain_data_and_comes_back(self, bench: Bench) -> None:
        bench.apic.write_msr(DIVIDE, DIVIDE_BY_1)
        bench.apic.write_msr(LVT_TIMER, 0x31)
        bench.apic.write_msr(INITIAL, 2000)
        bench.apic.raise_vector(0x41, "test")
        bench.target.take()
        bench.apic.raise_vector(0x61, "test", auto_eoi=True, level=True)
        bench.apic.raise_vector(0x51, "test")
        state = json.loads(json.dumps(bench.apic.save()))

        other = Bench()
        other.apic.restore(state)
        assert other.apic.save() == bench.apic.save()
        assert other.target.take() == 0x61
        other.apic.sync()
        assert other.target.take() == 0x51
        other.advance(100)
        other.apic.eoi()
        other.apic.eoi()
        assert other.target.offer == 0x31

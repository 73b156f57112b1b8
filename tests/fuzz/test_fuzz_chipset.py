"""Arbitrary register accesses: only a GuestException may come out, and values fit their size."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from ringminus.clock import MockClock, TimerQueue
from ringminus.cpu.engine import GuestException
from ringminus.hypervisor.apic import LocalApic
from ringminus.hypervisor.intercepts import MmioDevice, PortDevice
from ringminus.hypervisor.ioapic import IoApic
from ringminus.machine.chipset.power import AcpiPower, LegacyPorts
from ringminus.machine.chipset.rtc import Rtc
from ringminus.machine.chipset.serial import COM1, Serial
from ringminus.tap import Tap
from support.effort import examples

SIZES = st.sampled_from([1, 2, 4])
MMIO_SIZES = st.sampled_from([1, 2, 4, 8])
VALUES = st.one_of(st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 0xFF, 0xFFFFFFFF]))
WIDE_VALUES = st.one_of(VALUES, st.integers(0, (1 << 64) - 1))
FUZZ = settings(max_examples=examples(150), deadline=None)


class Processor:
    """Takes an offered interrupt at every third question."""

    def __init__(self) -> None:
        self.offer: int | None = None
        self.asked = 0

    def request_interrupt(self, vector: int) -> None:
        assert 16 <= vector <= 255
        self.offer = vector

    def cancel_interrupt(self) -> None:
        self.offer = None

    def interrupt_requested(self) -> bool:
        self.asked += 1
        if self.asked % 3 == 0:
            self.offer = None
        return self.offer is not None


def access_ports(device: PortDevice, accesses: list[tuple[int, int, int | None]]) -> None:
    for port, size, value in accesses:
        if value is None:
            assert 0 <= device.port_in(port, size) < 1 << 8 * size
        else:
            device.port_out(port, size, value & (1 << 8 * size) - 1)


def access_memory(device: MmioDevice, accesses: list[tuple[int, int, int | None]]) -> None:
    for offset, size, value in accesses:
        if value is None:
            assert 0 <= device.mmio_read(offset, size) < 1 << 8 * size
        else:
            device.mmio_write(offset, size, value & (1 << 8 * size) - 1)


def accesses(
    where: st.SearchStrategy[int], sizes: st.SearchStrategy[int] = SIZES
) -> st.SearchStrategy[list[tuple[int, int, int | None]]]:
    """Reads (no value) and writes."""
    return st.lists(st.tuples(where, sizes, st.none() | VALUES), max_size=60)


def check_apic(apic: LocalApic, processor: Processor) -> None:
    assert apic.irr >> 256 == apic.isr >> 256 == apic.tmr >> 256 == 0
    if apic.has_pending():
        assert processor.offer is not None and apic.irr >> processor.offer & 1


def make_apic() -> tuple[LocalApic, Processor, Callable[[int], None]]:
    processor, clock, timers = Processor(), MockClock(), TimerQueue()
    apic = LocalApic(0, processor, clock, timers, Tap(), lambda apic, icr: None)

    def advance(units: int) -> None:
        clock.advance(units)
        timers.fire(clock.reference_time())

    return apic, processor, advance


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(0x800, 0x8FF), st.just(0)),
            st.tuples(st.just("write"), st.integers(0x800, 0x840), WIDE_VALUES),
            st.tuples(st.just("base"), st.just(0), st.sampled_from([0xFEE00100, 0xFEE00900, 0xFEE00D00])),
            st.tuples(st.just("raise"), st.integers(0, 255), st.integers(0, 3)),
            st.tuples(st.just("pass"), st.just(0), st.integers(0, 100_000)),
        ),
        max_size=80,
    )
)
@FUZZ
def test_apic_by_msr(steps: list[tuple[str, int, int]]) -> None:
    apic, processor, advance = make_apic()
    apic.write_msr(0x80F, 0x1FF)
    for kind, where, value in steps:
        try:
            if kind == "read":
                assert 0 <= apic.read_msr(where) < 1 << (64 if where == 0x830 else 32)
            elif kind == "write":
                apic.write_msr(where, value)
            elif kind == "base":
                apic.write_apic_base(value)
            elif kind == "raise":
                apic.raise_vector(where, "fuzz", auto_eoi=bool(value & 1), level=bool(value & 2))
            else:
                advance(value)
        except GuestException:
            assert kind in ("read", "write", "base")
        check_apic(apic, processor)


@given(accesses(st.integers(0, 0xFFF) | st.integers(0, 0x3F).map(lambda n: n << 4), MMIO_SIZES))
@FUZZ
def test_apic_by_mmio(steps: list[tuple[int, int, int | None]]) -> None:
    apic, processor, advance = make_apic()
    apic.write_apic_base(0xFEE00100)
    apic.write_apic_base(0xFEE00900)
    apic.mmio_write(0xF0, 4, 0x1FF)
    for step in steps:
        access_memory(apic, [step])
        advance(500)
        check_apic(apic, processor)


@given(
    accesses(st.sampled_from([0x00, 0x10, 0x40]) | st.integers(0, 0xFFF), MMIO_SIZES),
    st.lists(st.tuples(st.integers(0, 23), st.booleans())),
)
@FUZZ
def test_io_apic(steps: list[tuple[int, int, int | None]], lines: list[tuple[int, bool]]) -> None:
    def deliver(destination: int, vector: int, mode: int, level: bool, logical: bool) -> None:
        assert 0 <= vector <= 255 and 0 <= mode <= 7
        if level:
            ended.append(vector)

    ended: list[int] = []
    ioapic = IoApic(deliver)
    for index in range(max(len(steps), len(lines))):
        access_memory(ioapic, steps[index : index + 1])
        for pin, level in lines[index : index + 1]:
            ioapic.set_irq(pin, level)
        if ended:
            ioapic.eoi(ended.pop())


@given(accesses(st.integers(COM1, COM1 + 7)), st.lists(st.binary(max_size=40), max_size=60))
@FUZZ
def test_serial(steps: list[tuple[int, int, int | None]], typed: list[bytes]) -> None:
    lines: list[bool] = []
    sent: list[bytes] = []
    serial = Serial(COM1, lines.append, sent.append)
    for index, step in enumerate(steps):
        access_ports(serial, [step])
        if index < len(typed):
            assert serial.receive(typed[index]) == len(typed[index])
    assert all(first != second for first, second in zip([False, *lines], lines, strict=False))
    state = serial.save()
    serial.restore(state)
    assert serial.save() == state and all(sent)


@given(accesses(st.sampled_from([0x70, 0x71])), st.floats(0, 1 << 34))
@FUZZ
def test_rtc(steps: list[tuple[int, int, int | None]], now: float) -> None:
    access_ports(Rtc(lambda: now), steps)


@given(
    st.lists(st.tuples(st.sampled_from([0, 2, 4, 6, 7, 8, 9, 0x0B, 0x32]), st.integers(0, 0xFF)), max_size=40)
)
@FUZZ
def test_rtc_takes_any_date(settings_: list[tuple[int, int]]) -> None:
    rtc = Rtc(lambda: 1_700_000_000.0)
    for index, value in settings_:
        rtc.port_out(0x70, 1, index)
        rtc.port_out(0x71, 1, value)
        assert 0 <= rtc.port_in(0x71, 1) <= 0xFF


@given(accesses(st.integers(0x600, 0x602)), accesses(st.sampled_from([0x61, 0x64, 0x80, 0xCF9])))
@FUZZ
def test_power(acpi: list[tuple[int, int, int | None]], legacy: list[tuple[int, int, int | None]]) -> None:
    sleeps: list[int] = []
    resets: list[str] = []
    access_ports(AcpiPower(sleeps.append, resets.append), acpi)
    access_ports(LegacyPorts(resets.append), legacy)
    assert all(0 <= sleep_type <= 7 for sleep_type in sleeps)

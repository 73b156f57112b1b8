"""The I/O APIC: redirection entries, edge and level, masking, EOI."""

from __future__ import annotations

import json

import pytest

from ringminus.hypervisor.ioapic import PINS, IoApic

SELECT, DATA, EOI = 0x00, 0x10, 0x40
MASKED, LEVEL, REMOTE_IRR, LOGICAL = 1 << 16, 1 << 15, 1 << 14, 1 << 11
PIN = 4
VECTOR = 0x34


class Bench:
    def __init__(self) -> None:
        self.messages: list[tuple[int, int, int, bool, bool]] = []
        self.ioapic = IoApic(self._deliver)

    def _deliver(self, destination: int, vector: int, mode: int, level: bool, logical: bool) -> None:
        self.messages.append((destination, vector, mode, level, logical))

    def write(self, register: int, value: int) -> None:
        self.ioapic.mmio_write(SELECT, 4, register)
        self.ioapic.mmio_write(DATA, 4, value)

    def read(self, register: int) -> int:
        self.ioapic.mmio_write(SELECT, 4, register)
        return self.ioapic.mmio_read(DATA, 4)

    def route(self, low: int, destination: int = 0, pin: int = PIN) -> None:
        self.write(0x11 + 2 * pin, destination << 24)
        self.write(0x10 + 2 * pin, low)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_version_20_with_24_masked_pins(bench: Bench) -> None:
    assert bench.read(1) == 0x0017_0020
    assert [bench.read(0x10 + 2 * pin) for pin in range(PINS)] == [MASKED] * PINS
    assert bench.read(0x40) == 0


def test_the_id_is_four_bits(bench: Bench) -> None:
    bench.write(0, 0xFFFFFFFF)
    assert bench.read(0) == bench.read(2) == 0x0F00_0000


def test_status_and_remote_irr_cannot_be_written(bench: Bench) -> None:
    bench.write(0x10, 0xFFFFFFFF)
    bench.write(0x11, 0xFFFFFFFF)
    assert bench.read(0x10) == 0x1AFFF
    assert bench.read(0x11) == 0xFF00_0000


def test_narrow_reads_and_other_offsets(bench: Bench) -> None:
    bench.ioapic.mmio_write(SELECT, 1, 1)
    assert bench.ioapic.mmio_read(SELECT, 4) == 1
    assert bench.ioapic.mmio_read(DATA, 1) == 0x20
    assert bench.ioapic.mmio_read(0x20, 4) == 0


def test_each_rising_edge_sends_a_message(bench: Bench) -> None:
    bench.route(VECTOR)
    bench.ioapic.set_irq(PIN, True)
    bench.ioapic.set_irq(PIN, True)
    assert bench.messages == [(0, VECTOR, 0, False, False)]
    bench.ioapic.set_irq(PIN, False)
    bench.ioapic.pulse(PIN)
    assert len(bench.messages) == 2


def test_destination_and_modes_are_passed_on(bench: Bench) -> None:
    bench.route(VECTOR | LOGICAL | 1 << 8, destination=3)
    bench.ioapic.pulse(PIN)
    bench.route(VECTOR, destination=0xFF)
    bench.ioapic.pulse(PIN)
    assert bench.messages == [(3, VECTOR, 1, False, True), (0xFFFFFFFF, VECTOR, 0, False, False)]


def test_an_edge_on_a_masked_pin_is_lost(bench: Bench) -> None:
    bench.ioapic.set_irq(PIN, True)
    bench.route(VECTOR)
    assert bench.messages == []


def test_a_level_on_a_masked_pin_is_sent_when_it_is_unmasked(bench: Bench) -> None:
    bench.ioapic.set_irq(PIN, True)
    bench.route(VECTOR | LEVEL)
    assert bench.messages == [(0, VECTOR, 0, True, False)]


def test_a_level_is_sent_once_until_its_eoi(bench: Bench) -> None:
    bench.route(VECTOR | LEVEL)
    bench.ioapic.set_irq(PIN, True)
    bench.ioapic.set_irq(PIN, False)
    bench.ioapic.set_irq(PIN, True)
    assert len(bench.messages) == 1 and bench.read(0x10 + 2 * PIN) & REMOTE_IRR
    bench.ioapic.eoi(VECTOR + 1)
    assert len(bench.messages) == 1
    bench.ioapic.eoi(VECTOR)
    assert len(bench.messages) == 2
    bench.ioapic.set_irq(PIN, False)
    bench.ioapic.eoi(VECTOR)
    assert len(bench.messages) == 2 and not bench.read(0x10 + 2 * PIN) & REMOTE_IRR


def test_the_eoi_register_does_the_same(bench: Bench) -> None:
    bench.route(VECTOR | LEVEL)
    bench.ioapic.set_irq(PIN, True)
    bench.ioapic.mmio_write(EOI, 4, VECTOR)
    assert len(bench.messages) == 2


def test_changing_to_edge_forgets_the_remote_irr(bench: Bench) -> None:
    bench.route(VECTOR | LEVEL)
    bench.ioapic.set_irq(PIN, True)
    bench.write(0x10 + 2 * PIN, VECTOR | MASKED)
    bench.write(0x10 + 2 * PIN, VECTOR | LEVEL)
    assert len(bench.messages) == 2


def test_an_nmi_is_never_level_triggered(bench: Bench) -> None:
    bench.route(LEVEL | 4 << 8)
    bench.ioapic.set_irq(PIN, True)
    assert bench.messages == [(0, 0, 4, False, False)] and not bench.read(0x10 + 2 * PIN) & REMOTE_IRR


def test_state_is_plain_data_and_comes_back(bench: Bench) -> None:
    bench.route(VECTOR | LEVEL, destination=1)
    bench.ioapic.set_irq(PIN, True)
    state = json.loads(json.dumps(bench.ioapic.save()))
    other = Bench()
    other.ioapic.restore(state)
    assert other.ioapic.save() == bench.ioapic.save()
    other.ioapic.eoi(VECTOR)
    assert other.messages == [(1, VECTOR, 0, True, False)]

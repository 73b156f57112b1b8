"""The 16550A: what a driver's probe sees, interrupts, FIFOs, loopback, output and input."""

from __future__ import annotations

import pytest

from ringminus.machine.chipset.serial import COM1, FIFO_SIZE, HOST_QUEUE_SIZE, OUTPUT_LIMIT, Serial

DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCRATCH = 0, 1, 2, 2, 3, 4, 5, 6, 7
RDI, THRI, RLSI, MSI = 1, 2, 4, 8
NO_INTERRUPT, IS_THRE, IS_RECEIVED, IS_TIMEOUT, IS_LINE, IS_MODEM = 1, 2, 4, 12, 6, 0
DLAB = 0x80
LOOP, OUT2, RTS = 0x10, 0x08, 0x02
FIFO_ON = 0x01
TRIGGER_8 = 0x80


class Port:
    def __init__(self) -> None:
        self.line = False
        self.edges = 0
        self.out: list[bytes] = []
        self.watched: list[tuple[bytes, bool]] = []
        watch = lambda data, to_guest: self.watched.append((data, to_guest))  # noqa: E731
        self.serial = Serial(COM1, self._set_irq, self.out.append, watch)

    def _set_irq(self, level: bool) -> None:
        assert level != self.line
        self.line = level
        self.edges += level

    def read(self, register: int) -> int:
        return self.serial.port_in(COM1 + register, 1)

    def write(self, register: int, value: int) -> None:
        self.serial.port_out(COM1 + register, 1, value)

    def send(self, text: bytes) -> None:
        for byte in text:
            self.write(DATA, byte)

    def take(self, count: int) -> bytes:
        return bytes(self.read(DATA) for _ in range(count))


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def driven(port: Port) -> Port:
    """As a driver sets it up: FIFOs on, interrupt line let through, ready to receive."""
    port.write(FCR, FIFO_ON | TRIGGER_8)
    port.write(MCR, OUT2 | RTS)
    return port


class TestProbe:
    """The steps by which Linux's 8250 driver tells the chips apart."""

    def test_interrupt_enable_has_four_bits(self, port: Port) -> None:
        port.write(IER, 0xFF)
        assert port.read(IER) == 0x0F

    def test_loopback_wires_the_modem_lines_back(self, port: Port) -> None:
        port.write(MCR, LOOP | OUT2 | RTS)
        assert port.read(MSR) & 0xF0 == 0x90
        port.write(MCR, 0)
        assert port.read(MSR) & 0xF0 == 0xB0

    def test_it_is_a_16550a_with_16_bytes(self, port: Port) -> None:
        port.write(FCR, FIFO_ON | 0x20)
        assert port.read(IIR) >> 5 == 6
        port.write(LCR, DLAB)
        assert port.read(IIR) >> 5 == 6

    def test_there_are_no_enhanced_registers(self, port: Port) -> None:
        port.write(FCR, FIFO_ON)
        port.write(LCR, 0xBF)
        assert port.read(2) == 0xC1

    def test_thre_comes_back_each_time_it_is_enabled(self, driven: Port) -> None:
        for _ in range(2):
            driven.write(IER, THRI)
            assert driven.read(IIR) & 0xF == IS_THRE
            assert driven.read(IIR) & 0xF == NO_INTERRUPT
            driven.write(IER, 0)

    def test_the_divisor_hides_behind_dlab(self, port: Port) -> None:
        port.write(IER, RDI)
        port.write(LCR, DLAB | 3)
        port.write(DATA, 0x34)
        port.write(IER, 0x12)
        assert (port.read(DATA), port.read(IER)) == (0x34, 0x12)
        port.write(LCR, 3)
        assert port.read(IER) == RDI and port.read(LCR) == 3
        port.serial.flush()
        assert port.out == []

    def test_scratch_keeps_its_value(self, port: Port) -> None:
        port.write(SCRATCH, 0x5A)
        assert port.read(SCRATCH) == 0x5A


class TestSending:
    def test_the_transmitter_is_always_empty(self, port: Port) -> None:
        assert port.read(LSR) == 0x60
        port.write(DATA, 0x41)
        assert port.read(LSR) == 0x60

    def test_a_line_is_handed_on_at_its_end(self, port: Port) -> None:
        port.send(b"hello")
        assert port.out == []
        port.send(b" world\nmore")
        assert port.out == [b"hello world\n"]
        port.serial.flush()
        port.serial.flush()
        assert port.out == [b"hello world\n", b"more"]

    def test_an_endless_line_is_handed_on_in_parts(self, port: Port) -> None:
        port.send(b"x" * (OUTPUT_LIMIT + 1))
        assert port.out == [b"x" * OUTPUT_LIMIT]

    def test_the_interrupt_follows_the_transmitter(self, driven: Port) -> None:
        driven.write(IER, THRI)
        assert driven.line
        assert driven.read(IIR) & 0xF == IS_THRE and not driven.line
        driven.write(DATA, 0x41)
        assert driven.read(IIR) & 0xF == IS_THRE and not driven.line
        driven.write(DATA, 0x42)
        driven.serial.flush()
        assert driven.line
        driven.write(IER, 0)
        assert not driven.line

    def test_a_driver_that_has_no_more_to_send_is_not_interrupted_again(self, driven: Port) -> None:
        driven.write(IER, THRI)
        driven.read(IIR)
        driven.send(b"all\n")
        driven.write(IER, 0)
        driven.serial.flush()
        assert driven.edges == 1

    def test_a_driver_that_sends_by_interrupts_gets_everything_out(self, driven: Port) -> None:
        text = bytearray(b"interrupt driven output, longer than one FIFO\n")
        expected = bytes(text)
        driven.write(IER, THRI)
        while driven.line:
            assert driven.read(IIR) & 0xF == IS_THRE
            driven.send(bytes(text[:FIFO_SIZE]))
            del text[:FIFO_SIZE]
            if not text:
                driven.write(IER, 0)
            driven.serial.flush()
        assert b"".join(driven.out) == expected

    def test_without_out2_the_line_stays_low(self, port: Port) -> None:
        port.write(IER, THRI)
        assert not port.line and port.read(IIR) & 0xF == IS_THRE

    def test_a_wide_access_is_one_for_each_register(self, port: Port) -> None:
        port.serial.port_out(COM1 + LCR, 2, OUT2 << 8 | 3)
        assert (port.read(LCR), port.read(MCR)) == (3, OUT2)
        assert port.serial.port_in(COM1 + MSR, 4) == 0xFFFF00BF & 0xFFFFFFF0 | port.read(MSR)


class TestReceiving:
    def test_what_does_not_fit_the_fifo_waits(self, driven: Port) -> None:
        text = bytes(range(40))
        assert driven.serial.receive(text) == 40
        received = bytearray()
        while driven.read(LSR) & 1:
            received += driven.take(1)
        assert received == text and driven.read(LSR) == 0x60

    def test_the_queue_is_bounded(self, driven: Port) -> None:
        assert driven.serial.receive(b"x" * (HOST_QUEUE_SIZE + 100)) == HOST_QUEUE_SIZE
        assert driven.serial.receive(b"y" * 100) == FIFO_SIZE
        assert driven.serial.receive(b"z") == 0

    def test_at_the_trigger_level_and_below_it(self, driven: Port) -> None:
        driven.write(IER, RDI)
        driven.serial.receive(b"12345678")
        assert driven.line and driven.read(IIR) & 0xF == IS_RECEIVED
        driven.take(1)
        assert driven.line and driven.read(IIR) & 0xF == IS_TIMEOUT
        driven.take(7)
        assert not driven.line and driven.read(IIR) & 0xF == NO_INTERRUPT

    def test_received_data_comes_before_the_transmitter(self, driven: Port) -> None:
        driven.write(IER, RDI | THRI)
        driven.serial.receive(b"1")
        assert driven.read(IIR) & 0xF == IS_TIMEOUT
        driven.take(1)
        assert driven.read(IIR) & 0xF == IS_THRE

    def test_without_fifos_there_is_room_for_one(self, port: Port) -> None:
        port.write(MCR, RTS)
        port.serial.receive(b"ab")
        assert port.take(2) == b"ab" and not port.read(LSR) & 1

    def test_nothing_comes_before_the_driver_is_ready(self, port: Port) -> None:
        port.serial.receive(b"typed early")
        port.write(FCR, FIFO_ON | 2)
        assert not port.read(LSR) & 1 and port.read(DATA) == 0
        port.write(MCR, RTS)
        assert port.take(11) == b"typed early"

    def test_clearing_the_fifo_keeps_what_still_waits(self, driven: Port) -> None:
        driven.serial.receive(b"x" * FIFO_SIZE + b"later")
        driven.write(FCR, FIFO_ON | 2)
        assert driven.take(5) == b"later"

    def test_loopback_returns_what_is_sent_and_overruns(self, driven: Port) -> None:
        driven.write(MCR, LOOP)
        driven.serial.receive(b"from outside")
        driven.send(b"0123456789abcdef!")
        assert driven.read(LSR) == 0x63
        assert driven.take(FIFO_SIZE) == b"0123456789abcdef"
        assert driven.read(LSR) == 0x60
        driven.write(MCR, RTS)
        assert driven.take(12) == b"from outside"
        driven.serial.flush()
        assert driven.out == []

    def test_an_overrun_interrupts_until_it_is_read(self, driven: Port) -> None:
        driven.write(MCR, LOOP | OUT2)
        driven.send(b"x" * (FIFO_SIZE + 1))
        driven.write(IER, RLSI)
        assert driven.line and driven.read(IIR) & 0xF == IS_LINE
        driven.read(LSR)
        assert not driven.line

    def test_modem_changes_interrupt_until_they_are_read(self, driven: Port) -> None:
        driven.write(MCR, LOOP | OUT2 | RTS)
        driven.read(MSR)
        driven.write(IER, MSI)
        driven.write(MCR, LOOP | OUT2)
        assert driven.line and driven.read(IIR) & 0xF == IS_MODEM
        assert driven.read(MSR) == 0x81
        assert not driven.line and driven.read(MSR) == 0x80


def test_state_comes_back(driven: Port) -> None:
    driven.write(IER, RDI | THRI)
    driven.serial.receive(b"0123456789abcdefwaiting")
    driven.send(b"unfinished")
    state = driven.serial.save()
    assert driven.out == [b"unfinished"]

    other = Port()
    other.line = True
    other.serial.restore(state)
    assert other.serial.save() == state
    assert other.take(23) == b"0123456789abcdefwaiting"
    assert other.read(IIR) & 0xF == IS_THRE and not other.line


def test_a_watcher_sees_lines_bursts_and_what_is_typed(driven: Port) -> None:
    driven.send(b"one\ntwo")
    assert driven.watched == [(b"one\n", False)]
    driven.serial.flush()
    driven.serial.flush()
    driven.serial.receive(b"typed")
    driven.serial.receive(b"")
    assert driven.watched[1:] == [(b"two", False), (b"typed", True)]
    taken = driven.serial.receive(bytes(HOST_QUEUE_SIZE + 9))
    assert taken < HOST_QUEUE_SIZE + 9 and driven.watched[-1] == (bytes(taken), True)

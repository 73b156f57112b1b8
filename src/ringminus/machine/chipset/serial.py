"""A 16550A serial port.

Sending takes no time, so the transmitter is always empty; what is sent is collected and handed on at each
end of line and at `flush`. A driver that asks sees at once that the transmitter is empty again, but the
interrupt that says so waits for `flush`: a driver that has no more to send switches it off before, as it does
while a real chip is still busy, and is spared an interrupt for nothing.
Source: National Semiconductor PC16550D datasheet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ringminus.machine.chipset.byte_ports import NO_DEVICE, BytePorts

COM1 = 0x3F8
COM1_IRQ = 4
PORTS = 8

FIFO_SIZE = 16
HOST_QUEUE_SIZE = 65536
OUTPUT_LIMIT = 4096
_NEWLINE = 0x0A


class Register(IntEnum):
    """Offsets from the base port; 0 and 1 are the divisor while LCR.DLAB is set, 2 is FCR when written."""

    DATA = 0
    IER = 1
    IIR = 2
    LCR = 3
    MCR = 4
    LSR = 5
    MSR = 6
    SCRATCH = 7


class Ier(IntEnum):
    """Interrupt enable."""

    RECEIVED = 1
    TRANSMIT_EMPTY = 2
    LINE_STATUS = 4
    MODEM_STATUS = 8


class Iir(IntEnum):
    """Interrupt identification, bits 0–3, most urgent first but NONE."""

    NONE = 0x1
    LINE_STATUS = 0x6
    RECEIVED = 0x4
    TIMEOUT = 0xC
    TRANSMIT_EMPTY = 0x2
    MODEM_STATUS = 0x0


IIR_FIFOS = 0xC0


class Fcr(IntEnum):
    """FIFO control; bits 6 and 7 choose the trigger level."""

    ENABLE = 1
    CLEAR_RECEIVE = 2


TRIGGER_LEVELS = (1, 4, 8, 14)
LCR_DLAB = 0x80


class Mcr(IntEnum):
    """Modem control; OUT2 gates the interrupt line on a PC."""

    DTR = 1
    RTS = 2
    OUT1 = 4
    OUT2 = 8
    LOOP = 16


MCR_WRITABLE = 0x1F


class Lsr(IntEnum):
    """Line status."""

    READY = 1
    OVERRUN = 2
    TRANSMIT_EMPTY = 0x20
    IDLE = 0x40


class Msr(IntEnum):
    """Modem status; the low four bits tell what changed since the last read."""

    DELTA_CTS = 1
    DELTA_DSR = 2
    RING_ENDED = 4
    DELTA_DCD = 8
    CTS = 0x10
    DSR = 0x20
    RI = 0x40
    DCD = 0x80


MSR_CONNECTED = Msr.CTS | Msr.DSR | Msr.DCD
_LOOPED_LINES = ((Mcr.RTS, Msr.CTS), (Mcr.DTR, Msr.DSR), (Mcr.OUT1, Msr.RI), (Mcr.OUT2, Msr.DCD))

_EMPTY = Lsr.TRANSMIT_EMPTY | Lsr.IDLE
_EMPTY_AND_READY = _EMPTY | Lsr.READY
_THRI = int(Ier.TRANSMIT_EMPTY)


class Serial(BytePorts):
    """`set_irq(level)` drives the interrupt line; `output` takes what the guest sent. `watch(data, to_guest)`
    is shown what goes through the port, by lines and bursts."""

    def __init__(
        self,
        base: int,
        set_irq: Callable[[bool], None],
        output: Callable[[bytes], None],
        watch: Callable[[bytes, bool], None] | None = None,
    ) -> None:
        self.base = base
        self._watch = watch
        self.ranges = ((base, PORTS),)
        self._set_irq = set_irq
        self._output = output
        self._lsr_port = base + Register.LSR
        self._sent = bytearray()
        self._queue: deque[int] = deque()
        self._fifo: deque[int] = deque()
        self._ier = self._fcr = self._lcr = self._mcr = self._scratch = 0
        self._divisor = 1
        self._overrun = False
        self._modem_delta = 0
        self._modem_lines = MSR_CONNECTED
        self._transmit_pending = False
        self._line = False
        self._plain = True  # port `base` is the transmitter and its wire is the outside world

    # The guest's side.

    def port_out(self, port: int, size: int, value: int) -> None:
        if port == self.base and size == 1 and self._plain:
            self._sent.append(value & 0xFF)
            if value & 0xFF == _NEWLINE or len(self._sent) >= OUTPUT_LIMIT:
                self._hand_on()
            if self._ier & _THRI:
                self._transmit_pending = True
            return
        super().port_out(port, size, value)

    def port_in(self, port: int, size: int) -> int:
        if port == self._lsr_port and size == 1 and not self._overrun:
            return _EMPTY_AND_READY if self._fifo else _EMPTY
        return super().port_in(port, size)

    def read(self, port: int) -> int:
        register = port - self.base
        if register == Register.DATA:
            return self._divisor & 0xFF if self._lcr & LCR_DLAB else self._read_data()
        if register == Register.IER:
            return self._divisor >> 8 if self._lcr & LCR_DLAB else self._ier
        if register == Register.IIR:
            return self._read_iir()
        if register == Register.LCR:
            return self._lcr
        if register == Register.MCR:
            return self._mcr
        if register == Register.LSR:
            return self._read_lsr()
        if register == Register.MSR:
            return self._read_msr()
        return self._scratch if register == Register.SCRATCH else NO_DEVICE

    def write(self, port: int, value: int) -> None:
        register = port - self.base
        if register == Register.DATA:
            self._write_data(value)
        elif register == Register.IER:
            self._write_ier(value)
        elif register == Register.IIR:
            self._write_fcr(value)
        elif register == Register.LCR:
            self._lcr = value
            self._update_plain()
        elif register == Register.MCR:
            self._write_mcr(value)
        elif register == Register.SCRATCH:
            self._scratch = value

    def _update_plain(self) -> None:
        self._plain = not self._lcr & LCR_DLAB and not self._mcr & Mcr.LOOP

    def _write_data(self, value: int) -> None:
        if self._lcr & LCR_DLAB:
            self._divisor = self._divisor & 0xFF00 | value
            return
        if not self._mcr & Mcr.LOOP:
            self._sent.append(value)
        elif len(self._fifo) < self._capacity():
            self._fifo.append(value)
        else:
            self._overrun = True
        self._transmit_pending = bool(self._ier & _THRI)
        self._update()

    def _write_ier(self, value: int) -> None:
        if self._lcr & LCR_DLAB:
            self._divisor = self._divisor & 0xFF | value << 8
            return
        before, self._ier = self._ier, value & 0xF
        if (before ^ self._ier) & _THRI:
            self._transmit_pending = bool(self._ier & _THRI)
        self._update()

    def _write_fcr(self, value: int) -> None:
        if (value ^ self._fcr) & Fcr.ENABLE or value & Fcr.CLEAR_RECEIVE:
            self._fifo.clear()
        self._fcr = value if value & Fcr.ENABLE else 0
        self._fill()

    def _write_mcr(self, value: int) -> None:
        self._mcr = value & MCR_WRITABLE
        self._update_plain()
        before, self._modem_lines = self._modem_lines, self._lines()
        changed = before ^ self._modem_lines
        delta = changed >> 4 & (Msr.DELTA_CTS | Msr.DELTA_DSR | Msr.DELTA_DCD)
        if changed & before & Msr.RI:
            delta |= Msr.RING_ENDED
        self._modem_delta |= delta
        self._fill()

    def _lines(self) -> int:
        if not self._mcr & Mcr.LOOP:
            return MSR_CONNECTED
        return sum(int(status) for control, status in _LOOPED_LINES if self._mcr & control)

    def _read_data(self) -> int:
        value = self._fifo.popleft() if self._fifo else 0
        self._fill()
        return value

    def _read_iir(self) -> int:
        cause = self._cause()
        if cause == Iir.TRANSMIT_EMPTY:
            self._transmit_pending = False
            self._update()
        return cause | (IIR_FIFOS if self._fcr & Fcr.ENABLE else 0)

    def _read_lsr(self) -> int:
        value = _EMPTY_AND_READY if self._fifo else _EMPTY
        if self._overrun:
            value |= Lsr.OVERRUN
            self._overrun = False
            self._update()
        return value

    def _read_msr(self) -> int:
        value = self._modem_lines | self._modem_delta
        self._modem_delta = 0
        self._update()
        return value

    # Interrupts.

    def _cause(self) -> int:
        enabled = self._ier
        if not enabled:
            return int(Iir.NONE)
        if enabled & Ier.LINE_STATUS and self._overrun:
            return int(Iir.LINE_STATUS)
        if enabled & Ier.RECEIVED and self._fifo:
            # below the trigger level the datasheet waits for four character times, which pass at once here
            return int(Iir.RECEIVED if len(self._fifo) >= self._trigger() else Iir.TIMEOUT)
        if enabled & Ier.TRANSMIT_EMPTY and self._transmit_pending:
            return int(Iir.TRANSMIT_EMPTY)
        if enabled & Ier.MODEM_STATUS and self._modem_delta:
            return int(Iir.MODEM_STATUS)
        return int(Iir.NONE)

    def _update(self) -> None:
        line = bool(self._mcr & Mcr.OUT2) and self._cause() != Iir.NONE
        if line != self._line:
            self._line = line
            self._set_irq(line)

    def _trigger(self) -> int:
        return TRIGGER_LEVELS[self._fcr >> 6] if self._fcr & Fcr.ENABLE else 1

    def _capacity(self) -> int:
        return FIFO_SIZE if self._fcr & Fcr.ENABLE else 1

    # The host's side.

    def receive(self, data: bytes) -> int:
        """Queue bytes for the guest; gives how many were taken. They wait until the guest raises RTS, which a
        driver does when its port is opened (before, its probing would throw them away), and for room in the
        FIFO."""
        taken = data[: HOST_QUEUE_SIZE - len(self._queue)]
        if taken and self._watch is not None:
            self._watch(taken, True)
        self._queue.extend(taken)
        self._fill()
        return len(taken)

    def _fill(self) -> None:
        """Move what waits into the FIFO, and look at the interrupt line."""
        if self._queue and self._mcr & (Mcr.RTS | Mcr.LOOP) == Mcr.RTS:
            for _ in range(min(len(self._queue), self._capacity() - len(self._fifo))):
                self._fifo.append(self._queue.popleft())
        self._update()

    def flush(self) -> None:
        """Hand on what the guest has sent, and interrupt it for more if it wants. To be called often, at
        least whenever the guest stops."""
        self._hand_on()
        if self._transmit_pending:
            self._update()

    def _hand_on(self) -> None:
        if self._sent:
            sent = bytes(self._sent)
            self._sent.clear()
            if self._watch is not None:
                self._watch(sent, False)
            self._output(sent)

    # State.

    def save(self) -> dict[str, Any]:
        """The whole state, as plain data; what was sent is handed on first."""
        self._hand_on()
        return {
            "queue": bytes(self._queue),
            "fifo": bytes(self._fifo),
            "ier": self._ier,
            "fcr": self._fcr,
            "lcr": self._lcr,
            "mcr": self._mcr,
            "scratch": self._scratch,
            "divisor": self._divisor,
            "overrun": self._overrun,
            "modem_delta": self._modem_delta,
            "transmit_pending": self._transmit_pending,
            "line": self._line,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave. The interrupt controller restores its own idea of the line."""
        self._sent.clear()
        self._queue = deque(state["queue"])
        self._fifo = deque(state["fifo"])
        self._ier = state["ier"]
        self._fcr = state["fcr"]
        self._lcr = state["lcr"]
        self._mcr = state["mcr"]
        self._scratch = state["scratch"]
        self._divisor = state["divisor"]
        self._overrun = state["overrun"]
        self._modem_delta = state["modem_delta"]
        self._modem_lines = self._lines()
        self._transmit_pending = state["transmit_pending"]
        self._line = state["line"]
        self._update_plain()

"""Events as lines of text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ringminus.clock import REFERENCE_HZ
from ringminus.errors import ConfigError, HostError
from ringminus.tap import (
    EVENTS,
    BusMessage,
    ChannelState,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    NetworkFrame,
    PortIo,
    RingPacket,
    SynicMessage,
    Tap,
    TimerExpired,
    Violation,
    VmExit,
)

ALIASES = {"exit": "exits", "msr": "msrs", "hypercall": "hypercalls", "port": "ports"}
BUFFER_SIZE = 1 << 16
# how long a line may wait in the buffer while the guest is busy (100 ns)
FLUSH_INTERVAL = REFERENCE_HZ // 5
PAYLOAD_SHOWN = 32


@dataclass(frozen=True, slots=True)
class Names:
    """Names for numbers: of MSRs, hypercall codes and message types."""

    msr: Callable[[int], str] = hex
    hypercall: Callable[[int], str] = hex
    message: Callable[[int], str] = hex


def parse_points(text: str) -> list[type[Event]]:
    """The event types that a list with commas names; raises `ConfigError`."""
    known = {event.POINT: event for event in EVENTS}
    chosen: dict[str, type[Event]] = {}
    for word in text.split(","):
        name = ALIASES.get(word.strip(), word.strip())
        if name != "all" and name not in known:
            raise ConfigError(f"--log knows no events {word.strip()!r}: say {', '.join(known)} or all")
        chosen |= known if name == "all" else {name: known[name]}
    return list(chosen.values())


class Lines:
    """Turns events into lines: seconds since the partition began, virtual processor, kind, what by name."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._formats: dict[type[Event], Callable[..., str]] = {
            VmExit: self._exit,
            MsrAccess: _msr,
            Hypercall: _hypercall,
            SynicMessage: self._message,
            EventSignal: _signal,
            Interrupt: _interrupt,
            TimerExpired: _timer,
            PortIo: _port,
            MmioAccess: _mmio,
            BusMessage: _bus,
            ChannelState: _channel,
            GpadlChange: _gpadl,
            RingPacket: _packet,
            DeviceMessage: _device,
            NetworkFrame: _frame,
            Violation: _violation,
        }

    def format(self, event: Event) -> str:
        """The event's line, without its end."""
        text = self._formats[type(event)](event)
        return f"{event.time / REFERENCE_HZ:12.7f} vp{event.vp} {text}"

    def _exit(self, event: VmExit) -> str:
        reason, detail = event.reason, f"{event.detail:#x}"
        if reason in ("rdmsr", "wrmsr"):
            detail = self._names.msr(event.detail)
        elif reason == "hypercall":
            detail = self._names.hypercall(event.detail & 0xFFFF)
        return f"exit       {reason} {detail} rip {event.rip:#x} took {event.ns / 1000:.1f} us"

    def _message(self, event: SynicMessage) -> str:
        kind = self._names.message(event.message_type)
        how = "" if event.delivered else " has to wait"
        return f"message    SINT{event.sint} {kind} {_payload(event.payload)}{how}"


def _msr(event: MsrAccess) -> str:
    kind = "wrmsr" if event.write else "rdmsr"
    value = f"{event.value:#x}" if event.write or not event.fault else ""
    return f"{kind:<10} {event.name} {value}{' #GP' if event.fault else ''}".replace("  #", " #")


def _hypercall(event: Hypercall) -> str:
    detail = event.detail or f"input {event.input:#x} output {event.output:#x}"
    return f"hypercall  {event.name} {detail} -> {event.status}"


def _signal(event: EventSignal) -> str:
    return f"signal     SINT{event.sint} flag {event.flag}{'' if event.raised else ' was set already'}"


def _interrupt(event: Interrupt) -> str:
    return f"interrupt  vector {event.vector:#x} from {event.source}"


def _timer(event: TimerExpired) -> str:
    return f"timer      {event.timer} due {event.deadline / REFERENCE_HZ:.7f}"


def _port(event: PortIo) -> str:
    return f"{'out' if event.write else 'in':<10} port {event.port:#x} {event.value:#0{2 * event.size + 2}x}"


def _mmio(event: MmioAccess) -> str:
    kind = "store" if event.write else "load"
    return f"{kind:<10} gpa {event.gpa:#x} {event.value:#0{2 * event.size + 2}x}"


def _payload(payload: bytes) -> str:
    return payload[:PAYLOAD_SHOWN].hex() + ("..." if len(payload) > PAYLOAD_SHOWN else "")


def _bus(event: BusMessage) -> str:
    return (
        f"bus        {'to guest' if event.to_guest else 'to host'} {event.name} {_payload(event.payload[8:])}"
    )


def _channel(event: ChannelState) -> str:
    what = f"opened, rings of {event.ring_in} and {event.ring_out} bytes" if event.open else "closed"
    which = f" {event.channel}" if event.channel else ""
    return f"channel    {event.device}{which} relid {event.relid} connection {event.connection_id:#x} {what}"


def _gpadl(event: GpadlChange) -> str:
    what = "lent" if event.made else "taken back"
    return f"gpadl      {event.handle:#x} of {event.device} relid {event.relid} {what}, {event.pages} pages"


def _packet(event: RingPacket) -> str:
    where = "to guest" if event.to_guest else "to host"
    what = f"{event.device} relid {event.relid} type {event.kind} id {event.transaction_id:#x}"
    ranges = f" ranges {','.join(map(str, event.ranges))}" if event.ranges else ""
    return f"packet     {where} {what}{ranges} {_payload(event.payload)}"


def _device(event: DeviceMessage) -> str:
    where = "to guest" if event.to_guest else "to host"
    return f"device     {where} {event.device} {event.protocol} {event.size} bytes {_payload(event.payload)}"


def _frame(event: NetworkFrame) -> str:
    where = "to guest" if event.to_guest else "to host"
    tag = "" if event.tci is None else f" vlan {event.tci & 0xFFF}"
    large = f" in segments of {event.segment_size}" if event.segment_size else ""
    what = f"{event.adapter} {len(event.data)} bytes{tag}{large} checksum {event.checksum.lower()}"
    return f"frame      {where} {what} {_payload(event.data)}"


def _violation(event: Violation) -> str:
    where = f"{event.device} relid {event.relid}" if event.relid else event.device
    return f"violation  {where}: {event.reason}"


class EventLog:
    """Prints events of the given types to `path`, or to standard error, while the `with` block lasts.

    Lines go out in large pieces; raises `HostError` when they cannot.
    """

    def __init__(
        self, tap: Tap, events: list[type[Event]], path: Path | None, names: Names | None = None
    ) -> None:
        self._where = "standard error" if path is None else str(path)
        self._format = Lines(names or Names()).format
        self._flushed = 0
        try:
            target = os.dup(sys.stderr.fileno()) if path is None else path
            self._file: TextIO = open(target, "w", buffering=BUFFER_SIZE, encoding="utf-8")  # noqa: SIM115, PTH123
        except OSError as error:
            raise self._failure(error) from None
        self._leave = [tap.listen(event, self._print) for event in events]

    def _failure(self, error: OSError) -> HostError:
        return HostError(f"cannot write the log to {self._where}: {error.strerror}")

    def _print(self, event: Event) -> None:
        try:
            self._file.write(self._format(event) + "\n")
            if not 0 <= event.time - self._flushed < FLUSH_INTERVAL:
                self._flushed = event.time
                self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exception: object) -> None:
        for leave in self._leave:
            leave()
        try:
            self._file.close()
        except OSError as error:
            if exception[0] is None:
                raise self._failure(error) from None

"""One line for each event, in words: when, on which processor, what crossed, in which direction.

0.1234560 vp0 → SCSI       vstor EXECUTE_SRB data_in OUT | scsi WRITE_10 lba 2048, transfer_length 8
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.decode import EventLayer
from ringminus.lens.parts import (
    COMMON,
    INSIDE,
    LARGEST_ACCESS,
    RICH,
    TO_GUEST,
    TO_HOST,
    WHO,
    Line,
    Part,
    fields,
    messages,
    octets_text,
    value_text,
)
from ringminus.protocol import NAMES, Layer
from ringminus.tap import (
    BusMessage,
    ChannelState,
    CpuidRead,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    Halt,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    NetworkFrame,
    PageFault,
    PortIo,
    RingPacket,
    SerialData,
    SynicMessage,
    TimerExpired,
    Violation,
    VmExit,
)

__all__ = ["COMMON", "RICH", "Line", "Part", "line", "messages", "octets_text", "value_text"]


def line(event: Event, layers: list[Layer], channel: ChannelState | None = None) -> Line:
    """The event's line. `layers` are what it was taken apart into, `channel` is the one it is about."""
    where, who, what = _WORDS.get(type(event), _other)(event, layers[1:], channel)
    stamp = f"{event.time / REFERENCE_HZ:12.7f} vp{event.vp} "
    title = f" {who:<{WHO}} " if who else f" {'':<{WHO}} "
    if event.changed:
        what.append(Part(f" [{event.changed}]", "bad"))
    return Line((Part(stamp, "time"), Part(where, "arrow"), Part(title, "who"), *what))


# ------------------------------------------------------------ events

Words = tuple[str, str, list[Part]]


def _bits(layer: Layer) -> Iterator[Part]:
    """The fields of bits of a value that has been shown as a whole."""
    said = [one for one in layer.values if one.value and (one.label or one.width)]
    for number, one in enumerate(said):
        between = ", " if number else " "
        if one.width == 1:
            yield Part(between + one.name.rpartition(".")[2], "value")
        else:
            yield Part(f"{between}{one.name.rpartition('.')[2]} " if one.width else between, "field")
            yield Part(one.text, "value")


def _name_of(table: str, number: int) -> str:
    return NAMES.get(table, {}).get(number) or f"{number:#x}"


def _exit(event: VmExit, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    detail = f"{event.detail:#x}"
    if event.reason in ("rdmsr", "wrmsr"):
        detail = _name_of("msr.msr", event.detail)
    elif event.reason == "hypercall":
        detail = _name_of("hypercall.code", event.detail & 0xFFFF)
    elif event.reason == "cpuid":
        detail = _name_of("cpuid.leaf", event.detail)
    took = f" rip {event.rip:#x}, took {event.ns / 1000:.1f} µs"
    return TO_HOST, "exit", [Part(event.reason, "name"), Part(f" {detail}", "value"), Part(took)]


def _cpuid(event: CpuidRead, layers: list[Layer], _channel: ChannelState | None) -> Words:
    subleaf = f".{event.subleaf}" if event.subleaf else ""
    parts = [Part(_name_of("cpuid.leaf", event.leaf) + subleaf, "name")]
    for layer in layers:
        parts += fields(layer)
    return TO_GUEST, "cpuid", parts


def _serial(event: SerialData, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    text = event.data.decode("utf-8", "replace").rstrip("\r\n")
    return _direction(event.to_guest), "serial", [Part(text, "value")]


def _fault(event: PageFault, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    what = "fetch" if event.fetch else "write" if event.write else "read"
    why = "reserved bits" if event.reserved else "forbidden" if event.present else "not there"
    parts = [
        Part(f"{'user' if event.user else 'kernel'} {what} ", "name"),
        Part(f"{event.address:#x}", "value"),
    ]
    return INSIDE, "fault", [*parts, Part(f" {why}, rip {event.rip:#x}")]


def _halt(event: Halt, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    idle = f"{event.idle * 1000 / REFERENCE_HZ:.3f} ms"
    return INSIDE, "halt", [Part(event.how, "name"), Part(f" for {idle}, rip {event.rip:#x}")]


def _msr(event: MsrAccess, layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = [Part("wrmsr " if event.write else "rdmsr ", "protocol"), Part(event.name, "name")]
    if event.write or not event.fault:
        parts.append(Part(f" {event.value:#x}", "value"))
        parts += [part for layer in layers for part in _bits(layer)]
    if event.fault:
        parts.append(Part(" #GP", "bad"))
    return (TO_HOST if event.write else TO_GUEST), "msr", parts


def _hypercall(event: Hypercall, layers: list[Layer], channel: ChannelState | None) -> Words:
    parts = [Part(event.name, "name")]
    if layers:
        parts += fields(layers[0])
        within = messages(layers[0].inner)
        parts += [Part(" | ", "time"), *within] if within else []
    else:
        parts.append(Part(f" input {event.input:#x}, output {event.output:#x}"))
    if event.status:  # or it is not over yet
        parts += [Part(" = "), Part(event.status, "value" if event.status == "SUCCESS" else "bad")]
    return TO_HOST, channel.device if channel is not None else "hypercall", parts


def _message(event: SynicMessage, layers: list[Layer], channel: ChannelState | None) -> Words:
    parts = [Part(f"SINT{event.sint} "), Part(_name_of("message.message_type", event.message_type), "name")]
    parts += [Part(" "), *(messages(layers) or [Part(octets_text(event.payload), "value")])]
    if not event.delivered:
        parts.append(Part(" has to wait", "bad"))
    return TO_GUEST, channel.device if channel is not None else "message", parts


def _signal(event: EventSignal, _layers: list[Layer], channel: ChannelState | None) -> Words:
    parts = [Part("event signal", "name"), Part(f" SINT{event.sint} flag {event.flag}", "value")]
    if not event.raised:
        parts.append(Part(" was set already"))
    return TO_GUEST, channel.device if channel is not None else "signal", parts


def _interrupt(event: Interrupt, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = [Part("vector "), Part(f"{event.vector:#x}", "value"), Part(f" from {event.source}")]
    return TO_GUEST, "interrupt", parts


def _timer(event: TimerExpired, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = [Part(event.timer, "name"), Part(f" due {event.deadline / REFERENCE_HZ:.7f}")]
    return TO_GUEST, "timer", parts


def _sized(value: int, size: int) -> str:
    """A value of so many bytes; a damaged file may tell any number of them."""
    return f"{value:#0{2 * min(size, LARGEST_ACCESS) + 2}x}"


def _port(event: PortIo, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = [Part("out " if event.write else "in ", "protocol"), Part(f"port {event.port:#x}", "name")]
    parts.append(Part(f" {_sized(event.value, event.size)}", "value"))
    return (TO_HOST if event.write else TO_GUEST), "port", parts


def _mmio(event: MmioAccess, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = [Part("store " if event.write else "load ", "protocol"), Part(f"gpa {event.gpa:#x}", "name")]
    parts.append(Part(f" {_sized(event.value, event.size)}", "value"))
    return (TO_HOST if event.write else TO_GUEST), "mmio", parts


def _bus(event: BusMessage, layers: list[Layer], channel: ChannelState | None) -> Words:
    parts = messages(layers) or [Part(event.name, "name"), Part(f" {octets_text(event.payload)}", "value")]
    return _direction(event.to_guest), channel.device if channel is not None else "vmbus", parts


def _channel_state(event: ChannelState, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    which = f" {event.channel}" if event.channel else ""
    parts = [Part(f"channel{which} ", "protocol"), Part("opened" if event.open else "closed", "name")]
    parts.append(Part(f" relid {event.relid}, connection {event.connection_id:#x}, flag {event.event_flag}"))
    if event.open:
        parts.append(Part(f", rings of {event.ring_in >> 10} and {event.ring_out >> 10} KiB"))
    return INSIDE, event.device, parts


def _gpadl(event: GpadlChange, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = [Part("GPADL ", "protocol"), Part("lent" if event.made else "taken back", "name")]
    parts.append(Part(f" {event.handle:#x}, {event.pages} pages, relid {event.relid}"))
    return INSIDE, event.device, parts


def _packet(event: RingPacket, layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = messages(layers)
    if not parts:
        parts = [Part(_name_of("packet.kind", event.kind), "name")]
        parts.append(Part(f" {octets_text(event.payload)}" if event.payload else "", "value"))
    if event.ranges:
        total, count = sum(event.ranges), len(event.ranges)
        parts.append(Part(f", {total} bytes of memory" + (f" in {count} ranges" if count > 1 else "")))
    parts.append(Part(f" #{event.transaction_id:x}", "time"))
    which = f"/{event.channel}" if event.channel else ""
    return _direction(event.to_guest), event.device + which, parts


def _device(event: DeviceMessage, layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = messages(layers)
    if not parts:
        parts = [Part(event.protocol, "protocol"), Part(f" {octets_text(event.payload)}", "value")]
    parts.append(Part(f", {event.size} bytes in all"))
    return _direction(event.to_guest), event.device, parts


def _frame(event: NetworkFrame, layers: list[Layer], _channel: ChannelState | None) -> Words:
    parts = [Part("frame", "name"), Part(f" {len(event.data)} bytes")]
    if event.tci is not None:
        parts.append(Part(f", VLAN {event.tci & 0xFFF}"))
    if event.segment_size:
        parts.append(Part(f", in segments of {event.segment_size}"))
    parts.append(Part(f", checksum {event.checksum.lower()}"))
    within = messages(layers) or [Part(octets_text(event.data), "value")]
    return _direction(event.to_guest), event.adapter, [*parts, Part(" | ", "time"), *within]


def _violation(event: Violation, _layers: list[Layer], _channel: ChannelState | None) -> Words:
    where = f", relid {event.relid}" if event.relid else ""
    return TO_HOST, event.device, [Part("violation", "bad"), Part(f"{where}: {event.reason}")]


def _other(event: Event, layers: list[Layer], channel: ChannelState | None) -> Words:
    """An event that has no words of its own: its fields."""
    own = Layer(event.NAME, event.NAME)
    own.values.extend(one for one in EventLayer(event).values if one.name not in COMMON)
    return INSIDE, channel.device if channel is not None else event.NAME, [*fields(own), *messages(layers)]


def _direction(to_guest: bool) -> str:
    return TO_GUEST if to_guest else TO_HOST


_WORDS: dict[type[Event], Callable[[Any, list[Layer], ChannelState | None], Words]] = {
    VmExit: _exit,
    CpuidRead: _cpuid,
    SerialData: _serial,
    PageFault: _fault,
    Halt: _halt,
    MsrAccess: _msr,
    Hypercall: _hypercall,
    SynicMessage: _message,
    EventSignal: _signal,
    Interrupt: _interrupt,
    TimerExpired: _timer,
    PortIo: _port,
    MmioAccess: _mmio,
    BusMessage: _bus,
    ChannelState: _channel_state,
    GpadlChange: _gpadl,
    RingPacket: _packet,
    DeviceMessage: _device,
    NetworkFrame: _frame,
    Violation: _violation,
}

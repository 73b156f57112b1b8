"""One line for each event, in words: when, on which processor, what crossed, in which direction.

0.1234560 vp0 → SCSI 0     vstor EXECUTE_SRB data_in OUT | scsi WRITE_10 lba 2048, transfer_length 8
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntFlag
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.channels import title_of
from ringminus.lens.decode import EventLayer, flat
from ringminus.lens.labels import keys
from ringminus.protocol import NAMES, PADDING, PROTOCOLS, REST, Layer, Show, Value
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

if TYPE_CHECKING:
    from rich.text import Text

FIELDS_SHOWN, FIELDS_OUTSIDE = 8, 2
BYTES_SHOWN = 16
GUID_SIZE = 16
LONGEST_VALUE = 64
LARGEST_DECIMAL = 0xFFFF
LARGEST_ACCESS = 8
TO_HOST, TO_GUEST, INSIDE = "→", "←", " "
COMMON = frozenset(("time", "vp", "sequence", "cause", "host_ns", "changed"))
AS_EXPECTED = ("SUCCESS", "GOOD", "NONE")
WHO = 10
"""Columns of who it is about."""
COLORS = {
    "time": "\x1b[2m",
    "arrow": "\x1b[1m",
    "who": "\x1b[36m",
    "protocol": "\x1b[34m",
    "name": "\x1b[1;32m",
    "field": "",
    "value": "\x1b[33m",
    "bad": "\x1b[1;31m",
    "": "",
}
RICH = {
    "time": "dim",
    "arrow": "bold",
    "who": "cyan",
    "protocol": "blue",
    "name": "bold green",
    "value": "yellow",
    "bad": "bold red",
}
"""The same for `rich`."""


class Part(NamedTuple):
    """A piece of a line; `style` is a key of `COLORS`."""

    text: str
    style: str = ""


class Line:
    """A line in its parts; nothing in it moves the cursor, whatever the guest said."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = [
            part if part.text.isprintable() else Part(_printable(part.text), part.style) for part in parts
        ]

    @property
    def plain(self) -> str:
        """Without colours."""
        return "".join(part.text for part in self.parts)

    def colored(self, width: int = 0) -> str:
        """For a terminal, at most `width` columns of it (0: all)."""
        left, found = width or 1 << 30, []
        for text, style in self.parts:
            if left <= 0:
                break
            code = COLORS[style]
            found.append(f"{code}{text[:left]}\x1b[0m" if code else text[:left])
            left -= len(text)
        return "".join(found)

    def rich(self) -> Text:
        """For `rich` and Textual."""
        from rich.text import Text

        text = Text(no_wrap=True)
        for part in self.parts:
            text.append(part.text, RICH.get(part.style))
        return text


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def line(event: Event, layers: list[Layer], channel: ChannelState | None = None) -> Line:
    """The event's line. `layers` are what it was taken apart into, `channel` is the one it is about."""
    where, who, what = _WORDS.get(type(event), _other)(event, layers[1:], channel)
    stamp = f"{event.time / REFERENCE_HZ:12.7f} vp{event.vp} "
    title = f" {who:<{WHO}} " if who else f" {'':<{WHO}} "
    if event.changed:
        what.append(Part(f" [{event.changed}]", "bad"))
    return Line((Part(stamp, "time"), Part(where, "arrow"), Part(title, "who"), *what))


# ------------------------------------------------------------ messages


def messages(layers: list[Layer]) -> list[Part]:
    """The messages that were taken apart, outermost first."""
    found: list[Part] = []
    for layer in flat(layers):
        if found:
            found.append(Part(" | ", "time"))
        found.append(Part(layer.protocol + " ", "protocol"))
        found.append(Part(layer.message or "message", "name"))
        found += _fields(layer)
        if layer.missing:
            found.append(Part(f" {layer.missing} bytes are missing", "bad"))
    return found


def _fields(layer: Layer) -> list[Part]:
    """Those that say something; of what has a message in it only those whose values have names."""
    wraps = bool(layer.inner)
    found: list[Part] = []
    shown = 0
    for one in layer.values:
        if not _tells(layer, one) or (wraps and not _is_named(layer, one)):
            continue
        if shown == (FIELDS_OUTSIDE if wraps else FIELDS_SHOWN):
            if not wraps:
                found.append(Part(" …"))
            break
        shown += 1
        name = one.name.rpartition(".")[2]
        if one.name == REST:
            found.append(Part(f"{',' if shown > 1 else ''} and {len(one.value)} bytes", "field"))  # type: ignore[arg-type]
            continue
        found.append(Part(f"{',' if shown > 1 else ''} {name} ", "field"))
        text = _text(one)
        found.append(Part(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…", "value"))
    return found


def _text(one: Value) -> str:
    if one.show is Show.GUID and isinstance(one.value, bytes):
        return _title_of(one.value) or one.text
    return one.text if one.label or one.show is not None else value_text(one.value)


def _tells(layer: Layer, one: Value) -> bool:
    """Whether a field says more than the message's name; zeros, what is as it should be, and lengths of what
    is shown say nothing."""
    if one.label:
        dull = one.value == 0 and one.label in AS_EXPECTED
        return not dull and keys(one.label).isdisjoint(keys(layer.message))
    if layer.form is not None and one.name in layer.form.lengths.values():
        return False
    if one.name == PADDING:
        return False
    if isinstance(one.value, int):
        protocol = PROTOCOLS.get(layer.protocol)
        selector = protocol.selector if protocol is not None else ""
        return one.value != 0 and one.name.rpartition(".")[2] != selector
    return any(one.value) if isinstance(one.value, bytes | tuple) else bool(one.value)


def _is_named(layer: Layer, one: Value) -> bool:
    """Whether it has one value of those that have names, and is no set of flags."""
    protocol = PROTOCOLS.get(layer.protocol)
    labels = protocol.labels.get(one.name.rpartition(".")[2]) if protocol is not None else None
    return bool(one.label) and labels is not None and not issubclass(labels, IntFlag)


def value_text(value: object) -> str:
    """A value as a person reads it, in a few words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if abs(value) <= LARGEST_DECIMAL else f"{value:#x}"
    if isinstance(value, bytes):
        return octets_text(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def octets_text(data: bytes) -> str:
    """Bytes in hexadecimal, the first ones of many."""
    title = _title_of(data)
    if title:
        return title
    short = data.rstrip(b"\0") or data[:1]
    more = "…" if len(short) > BYTES_SHOWN else ""
    return f"{short[:BYTES_SHOWN].hex()}{more}" + (f"[{len(data)}]" if len(short) < len(data) or more else "")


def _title_of(data: bytes) -> str:
    """What devices of the class are called whose GUID this is; "" if there are none."""
    if len(data) != GUID_SIZE:
        return ""
    guid = UUID(bytes_le=data)
    title = title_of(guid)
    return title if title != str(guid) else ""


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
        parts += _fields(layer)
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
        parts += _fields(layers[0])
        within = messages(layers[0].inner)
        parts += [Part(" | ", "time"), *within] if within else []
    else:
        parts.append(Part(f" input {event.input:#x}, output {event.output:#x}"))
    good = event.status == "SUCCESS"
    parts += [Part(" = "), Part(event.status, "value" if good else "bad")]
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
    return TO_HOST, event.device, [Part("violation: ", "bad"), Part(event.reason)]


def _other(event: Event, layers: list[Layer], channel: ChannelState | None) -> Words:
    """An event that has no words of its own: its fields."""
    own = Layer(event.NAME, event.NAME)
    own.values.extend(one for one in EventLayer(event).values if one.name not in COMMON)
    return INSIDE, channel.device if channel is not None else event.NAME, [*_fields(own), *messages(layers)]


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

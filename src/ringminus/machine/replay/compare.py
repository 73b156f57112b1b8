"""Comparing what was recorded with what passes now, decoded message by decoded message."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ringminus.protocol import BY_INTERFACE, PADDING, PROTOCOLS, Layer, dissect
from ringminus.tap import DeviceMessage, RingPacket
from ringminus.vmbus.wire import PacketType

COMPLETION, TRANSFER = int(PacketType.COMPLETION), int(PacketType.DATA_USING_XFER_PAGES)
SHOWN = 16
"""Bytes that are shown of those that differ."""

MAY_DIFFER = {
    "time": "a replay has its own clock",
    "vp": "it has one processor",
    "sequence": "events are counted anew",
    "cause": "events are counted anew; what a completion answers is compared by that request",
    "host_ns": "it is another day",
    "changed": "what an addon did has happened to the recorded bytes",
    "relid": "channels are numbered anew",
    "device": "a title tells a device from others of its kind",
    "transaction_id": "a side chooses its own numbers; completions are compared with their request's",
    "payload": "it is compared field by field",
    "data": "it is compared where it was recorded",
    "ranges": "the pages are others, and what they hold is compared",
    "header": "page numbers are others; the ranges of page sets are compared where they were recorded",
}
"""Fields of the events that are not compared, and why."""
Observed = RingPacket | DeviceMessage


class Change(NamedTuple):
    """A field, as it was recorded and as it is now; None where it is not there."""

    field: str
    recorded: str | None
    replayed: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it was recorded. `what` is `changed`, `missing` (it did not come again), `extra` (it was
    not recorded) or `failed`; `sequence` is the number of the recorded event, `answers` the message that it
    answers."""

    what: str
    message: str
    sequence: int = 0
    answers: str = ""
    changes: tuple[Change, ...] = ()
    note: str = ""


def message_of(event: Observed, request: RingPacket | None = None) -> Layer | None:
    """The message in an event; None where no protocol is declared for it."""
    if isinstance(event, DeviceMessage):
        protocol = PROTOCOLS.get(event.protocol)
        cut = max(event.size - len(event.payload), 0)
        return dissect(protocol, event.payload, to_guest=event.to_guest, cut=cut) if protocol else None
    protocol = BY_INTERFACE.get(event.interface)
    if protocol is None or (event.kind == COMPLETION and not event.payload):
        return None
    asked = message_of(request) if request is not None else None
    return dissect(protocol, event.payload, to_guest=event.to_guest, request=asked)


def name_of(event: Observed, request: RingPacket | None = None) -> str:
    """What a message is called, those in it included."""
    layer = message_of(event, request)
    if layer is None:
        if isinstance(event, DeviceMessage):
            return event.protocol
        known = event.kind in PacketType._value2member_map_
        return PacketType(event.kind).name if known else f"packet of type {event.kind}"
    return layer_name(layer)


def changes(
    recorded: Observed,
    replayed: Observed,
    recorded_request: RingPacket | None = None,
    replayed_request: RingPacket | None = None,
) -> tuple[Change, ...]:
    """What differs between two messages, other than what may."""
    found = [
        Change(name, str(before), str(after))
        for name, before, after in _own_fields(recorded, replayed)
        if before != after
    ]
    header = getattr(recorded, "header", b"")  # older recordings have none
    if header and recorded.to_guest and getattr(recorded, "kind", 0) == TRANSFER:
        found += _bytes("header", header, getattr(replayed, "header", b""))
    first, second = message_of(recorded, recorded_request), message_of(replayed, replayed_request)
    if first is None or second is None:
        found += _bytes("payload", recorded.payload, replayed.payload)
    else:
        found += _fields(first, second) or _bytes("payload", recorded.payload, replayed.payload)
    return tuple(found)


def layer_changes(recorded: Layer, replayed: Layer, free: Container[str]) -> tuple[Change, ...]:
    """What differs between two messages that were taken apart, other than the fields `free`."""
    found = (one for one in _fields(recorded, replayed) if one.field.partition("[")[0] not in free)
    return tuple(_shortened(one) for one in found)


def values_of(layer: Layer, free: Container[str]) -> tuple[tuple[str, str], ...]:
    """The fields of a message and of those in it, by their full names, other than the fields `free`."""
    return tuple(one for one in _values(layer).items() if one[0].partition("[")[0] not in free)


def layer_name(layer: Layer) -> str:
    """What a message is called, those in it included."""
    return " | ".join(f"{one.protocol} {one.message or 'cut short'}" for one in _flat(layer))


def _shortened(change: Change) -> Change:
    """Of long bytes only those from where they differ on, as text if they are some."""
    name, recorded, replayed = change
    try:
        first, second = bytes.fromhex(recorded or ""), bytes.fromhex(replayed or "")
    except ValueError:
        return change
    if min(len(first), len(second)) <= SHOWN:
        return change
    at = next((index for index, pair in enumerate(zip(first, second)) if pair[0] != pair[1]), None)  # noqa: B905
    at = min(len(first), len(second)) if at is None else at
    before, after = first[at : at + SHOWN], second[at : at + SHOWN]
    is_text = all(32 <= byte < 127 or byte in b"\r\n\t" for byte in before + after)
    show = (lambda data: repr(data.decode())) if is_text else (lambda data: data.hex(" "))
    return Change(f"{name} from byte {at} on", show(before), show(after))


def data_changes(recorded: bytes, replayed: bytes) -> tuple[Change, ...]:
    """What differs in the data of two packets."""
    return tuple(_bytes("data", recorded, replayed))


def key_of(packet: RingPacket) -> bytes:
    """The same for packets whose messages are the same but for what may differ."""
    return bytes((packet.kind & 0xFF,)) + packet.payload


def _own_fields(recorded: Observed, replayed: Observed) -> Iterator[tuple[str, Any, Any]]:
    for one in fields(recorded):
        if one.name not in MAY_DIFFER:
            yield (
                f"{recorded.NAME}.{one.name}",
                getattr(recorded, one.name),
                getattr(replayed, one.name, None),
            )


def _flat(layer: Layer) -> Iterator[Layer]:
    yield layer
    for one in layer.inner:
        yield from _flat(one)


def _values(layer: Layer) -> dict[str, str]:
    """The fields of a message and of those in it, as text, by their full names; what others explain is left
    out."""
    found: dict[str, str] = {}
    for one in _flat(layer):
        found[_free_name(found, f"{one.protocol}.message")] = one.message
        inner = [within.offset for within in one.inner]
        for value in one.values:
            explained = any(value.offset <= start < value.offset + value.size for start in inner)
            name = f"{one.protocol}.{value.name}"
            if value.name != PADDING and not explained:
                label = value.label and f" ({value.value})" if isinstance(value.value, int) else ""
                found[_free_name(found, name)] = f"{value.text}{label}"
    return found


def _free_name(found: dict[str, str], name: str) -> str:
    """The second of a name is called so."""
    number = 1
    unique = name
    while unique in found:
        number += 1
        unique = f"{name}[{number}]"
    return unique


def _fields(recorded: Layer, replayed: Layer) -> list[Change]:
    before, after = _values(recorded), _values(replayed)
    return [
        Change(name, before.get(name), after.get(name))
        for name in (*before, *(one for one in after if one not in before))
        if before.get(name) != after.get(name)
    ]


def _bytes(name: str, recorded: bytes, replayed: bytes) -> list[Change]:
    """Where two pieces of bytes differ first, and whether their lengths do."""
    if recorded == replayed:
        return []
    found = []
    if len(recorded) != len(replayed):
        found.append(Change(f"{name} size", str(len(recorded)), str(len(replayed))))
    common = min(len(recorded), len(replayed))
    if recorded[:common] != replayed[:common]:
        at = next(index for index in range(common) if recorded[index] != replayed[index])
        first, second = recorded[at : at + SHOWN].hex(" "), replayed[at : at + SHOWN].hex(" ")
        found.append(Change(f"{name} from byte {at} on", first, second))
    return found

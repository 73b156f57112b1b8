"""Wireshark's dissector takes messages apart as we do: the same messages, fields, values and names."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringminus.protocol import PROTOCOLS, Plan, Protocol, laid_out
from ringminus.tap import DeviceMessage, Event, Hypercall
from ringminus.wire import Int
from support.wireshark import differences, tshark_layers, write_capture, write_dissector

ROUNDS = 4


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dissector(tmp_path_factory.mktemp("dissector") / "ringminus.lua")


def message(protocol: Protocol, plan: Plan, number: int, generator: random.Random) -> bytes:
    """A message of that form, with small numbers in its fields, so that what they tell of is there."""
    data = bytearray(generator.randbytes(plan.end))
    for place in plan.places.values():
        if isinstance(place.kind, Int) and generator.random() < 0.7:
            small = generator.choice((0, 1, 2, 8, 16, 40, plan.end, plan.end + 8))
            data[place.offset : place.offset + place.size] = number_bytes(small, place.size, place.order)
    for name, value in ({protocol.selector: number} | dict(plan.form.when if plan.form else {})).items():
        place_ = plan.places.get(name)
        if place_ is not None and not place_.width:
            data[place_.offset : place_.offset + place_.size] = number_bytes(value, place_.size, place_.order)
    rest = generator.randbytes(generator.choice((0, 0, 3, 40, 200)))
    return bytes(data) + rest


def number_bytes(value: int, size: int, order: str) -> bytes:
    return (value % (1 << 8 * size)).to_bytes(size, "big" if order == ">" else "little")


def every_message(generator: random.Random) -> Iterator[tuple[Protocol, int, Plan, bytes]]:
    """One of each form, whole, and one that is cut short."""
    for protocol in PROTOCOLS.values():
        unknown = max(protocol.forms, default=0) + 1
        for number in (*protocol.forms, unknown):
            for plan in laid_out(protocol, number):
                data = message(protocol, plan, number, generator)
                yield protocol, number, plan, data
                yield protocol, number, plan, data[: generator.randrange(len(data) + 1)]


def event_of(protocol: Protocol, number: int, to_guest: bool, data: bytes) -> Event:
    """An event that carries the message."""
    if protocol.header is None and protocol.selector:
        return Hypercall(5, 0, number, "call", number, 0x1000, 0x2000, 0, "SUCCESS", "", data)
    return DeviceMessage(5, 1, "Device", protocol.name, to_guest, data, len(data))


def check(script: Path, capture: Path, events: list[Event]) -> None:
    write_capture(capture, events)
    found = differences(events, tshark_layers(script, capture)[1:])
    assert not found, "\n".join(found[:20])


def test_every_message_is_taken_apart_as_we_do(script: Path, tmp_path: Path) -> None:
    generator = random.Random(1)
    events = [
        event_of(protocol, number, generator.random() < 0.5, data)
        for _ in range(ROUNDS)
        for protocol, number, _, data in every_message(generator)
    ]
    assert len(events) > 1000
    check(script, tmp_path / "messages.pcapng", events)

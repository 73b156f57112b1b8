"""Wireshark's dissector takes events apart as we do: the same messages, fields, values and names."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import pytest

from ringminus.events import CpuidRead
from ringminus.lens.capture.wireshark import version_of
from ringminus.lens.decode import COMPLETION, VMBUS_MESSAGE
from ringminus.protocol import BY_INTERFACE, PROTOCOLS, Bits, Form, Part, Plan, Protocol, Show, laid_out
from ringminus.tap import (
    EVENTS,
    BusMessage,
    DeviceMessage,
    Event,
    Hypercall,
    MsrAccess,
    NetworkFrame,
    RingPacket,
    SynicMessage,
)
from ringminus.wire import Int
from support.wireshark import differences, run_tshark, tshark_layers, write_capture, write_dissector

ROUNDS = 1
INBAND = 6


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dissector(tmp_path_factory.mktemp("dissector") / "ringminus.lua")


def check(script: Path, capture: Path, events: list[Event]) -> None:
    """tshark sees what our decoder sees."""
    write_capture(capture, events)
    found = differences(events, tshark_layers(script, capture)[1:])
    assert not found, "\n".join(found[:20])


# ------------------------------------------------------------ messages of every form


def message(protocol: Protocol, plan: Plan, number: int, generator: random.Random) -> bytes:
    """A message of that form; most numbers in it are small, so that what they tell of is there."""
    data = bytearray(generator.randbytes(plan.end))
    for place in plan.places.values():
        if isinstance(place.kind, Int) and generator.random() < 0.7:
            small = generator.choice((0, 1, 2, 8, 16, 40, plan.end, plan.end + 8))
            data[place.offset : place.offset + place.size] = number_bytes(small, place.size, place.order)
    for name, value in ({protocol.selector: number} | dict(plan.form.when if plan.form else {})).items():
        told = plan.places.get(name)
        if told is not None and not told.width:
            data[told.offset : told.offset + told.size] = number_bytes(value, told.size, told.order)
    return bytes(data) + generator.randbytes(generator.choice((0, 0, 3, 40, 200)))


def number_bytes(value: int, size: int, order: str) -> bytes:
    return (value % (1 << 8 * size)).to_bytes(size, "big" if order == ">" else "little")


def messages(protocol: Protocol, generator: random.Random) -> Iterator[tuple[int, bytes]]:
    """Of each form one that is whole and one that is cut short, and some of no form."""
    unknown = max(protocol.forms, default=0) + 1
    for number in (*protocol.forms, unknown):
        for plan in laid_out(protocol, number):
            data = message(protocol, plan, number, generator)
            yield number, data
            yield number, data[: generator.randrange(len(data) + 1)]


def carrier(protocol: Protocol, number: int, to_guest: bool, data: bytes) -> Event:
    """An event that carries a message."""
    if protocol.name == "hypercall_input":
        return Hypercall(5, 0, number, "call", number, 0x1000, 0x2000, 0, "SUCCESS", "", data)
    if protocol.name == "synic_message":
        return SynicMessage(5, 0, 2, number, data, True)
    if protocol.name == "msr_value":
        return MsrAccess(5, 0, number, "name", to_guest, int.from_bytes(data[:8], "little"), False)
    if protocol.name == "cpuid_leaf":
        registers = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8, 12))
        return CpuidRead(5, 0, number, 0, *registers)
    return DeviceMessage(5, 1, "Device", protocol.name, to_guest, data, len(data) + 7 * to_guest)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_every_message_is_taken_apart_as_we_do(script: Path, tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    events = [
        carrier(protocol, number, generator.random() < 0.5, data)
        for protocol in PROTOCOLS.values()
        for number, data in messages(protocol, generator)
    ]
    seen = {layer.protocol for packet in layers_of(script, tmp_path, events) for layer in packet}
    assert seen >= set(PROTOCOLS)


def layers_of(script: Path, directory: Path, events: list[Event]) -> list[list[Any]]:
    capture = directory / "messages.pcapng"
    write_capture(capture, events)
    found = tshark_layers(script, capture)[1:]
    wrong = differences(events, found)
    assert not wrong, "\n".join(wrong[:20])
    return found


# ------------------------------------------------------------ events


def value(hint: Any, generator: random.Random) -> Any:
    made: dict[Any, Any] = {
        int: generator.choice((0, 1, 127, 200, 40_000, 1 << 20, 1 << 31, 1 << 40, (1 << 64) - 1)),
        str: generator.choice(("", "NIC", "x" * 40, "y" * 300, "ä€ ∀")),
        bytes: generator.randbytes(generator.choice((0, 1, 64, 255, 300, 70_000))),
        bool: generator.random() < 0.5,
        UUID: UUID(int=generator.getrandbits(128)),
        tuple[int, ...]: tuple(
            generator.choice((5, 4096, 1 << 33)) for _ in range(generator.choice((0, 1, 20)))
        ),
        int | None: generator.choice((None, 5)),
    }
    return made[hint]


def test_every_event_has_its_fields(script: Path, tmp_path: Path) -> None:
    generator = random.Random(2)
    events: list[Event] = []
    for kind in EVENTS:
        hints = get_type_hints(kind)
        names = [one.name for one in fields(kind) if one.name not in ("sequence", "host_ns")]
        for _ in range(10 if kind is not NetworkFrame else 0):
            values = {name: value(hints[name], generator) for name in names}
            values["time"] = generator.choice((0, 1, 12_345_678_901))
            values["cause"] = generator.choice((0, 1, 50))
            events.append(kind(**values))
    check(script, tmp_path / "events.pcapng", events)


def test_messages_of_the_bus_are_seen_where_they_pass(script: Path, tmp_path: Path) -> None:
    generator = random.Random(3)
    events: list[Event] = []
    for number, data in messages(PROTOCOLS["vmbus"], generator):
        events.append(BusMessage(0, 0, number % 2 == 0, "name", data))
        events.append(SynicMessage(0, 0, 2, VMBUS_MESSAGE, data, True))
    check(script, tmp_path / "bus.pcapng", events)


def test_answers_are_taken_apart_by_what_they_answer(script: Path, tmp_path: Path) -> None:
    generator = random.Random(4)
    events: list[Event] = []
    for interface, protocol in BY_INTERFACE.items():
        for _, data in messages(protocol, generator):
            events.append(RingPacket(0, 0, 1, "Device", False, INBAND, 7, data, (), interface))
            for _, answer in generator.sample(list(messages(protocol, generator)), 1):
                made = RingPacket(0, 0, 1, "Device", True, COMPLETION, 7, answer, (), interface)
                made.cause = generator.choice((len(events), len(events), 0))
                events.append(made)
    check(script, tmp_path / "answers.pcapng", events)


def test_requests_and_answers_are_linked(script: Path, tmp_path: Path) -> None:
    interface = next(iter(BY_INTERFACE))
    asked = RingPacket(0, 0, 1, "Device", False, INBAND, 7, b"", (), interface)
    answer = RingPacket(0, 0, 1, "Device", True, COMPLETION, 7, b"", (), interface, cause=1)
    path = tmp_path / "links.pcapng"
    write_capture(path, [asked, answer])
    names = ("frame.number", "ringminus.request_in", "ringminus.answer_in", "ringminus.cause_in")
    wanted = [word for name in names for word in ("-e", name)]
    lines = run_tshark(script, path, "-2", "-T", "fields", *wanted).splitlines()
    assert [line.split("\t") for line in lines] == [
        ["1", "", "", ""],
        ["2", "", "3", ""],
        ["3", "2", "", "2"],
    ]


def test_a_message_is_found_by_its_selector_as_in_our_filters(script: Path, tmp_path: Path) -> None:
    """Declarations of commands name the byte otherwise: `scsi.op` found nothing in Wireshark."""
    scsi = bytes((0x2A, 0, 0, 0, 0x20, 0, 0, 0, 8, 0))
    events: list[Event] = [
        DeviceMessage(0, 0, "SCSI", "scsi", False, command, 10)
        for command in (scsi, bytes((0x28, *scsi[1:])))
    ]
    path = tmp_path / "selector.pcapng"
    write_capture(path, events)
    wanted = 'ringminus.scsi.op == "WRITE_10" && ringminus.scsi.lba > 0x1000'
    found = run_tshark(script, path, "-Y", wanted, "-T", "fields", "-e", "ringminus.scsi.op")
    assert found.split() == ["42"]


# ------------------------------------------------------------ what was not made by this version


def test_a_message_that_nobody_declared_is_told(script: Path, tmp_path: Path) -> None:
    unknown = DeviceMessage(0, 0, "NIC", "vmbus", False, bytes((200, 0, 0, 0, 0, 0, 0, 0)), 8)
    cut = DeviceMessage(0, 0, "NIC", "vmbus", False, bytes((1, 0, 0, 0, 0, 0, 0, 0)), 8)
    other = DeviceMessage(0, 0, "NIC", "of tomorrow", False, b"1234", 4)
    path = tmp_path / "unknown.pcapng"
    write_capture(path, [unknown, cut, other])
    found = [[one.complaints for one in packet] for packet in tshark_layers(script, path)[1:]]
    assert found == [[[], ["ringminus.undeclared"]], [[], ["ringminus.cut"]], [["ringminus.no_protocol"]]]


def test_what_can_be_declared_is_what_the_dissector_knows() -> None:
    """Whoever adds to declarations adds to the dissector and to wireshark.py, and then here."""
    known = {
        Protocol: "name title header selector forms labels interfaces words shows otherwise size padded "
        "plans",
        Form: "name structure whole to_guest answers when inner lengths parts least words labels",
        Part: "name of at size count number continued when unless",
        Bits: "name shift width labels show alone",
    }
    assert {kind: " ".join(one.name for one in fields(kind)) for kind in known} == known
    assert {one.name for one in Show} == {"HEX", "MAC", "IPV4", "IPV6", "GUID", "UTF16", "TEXT"}


def test_the_script_tells_its_version(script: Path) -> None:
    assert version_of(script.read_text()).startswith("ringminus ")
    assert version_of("-- a script of somebody's") == ""

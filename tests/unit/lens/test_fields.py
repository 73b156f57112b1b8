"""The catalogue of fields: what it has, how it is completed, and that it does not lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.complete import complete
from ringminus.lens.decode import Decoder
from ringminus.lens.describe import describe, field_lines
from ringminus.lens.fields import HEADER, Kind, catalogue, value
from ringminus.lens.filter import compile_filter
from ringminus.lens.labels import Labels, identifier, keys
from ringminus.protocol import BY_INTERFACE, PROTOCOLS, Form, Protocol, Show, declare
from ringminus.tap import EVENTS, BusMessage, Interrupt, RingPacket
from ringminus.vmbus.wire import CloseChannel, MessageHeader
from ringminus.wire import U8, U16, Bytes, Struct

INTERFACE = UUID("99999999-0000-0000-0000-000000000001")
CLOSE = CloseChannel(header=MessageHeader(msgtype=7), child_relid=5).pack()


class Header(Struct):
    kind: U8


class Greeting(Struct):
    volume: U16
    who: Annotated[bytes, Bytes(16)]
    words: Annotated[bytes, Bytes(8)]


@pytest.fixture
def greeter() -> Iterator[None]:
    """A device of somebody's own, declared while its module is imported."""
    shows = {"who": Show.GUID, "words": Show.TEXT}
    forms = {1: Form("GREET", Greeting)}
    declare(Protocol("greeter", "Greeter", Header, "kind", forms, interfaces=(INTERFACE,), shows=shows))
    yield
    del PROTOCOLS["greeter"], BY_INTERFACE[INTERFACE]


def test_declaring_a_message_is_all_it_takes_to_ask_for_its_fields(greeter: None) -> None:
    body = Greeting(volume=11, who=UUID(int=5).bytes_le, words=b"Hello").pack()
    event = RingPacket(0, 0, 1, "Greeter", False, 6, 7, b"\x01" + body, (), INTERFACE)
    for text in (
        "greeter",
        "greeter.kind == greet",
        "greeter.volume > 10",
        f"greeter.who == {UUID(int=5)}",
        'greeter.words == "hello"',
        'greeter.words matches "^hel+o$"',
    ):
        assert compile_filter(text)(event), text
    assert compile_filter("greeter.volume > 10").points == {"packets"}
    assert not compile_filter("greeter.volume > 11")(event)


def test_it_is_forgotten_with_its_declaration() -> None:
    assert catalogue().find("greeter.volume") is None


def test_every_field_of_every_event_is_there() -> None:
    fields = catalogue().fields
    for kind in EVENTS:
        assert kind.NAME in fields
        assert fields[kind.NAME].title.endswith((".", "…")) or fields[kind.NAME].title
    assert fields.keys() >= set(HEADER)
    assert fields["packet.relid"].kind is Kind.NUMBER
    assert fields["packet.ranges"].kind is Kind.NUMBERS
    assert fields["frame.tci"].kind is Kind.NUMBER
    assert fields["channel.instance"].kind is Kind.GUID
    assert fields["vmbus.offer.if_type"].kind is Kind.GUID


def test_every_protocol_is_carried_by_some_event() -> None:
    lost = [name for name in PROTOCOLS if not catalogue().fields[name].events]
    assert lost == []


def test_a_value_is_found_in_what_an_event_was_taken_apart_into() -> None:
    event = BusMessage(15_000_000, 0, False, "CLOSE_CHANNEL", CLOSE, sequence=9)
    layers = Decoder().layers(event)
    wanted = {"time": 15_000_000, "event": "bus", "sequence": 9, "bus.name": "CLOSE_CHANNEL"}
    wanted |= {
        "vmbus.child_relid": 5,
        "vmbus.message": "CLOSE_CHANNEL",
        "scsi.lba": None,
        "vmbus.nothing": None,
    }
    assert {name: value(event, layers, name) for name in wanted} == wanted


def test_a_field_is_found_by_other_names() -> None:
    known = catalogue()
    assert known.find("hypercall.connection_id") is known.fields["hypercall_input.connection_id"]
    assert known.find("hypercall.code") is known.fields["hypercall.code"]
    assert known.find("bus.child_relid") is known.fields["vmbus.child_relid"]
    assert known.find("nothing.at.all") is None


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("HvCallSignalEvent", "signal_event"),
        ("HvExtCallQueryCapabilities", "query_capabilities"),
        ("HV_X64_MSR_SIMP", "simp"),
        ("WRITE_10", "write_10"),
        ("RNDIS_MSG_INIT", "msg_init"),
        ("NVSP_MSG_TYPE", "msg_type"),
        ("DATA_IN", "data_in"),
        ("port-out", "port_out"),
        ("READ(10)", "read_10"),
        ("WIN10_V4_1", "win10_v4_1"),
    ],
)
def test_names_are_written_without_what_vendors_put_before_them(label: str, written: str) -> None:
    assert identifier(label) == written
    assert keys(label) & keys(written)
    assert Labels({3: label}).values(written) == {3}
    assert Labels({3: label}).values(label.lower()) == {3}


def test_flags_are_named_together() -> None:
    found = Labels({1: "FAST", 4: "LOUD"}, flags=True)
    assert found.name(5) == "FAST|LOUD"
    assert Labels({1: "FAST"}).name(5) == ""


def texts(typed: str) -> list[str]:
    return [one.text for one in complete(typed)]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("scsi.op", "scsi.opcode"),
        ("exit.re", "exit.reason"),
        ("vp == 1 and scsi.l", "vp == 1 and scsi.lba"),
        ("not (msr.w", "not (msr.write"),
        ("scsi.op == wri", "scsi.op == write_10"),
        ("scsi.op != read_1", "scsi.op != read_16"),
        ("scsi.op in {read_10, wr", "scsi.op in {read_10, write_10"),
        ("msr.write == t", "msr.write == true"),
        ("vmbus.message == open_ch", "vmbus.message == open_channel"),
        ("scsi.op == read_10 a", "scsi.op == read_10 and"),
        ("scsi.op == read_10 ", "scsi.op == read_10 or"),
        ("", "time"),
    ],
)
def test_what_is_typed_is_completed(typed: str, offered: str) -> None:
    found = texts(typed)
    assert offered in found
    assert all(one.startswith(typed.rpartition(" ")[0]) for one in found)


def test_nothing_is_made_up() -> None:
    assert texts("scsi.op == nothing") == []
    assert texts("nothing.at.all == ") == []
    assert texts("exit.rip == ") == []


def test_what_is_completed_is_understood() -> None:
    for typed in ("scsi.", "packet.", "vmbus.channel.", "hypercall.code == s"):
        for text in texts(typed):
            compile_filter(text)


def test_the_catalogue_in_lines() -> None:
    (found,) = [one for one in describe() if one["name"] == "packet.kind"]
    lines = field_lines([found], with_values=True)
    assert lines[0].startswith("packet.kind  number")
    assert "  completion" in lines
    interrupt = [one for one in describe() if one["events"] == [Interrupt.NAME]]
    assert {one["name"] for one in interrupt} == {"interrupt", "interrupt.vector", "interrupt.source"}

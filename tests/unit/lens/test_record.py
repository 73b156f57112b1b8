"""Events as bytes: what goes in comes out, of old files too, and lies are typed errors."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import Any, get_type_hints
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringminus.lens.record import SCHEMA, BadRecord, Reader, UnknownEvent, decode, encode, schema
from ringminus.tap import EVENTS, Event, Interrupt, NetworkFrame, RingPacket, VmExit

U64 = st.integers(0, 2**64 - 1)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: U64,
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
    UUID: st.uuids(),
    tuple[int, ...]: st.lists(U64).map(tuple),
    int | None: st.none() | U64,
}
HEADER = {"sequence", "cause", "host_ns"}


def events(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{one.name: VALUES[hints[one.name]] for one in fields(kind) if one.init})


@given(st.sampled_from(EVENTS).flatmap(events))
def test_what_goes_in_comes_out(event: Event) -> None:
    found = decode(encode(event))
    assert found == event
    assert all(getattr(found, name) == getattr(event, name) for name in HEADER)


@given(st.binary())
def test_other_bytes_are_an_event_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(BadRecord):
        assert isinstance(decode(data), EVENTS)


@given(st.sampled_from(EVENTS).flatmap(events), st.data())
def test_a_record_that_was_changed_is_an_event_or_a_typed_error(event: Event, data: st.DataObject) -> None:
    record = bytearray(encode(event))
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadRecord):
        assert isinstance(decode(bytes(record)), EVENTS)


@given(st.binary())
def test_other_bytes_are_no_schema(data: bytes) -> None:
    with contextlib.suppress(BadRecord):
        Reader(data)


def test_a_reader_of_this_versions_schema_reads_its_records() -> None:
    event = VmExit(1, 2, "cpuid", 3, 4, 5, sequence=6, cause=7, host_ns=8)
    assert Reader(schema()).decode(encode(event)) == event


def old_schema(name: str, names: list[str]) -> bytes:
    return msgspec.msgpack.encode([(name, names)])


def test_an_old_file_without_a_field_is_read_with_its_empty_value() -> None:
    reader = Reader(old_schema("packet", ["time", "vp", "relid", "device"]))
    found = reader.decode(b"\0" + msgspec.msgpack.encode([5, 1, 7, "NIC"]))
    assert found == RingPacket(5, 1, 7, "NIC", False, 0, 0, b"", ())
    frame = Reader(old_schema("frame", ["time", "vp"])).decode(b"\0" + msgspec.msgpack.encode([5, 1]))
    assert isinstance(frame, NetworkFrame)
    assert frame.tci is None
    assert frame.checksum == ""


def test_a_field_that_there_is_no_more_is_passed_over() -> None:
    reader = Reader(old_schema("interrupt", ["time", "flavour", "vp", "vector", "source"]))
    found = reader.decode(b"\0" + msgspec.msgpack.encode([5, {"a": 1}, 1, 0xF3, "SINT2"]))
    assert found == Interrupt(5, 1, 0xF3, "SINT2")


def test_an_event_of_a_later_version_is_told_from_a_damaged_one() -> None:
    reader = Reader(old_schema("telepathy", ["time", "vp"]))
    with pytest.raises(UnknownEvent, match="'telepathy'"):
        reader.decode(b"\0" + msgspec.msgpack.encode([5, 1]))


@pytest.mark.parametrize(
    "record", [b"", bytes((len(SCHEMA),)), b"\xff\x90", encode(VmExit(1, 2, "cpuid", 3, 4, 5))[:-1]]
)
def test_damaged_records_are_typed_errors(record: bytes) -> None:
    with pytest.raises(BadRecord, match="that is no"):
        decode(record)


def test_a_value_of_another_type_is_told() -> None:
    values = [1, 2, 0, 0, 0, "cpuid", "not a number", 4, 5]
    with pytest.raises(BadRecord, match="that is no exit event"):
        decode(b"\0" + msgspec.msgpack.encode(values))


def test_a_schema_that_names_a_field_twice_is_refused() -> None:
    with pytest.raises(BadRecord, match="twice"):
        Reader(old_schema("exit", ["time", "time"]))

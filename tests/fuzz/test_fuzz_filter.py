"""Whatever somebody writes as a filter is a filter, or an error that points into it; a filter that was made
holds for any event, and says the same as the layers that the event is shown by."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_type_hints
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.decode import Decoder, flat
from ringminus.lens.fields import Kind, catalogue
from ringminus.lens.filter import FilterError, compile_filter
from ringminus.lens.lines import line
from ringminus.lens.objects import COMMON, as_object
from ringminus.protocol import BY_INTERFACE, PROTOCOLS
from ringminus.tap import EVENTS, BusMessage, DeviceMessage, Event, Hypercall, RingPacket
from support.effort import examples

WORDS = st.sampled_from(
    [
        *(
            "and",
            "or",
            "not",
            "in",
            "contains",
            "matches",
            "==",
            "!=",
            "<",
            ">=",
            "(",
            ")",
            "{",
            "}",
            ",",
            "..",
        ),
        *("scsi", "scsi.op", "scsi.lba", "packet.payload", "exit.reason", "time", "vmbus.channel.device"),
        *("write_10", '"netvsc"', "0x10", "4K", "1.5s", "0a:0b", "10.0.0.1", "fe80::1", "true", "1.5", "'x'"),
        *(
            "len(packet.payload)",
            "packet.payload[1:2]",
            "nvsp",
            "msr.write",
            "packet.interface",
            "[",
            "&&",
            "=",
        ),
    ]
)
U64 = st.integers(0, 2**64 - 1)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: U64,
    str: st.text(max_size=20),
    bytes: st.binary(max_size=100),
    bool: st.booleans(),
    UUID: st.sampled_from([*BY_INTERFACE, UUID(int=0)]),
    tuple[int, ...]: st.lists(U64, max_size=3).map(tuple),
    int | None: st.none() | U64,
}


def events(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = get_type_hints(kind)
    given_values = {one.name: VALUES[hints[one.name]] for one in fields(kind) if one.init}
    if kind is DeviceMessage:
        given_values["protocol"] = st.sampled_from(sorted(PROTOCOLS))
    if kind is Hypercall:
        given_values["code"] = st.sampled_from([0x5C, 0x5D, 2, 3, 0x999])
    return st.builds(kind, **given_values)


ANY_EVENT = st.sampled_from(EVENTS).flatmap(events)
LAYERED = st.sampled_from((RingPacket, BusMessage, Hypercall, DeviceMessage)).flatmap(events)


def check(text: str, event: Event) -> None:
    try:
        wanted = compile_filter(text)
    except FilterError as error:
        assert 0 <= error.start <= len(text)
        assert error.start + error.length <= max(len(error.text), 1) + 1
        assert str(error).count("\n") == 2
    else:
        assert wanted(event) in (True, False)
        assert wanted.points >= {kind.POINT for kind in wanted.events if not kind.ON_DEMAND}


@given(st.text(max_size=60), ANY_EVENT)
def test_any_text_is_a_filter_or_an_error_that_points(text: str, event: Event) -> None:
    check(text, event)


@settings(max_examples=examples(300))
@given(st.lists(WORDS, max_size=9), ANY_EVENT)
def test_any_words_are_a_filter_or_an_error_that_points(words: list[str], event: Event) -> None:
    check(" ".join(words), event)


@given(st.sampled_from(sorted(catalogue().fields)), ANY_EVENT, st.sampled_from(["==", "!=", "<", "contains"]))
def test_any_field_can_be_asked_of_any_event(name: str, event: Event, sign: str) -> None:
    for text in (name, f"not {name}", f"{name} {sign} 0x10", f'{name} {sign} "a"', f"len({name}) > 1"):
        check(text, event)


def own_layers(event: Event, name: str) -> list[Any]:
    """The values of a field by the layers that the event is shown by."""
    protocol, _, path = name.partition(".")
    found = [
        one for one in list(flat(Decoder().layers(event)))[1:] if one.protocol == protocol and one.message
    ]
    return [value for one in found if (value := one.get(path)) is not None]


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.filter_too_much])
@given(LAYERED, st.data())
def test_a_filter_says_what_the_layers_say(event: Event, data: st.DataObject) -> None:
    numbers = [
        one.name
        for one in catalogue().fields.values()
        if one.kind is Kind.NUMBER and not one.own and type(event) in one.events and not one.channels
    ]
    name = data.draw(st.sampled_from(numbers))
    values = own_layers(event, name)
    wanted = data.draw(st.sampled_from([*values, 0, 1])) if values else 0
    assert compile_filter(f"{name} == {wanted}")(event) == (wanted in values)
    assert compile_filter(f"{name} != {wanted}")(event) == (bool(values) and wanted not in values)
    assert compile_filter(f"{name} > {wanted}")(event) == any(one > wanted for one in values)
    assert compile_filter(name)(event) == bool(values)


@settings(max_examples=examples(200))
@given(ANY_EVENT)
def test_any_event_is_one_printable_line_and_one_object(event: Event) -> None:
    decoder = Decoder()
    layers, channel = decoder.layers(event), decoder.channel(event)
    assert line(event, layers, channel).plain.isprintable()
    found = as_object(event, layers, channel, "guest")
    assert found["event"] == event.NAME
    assert found["fields"].keys() == {one.name for one in fields(event)} - set(COMMON)
    assert json.loads(json.dumps(found)) == found

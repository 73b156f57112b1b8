"""Messages are taken apart by their declarations, whole, cut short or unknown."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringminus.devices.storage.protocol
import ringminus.hypervisor.protocol
import ringminus.vmbus.protocol  # noqa: F401
from ringminus.protocol import PROTOCOLS, Form, Layer, Protocol, Value, declare, dissect
from ringminus.wire import U8, U16, U32, Bytes, Struct


class Color(IntEnum):
    RED = 1
    BLUE = 2


class Mode(IntFlag):
    FAST = 1
    LOUD = 4


class Head(Struct):
    kind: U16
    mode: U16


class Inside(Struct):
    color: U8


class Paint(Struct):
    color: U32
    inside: Inside
    reserved: Annotated[bytes, Bytes(3)] = b""
    wrapped: Annotated[bytes, Bytes(4)] = b""
    wrapped_length: U32 = 0


class Wash(Struct):
    water: U32


PAINT = Protocol(
    "paint",
    "Painting",
    Head,
    "kind",
    {
        1: Form("PAINT", Paint, inner={"wrapped": "grain"}, lengths={"wrapped": "wrapped_length"}),
        2: (
            Form("WASHED", Wash, to_guest=True, answers="WASH"),
            Form("DONE", to_guest=True),
            Form("WASH", Wash),
        ),
        3: (Form("HOT", Wash, when={"water": 90}), Form("COLD", Wash)),
        4: Form("REST", None, inner={"rest": "grain"}),
    },
    {"color": Color, "mode": Mode},
)
GRAIN = Protocol("grain", "Grains", Inside, "color", {7: Form("SEVEN", Inside, whole=True)})


@pytest.fixture(autouse=True)
def protocols() -> Iterator[None]:
    declare(PAINT)
    declare(GRAIN)
    yield
    del PROTOCOLS["paint"], PROTOCOLS["grain"]


def message(kind: int, body: bytes = b"", mode: int = 0) -> bytes:
    return Head(kind=kind, mode=mode).pack() + body


def shown(layer: Layer) -> dict[str, object]:
    return {one.name: one.value for one in layer.values}


def test_a_message_has_its_fields_with_their_places_and_names() -> None:
    layer = dissect(PAINT, message(1, Paint(color=2, inside=Inside(color=1)).pack(), mode=5))
    assert (layer.protocol, layer.message, layer.missing) == ("paint", "PAINT", 0)
    assert layer.values == [
        Value("kind", 1, 0, 2),
        Value("mode", 5, 2, 2, "FAST|LOUD"),
        Value("color", 2, 4, 4, "BLUE"),
        Value("inside.color", 1, 8, 1, "RED"),
        Value("wrapped", bytes(4), 12, 4),
        Value("wrapped_length", 0, 16, 4),
    ]
    assert layer.get("color") == 2 and layer.get("water") is None


def test_what_lies_inside_is_taken_apart_as_long_as_it_says() -> None:
    paint = Paint(color=1, inside=Inside(color=0), wrapped=b"\x07\x01\x02\x03", wrapped_length=2)
    layer = dissect(PAINT, message(1, paint.pack()), offset=100)
    (inner,) = layer.inner
    assert (inner.protocol, inner.message, inner.offset) == ("grain", "SEVEN", 112)
    assert shown(inner) == {"color": 7, "rest": b"\x01"}


def test_what_follows_is_the_rest_and_may_be_a_message_itself() -> None:
    layer = dissect(PAINT, message(4, b"\x07"))
    assert shown(layer)["rest"] == b"\x07"
    assert [one.message for one in layer.inner] == ["SEVEN"]


def test_a_form_is_chosen_by_direction_by_what_it_answers_and_by_its_values() -> None:
    washing = message(2, Wash(water=1).pack())
    assert dissect(PAINT, washing).message == "WASH"
    assert dissect(PAINT, washing, to_guest=True).message == "DONE"
    assert dissect(PAINT, washing, to_guest=True, request=dissect(PAINT, washing)).message == "WASHED"
    assert dissect(PAINT, message(3, Wash(water=90).pack())).message == "HOT"
    assert dissect(PAINT, message(3, Wash(water=9).pack())).message == "COLD"


@pytest.mark.parametrize("size", range(4, 8))
def test_a_message_that_is_cut_short_shows_what_is_there(size: int) -> None:
    layer = dissect(PAINT, message(2, Wash(water=1).pack())[:size])
    assert (layer.message, layer.missing) == ("WASH", 8 - size)
    assert "water" not in shown(layer)


def test_a_header_that_is_cut_short_is_bytes() -> None:
    layer = dissect(PAINT, b"\x01\x00\x00")
    assert (layer.message, layer.missing, shown(layer)) == ("", 1, {"rest": b"\x01\x00\x00"})


def test_an_unknown_number_is_shown_with_its_header() -> None:
    layer = dissect(PAINT, message(0x99, b"abc"))
    assert layer.message == "0x99"
    assert shown(layer) == {"kind": 0x99, "mode": 0, "rest": b"abc"}


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="two protocols paint"):
        declare(PAINT)


@given(name=st.sampled_from(sorted(PROTOCOLS)), data=st.binary(max_size=300), to_guest=st.booleans())
def test_no_bytes_are_too_bad_to_be_shown(name: str, data: bytes, to_guest: bool) -> None:
    number = 0x5C if PROTOCOLS[name].header is None else None
    layer = dissect(PROTOCOLS[name], data, to_guest=to_guest, number=number)
    for one in layer.values:
        assert one.offset >= 0 and one.offset + one.size <= len(data)

"""Messages are taken apart by their declarations, whole, cut short or unknown."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Annotated
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringminus.cli.protocols  # noqa: F401
from ringminus.protocol import (
    PROTOCOLS,
    Bits,
    Form,
    Layer,
    Ones,
    Pages,
    Part,
    Protocol,
    Show,
    Told,
    Value,
    declare,
    dissect,
    shown,
    word,
)
from ringminus.protocol.parts import DEEPEST
from ringminus.wire import U8, U16, U32, Bytes, Int, Struct

NETWORK = UUID("f8615163-df3e-46c5-913f-f2d2f965ed0e")


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


class Crate(Struct):
    at: U8
    size: U8
    count: U8
    flags: U8


class Box(Struct):
    size: U8
    kind: U8


CRATE = Protocol(
    "crate",
    "Crates",
    Crate,
    "",
    {
        0: Form(
            "CRATE",
            parts=(
                Part("boxes", "box", at=Told("at", plus=1), size="size"),
                Part("numbers", Int("H"), count=Ones("flags")),
                Part("note", size=Told("count", 2, -1), when={"boxes.kind": 1}),
                Part("letter", "grain", count=1, unless={"boxes.kind": 1}, number="color"),
            ),
        )
    },
    shows={"note": Show.TEXT, "numbers": Show.HEX},
    words={"flags": (Bits("low", 0, 4, Color), Bits("high", 4, 4, alone=True))},
)
BOX = Protocol(
    "box",
    "Boxes",
    Box,
    "kind",
    {1: Form("SMALL", parts=(Part("inside", "crate", count=1),)), 2: Form("FULL", word("content", Int("I")))},
    size="size",
    padded=8,
    otherwise=Form("OTHER", parts=(Part("content", size=1),)),
)
LENT = Protocol(
    "lent",
    "Lent pages",
    word("length"),
    "",
    {
        0: Form("LENT", parts=(Part("first", Int("H"), count=Pages("length", "length"), continued=True),)),
    },
)
GRAIN = Protocol("grain", "Grains", Inside, "color", {7: Form("SEVEN", Inside, whole=True)})


@pytest.fixture(autouse=True)
def protocols() -> Iterator[None]:
    own = (PAINT, GRAIN, CRATE, BOX, LENT)
    for one in own:
        declare(one)
    yield
    for one in own:
        del PROTOCOLS[one.name]


def message(kind: int, body: bytes = b"", mode: int = 0) -> bytes:
    return Head(kind=kind, mode=mode).pack() + body


def values(layer: Layer) -> dict[str, object]:
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
    assert values(inner) == {"color": 7, "rest": b"\x01"}


def test_what_follows_is_the_rest_and_may_be_a_message_itself() -> None:
    layer = dissect(PAINT, message(4, b"\x07"))
    assert values(layer)["rest"] == b"\x07"
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
    assert "water" not in values(layer)


def test_a_header_that_is_cut_short_is_bytes() -> None:
    layer = dissect(PAINT, b"\x01\x00\x00")
    assert (layer.message, layer.missing, values(layer)) == ("", 1, {"rest": b"\x01\x00\x00"})


def test_an_unknown_number_is_shown_with_its_header() -> None:
    layer = dissect(PAINT, message(0x99, b"abc"))
    assert layer.message == "0x99"
    assert values(layer) == {"kind": 0x99, "mode": 0, "rest": b"abc"}


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="two protocols paint"):
        declare(PAINT)


def crate(at: int, size: int, count: int, flags: int, rest: bytes) -> bytes:
    return Crate(at=at, size=size, count=count, flags=flags).pack() + rest


FULL = bytes((6, 2)) + (77).to_bytes(4, "little")


def test_a_part_lies_where_fields_tell_and_is_messages_of_their_own_size() -> None:
    layer = dissect(CRATE, crate(4, 12, 0, 0, b"!" + FULL + FULL), offset=50)
    assert [(one.message, one.offset, one.size) for one in layer.inner] == [("FULL", 55, 6), ("FULL", 61, 6)]
    assert layer.missing == 0 and layer.get("boxes.content") == 77
    assert values(layer) == {
        "at": 4,
        "size": 12,
        "count": 0,
        "flags": 0,
        "flags.low": 0,
        "high": 0,
        "padding": b"!",
    }


def test_numbers_follow_as_many_as_bits_are_set_and_are_read_as_they_are_shown() -> None:
    layer = dissect(CRATE, crate(3, 0, 0, 0b101, bytes((1, 0, 0xFF, 0, 9))))
    value = next(one for one in layer.values if one.name == "numbers")
    assert (value.value, value.text, value.offset, value.size) == ((1, 0xFF), "0x1,0xff", 4, 4)
    assert values(layer)["letter"] == b"\x09"


def test_a_part_is_there_when_a_field_within_another_says_so() -> None:
    small = bytes((2, 1))
    layer = dissect(CRATE, crate(3, 2, 2, 0, small + b"hi\0.."))
    note = next(one for one in layer.values if one.name == "note")
    assert (note.value, note.text) == (b"hi\0", "hi")
    assert values(layer)["rest"] == b".."


def test_a_messages_number_may_be_in_what_it_answers() -> None:
    asked = dissect(PAINT, message(1, Paint(color=7, inside=Inside(color=1)).pack()))
    letter = crate(3, 6, 0, 0, FULL + b"\x07")
    assert [one.message for one in dissect(CRATE, letter, request=asked).inner] == ["FULL", "SEVEN"]
    unasked = dissect(CRATE, letter)
    assert [one.message for one in unasked.inner] == ["FULL"] and values(unasked)["letter"] == b"\x07"


def test_fields_of_bits_have_the_place_of_their_word() -> None:
    layer = dissect(CRATE, crate(0, 0, 0, 0x52, b""))
    assert [one for one in layer.values if one.width] == [
        Value("flags.low", 2, 3, 1, "BLUE", None, 0, 4),
        Value("high", 5, 3, 1, "", None, 4, 4),
    ]
    assert layer.get("high") == 5 and layer.get("flags.low") == 2


def test_what_is_told_and_not_there_is_missing_unless_others_bring_it() -> None:
    assert dissect(CRATE, crate(3, 20, 0, 0, FULL)).missing == 14
    assert dissect(CRATE, crate(3, 0, 0, 3, b"\1\0")).missing == 2
    assert dissect(CRATE, crate(3, 20, 0, 0, FULL), cut=14).missing == 0
    pages = dissect(LENT, (3000).to_bytes(4, "little") + b"\1\0")
    assert (pages.get("first"), pages.missing) == ((1,), 0)


def test_padding_is_neither_a_field_nor_the_rest() -> None:
    (box,) = dissect(CRATE, crate(3, 8, 0, 0, bytes((8, 2)) + bytes(6))).inner
    assert values(box) == {"size": 8, "kind": 2, "content": 0, "padding": bytes(2)}


def test_messages_without_a_form_have_what_is_declared_for_the_others() -> None:
    (box,) = dissect(CRATE, crate(3, 4, 0, 0, bytes((4, 9, 5, 6)))).inner
    assert (box.message, values(box)) == ("OTHER", {"size": 4, "kind": 9, "content": b"\5", "padding": b"\6"})


def test_messages_that_say_that_they_have_no_size_end_the_list() -> None:
    layer = dissect(CRATE, crate(3, 12, 0, 0, bytes((1, 2)) + FULL + bytes(4)))
    assert layer.inner == [] and values(layer)["boxes"] == bytes((1, 2)) + FULL + bytes(4)


def test_messages_in_messages_have_an_end() -> None:
    tag = bytes.fromhex("00058100")
    layer, depth = dissect(PROTOCOLS["vlan"], tag * 10 * DEEPEST), 0
    while layer.inner:
        layer, depth = layer.inner[0], depth + 1
    assert depth == DEEPEST and layer.values


@pytest.mark.parametrize(
    ("data", "show", "text"),
    [
        (bytes.fromhex("00155d010203"), Show.MAC, "00:15:5d:01:02:03"),
        (bytes.fromhex("00155d010203") * 2, Show.MAC, "00:15:5d:01:02:03,00:15:5d:01:02:03"),
        (b"\x0a\0\2\x0f", Show.IPV4, "10.0.2.15"),
        (b"\xff\x02" + bytes(13) + b"\1", Show.IPV6, "ff02::1"),
        (
            bytes.fromhex("635161f83edfc546913ff2d2f965ed0e"),
            Show.GUID,
            "f8615163-df3e-46c5-913f-f2d2f965ed0e",
        ),
        ("NIC\0x".encode("utf-16-le"), Show.UTF16, "NIC"),
        (b"\0\xd8", Show.UTF16, "\ufffd"),
        (b"Microsoft Hv", Show.TEXT, "Microsoft Hv"),
        (b"\1\2\3", Show.MAC, "010203"),
        (b"", Show.IPV4, ""),
        (255, Show.HEX, "0xff"),
        (255, None, "255"),
        (b"\xff", None, "ff"),
    ],
)
def test_values_are_read_as_what_they_are(data: bytes | int, show: Show | None, text: str) -> None:
    assert shown(data, show) == text


@given(name=st.sampled_from(sorted(PROTOCOLS)), data=st.binary(max_size=300), to_guest=st.booleans())
def test_no_bytes_are_too_bad_to_be_shown(name: str, data: bytes, to_guest: bool) -> None:
    protocol = PROTOCOLS[name]
    numbers = sorted(protocol.forms) if protocol.header is None else [None]
    for number in numbers:
        layers = [dissect(protocol, data, to_guest=to_guest, number=number)]
        while layers:
            layer = layers.pop()
            assert layer.missing >= 0
            for one in layer.values:
                assert one.offset >= 0 and one.offset + one.size <= len(data)
                assert isinstance(one.text, str)
            layers += layer.inner

"""Declared structures: offsets follow from the fields, values survive, short buffers are errors."""

from __future__ import annotations

from typing import Annotated

import pytest

from ringminus.errors import GuestError
from ringminus.wire import I16, U8, U16, U32, Array, Bytes, ShortBuffer, Struct


class Header(Struct):
    kind: U16
    length: U16 = 7


class Message(Struct):
    header: Header
    words: Annotated[tuple[int, ...], Array("H", 3)]
    name: Annotated[bytes, Bytes(4)]
    signed: I16 = -2
    flags: U8


def test_offsets_and_sizes_follow_from_the_declaration() -> None:
    assert Header.SIZE == 4
    assert Message.SIZE == 17
    assert [field.offset for field in Message.FIELDS] == [0, 4, 10, 14, 16]
    assert Message.offset_of("name") == 10


def test_values_survive_packing() -> None:
    message = Message(header=Header(kind=1), words=(1, 2, 3), name=b"ab", flags=0xFF)
    again = Message.unpack(b"xx" + message.pack() + b"yy", 2)
    assert again == message
    assert (again.header.length, again.words, again.name, again.signed) == (7, (1, 2, 3), b"ab\0\0", -2)


class Command(Struct, big_endian=True):
    opcode: U8
    lba: U32
    words: Annotated[tuple[int, ...], Array("H", 2)]


class Envelope(Struct):
    length: U32
    command: Command


def test_a_structure_may_be_big_endian_and_keeps_its_order_within_another() -> None:
    envelope = Envelope(length=9, command=Command(opcode=0x28, lba=0x01020304, words=(5, 6)))
    assert envelope.pack().hex() == "09000000" + "28" + "01020304" + "00050006"
    assert Envelope.unpack(envelope.pack()) == envelope
    assert (Command.SIZE, Command.offset_of("words")) == (9, 5)


def test_packing_in_place_touches_nothing_else() -> None:
    buffer = bytearray(b"\xee" * 8)
    Header(kind=0x1234).pack_into(buffer, 2)
    assert buffer.hex() == "eeee34120700eeee"


@pytest.mark.parametrize("offset", [1, 100, 1 << 63, 1 << 64, -100])
def test_a_buffer_that_is_too_short_is_the_guests_error(offset: int) -> None:
    with pytest.raises(ShortBuffer, match="Header needs 4 bytes"):
        Header.unpack(bytes(4), offset)
    assert issubclass(ShortBuffer, GuestError)


def test_a_field_without_a_default_must_be_given_and_no_other_may() -> None:
    with pytest.raises(TypeError, match="needs kind"):
        Header()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no field size"):
        Header(kind=1, size=2)  # type: ignore[call-arg]


def test_what_is_no_wire_type_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match="is not a wire type"):

        class Wrong(Struct):
            value: int


def test_structures_show_their_fields() -> None:
    assert repr(Header(kind=300)) == "Header(kind=0x12c, length=7)"

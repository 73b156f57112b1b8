"""A reader of BTF, the type information that a kernel and its modules carry.

Source: Linux, Documentation/bpf/btf.rst. A module's types continue its kernel's: their numbers and the
offsets of their strings go on where the kernel's end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from ringminus.wire import I32, U8, U16, U32, Struct

MAGIC = 0xEB9F
POINTER_SIZE = 8
SIGNED_INT = 1 << 24  # in the word after an INT
BIT_FIELDS = 1 << 31  # in the info of a STRUCT or UNION: a member's offset has its width in bits 31:24


class Kind(IntEnum):
    """BTF_KIND_…"""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


class Header(Struct):
    """btf_header."""

    magic: U16
    version: U8
    flags: U8
    hdr_len: U32
    type_off: U32
    type_len: U32
    str_off: U32
    str_len: U32


class Type(Struct):
    """btf_type; `size` is the number of another type for kinds that have no size."""

    name_off: U32
    info: U32
    size: U32


class Word(Struct):
    """What follows an INT: encoding, bit offset and bits."""

    value: U32


class Array(Struct):
    """btf_array, after an ARRAY."""

    type: U32
    index_type: U32
    nelems: U32


class Member(Struct):
    """btf_member, after a STRUCT or UNION."""

    name_off: U32
    type: U32
    offset: U32


class EnumValue(Struct):
    """btf_enum, after an ENUM."""

    name_off: U32
    val: I32


# bytes that follow a type: once, and for each of its `vlen` items
FIXED = {Kind.INT: Word.SIZE, Kind.ARRAY: Array.SIZE, Kind.VAR: 4, Kind.DECL_TAG: 4}
REPEATED = {
    Kind.STRUCT: Member.SIZE,
    Kind.UNION: Member.SIZE,
    Kind.ENUM: EnumValue.SIZE,
    Kind.FUNC_PROTO: 8,
    Kind.DATASEC: 12,
    Kind.ENUM64: 12,
}
ALIASES = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)


@dataclass(frozen=True, slots=True)
class Place:
    """A member of a structure, at any depth: `path` is dotted, offset and size are in bits.

    `element` is the size in bytes of an array's item, else of the whole. `signed` is None where it has no
    meaning. `parts` are the names of what is in a structure of several members.
    """

    path: str
    offset: int
    size: int
    element: int
    signed: bool | None = None
    parts: tuple[str, ...] = ()


class Btf:
    """The types of a kernel, or of a module above its kernel's (`base`)."""

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        header = Header.unpack(data)
        if header.magic != MAGIC:
            raise ValueError(f"BTF cannot begin with {header.magic:#x}")
        self._base = base
        self._first_string = base._end_of_strings if base else 0
        start = header.hdr_len + header.str_off
        self._strings = data[start : start + header.str_len]
        self._end_of_strings: int = self._first_string + header.str_len
        start = header.hdr_len + header.type_off
        self._types = data[start : start + header.type_len]
        self._first_type = base._end_of_types if base else 1  # number 0 is void
        self._offsets: list[int] = []
        self._named: dict[str, list[int]] = {}
        self._index()
        self._end_of_types: int = self._first_type + len(self._offsets)

    def _index(self) -> None:
        offset = 0
        while offset < len(self._types):
            found = Type.unpack(self._types, offset)
            kind, count = Kind(found.info >> 24 & 0x1F), found.info & 0xFFFF
            if kind in (Kind.STRUCT, Kind.UNION, Kind.ENUM) and found.name_off:
                number = self._first_type + len(self._offsets)
                self._named.setdefault(self._string(found.name_off), []).append(number)
            self._offsets.append(offset)
            offset += Type.SIZE + FIXED.get(kind, 0) + REPEATED.get(kind, 0) * count

    def _string(self, offset: int) -> str:
        if self._base and offset < self._first_string:
            return self._base._string(offset)
        start = offset - self._first_string
        return self._strings[start : self._strings.index(b"\0", start)].decode()

    def _type(self, number: int) -> tuple[Kind, Type, memoryview]:
        """A type behind its aliases, and the bytes that follow it."""
        if self._base and number < self._first_type:
            return self._base._type(number)
        offset = self._offsets[number - self._first_type]
        found = Type.unpack(self._types, offset)
        kind = Kind(found.info >> 24 & 0x1F)
        if kind in ALIASES:
            return self._type(found.size)
        return kind, found, memoryview(self._types)[offset + Type.SIZE :]

    def _find(self, name: str, *kinds: Kind) -> int:
        """The number of a type; a module's own comes before its kernel's."""
        found = [number for number in self._named.get(name, ()) if self._type(number)[0] in kinds]
        if not found and self._base:
            return self._base._find(name, *kinds)
        if not found:
            raise KeyError(f"there is no type {name}")
        return found[0]

    def size(self, name: str) -> int:
        """Bytes of a structure or union; raises `KeyError`."""
        return self._type(self._find(name, Kind.STRUCT, Kind.UNION))[1].size

    def members(self, name: str) -> list[Place]:
        """Its members at all depths, an aggregate before what is in it; raises `KeyError`."""
        return list(self._members(self._find(name, Kind.STRUCT, Kind.UNION), "", 0))

    def enum(self, name: str) -> dict[str, int]:
        """The names and values of an enumeration; raises `KeyError`."""
        _, found, rest = self._type(self._find(name, Kind.ENUM))
        values = (EnumValue.unpack(rest, index * EnumValue.SIZE) for index in range(found.info & 0xFFFF))
        return {self._string(value.name_off): value.val for value in values}

    def _members(self, number: int, prefix: str, base: int) -> Iterator[Place]:
        _, found, rest = self._type(number)
        for index in range(found.info & 0xFFFF):
            member = Member.unpack(rest, index * Member.SIZE)
            name, offset, bits = self._string(member.name_off), member.offset, 0
            if found.info & BIT_FIELDS:
                offset, bits = offset & 0xFFFFFF, offset >> 24
            if name:
                yield from self._place(member.type, prefix + name, base + offset, bits)
            else:
                yield from self._members(member.type, prefix, base + offset)

    def _place(self, number: int, path: str, offset: int, bits: int) -> Iterator[Place]:
        kind, found, rest = self._type(number)
        if kind is Kind.ARRAY:
            size, element = self._array(rest)
            yield Place(path, offset, size * 8, element)
        elif kind in (Kind.STRUCT, Kind.UNION):
            inner = list(self._members(number, path + ".", offset))
            several = kind is Kind.STRUCT and len(inner) > 1
            parts = tuple(place.path for place in inner) if several else ()
            yield Place(path, offset, found.size * 8, found.size, parts=parts)
            yield from inner
        else:
            size = _size(kind, found)
            signed = bool(Word.unpack(rest).value & SIGNED_INT) if kind is Kind.INT else None
            yield Place(path, offset, bits or size * 8, size, signed)

    def _array(self, rest: memoryview) -> tuple[int, int]:
        """Bytes of an array and of its innermost item."""
        array = Array.unpack(rest)
        kind, found, inner = self._type(array.type)
        size, element = self._array(inner) if kind is Kind.ARRAY else (_size(kind, found),) * 2
        return size * array.nelems, element


def _size(kind: Kind, found: Type) -> int:
    return POINTER_SIZE if kind is Kind.PTR else found.size

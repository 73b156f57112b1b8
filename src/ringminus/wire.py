"""Declaring wire formats.

A structure is a class with annotated fields, packed, and little-endian unless its class statement says
`big_endian=True` (as SCSI and network protocols are; a structure within another keeps its own order).
Reserved fields are declared like any other, so that offsets are visible and can be checked against a
kernel's type information.

    class PostMessageInput(Struct):
        connection_id: U32
        reserved: U32 = 0
        message_type: U32
        payload_size: U32
        payload: Annotated[bytes, Bytes(240)]

    message = PostMessageInput.unpack(memory.view(gpa, PostMessageInput.SIZE))

Fields may be integers (`U8` … `I64`), byte strings of fixed length, arrays of integers, and other
structures. A field without a default must be given to the constructor, by name.
"""

from __future__ import annotations

import inspect
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from typing import Annotated, Any, ClassVar, Self, cast, dataclass_transform, get_args

from ringminus.errors import GuestError

ReadableBuffer = bytes | bytearray | memoryview | mmap
WritableBuffer = bytearray | memoryview | mmap


class ShortBuffer(GuestError):
    """Fewer bytes than the structure needs."""


@dataclass(frozen=True, slots=True)
class Int:
    """An integer; `code` is its `struct` format character."""

    code: str


@dataclass(frozen=True, slots=True)
class Bytes:
    """A byte string of exactly `length` bytes; shorter values are padded with zeros."""

    length: int


@dataclass(frozen=True, slots=True)
class Array:
    """`count` integers of format `code`, held as a tuple."""

    code: str
    count: int


U8 = Annotated[int, Int("B")]
U16 = Annotated[int, Int("H")]
U32 = Annotated[int, Int("I")]
U64 = Annotated[int, Int("Q")]
I8 = Annotated[int, Int("b")]
I16 = Annotated[int, Int("h")]
I32 = Annotated[int, Int("i")]
I64 = Annotated[int, Int("q")]


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field: `offset` and `size` in bytes; `kind` is Int, Bytes, Array or a Struct class."""

    name: str
    offset: int
    size: int
    kind: Int | Bytes | Array | type[Struct]


def _kind(owner: str, name: str, hint: Any) -> Int | Bytes | Array | type[Struct]:
    for extra in get_args(hint)[1:]:
        if isinstance(extra, Int | Bytes | Array):
            return extra
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    raise TypeError(f"{owner}.{name}: {hint!r} is not a wire type")


def _format(kind: Int | Bytes | Array | type[Struct]) -> str:
    if isinstance(kind, Int):
        return kind.code
    if isinstance(kind, Array):
        return f"{kind.count}{kind.code}"
    return f"{kind.length if isinstance(kind, Bytes) else kind.SIZE}s"


def _plain_assign(names: list[str]) -> Callable[[Any, tuple[Any, ...]], None]:
    """`_assign` for structures whose values are their fields, compiled as dataclasses compile `__init__`:
    decoding is on the way of every hypercall."""
    namespace: dict[str, Any] = {}
    targets = ", ".join(f"self.{name}" for name in names)
    exec(f"def _assign(self, values):\n    ({targets},) = values\n", namespace)
    made: Callable[[Any, tuple[Any, ...]], None] = namespace["_assign"]
    return made


def _hints(cls: type) -> dict[str, Any]:
    """The types of annotations, as `typing.get_type_hints` gives them. Most are names of the module's and
    need not be compiled to be found: there are thousands, and a guest boots after them."""
    around = vars(sys.modules[cls.__module__])
    return {
        name: (around[hint] if hint in around else eval(hint, around)) if isinstance(hint, str) else hint
        for name, hint in inspect.get_annotations(cls).items()
        if "ClassVar" not in str(hint)
    }


@dataclass_transform(kw_only_default=True)
class _StructMeta(type):
    """Turns annotations into slots and compiles the codec."""

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, big_endian: bool = False
    ) -> type:
        names = [n for n, h in namespace.get("__annotations__", {}).items() if "ClassVar" not in str(h)]
        defaults = {n: namespace.pop(n) for n in names if n in namespace}
        namespace["__slots__"] = tuple(names)
        namespace["_defaults"] = defaults
        cls = super().__new__(mcls, name, bases, namespace)
        if bases:
            cast("type[Struct]", cls)._compile(names, ">" if big_endian else "<")
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: bool) -> None:
        super().__init__(name, bases, namespace)


class Struct(metaclass=_StructMeta):
    """Base of every wire structure; see the module's text."""

    SIZE: ClassVar[int] = 0
    FIELDS: ClassVar[tuple[Field, ...]] = ()
    _codec: ClassVar[struct.Struct]
    _defaults: ClassVar[dict[str, Any]]

    @classmethod
    def _compile(cls, names: list[str], order: str) -> None:
        hints = _hints(cls)
        fields, offset = [], 0
        for name in names:
            kind = _kind(cls.__name__, name, hints[name])
            size = struct.calcsize("<" + _format(kind))
            fields.append(Field(name, offset, size, kind))
            offset += size
        cls.SIZE = offset
        cls.FIELDS = tuple(fields)
        cls._codec = struct.Struct(order + "".join(_format(f.kind) for f in fields))
        if fields and all(isinstance(f.kind, Int | Bytes) for f in fields):
            cls._assign = _plain_assign(names)  # type: ignore[method-assign,assignment]

    def __init__(self, **values: Any) -> None:
        for field in self.FIELDS:
            if field.name in values:
                setattr(self, field.name, values.pop(field.name))
            elif field.name in self._defaults:
                setattr(self, field.name, self._defaults[field.name])
            else:
                raise TypeError(f"{type(self).__name__} needs {field.name}")
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(values)}")

    @classmethod
    def unpack(cls, buffer: ReadableBuffer, offset: int = 0) -> Self:
        """Decode the structure that begins `offset` bytes into `buffer`; raises `ShortBuffer`."""
        try:
            values = cls._codec.unpack_from(buffer, offset)
        except (struct.error, OverflowError):
            have = max(0, len(buffer) - offset)
            raise ShortBuffer(f"{cls.__name__} needs {cls.SIZE} bytes, {have} are there") from None
        self = cls.__new__(cls)
        self._assign(values)
        return self

    def _assign(self, values: tuple[Any, ...]) -> None:
        position = 0
        for field in self.FIELDS:
            if isinstance(field.kind, Array):
                value: Any = values[position : position + field.kind.count]
                position += field.kind.count
            else:
                value = values[position]
                if isinstance(field.kind, type):
                    value = field.kind.unpack(value)
                position += 1
            setattr(self, field.name, value)

    def _values(self) -> list[Any]:
        flat: list[Any] = []
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if isinstance(field.kind, Array):
                flat.extend(value)
            elif isinstance(value, Struct):
                flat.append(value.pack())
            else:
                flat.append(value)
        return flat

    def pack(self) -> bytes:
        """Encode to exactly `SIZE` bytes."""
        return self._codec.pack(*self._values())

    def pack_into(self, buffer: WritableBuffer, offset: int = 0) -> None:
        """Encode in place."""
        self._codec.pack_into(buffer, offset, *self._values())

    @classmethod
    def reader(cls, field: Field) -> Callable[[ReadableBuffer, int], tuple[int, ...]] | None:
        """Reads the integers of a field alone, from where it lies in a buffer; None if it has none."""
        if isinstance(field.kind, Int | Array):
            return struct.Struct(cls._codec.format[0] + _format(field.kind)).unpack_from
        return None

    @classmethod
    def order(cls) -> str:
        """Its byte order, as `struct` writes it."""
        return cls._codec.format[0]

    @classmethod
    def offset_of(cls, name: str) -> int:
        """Offset of a field in bytes."""
        for field in cls.FIELDS:
            if field.name == name:
                return field.offset
        raise AttributeError(f"{cls.__name__} has no field {name}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Struct) and self.pack() == other.pack()

    def __hash__(self) -> int:
        return hash((type(self), self.pack()))

    def __repr__(self) -> str:
        shown = (f"{f.name}={_show(getattr(self, f.name))}" for f in self.FIELDS)
        return f"{type(self).__name__}({', '.join(shown)})"


def _show(value: Any) -> str:
    if isinstance(value, int):
        return str(value) if value < 10 else hex(value)
    if isinstance(value, bytes):
        short = value.rstrip(b"\0")
        return f"{short[:32].hex()}{'…' if len(short) > 32 else ''}[{len(value)}]"
    return repr(value)

"""What is declared of a protocol: plain data, from which everything else is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag
from types import new_class
from typing import Annotated, Any, cast
from uuid import UUID

from ringminus.wire import Array, Bytes, Int, Struct

Labels = Mapping[str, type[IntEnum] | type[IntFlag]]


class Show(Enum):
    """How a value is read: integers are decimal and bytes are hexadecimal otherwise. GUIDs are in their
    little-endian layout, UTF16 is little-endian too; texts end where zeros begin."""

    HEX = "hex"
    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    GUID = "guid"
    UTF16 = "utf16"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Bits:
    """A field of `width` bits in an integer, `shift` bits above its lowest. It follows the integer in the
    order of fields and is called `integer.name`, or `name` where the integer is but bits put together
    (`alone`)."""

    name: str
    shift: int
    width: int = 1
    labels: type[IntEnum] | type[IntFlag] | None = None
    show: Show | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A number that a field of the message tells: its value × `times` + `plus`."""

    field: str
    times: int = 1
    plus: int = 0


@dataclass(frozen=True, slots=True)
class Ones:
    """How many bits are set in a field."""

    field: str


@dataclass(frozen=True, slots=True)
class Pages:
    """How many pages of 4 KiB a range touches, which begins `offset` bytes into the first and has `length`
    bytes; both are names of fields."""

    offset: str
    length: str


Amount = int | str | Told | Ones | Pages
"""A number, or how the message tells it; a text is a field's name."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something in a message that is at no fixed place, or not of a fixed size.

    What it is: without `of` bytes, with an `Int` numbers one after the other (in the byte order of the
    message's structures), with the name of a protocol messages of it, one after the other. With a count of 1
    it is one message, which has all the bytes; otherwise each has the size that its protocol's `size` field
    tells, or that it comes to.

    Where it is: at `at` from the message's first byte on, else after the fixed fields and the parts before.
    How much: `size` in bytes, or `count` of numbers or messages, or both; with neither (or a `count` of 1) to
    the end of the message, whose end its protocol's `size` field tells. A part of no bytes is not there.

    With `when` it is there only if all those fields have those values, and with `unless` only if not all
    have; a field that is not there has no value. A field within a part of messages is called `part.field`
    (of the first message that has it).

    Of a `continued` part other messages bring what is not there, or nobody: nothing in it is missing.

    `number` names the field that tells the number of such messages whose own bytes do not; what answers a
    message that has the field, and has none itself, takes it from there.
    """

    name: str
    of: Int | str | None = None
    at: Amount | None = None
    size: Amount | None = None
    count: Amount | None = None
    number: str = ""
    continued: bool = False
    when: Mapping[str, int] = field(default_factory=dict)
    unless: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """One layout of a message. `structure` follows the protocol's header, or includes it when `whole`; None
    is a message without fields. `to_guest` restricts it to one direction, `answers` to answers to the
    message of that name, `when` to messages with such values in the structure (or its words). `inner` names
    the protocols of what lies in its fields of bytes, or in the `REST` after it, and `lengths` the fields
    that tell how many of such bytes count. `parts` follow the structure, or lie where fields tell.

    Who speaks an older version leaves out fields at the end: a message of `least` bytes is whole. `words` and
    `labels` are this form's own, beside those of the protocol."""

    name: str
    structure: type[Struct] | None = None
    whole: bool = False
    to_guest: bool | None = None
    answers: str = ""
    when: Mapping[str, int] = field(default_factory=dict)
    inner: Mapping[str, str] = field(default_factory=dict)
    lengths: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    least: int | None = None
    words: Mapping[str, tuple[Bits, ...]] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)

    @property
    def within(self) -> frozenset[str]:
        """The names of the protocols of messages in it."""
        parts = (part.of for part in self.parts if isinstance(part.of, str))
        return frozenset((*self.inner.values(), *parts))


@dataclass(frozen=True, slots=True)
class Protocol:
    """See the package. `selector` is the field of `header` that tells a message's number; with none ("") all
    are of number 0. A message with several forms has the first one that fits its direction and length, and
    one of a number without forms has `otherwise`. `labels` name the values of fields, `words` are fields in
    integers, and `shows` tells how a value is read, all by the field's name (the last part of it).

    Packets of devices with these `interfaces` are of this protocol. `header` is None where the number does
    not lie in the bytes, as a hypercall's code. `size` is how a message tells the bytes that it has with its
    header, where it does. Messages are padded to `padded` bytes, which say nothing."""

    name: str
    title: str
    header: type[Struct] | None
    selector: str
    forms: Mapping[int, Form | tuple[Form, ...]]
    labels: Labels = field(default_factory=dict)
    interfaces: tuple[UUID, ...] = ()
    words: Mapping[str, tuple[Bits, ...]] = field(default_factory=dict)
    shows: Mapping[str, Show] = field(default_factory=dict)
    otherwise: Form | None = None
    size: Amount | None = None
    padded: int = 0
    plans: dict[int | None, Any] = field(default_factory=dict, repr=False, compare=False)
    """The forms laid out, of `plan`."""


def word(name: str, kind: Int | Bytes | Array = Int("I"), *, big_endian: bool = False) -> type[Struct]:  # noqa: B008
    """A structure of one field."""
    values: Any = {Int: int, Bytes: bytes, Array: tuple[int, ...]}[type(kind)]
    namespace = {"__module__": __name__, "__annotations__": {name: Annotated[values, kind]}}
    made = new_class(name, (Struct,), {"big_endian": big_endian}, lambda own: own.update(namespace))
    return cast("type[Struct]", made)


PROTOCOLS: dict[str, Protocol] = {}
"""All that have been declared by modules that were imported, by name."""
BY_INTERFACE: dict[UUID, Protocol] = {}
NAMES: dict[str, dict[int, str]] = {}
"""Names of the values of events' own fields, by `event.field`; those of modules that were imported."""


def declare(protocol: Protocol) -> Protocol:
    """Make a protocol known."""
    if protocol.name in PROTOCOLS:
        raise ValueError(f"there are two protocols {protocol.name}")
    PROTOCOLS[protocol.name] = protocol
    for interface in protocol.interfaces:
        BY_INTERFACE[interface] = protocol
    return protocol

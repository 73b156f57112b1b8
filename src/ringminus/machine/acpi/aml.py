"""A small builder of ACPI Machine Language: each function gives the bytes of one object or resource.

    scope("\\_SB_", device("COM1", name("_HID", eisa_id("PNP0501")), name("_UID", integer(1))))

Source: ACPI 6.5, chapter 20 (AML) and section 6.4 (resource data types).
"""

from __future__ import annotations

from collections.abc import Iterable

from ringminus.machine.acpi.wire import (
    DESCRIPTOR_HEAD,
    TAG_DWORD_ADDRESS,
    TAG_END,
    TAG_QWORD_ADDRESS,
    AddressSpaceHead,
    AddressTypeFlag,
    DWordAddress,
    ExtendedIrqDescriptor,
    ExtendedIrqFlag,
    IoDescriptor,
    IrqDescriptor,
    IrqFlag,
    IrqFlagsDescriptor,
    Memory32FixedDescriptor,
    QWordAddress,
)

_ZERO = b"\x00"
_ONE = b"\x01"
_NAME = b"\x08"
_BYTE, _WORD, _DWORD, _STRING, _QWORD = b"\x0a", b"\x0b", b"\x0c", b"\x0d", b"\x0e"
_SCOPE = b"\x10"
_BUFFER = b"\x11"
_PACKAGE = b"\x12"
_METHOD = b"\x14"
_DUAL_NAME, _MULTI_NAME = b"\x2e", b"\x2f"
_DEVICE = b"\x5b\x82"
_RETURN = b"\xa4"
_SEGMENT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
_LARGEST_PACKAGE = (1 << 28) - 1


def _with_length(body: bytes) -> bytes:
    """PkgLength, which counts itself, then `body`. One byte holds 6 bits; two to four hold 4 + 8 each."""
    for extra in range(4):
        length = len(body) + 1 + extra
        if extra == 0 and length < 1 << 6:
            return bytes([length]) + body
        if extra and length < 1 << 4 + 8 * extra:
            head = extra << 6 | length & 0xF
            return bytes([head]) + (length >> 4).to_bytes(extra, "little") + body
    raise ValueError(f"an AML package of {len(body)} bytes is larger than {_LARGEST_PACKAGE}")


def _segment(text: str) -> bytes:
    if not 1 <= len(text) <= 4 or not _SEGMENT.issuperset(text) or text[0].isdigit():
        raise ValueError(f"{text!r} is not an ACPI name")
    return text.ljust(4, "_").encode("ascii")


def path(text: str) -> bytes:
    """A NameString such as `_CRS`, `\\_SB_.VMOD` or `^COM1`; short segments are padded with `_`."""
    rest = text.lstrip("^")
    prefix = text[: len(text) - len(rest)]
    if rest.startswith("\\"):
        prefix, rest = prefix + "\\", rest[1:]
    segments = [_segment(part) for part in rest.split(".")] if rest else []
    if not segments:
        body = _ZERO
    elif len(segments) == 1:
        body = segments[0]
    elif len(segments) == 2:
        body = _DUAL_NAME + b"".join(segments)
    else:
        body = _MULTI_NAME + bytes([len(segments)]) + b"".join(segments)
    return prefix.encode("ascii") + body


def integer(value: int) -> bytes:
    """The shortest encoding of an unsigned integer of up to 64 bits."""
    if value in (0, 1):
        return (_ZERO, _ONE)[value]
    for prefix, size in ((_BYTE, 1), (_WORD, 2), (_DWORD, 4), (_QWORD, 8)):
        if 0 <= value < 1 << 8 * size:
            return prefix + value.to_bytes(size, "little")
    raise ValueError(f"{value:#x} is no unsigned 64-bit integer")


def string(text: str) -> bytes:
    """A string of ASCII characters, none of them NUL."""
    if "\0" in text:
        raise ValueError("an AML string cannot hold NUL")
    return _STRING + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """An EISA id such as `PNP0501` as an integer: three letters of 5 bits, four hexadecimal digits."""
    letters, digits = text[:3], text[3:]
    if len(text) != 7 or not (letters.isascii() and letters.isalpha() and letters.isupper()):
        raise ValueError(f"{text!r} is not an EISA id")
    packed = 0
    for letter in letters:
        packed = packed << 5 | ord(letter) - ord("@")
    value = packed << 16 | int(digits, 16)
    return integer(int.from_bytes(value.to_bytes(4, "big"), "little"))


def name(where: str, value: bytes) -> bytes:
    """Name (where, value)."""
    return _NAME + path(where) + value


def scope(where: str, *terms: bytes) -> bytes:
    """Scope (where) { terms }."""
    return _SCOPE + _with_length(path(where) + b"".join(terms))


def device(where: str, *terms: bytes) -> bytes:
    """Device (where) { terms }."""
    return _DEVICE + _with_length(path(where) + b"".join(terms))


def method(where: str, arguments: int, *terms: bytes) -> bytes:
    """Method (where, arguments) { terms }."""
    if not 0 <= arguments <= 7:
        raise ValueError(f"a method takes up to 7 arguments, not {arguments}")
    return _METHOD + _with_length(path(where) + bytes([arguments]) + b"".join(terms))


def returns(value: bytes) -> bytes:
    """Return (value)."""
    return _RETURN + value


def package(*elements: bytes) -> bytes:
    """Package () { elements }, up to 255 of them."""
    return _PACKAGE + _with_length(bytes([len(elements)]) + b"".join(elements))


def buffer(data: bytes) -> bytes:
    """Buffer () { data }."""
    return _BUFFER + _with_length(integer(len(data)) + data)


# Resource descriptors, and the template that holds them.


def resource_template(*descriptors: bytes) -> bytes:
    """ResourceTemplate () { descriptors }: a buffer that ends with a tag and a checksum."""
    data = b"".join(descriptors) + bytes([TAG_END])
    return buffer(data + bytes([-sum(data) & 0xFF]))


def io(first: int, count: int, alignment: int = 1) -> bytes:
    """IO (Decode16, first, first, alignment, count)."""
    return IoDescriptor(minimum=first, maximum=first, alignment=alignment, length=count).pack()


def irq_no_flags(*irqs: int) -> bytes:
    """IRQNoFlags () { irqs }: edge-triggered, active high, 0 to 15."""
    return IrqDescriptor(mask=_irq_mask(irqs)).pack()


def irq(*irqs: int, level: bool = False, active_low: bool = False, shared: bool = False) -> bytes:
    """IRQ (Level or Edge, …) { irqs }, 0 to 15."""
    flags = (
        (0 if level else IrqFlag.EDGE)
        | (IrqFlag.ACTIVE_LOW if active_low else 0)
        | (IrqFlag.SHARED if shared else 0)
    )
    return IrqFlagsDescriptor(mask=_irq_mask(irqs), flags=flags).pack()


def _irq_mask(irqs: Iterable[int]) -> int:
    mask = 0
    for number in irqs:
        if not 0 <= number <= 15:
            raise ValueError(f"IRQ {number} does not fit an IRQ descriptor")
        mask |= 1 << number
    return mask


def extended_irq(*irqs: int, level: bool = False, active_low: bool = False, shared: bool = False) -> bytes:
    """Interrupt (ResourceConsumer, Level or Edge, …) { irqs }, any global interrupt numbers."""
    flags = (
        ExtendedIrqFlag.CONSUMER
        | (0 if level else ExtendedIrqFlag.EDGE)
        | (ExtendedIrqFlag.ACTIVE_LOW if active_low else 0)
        | (ExtendedIrqFlag.SHARED if shared else 0)
    )
    numbers = b"".join(number.to_bytes(4, "little") for number in irqs)
    head = ExtendedIrqDescriptor(length=2 + len(numbers), flags=flags, count=len(irqs))
    return head.pack() + numbers


def memory32_fixed(base: int, size: int, writable: bool = True) -> bytes:
    """Memory32Fixed (ReadWrite or ReadOnly, base, size)."""
    return Memory32FixedDescriptor(writable=int(writable), base=base, length=size).pack()


def _address_head(tag: int, size: int) -> AddressSpaceHead:
    flags = AddressTypeFlag.MIN_FIXED | AddressTypeFlag.MAX_FIXED
    return AddressSpaceHead(tag=tag, length=size - DESCRIPTOR_HEAD, flags=flags)


def dword_memory(base: int, size: int) -> bytes:
    """DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, …): a window
    below 4 GiB."""
    head = _address_head(TAG_DWORD_ADDRESS, DWordAddress.SIZE)
    return DWordAddress(head=head, minimum=base, maximum=base + size - 1, length=size).pack()


def qword_memory(base: int, size: int) -> bytes:
    """QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, …)."""
    head = _address_head(TAG_QWORD_ADDRESS, QWordAddress.SIZE)
    return QWordAddress(head=head, minimum=base, maximum=base + size - 1, length=size).pack()

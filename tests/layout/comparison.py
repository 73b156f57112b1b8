"""Comparing a declared structure with a kernel's, field by field.

A field of ours must be where the kernel has a field of the same name, offset and size; an integer or an
array also of the same signedness and item size. Fields that both sides call reserved or padding need not
have the same name. Where a kernel has a union, one of its members is enough. All that differs otherwise is
declared in a table, as a `Same`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ringminus.wire import Array, Bytes, Int, Struct
from support.btf import Btf, Place

UNUSED = re.compile(r"_?(reserved|rsvd|res|padding|pad|unused)_?\w{0,2}$")


@dataclass(frozen=True)
class Same:
    """`wire` is the kernel's structure `kernel`, whose types `module` has.

    renamed: our name, or dotted path, to the kernel's name. merged: our field to the neighbouring fields of
    the kernel that it holds. split: our field to the larger field of the kernel that it is a part of.
    until: ours ends where this field of the kernel begins. beyond: fields of ours that follow the end of the
    kernel's structure, with the reason why it lacks them.
    """

    wire: type[Struct]
    kernel: str
    module: str = "hv_vmbus"
    renamed: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    until: str | None = None
    beyond: Mapping[str, str] = field(default_factory=dict)


def declared(wire: type[Struct], prefix: str = "", base: int = 0) -> Iterator[Place]:
    """The fields of a wire structure and of those within it, a structure before its fields; `element` is 0
    for byte strings and structures."""
    for one in wire.FIELDS:
        path, offset = prefix + one.name, (base + one.offset) * 8
        if isinstance(one.kind, Bytes):
            yield Place(path, offset, one.size * 8, 0)
        elif isinstance(one.kind, Int):
            yield Place(path, offset, one.size * 8, one.size, one.kind.code.islower())
        elif isinstance(one.kind, Array):
            yield Place(path, offset, one.size * 8, struct.calcsize("<" + one.kind.code))
        else:
            inner = list(declared(one.kind, path + ".", base + one.offset))
            yield Place(path, offset, one.size * 8, 0, parts=tuple(place.path for place in inner))
            yield from inner


def differences(same: Same, types: Btf) -> list[str]:
    """What is not the same, in words; raises `KeyError` for a structure that the kernel does not have."""
    places = types.members(same.kernel)
    end = types.size(same.kernel) * 8
    if same.until is not None:
        end = _named(places, same.until).offset
    ours = list(declared(same.wire))
    compared = [one for one in ours if one.offset < end or _last(one.path) not in same.beyond]
    found = [problem for one in compared if (problem := _difference(one, same, places, end))]
    size = max((one.offset + one.size for one in compared), default=0)
    if size != end:
        found.append(f"{size // 8} bytes, {same.kernel} has {end // 8}")
    known = {name for one in ours for name in (one.path, _last(one.path))}
    tabled = (*same.renamed, *same.merged, *same.split, *same.beyond)
    return found + [f"the table names {name}, which is no field" for name in tabled if name not in known]


def _difference(one: Place, same: Same, places: list[Place], end: int) -> str | None:
    name = _last(one.path)
    where = f"{one.path} at {one.offset // 8}, {one.size // 8} bytes"
    if name in same.merged:
        parts = [_named(places, part) for part in same.merged[name]]
        return None if _tile(one, parts) else f"{where}: not {', '.join(_show(part) for part in parts)}"
    if name in same.split:
        whole = _named(places, same.split[name])
        inside = whole.offset <= one.offset and one.offset + one.size <= whole.offset + whole.size
        return None if inside else f"{where}: not in {_show(whole)}"
    wanted = same.renamed.get(one.path, same.renamed.get(name, name))
    here = [
        p
        for p in places
        if p.offset == one.offset and p.size == one.size and bool(p.parts) == bool(one.parts)
    ]
    if one.parts and not here:
        return None  # a structure of ours only; its fields count
    if not here:
        overlapping = [
            p for p in places if p.offset < one.offset + one.size and one.offset < p.offset + p.size
        ]
        if not overlapping and one.offset + one.size <= end and UNUSED.match(name):
            return None  # the compiler's padding
        return f"{where}: there is {', '.join(_show(p) for p in overlapping) or 'nothing'}"
    alike = [
        p for p in here if _last(p.path) == wanted or (UNUSED.match(name) and UNUSED.match(_last(p.path)))
    ]
    if not alike:
        return f"{where}: its name is {' or '.join(_last(p.path) for p in here)}"
    if UNUSED.match(name):
        return None
    if one.element and all(p.element != one.element for p in alike):
        return f"{where}: items of {one.element} bytes, not {alike[0].element}"
    if one.signed is not None and all(p.signed is (not one.signed) for p in alike):
        return f"{where}: it is {'un' * one.signed}signed"
    return None


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _named(places: list[Place], name: str) -> Place:
    """The kernel's field of that name, or of that dotted path."""
    found = [place for place in places if place.path == name]
    found = found or [place for place in places if _last(place.path) == name]
    if len({(place.offset, place.size) for place in found}) != 1:
        raise KeyError(f"{name} is {' and '.join(_show(place) for place in found) or 'no field'}")
    return found[0]


def _tile(one: Place, parts: list[Place]) -> bool:
    """Whether the parts fill `one`, each beginning where the one before it ends."""
    position = one.offset
    for part in parts:
        if part.offset != position:
            return False
        position += part.size
    return position == one.offset + one.size


def _show(place: Place) -> str:
    offset, size = divmod(place.offset, 8), divmod(place.size, 8)
    if offset[1] or size[1]:
        return f"{place.path} at bit {place.offset}, {place.size} bits"
    return f"{place.path} at {offset[0]}, {size[0]} bytes"


@dataclass(frozen=True)
class SameBits:
    """`masks` are the kernel's bit fields in the register or word `kernel`, by the kernel's names."""

    title: str
    masks: Mapping[str, int]
    kernel: str
    module: str = "hv_vmbus"


def bit_differences(same: SameBits, types: Btf) -> list[str]:
    """What is not the same, in words; raises `KeyError` for a type or a field that the kernel has not."""
    places, found = types.members(same.kernel), []
    for name, mask in same.masks.items():
        place = _named(places, name)
        theirs = (1 << place.size) - 1 << place.offset % (8 * place.element)
        if mask != theirs:
            found.append(f"{name} is {mask:#x}, the kernel's {theirs:#x}")
    return found


@dataclass(frozen=True)
class SameNumbers:
    """`numbers` are those of the kernel's enumeration `kernel`, whose names have `prefix` before ours.

    renamed: our name to the kernel's whole one. beyond: names that the kernel lacks, with the reason.
    """

    title: str
    numbers: Mapping[str, int]
    kernel: str
    prefix: str
    module: str = "hv_vmbus"
    renamed: Mapping[str, str] = field(default_factory=dict)
    beyond: Mapping[str, str] = field(default_factory=dict)


def number_differences(same: SameNumbers, types: Btf) -> list[str]:
    """What is not the same, in words; raises `KeyError` for an enumeration that the kernel does not have."""
    theirs, found = types.enum(same.kernel), []
    for name, number in same.numbers.items():
        kernel_name = same.renamed.get(name, same.prefix + name)
        if kernel_name not in theirs:
            if name not in same.beyond:
                found.append(f"{name}: {same.kernel} has no {kernel_name}")
        elif theirs[kernel_name] & 0xFFFFFFFF != number:
            found.append(f"{name} is {number:#x}, {kernel_name} is {theirs[kernel_name]:#x}")
    tabled = (*same.renamed, *same.beyond)
    return found + [f"the table names {name}, which is none" for name in tabled if name not in same.numbers]

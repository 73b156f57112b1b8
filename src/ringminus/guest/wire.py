"""The parts of a kernel module's ELF file that modinfo needs.

Source: the ELF-64 object file format.
"""

from __future__ import annotations

from ringminus.wire import U32, U64, Struct


class SectionHeader(Struct):
    """Elf64_Shdr; `name` is an offset into the section of names."""

    name: U32
    type: U32 = 1
    flags: U64 = 0
    address: U64 = 0
    offset: U64
    size: U64
    link: U32 = 0
    info: U32 = 0
    alignment: U64 = 1
    entry_size: U64 = 0

"""Small kernels made by hand: an ELF vmlinux of two segments, and a bzImage around any payload."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from typing import Any

import lz4.block  # type: ignore[import-untyped]
import zstandard

from ringminus.machine.loader.wire import ElfHeader, ProgramHeader, SetupHeader

TEXT = b"\x90" * 5000 + b"Linux version 9.8.7-test (someone@somewhere)\0" + bytes(range(256)) * 40
DATA = b"data" * 3000
TEXT_ADDRESS = 0x1000000
DATA_ADDRESS = 0x1200000
BSS = 0x5000
ENTRY = TEXT_ADDRESS + 0x40


def vmlinux(**header: Any) -> bytes:
    """An ELF with a code segment and a data segment that has BSS zero bytes after it."""
    first = ElfHeader.SIZE + 2 * ProgramHeader.SIZE
    fields: dict[str, Any] = {
        "entry": ENTRY,
        "program_header_offset": ElfHeader.SIZE,
        "program_header_count": 2,
        **header,
    }
    text = ProgramHeader(
        flags=5,
        offset=first,
        virtual_address=0xFFFFFFFF81000000,
        physical_address=TEXT_ADDRESS,
        file_size=len(TEXT),
        memory_size=len(TEXT),
    )
    data = ProgramHeader(
        flags=6,
        offset=first + len(TEXT),
        physical_address=DATA_ADDRESS,
        file_size=len(DATA),
        memory_size=len(DATA) + BSS,
    )
    return ElfHeader(**fields).pack() + text.pack() + data.pack() + TEXT + DATA


def lz4_legacy(data: bytes, block: int = 8 << 20) -> bytes:
    """The format of `lz4 -l`."""
    out = b"\x02\x21\x4c\x18"
    for start in range(0, len(data), block):
        packed = lz4.block.compress(data[start : start + block], store_size=False)
        out += len(packed).to_bytes(4, "little") + packed
    return out


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "LZ4": lz4_legacy,
    "zstd": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "LZMA": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


def size_field(size: int) -> bytes:
    """What the kernel's build appends to a payload."""
    return size.to_bytes(4, "little")


def bzimage(payload: bytes, version_name: bytes = b"9.8.7-test (someone) #1", **header: Any) -> bytes:
    """A bzImage of four setup sectors with `payload` 0x100 bytes into its protected-mode part."""
    fields: dict[str, Any] = {"payload_offset": 0x100, "payload_length": len(payload), **header}
    setup = SetupHeader(setup_sects=4, jump=0x6AEB, kernel_version=0x200, **fields)
    real_mode = bytes(0x1F1) + setup.pack()
    real_mode = real_mode.ljust(0x400, b"\0") + version_name + b"\0"
    return real_mode.ljust(5 * 512, b"\0") + bytes(0x100) + payload

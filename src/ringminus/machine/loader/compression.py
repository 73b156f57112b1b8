"""The compressions of kernel payloads, recognised by magic, with bounded output.

A decompressor takes a buffer that may have bytes after the stream (the kernel's build appends the
unpacked size) and raises `ConfigError` for a stream that is damaged, cut short or too large.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import lz4.block  # type: ignore[import-untyped]
import zstandard

from ringminus.errors import ConfigError
from ringminus.memory import GIB, KIB, MIB

MAX_OUTPUT = 1 * GIB
_CHUNK = 8 * MIB
_LZ4_BLOCK = 8 * MIB
_LZ4_BLOCK_BOUND = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16
_LZ4_MAGIC = b"\x02\x21\x4c\x18"
_SIZE_FIELD = 4
_ZSTD_MAX_WINDOW = 128 * MIB
_ZSTD_STEP = 4 * KIB  # unpacks to 128 MiB at most, so a bomb is noticed in time
_LZMA_MEMORY = 256 * MIB


class _Damaged(Exception):
    """The stream is not what its magic promised."""


class _TooLarge(Exception):
    """The output passes the limit."""


class _Stream(Protocol):
    """What lzma, bz2 and our zlib wrapper have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of lzma's."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail or data, max_length)


def _drain(stream: _Stream, data: memoryview, limit: int) -> bytearray:
    """Everything up to the end of the first stream in `data`."""
    out = bytearray(stream.decompress(data, _CHUNK))
    while not stream.eof and len(out) <= limit:
        more = stream.decompress(b"", _CHUNK)
        if not more and not stream.eof:
            raise _Damaged("cut short")
        out += more
    if len(out) > limit:
        raise _TooLarge
    return out


def _gzip(data: memoryview, limit: int) -> bytearray:
    return _drain(_Gzip(), data, limit)


def _bzip2(data: memoryview, limit: int) -> bytearray:
    return _drain(bz2.BZ2Decompressor(), data, limit)


def _xz(data: memoryview, limit: int) -> bytearray:
    return _drain(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY), data, limit)


def _lzma(data: memoryview, limit: int) -> bytearray:
    return _drain(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY), data, limit)


def _zstd(data: memoryview, limit: int) -> bytearray:
    out = bytearray()
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW).decompressobj()
    for start in range(0, len(data), _ZSTD_STEP):
        out += decompressor.decompress(data[start : start + _ZSTD_STEP])
        if len(out) > limit:
            raise _TooLarge
        if decompressor.eof:
            return out
    raise _Damaged("cut short")


def _lz4_legacy(data: memoryview, limit: int) -> bytearray:
    """Blocks of up to 8 MiB, each after its compressed size; the last four bytes are the size field."""
    out = bytearray()
    position = len(_LZ4_MAGIC)
    while len(data) - position > _SIZE_FIELD:
        if data[position : position + 4] == _LZ4_MAGIC:
            position += 4
            continue
        length = int.from_bytes(data[position : position + 4], "little")
        position += 4
        if length > _LZ4_BLOCK_BOUND:
            break
        if length > len(data) - position:
            raise _Damaged("cut short")
        out += lz4.block.decompress(data[position : position + length], uncompressed_size=_LZ4_BLOCK)
        if len(out) > limit:
            raise _TooLarge
        position += length
    return out


@dataclass(frozen=True, slots=True)
class Compression:
    """A compression that a payload may have; `decompress` is None where we have no decompressor."""

    name: str
    magic: bytes
    decompress: Callable[[memoryview, int], bytearray] | None


COMPRESSIONS = (
    Compression("LZ4", _LZ4_MAGIC, _lz4_legacy),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    Compression("gzip", b"\x1f\x8b", _gzip),
    Compression("xz", b"\xfd7zXZ\0", _xz),
    Compression("bzip2", b"BZh", _bzip2),
    Compression("LZMA", b"\x5d\0\0", _lzma),
    Compression("LZO", b"\x89LZO\0\r\n\x1a\n", None),
)

_FAILURES = (
    _Damaged,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    lz4.block.LZ4BlockError,
)


def detect(data: memoryview | bytes) -> Compression | None:
    """The compression whose magic `data` begins with."""
    head = bytes(data[:16])
    return next((c for c in COMPRESSIONS if head.startswith(c.magic)), None)


def decompress(data: memoryview | bytes, limit: int = MAX_OUTPUT) -> bytearray:
    """Unpack a payload of any known compression to at most `limit` bytes; raises `ConfigError`."""
    compression = detect(data)
    if compression is None:
        raise ConfigError(f"unknown compression (it begins with {bytes(data[:6]).hex(' ') or 'nothing'})")
    if compression.decompress is None:
        raise ConfigError(f"{compression.name} compression is not supported: extract the vmlinux first")
    try:
        return compression.decompress(memoryview(data), limit)
    except _TooLarge:
        raise ConfigError(f"its {compression.name} data unpacks to more than {limit // MIB} MiB") from None
    except _FAILURES as error:
        reason = str(error) if isinstance(error, _Damaged) else "damaged"
        raise ConfigError(f"its {compression.name} data is {reason}") from None
    except MemoryError:
        raise ConfigError(f"its {compression.name} data needs more memory than this host has") from None

"""Every compression of kernel payloads: round trip, bytes after the stream, damage, bombs."""

from __future__ import annotations

import random
import zlib

import pytest

from ringminus.errors import ConfigError
from ringminus.machine.loader.compression import decompress, detect
from support.kernel_files import COMPRESSORS, lz4_legacy

CONTENT = b"kernel text " * 4000 + bytes(random.Random(1).randbytes(30000))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_it_is_recognised_and_comes_back_whole(name: str) -> None:
    packed = COMPRESSORS[name](CONTENT)
    found = detect(packed)
    assert found is not None
    assert found.name == name
    assert decompress(packed) == CONTENT


@pytest.mark.parametrize("name", COMPRESSORS)
def test_the_size_after_the_stream_is_no_part_of_it(name: str) -> None:
    packed = COMPRESSORS[name](CONTENT) + len(CONTENT).to_bytes(4, "little")
    assert decompress(packed) == CONTENT


@pytest.mark.parametrize("name", COMPRESSORS)
def test_output_over_the_limit_is_refused(name: str) -> None:
    bomb = COMPRESSORS[name](bytes(40 << 20))
    with pytest.raises(ConfigError, match="unpacks to more than 1 MiB"):
        decompress(bomb, limit=1 << 20)


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_a_stream_cut_short_is_refused(name: str, kept: float) -> None:
    packed = COMPRESSORS[name](CONTENT)
    with pytest.raises(ConfigError, match=r"damaged|cut short"):
        decompress(packed[: max(13, int(len(packed) * kept))])


@pytest.mark.parametrize("name", sorted({*COMPRESSORS} - {"LZ4", "LZMA"}))  # these two have no checksum
def test_a_changed_byte_never_gives_the_content(name: str) -> None:
    packed = bytearray(COMPRESSORS[name](CONTENT))
    packed[len(packed) // 2] ^= 0xFF
    try:
        assert decompress(bytes(packed)) != CONTENT
    except ConfigError as error:
        assert "damaged" in str(error) or "cut short" in str(error)


def test_lz4_of_many_blocks_and_of_joined_streams() -> None:
    assert decompress(lz4_legacy(CONTENT, block=5000)) == CONTENT
    assert decompress(lz4_legacy(CONTENT) + lz4_legacy(b"more")) == CONTENT + b"more"


def test_a_compression_that_is_known_but_not_supported_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="LZO compression is not supported: extract the vmlinux"):
        decompress(b"\x89LZO\0\r\n\x1a\n" + bytes(100))


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"plain text"])
def test_unknown_magic_is_named(content: bytes) -> None:
    with pytest.raises(ConfigError, match="unknown compression"):
        decompress(content)


def test_an_xz_that_wants_gigabytes_of_dictionary_is_refused() -> None:
    header = bytes([0x5D]) + (0xFFFFFFFF).to_bytes(4, "little") + b"\xff" * 8
    with pytest.raises(ConfigError, match="LZMA data is damaged"):
        decompress(b"\x5d\0\0\0\xf0" + header[5:] + bytes(64))


def test_a_gzip_with_a_wrong_checksum_is_refused() -> None:
    packed = bytearray(COMPRESSORS["gzip"](CONTENT))
    packed[-8:-4] = zlib.crc32(b"something else").to_bytes(4, "little")
    with pytest.raises(ConfigError, match="gzip data is damaged"):
        decompress(bytes(packed))

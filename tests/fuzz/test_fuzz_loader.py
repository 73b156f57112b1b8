"""Whatever a kernel file holds, the loader takes it or refuses it in one line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringminus.errors import ConfigError
from ringminus.machine.loader.compression import COMPRESSIONS, decompress
from ringminus.machine.loader.image import parse_kernel
from ringminus.machine.loader.linux import load_linux
from ringminus.machine.loader.wire import E820Entry
from ringminus.memory import MIB, GuestMemory
from support.kernel_files import COMPRESSORS, bzimage, size_field, vmlinux

MAGICS = [compression.magic for compression in COMPRESSIONS] + [b"\x7fELF", b"MZ", b""]


@pytest.fixture(autouse=True, scope="module")
def no_cache() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RINGMINUS_CACHE", "/dev/null/none")
    yield
    patch.undo()


def changed(content: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    mutated = bytearray(content)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    return bytes(mutated[: len(mutated) - cut % 64]) if cut < 64 else bytes(mutated)


def take(content: bytes) -> None:
    """Load `content` as a kernel into a small machine; a `ConfigError` of one line is the only failure."""
    memory = GuestMemory(32 * MIB)
    e820 = [E820Entry(address=0, size=0x9F000), E820Entry(address=MIB, size=31 * MIB)]
    try:
        image = parse_kernel(memoryview(content), "fuzzed")
        load_linux(memory, image, None, "", e820, 0)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert image.end <= 32 * MIB
    assert memory.is_ram(image.entry)


positions = st.integers(0, 0x280) | st.integers(0, 0xFFFF)
changes = st.lists(st.tuples(positions, st.integers(0, 255)), max_size=8)
cuts = st.integers(0, 200)


@given(st.sampled_from(MAGICS), st.binary(max_size=4096))
def test_arbitrary_bytes(magic: bytes, content: bytes) -> None:
    take(magic + content)


@given(changes, cuts)
def test_a_changed_vmlinux(changes: list[tuple[int, int]], cut: int) -> None:
    take(changed(vmlinux(), changes, cut))


@given(st.sampled_from(sorted(COMPRESSORS)), changes, cuts)
def test_a_changed_bzimage(name: str, changes: list[tuple[int, int]], cut: int) -> None:
    content = vmlinux()
    take(changed(bzimage(COMPRESSORS[name](content) + size_field(len(content))), changes, cut))


@given(changes, cuts)
def test_a_bzimage_around_a_changed_vmlinux(changes: list[tuple[int, int]], cut: int) -> None:
    content = changed(vmlinux(), changes, cut)
    take(bzimage(COMPRESSORS["LZ4"](content) + size_field(len(content))))


@given(st.sampled_from(MAGICS), st.binary(max_size=2048), st.integers(0, 4096))
def test_decompressors(magic: bytes, content: bytes, limit: int) -> None:
    try:
        assert len(decompress(magic + content, limit)) <= limit
    except ConfigError as error:
        assert "\n" not in str(error)

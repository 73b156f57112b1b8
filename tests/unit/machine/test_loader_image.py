"""Which files are kernels, what is read from them, and what the cache does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.machine.loader import cache, image
from ringminus.machine.loader.image import KernelImage, load_kernel, parse_kernel
from ringminus.machine.loader.wire import CacheHeader, ElfHeader
from support.kernel_files import (
    BSS,
    COMPRESSORS,
    DATA,
    DATA_ADDRESS,
    ENTRY,
    TEXT,
    TEXT_ADDRESS,
    bzimage,
    size_field,
    vmlinux,
)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "cache"
    monkeypatch.setenv("RINGMINUS_CACHE", str(home))
    return home


def kernel_file(directory: Path, content: bytes, name: str = "vmlinuz") -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


def gzip_kernel(elf: bytes | None = None) -> bytes:
    elf = elf if elf is not None else vmlinux()
    return bzimage(COMPRESSORS["gzip"](elf) + size_field(len(elf)))


def check(kernel: KernelImage) -> None:
    assert kernel.entry == ENTRY
    assert kernel.version == "9.8.7-test"
    text, data = kernel.segments
    assert (text.address, bytes(text.data), text.memory_size) == (TEXT_ADDRESS, TEXT, len(TEXT))
    assert (data.address, bytes(data.data), data.memory_size) == (DATA_ADDRESS, DATA, len(DATA) + BSS)
    assert kernel.end == DATA_ADDRESS + len(DATA) + BSS


def test_a_vmlinux_is_taken_as_it_is(tmp_path: Path, cache_home: Path) -> None:
    check(load_kernel(kernel_file(tmp_path, vmlinux())))
    assert not cache_home.exists()


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_bzimage_gives_the_vmlinux_inside(name: str, tmp_path: Path) -> None:
    elf = vmlinux()
    path = kernel_file(tmp_path, bzimage(COMPRESSORS[name](elf) + size_field(len(elf)), cmdline_size=99))
    kernel = load_kernel(path)
    check(kernel)
    assert kernel.setup.cmdline_size == 99


def test_fields_past_the_header_of_an_old_protocol_are_zero(tmp_path: Path) -> None:
    elf = vmlinux()
    content = bytearray(
        bzimage(COMPRESSORS["gzip"](elf) + size_field(len(elf)), init_size=0x1234, version=0x208)
    )
    content[0x201] = 0x250 - 0x202
    assert load_kernel(kernel_file(tmp_path, bytes(content))).setup.init_size == 0


def test_a_second_load_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kernel_file(tmp_path, gzip_kernel())
    check(load_kernel(path))

    def fail(*_: object) -> bytearray:
        raise AssertionError("extracted twice")

    monkeypatch.setattr(image, "extract", fail)
    check(load_kernel(path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"X" + content[1:],
        lambda content: b"",
    ],
)
def test_a_damaged_cache_entry_is_replaced(tmp_path: Path, cache_home: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = kernel_file(tmp_path, gzip_kernel())
    load_kernel(path)
    (entry,) = cache_home.rglob("*.vmlinux")
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    check(load_kernel(path))
    assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kernel_file(tmp_path, gzip_kernel())
    monkeypatch.setenv("RINGMINUS_CACHE", str(path / "under-a-file"))
    check(load_kernel(path))
    monkeypatch.delenv("RINGMINUS_CACHE")
    monkeypatch.setattr(cache, "cache_directory", lambda: None)
    check(load_kernel(path))


def test_the_cache_keeps_only_the_newest(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 3)
    for number in range(5):
        cache.remember(str(number), b"image")
        os.utime(cache_home / "kernels" / f"{number}.vmlinux", (number, number))
    assert sorted(entry.stem for entry in cache_home.rglob("*.vmlinux")) == ["2", "3", "4"]
    found = cache.recall("4")
    assert found is not None
    assert found.tobytes() == b"image"
    assert CacheHeader.SIZE == 4096


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("RINGMINUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    assert cache.cache_directory() == Path("/x/cache/ringminus")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.cache_directory() == Path("/home/someone/.cache/ringminus")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, world\n", "neither an ELF vmlinux nor a bzImage, but of an unknown kind"),
        (b"\x1f\x8b\x08" + bytes(2000), "but a gzip file"),
        (b"070701" + bytes(2000), "but a cpio archive"),
        (b"MZ" + bytes(2000), "but a PE program"),
        (b"\x7fELF", "cut short"),
        (vmlinux(elf_class=1), "not a 64-bit x86 kernel"),
        (vmlinux(machine=183), "is for AArch64"),
        (vmlinux(machine=4711), "is for machine 4711"),
        (vmlinux(type=1), "not an executable one"),
        (vmlinux(program_header_size=1), "damaged ELF"),
        (vmlinux(program_header_count=0), "damaged ELF"),
        (vmlinux(program_header_count=65535), "damaged ELF"),
        (vmlinux(program_header_offset=1 << 63), "cut short"),
        (vmlinux(entry=0x1234), "is in no physical code segment"),
        (vmlinux(entry=DATA_ADDRESS), "is in no physical code segment"),
        (vmlinux()[: ElfHeader.SIZE + 60], "cut short"),
        (vmlinux()[:-1], "a segment ends after the file"),
        (bzimage(b"", payload_length=1 << 31), "its payload ends after the file"),
        (bzimage(b"12345", payload_offset=0xFFFFFFFF), "its payload ends after the file"),
        (bzimage(b"12345678", version=0x200), "older than Linux 2.6.26"),
        (bzimage(b"rubbish" + size_field(100)), "unknown compression"),
        (bzimage(COMPRESSORS["xz"](b"x" * 99) + size_field(98)), "unpacks to 99 bytes, not 98"),
        (bzimage(COMPRESSORS["xz"](b"x" * 99) + size_field(2**32 - 1)), "claims to unpack to 4095 MiB"),
        (bzimage(COMPRESSORS["xz"](b"x" * 99)[:40] + size_field(99)), "xz data is cut short"),
        (gzip_kernel(b"no kernel"), "is not a Linux kernel"),
        (gzip_kernel(vmlinux(machine=40)), "is for ARM"),
    ],
)
def test_what_is_no_kernel_is_refused_in_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = kernel_file(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        load_kernel(path)
    text = str(caught.value)
    assert text.startswith(f"kernel {path} is ")
    assert words in text
    assert "\n" not in text


def test_a_segment_in_the_first_mebibyte_is_refused() -> None:
    content = bytearray(vmlinux())
    content[ElfHeader.SIZE + 24 : ElfHeader.SIZE + 32] = (0x1000).to_bytes(8, "little")
    with pytest.raises(ConfigError, match=r"it wants .* bytes of memory at 0x1000"):
        parse_kernel(memoryview(bytes(content)), "k")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot read kernel .*missing: No such file"):
        load_kernel(tmp_path / "missing")
    with pytest.raises(ConfigError, match="is a directory"):
        load_kernel(tmp_path)
    with pytest.raises(ConfigError, match="is empty"):
        load_kernel(kernel_file(tmp_path, b""))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError, match="is not a regular file"):
        load_kernel(fifo)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_a_host_error(tmp_path: Path) -> None:
    path = kernel_file(tmp_path, vmlinux())
    path.chmod(0)
    with pytest.raises(HostError, match="Permission denied"):
        load_kernel(path)

"""The 64-bit boot protocol: what lies where in guest memory, and what does not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ringminus.cpu.engine import Segment
from ringminus.errors import ConfigError, HostError
from ringminus.machine.loader.image import KernelImage, parse_kernel
from ringminus.machine.loader.linux import BootLayout, BootState, load_linux
from ringminus.machine.loader.wire import (
    E820_RESERVED,
    SETUP_RNG_SEED,
    BootParams,
    E820Entry,
    SetupData,
    SetupHeader,
)
from ringminus.memory import GIB, MIB, GuestMemory
from support.kernel_files import (
    BSS,
    DATA,
    DATA_ADDRESS,
    ENTRY,
    TEXT,
    TEXT_ADDRESS,
    bzimage,
    size_field,
    vmlinux,
)
from support.kernel_files import COMPRESSORS as PACK

RSDP = 0xE0000


def kernel(**header: Any) -> KernelImage:
    elf = vmlinux()
    payload = PACK["gzip"](elf) + size_field(len(elf))
    image = parse_kernel(memoryview(bzimage(payload, **header)), "vmlinuz")
    return image


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGMINUS_CACHE", "/dev/null/none")


def memory_map(size: int) -> list[E820Entry]:
    low = min(size, 3 * GIB)
    entries = [
        E820Entry(address=0, size=0x9FC00),
        E820Entry(address=0xE0000, size=0x20000, type=E820_RESERVED),
        E820Entry(address=MIB, size=low - MIB),
    ]
    return entries if size == low else [*entries, E820Entry(address=4 * GIB, size=size - low)]


def boot(
    memory: GuestMemory, image: KernelImage, initrd: Path | None = None, command_line: str = "console=ttyS0"
) -> BootState:
    return load_linux(memory, image, initrd, command_line, memory_map(memory.size), RSDP)


def initrd_file(directory: Path, size: int) -> Path:
    path = directory / "initrd.img"
    path.write_bytes(b"\xa5" * size)
    return path


def test_the_segments_are_in_place_and_the_bss_is_zero() -> None:
    memory = GuestMemory(64 * MIB)
    state = boot(memory, kernel())
    assert memory.read(TEXT_ADDRESS, len(TEXT)) == TEXT
    assert memory.read(DATA_ADDRESS, len(DATA) + BSS) == DATA + bytes(BSS)
    assert state.entry == ENTRY == state.registers.rip


def test_boot_params_tell_linux_where_everything_is(tmp_path: Path) -> None:
    memory = GuestMemory(64 * MIB)
    state = boot(memory, kernel(cmdline_size=777, setup_data=0xBAD), initrd_file(tmp_path, 5000), "quiet ü")
    params = BootParams.unpack(memory.view(state.boot_params, 4096))
    assert (BootParams.SIZE, BootParams.offset_of("hdr"), BootParams.offset_of("e820_table")) == (
        4096,
        0x1F1,
        0x2D0,
    )
    assert SetupHeader.offset_of("init_size") + 0x1F1 == 0x260
    assert BootParams.offset_of("acpi_rsdp_addr") == 0x70
    assert BootParams.offset_of("e820_entries") == 0x1E8
    assert params.acpi_rsdp_addr == RSDP
    assert params.hdr.type_of_loader == 0xFF
    assert params.hdr.cmdline_size == 777
    assert memory.read(params.hdr.cmd_line_ptr, 9) == b"quiet \xc3\xbc\0"
    assert (params.hdr.ramdisk_image, params.hdr.ramdisk_size) == (state.initrd, 5000)
    assert memory.read(state.initrd, 5001) == b"\xa5" * 5000 + b"\0"
    table = [E820Entry.unpack(params.e820_table, 20 * i) for i in range(params.e820_entries)]
    assert table == memory_map(64 * MIB)


def test_each_guest_gets_its_own_random_seed() -> None:
    seeds = set()
    for _ in range(2):
        memory = GuestMemory(64 * MIB)
        state = boot(memory, kernel(setup_data=0xBAD))
        place = BootParams.unpack(memory.view(state.boot_params, 4096)).hdr.setup_data
        head = SetupData.unpack(memory.view(place, SetupData.SIZE))
        assert (head.next, head.type, head.length) == (0, SETUP_RNG_SEED, 32)
        seeds.add(memory.read(place + SetupData.SIZE, head.length))
    assert len(seeds) == 2 and bytes(32) not in seeds


def test_registers_are_those_of_the_64_bit_entry() -> None:
    registers = boot(GuestMemory(64 * MIB), kernel()).registers
    assert (registers.cr0, registers.cr4, registers.efer, registers.rflags) == (0x80050033, 0x620, 0xD01, 2)
    assert registers.cr3 == 0x9000
    assert registers.cs == Segment(0x10, 0, 0xFFFFFFFF, 0xAF9B00)
    for segment in (registers.ds, registers.es, registers.fs, registers.gs, registers.ss):
        assert segment == Segment(0x18, 0, 0xFFFFFFFF, 0xCF9300)
    assert (registers.tr.flags, registers.tr.limit) == (0x8B00, 0x67)
    assert (registers.gdtr.base, registers.gdtr.limit) == (0x500, 31)
    assert registers.general[6] == 0x7000  # RSI
    assert registers.general[4] == 0x8FF0  # RSP


@pytest.mark.parametrize("address", [0, 0x7000, 0x1234567, 3 * GIB + 5, 4 * GIB - 1])
def test_the_page_tables_map_the_first_4_gib_to_themselves(address: int) -> None:
    memory = GuestMemory(64 * MIB)
    table = boot(memory, kernel()).registers.cr3
    for shift in (39, 30):
        table = memory.read_u64(table + 8 * ((address >> shift) & 511))
        assert table & 3 == 3
        table &= ~0xFFF
    entry = memory.read_u64(table + 8 * ((address >> 21) & 511))
    assert entry & 0x83 == 0x83
    assert (entry & ~0x1FFFFF) | (address & 0x1FFFFF) == address


def test_the_gdt_has_the_selectors_of_the_protocol() -> None:
    memory = GuestMemory(64 * MIB)
    boot(memory, kernel())
    assert memory.read_u64(0x510) == 0x00AF9B000000FFFF
    assert memory.read_u64(0x518) == 0x00CF93000000FFFF


@pytest.mark.parametrize(
    ("size", "header", "end"),
    [
        (64 * MIB, {}, 64 * MIB),
        (4 * GIB, {}, 2 * GIB),
        (4 * GIB, {"initrd_addr_max": 0x37FFFFFF}, 0x38000000),
        (4 * GIB, {"initrd_addr_max": 0xFFFFFFFF}, 3 * GIB),
    ],
)
def test_the_initrd_is_as_high_as_allowed(
    size: int, header: dict[str, int], end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringminus.memory._available_bytes", lambda: None)
    state = boot(GuestMemory(size), kernel(**header), initrd_file(tmp_path, 5000))
    assert state.initrd == end - 8192


def test_an_initrd_that_does_not_fit_above_the_kernel_goes_below(tmp_path: Path) -> None:
    memory = GuestMemory(22 * MIB)
    state = boot(memory, kernel(), initrd_file(tmp_path, 8 * MIB))
    assert (state.initrd, state.initrd_size) == (8 * MIB, 8 * MIB)
    assert memory.read(TEXT_ADDRESS, len(TEXT)) == TEXT


def test_an_initrd_too_large_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        boot(GuestMemory(32 * MIB), kernel(), initrd_file(tmp_path, 20 * MIB))
    assert "too large for memory: it needs 20 MiB, and 15 MiB of 32 MiB are free" in str(caught.value)
    assert "at least 37 MiB" in str(caught.value)
    boot(GuestMemory(40 * MIB), kernel(), initrd_file(tmp_path, 20 * MIB))


def test_a_kernel_too_large_says_what_is_needed() -> None:
    with pytest.raises(ConfigError, match="needs memory up to 19 MiB and the machine has 18 MiB"):
        boot(GuestMemory(18 * MIB), kernel())


def test_a_kernel_over_reserved_memory_is_refused() -> None:
    memory = GuestMemory(64 * MIB)
    e820 = [E820Entry(address=0, size=64 * MIB, type=E820_RESERVED)]
    with pytest.raises(ConfigError, match="needs memory"):
        load_linux(memory, kernel(), None, "", e820, RSDP)


def test_command_lines_that_linux_would_cut_are_refused() -> None:
    boot(GuestMemory(64 * MIB), kernel(cmdline_size=10), command_line="a" * 10)
    with pytest.raises(ConfigError, match="has 11 bytes and this kernel takes 10: shorten it"):
        boot(GuestMemory(64 * MIB), kernel(cmdline_size=10), command_line="a" * 11)
    with pytest.raises(ConfigError, match="takes 2047"):
        boot(GuestMemory(64 * MIB), kernel(cmdline_size=0), command_line="a" * 2048)
    with pytest.raises(ConfigError, match="NUL"):
        boot(GuestMemory(64 * MIB), kernel(), command_line="a\0b")


def test_the_layout_can_be_chosen() -> None:
    memory = GuestMemory(64 * MIB)
    layout = BootLayout(boot_params=0x3000, command_line=0x4000, command_line_size=8)
    e820 = memory_map(memory.size)
    state = load_linux(memory, kernel(), None, "1234567", e820, RSDP, layout)
    assert state.registers.general[6] == 0x3000
    assert memory.read(0x4000, 8) == b"1234567\0"
    with pytest.raises(ConfigError, match="takes 7"):
        load_linux(memory, kernel(), None, "12345678", e820, RSDP, layout)


def test_initrds_that_cannot_be_read(tmp_path: Path) -> None:
    memory = GuestMemory(64 * MIB)
    with pytest.raises(HostError, match=r"cannot read initrd .*: No such file"):
        boot(memory, kernel(), tmp_path / "missing")
    with pytest.raises(ConfigError, match="is a directory"):
        boot(memory, kernel(), tmp_path)
    with pytest.raises(ConfigError, match="is empty"):
        boot(memory, kernel(), initrd_file(tmp_path, 0))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        boot(memory, kernel(), tmp_path / "fifo")
